"""Fixtures of all tests: real data where it is present, and finished runs that several tests look at."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from browsing import opened_browser
from click.testing import CliRunner
from datasets import folders_of
from digest import digest_of
from hypothesis import settings
from processes import Cluster, loopback_cluster
from selenium import webdriver

from reben_dask.cli import main
from reben_dask.demo import DemoRegion, make_demo_region, open_demo_region

# A person's run looks for new failures; the run that decides about a change must not depend on luck.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# What a shell starts in the background does not hear Ctrl-C, and neither would processes that tests start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
JOB_TIMEOUT_S = 300
ANY_PORT = ("--dashboard-address", ":0")


LONGEST_FIRST = (
    *("deploy/test_container_image", "test_seasonet", "faults/test_killed_clients", "bench", "notebooks", "faults"),
    *("deploy", "job", "test_bigearthnet_v1", "verify", "test_demo_dataset", "sources"),
)
"""Files whose paths begin so come first, in this order: what is long must not be left for the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by :data:`LONGEST_FIRST`; tests of a file stay as they are."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT / "tests").as_posix()
        return next((place for place, start in enumerate(LONGEST_FIRST) if path.startswith(start)), len(LONGEST_FIRST))

    items.sort(key=rank)


def run_job(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the job as a user does, in a process of its own; without a report, which takes seconds, unless asked for."""
    report = [] if "--report" in arguments else ["--no-report"]
    return subprocess.run(
        [sys.executable, "-m", "reben_dask.run", *map(str, arguments), *report],
        capture_output=True,
        text=True,
        timeout=JOB_TIMEOUT_S,
        env={**os.environ, "COLUMNS": "120", **environment},
        check=False,
    )


def _job(*arguments: object) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    """Function that fills a folder with ``out``, the output of a finished job."""

    def make(folder: Path) -> subprocess.CompletedProcess[str]:
        done = run_job(*arguments, "--out", folder / "out", *ANY_PORT)
        assert done.returncode == 0, done.stderr
        return done

    return make


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Gives a folder that all processes of the tests share; whichever comes first makes it, and nobody changes it."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    shared.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data, from ``REBEN_TEST_DATA``."""
    path = Path(os.environ.get("REBEN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set REBEN_TEST_DATA to a folder that has it")
    return path


@pytest.fixture(scope="session")
def mini_inputs(data_dir: Path) -> list[object]:
    """Arguments for the job on the small real product."""
    return [
        "--s2",
        data_dir / "mini",
        "--landcover",
        data_dir / "landcover" / "clc2018_poznan_3035.gpkg",
        "--countries",
        data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg",
    ]


@pytest.fixture(scope="session")
def mini_run(mini_inputs: list[object], made_once: MadeOnce) -> Path:
    """Output of a finished job on the small real product, on an embedded cluster."""
    return made_once("mini-run", _job(*mini_inputs, "--workers", 2, "--threads", 1)) / "out"


@pytest.fixture(scope="session")
def demo_region(made_once: MadeOnce) -> DemoRegion:
    """The small synthetic region."""
    return open_demo_region(made_once("demo", lambda folder: make_demo_region(folder / "region")) / "region")


@pytest.fixture(scope="session")
def demo_folders(demo_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Products of the synthetic region that passed their quality checks, as folders."""
    return folders_of(demo_region.s2, tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(scope="session")
def demo_inputs(demo_region: DemoRegion) -> list[object]:
    """Arguments for the job on the synthetic region."""
    inputs = {"--s2": demo_region.s2, "--landcover": demo_region.landcover, "--countries": demo_region.countries}
    return [word for option in inputs.items() for word in option]


@pytest.fixture(scope="session")
def demo_run(demo_inputs: list[object], made_once: MadeOnce) -> Path:
    """Output of a finished job on the synthetic region, on an embedded cluster."""

    def make(folder: Path) -> None:
        done = _job(*demo_inputs, "--report")(folder)
        assert f"Report: {folder / 'out' / 'report' / 'index.html'}" in done.stdout

    return made_once("demo-run", make) / "out"


@pytest.fixture(scope="session")
def pairs_run(demo_inputs: list[object], demo_region: DemoRegion, made_once: MadeOnce) -> Path:
    """Output of a finished job on the synthetic region with Sentinel-1, which exports in both ways."""
    pairs = ("--s1", demo_region.s1, "--s1-pairs", demo_region.s1_pairs, "--lmdb-shards", 2)
    formats = ("--export", "geotiff", "--export", "geotiff-archives")
    return made_once("pairs-run", _job(*demo_inputs, *pairs, *formats)) / "out"


def _inputs(region: DemoRegion, *products: str) -> list[object]:
    """Arguments for the job on some products of the synthetic region, with Sentinel-1 and countries."""
    chosen = [word for pattern in products for product in region.s2.glob(pattern) for word in ("--s2", product)]
    return [*chosen, "--landcover", region.landcover, "--countries", region.countries]


@pytest.fixture(scope="session")
def tile_run(demo_region: DemoRegion, made_once: MadeOnce) -> Path:
    """Output of a finished job on one tile with Sentinel-1: reBEN in all its forms, the LMDB in two shards."""
    pairs = ("--s1", demo_region.s1, "--s1-pairs", demo_region.s1_pairs, "--lmdb-shards", 2)
    formats = ("--export", "geotiff", "--export", "geotiff-archives")
    return made_once("tile-run", _job(*_inputs(demo_region, "*20180725*UVP*"), *pairs, *formats)) / "out"


@pytest.fixture(scope="session")
def v1_run(demo_region: DemoRegion, made_once: MadeOnce) -> Path:
    """Output of a finished job on two tiles: version 1 with its trees, Sentinel-1 included."""
    pairs = ("--s1", demo_region.s1, "--s1-pairs", demo_region.s1_pairs)
    export = ("--recipe", "bigearthnet_v1", "--export", "geotiff")
    return made_once("v1-run", _job(*_inputs(demo_region, "*20180725*"), *pairs, *export)) / "out"


@pytest.fixture(scope="session")
def grids_run(demo_region: DemoRegion, made_once: MadeOnce) -> Path:
    """The same of two grids and dates, with trees and archives of SeasoNet; first labels leave small regions out.

    A third tile fails its quality indicators.
    """

    def make(folder: Path) -> None:
        recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "seasonet.yaml").read_text())
        recipe["split"]["block_m"] = 4800
        recipe |= {"name": "grids", "region_thresholds_px": {"medium": 100, "hard": 0, "easy": 300}}
        (folder / "grids.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        export = ("--recipe", folder / "grids.yaml", "--export", "geotiff", "--export", "geotiff-archives")
        _job(*_inputs(demo_region, "*UVP*"), *export)(folder)

    return made_once("grids-run", make) / "out"


@pytest.fixture(scope="session")
def changed_demo(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The patch table of that dataset with other labels, and less of it."""
    folder = tmp_path_factory.mktemp("changed") / "changed"
    (folder / "patches.parquet").mkdir(parents=True)
    for part in (demo_run / "patches.parquet").glob("*.parquet"):
        table = pq.read_table(part, partitioning=None)
        rows = table.to_pandas()
        instead = [[{"Pastures"}, set()], [{"Pastures"}, {"Agro-forestry areas"}], [set(), set()]]
        rows["labels"] = [
            labels if labels is None else sorted({*labels} - instead[x % 3][0] | instead[x % 3][1])
            for labels, x in zip(rows["labels"], rows["x"], strict=True)
        ]
        rows.loc[(rows["x"] == 2) & (rows["y"] == 3), ["status", "reason"]] = ["rejected", "nodata"]
        changed = pa.Table.from_pandas(rows, table.schema, preserve_index=False)
        pq.write_table(changed.replace_schema_metadata(table.schema.metadata), folder / "patches.parquet" / part.name)
    return folder


@pytest.fixture(scope="session")
def compared_demo(
    demo_run: Path, changed_demo: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str]:
    """Both compared: folder of the page, folder of the tables, and what was printed."""
    place = tmp_path_factory.mktemp("compared")
    arguments = [demo_run, changed_demo, "--report", place / "page", "--out", place / "tables"]
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return place / "page", place / "tables", result.stdout


@pytest.fixture
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of reports are not saved, which takes most of the time of a report."""
    monkeypatch.setattr("reben_dask.report.page.image_bytes", lambda *_: b"<svg ></svg>")


@pytest.fixture(scope="session")
def demo_digest(demo_run: Path) -> dict[str, str]:
    """Output of an undisturbed job on the synthetic region."""
    return digest_of(demo_run)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real scheduler and two real workers, as processes."""
    with loopback_cluster(tmp_path_factory.mktemp("cluster") / "loopback") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A real browser."""
    with opened_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def nothing_computes() -> Iterator[None]:
    """Dask's default scheduler refuses to compute anything."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed that should have stayed lazy")

    with dask.config.set(scheduler=refuse):
        yield
