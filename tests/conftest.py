"""Fixtures of all tests: real data where it is present, and finished runs that several tests look at."""

from __future__ import annotations

import atexit
import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import format_exception

import dask
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from browsing import opened_browser
from click.testing import CliRunner
from datasets import folders_of
from digest import digest_of
from distributed.utils import get_mp_context
from hypothesis import settings
from processes import Cluster, loopback_cluster
from selenium import webdriver

from reben_dask.cli import main
from reben_dask.demo import DemoRegion
from reben_dask.demo.products import build_region
from reben_dask.demo.terrain import Layout

# A person's run looks for new failures; the run that decides about a change must not depend on luck.
for profile, examples in (("few", 20), ("nightly", 100)):
    settings.register_profile(profile, max_examples=examples, deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("few")

# What a shell starts in the background does not hear Ctrl-C, and neither would processes that tests start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Workers of clusters in these processes are copies of one that imported all, with its environment; those of jobs that
# tests start as users do are new processes.
dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
get_mp_context().set_forkserver_preload(["distributed", "geopandas", "reben_dask.job.run", "rioxarray"])

ROOT = Path(__file__).parent.parent
JOB_TIMEOUT_S = 300
ANY_PORT = ("--dashboard-address", ":0")
ONE_WORKER = (*ANY_PORT, "--workers", 1, "--threads", 2)

SMALL = Layout(5_040, {"33UVP": 490_680, "33UWP": 494_820}, {10: 256, 20: 256, 60: 256}, 900, 250)
"""Tiles of 4 x 4 patches, with a left-over strip: the fewest of which the geographic split has all three splits."""


LONGEST_FIRST = (
    *("slow/test_bench", "train", "slow/notebooks", "readers/test_configilm", "slow/job/test_independence"),
    *("slow/test_seasonet", "deploy", "slow/faults", "slow/test_added", "readers", "slow"),
    *("integration/verify", "integration/report", "integration/job"),
    *("integration", "unit/sources", "unit/stores", "unit/patches"),
)
"""Files whose paths begin so come first, in this order: what is long must not be left for the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests in the folders ``slow`` and ``deploy``, and order files by :data:`LONGEST_FIRST`."""
    paths = {item: item.path.relative_to(ROOT / "tests").as_posix() for item in items}
    for item, path in paths.items():
        if (folder := path.partition("/")[0]) in {"slow", "deploy"}:
            item.add_marker(folder)

    def rank(item: pytest.Item) -> int:
        starts = enumerate(LONGEST_FIRST)
        return next((place for place, start in starts if paths[item].startswith(start)), len(LONGEST_FIRST))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what lives as long as the tests: libraries and thousands of tests."""
    gc.freeze()
    atexit.register(gc.unfreeze)


def run_job(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the job as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "reben_dask.run", *_words(arguments)],
        capture_output=True,
        text=True,
        timeout=JOB_TIMEOUT_S,
        env={**os.environ, "COLUMNS": "120", **environment},
        check=False,
    )


def run_here(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the job in this process, which saves its start."""
    words = ["run", *_words(arguments)]
    done = CliRunner(env={"COLUMNS": "120", **environment}).invoke(main, words, prog_name="reben")
    assert done.exception is None or isinstance(done.exception, SystemExit) or "--debug" in words, done.exc_info
    errors = done.stderr if isinstance(done.exception, SystemExit | None) else "".join(format_exception(done.exception))
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, errors)


def _words(arguments: tuple[object, ...]) -> list[str]:
    """Arguments of a job, without a report, which takes seconds, unless it is asked for."""
    return [*map(str, arguments), *([] if "--report" in arguments else ["--no-report"])]


def finished_job(*arguments: object) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    """Function that fills a folder with ``out``, the output of a finished job."""

    def make(folder: Path) -> subprocess.CompletedProcess[str]:
        done = run_here(*arguments, "--out", folder / "out", *ONE_WORKER)
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
    return made_once("mini-run", finished_job(*mini_inputs)) / "out"


@pytest.fixture(scope="session")
def small_region(made_once: MadeOnce) -> DemoRegion:
    """The demo region on tiles of 4 x 4 patches: the same products and cases, with a quarter of the pixels."""

    def make(folder: Path) -> None:
        (folder / "region").mkdir()
        build_region(DemoRegion.inside(folder / "region"), layout=SMALL, progress=lambda _: None)

    return DemoRegion.inside(made_once("small", make) / "region")


@pytest.fixture(scope="session")
def small_folders(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Products of that region that passed their quality checks, as folders."""
    return folders_of(small_region.s2, tmp_path_factory.mktemp("unpacked"))


def maps_of(region: DemoRegion) -> list[object]:
    """Arguments for the job that name the maps of a synthetic region."""
    return ["--landcover", region.landcover, "--countries", region.countries]


@pytest.fixture(scope="session")
def small_inputs(small_region: DemoRegion) -> list[object]:
    """Arguments for the job on that region."""
    return ["--s2", small_region.s2, *maps_of(small_region)]


@pytest.fixture(scope="session")
def small_run(small_inputs: list[object], made_once: MadeOnce) -> Path:
    """Output of a finished job on that region, with its report: what needs any finished dataset takes this one.

    Beside it is ``said.txt``, what the job printed.
    """

    def make(folder: Path) -> None:
        done = finished_job(*small_inputs, "--report")(folder)
        assert f"Report: {folder / 'out' / 'report' / 'index.html'}" in done.stdout
        (folder / "said.txt").write_text(done.stdout, encoding="utf-8")

    return made_once("small-run", make) / "out"


def _inputs(region: DemoRegion, *products: str) -> list[object]:
    """Arguments for the job on some products of the synthetic region, with countries."""
    chosen = [word for pattern in products for product in region.s2.glob(pattern) for word in ("--s2", product)]
    return [*chosen, *maps_of(region)]


@pytest.fixture(scope="session")
def tile_inputs(small_region: DemoRegion) -> list[object]:
    """Arguments for the job on one product: for what runs a job to see that it runs."""
    return _inputs(small_region, "*20180725*UVP*")


@pytest.fixture(scope="session")
def three_inputs(small_region: DemoRegion) -> list[object]:
    """Arguments for the job on three products: folders of a failed tile and of one with offsets, and a ZIP file."""
    return _inputs(small_region, "*20180416*UVP*", "*20180725*UVP*", "*20190116*UWP*.zip")


@pytest.fixture(scope="session")
def three_run(three_inputs: list[object], cluster: Cluster, made_once: MadeOnce) -> Path:
    """Output of an undisturbed job on these."""

    def make(folder: Path) -> None:
        done = run_here(*three_inputs, "--out", folder / "out", *cluster.options)
        assert done.returncode == 0, done.stderr

    return made_once("three-run", make) / "out"


@pytest.fixture(scope="session")
def three_digest(three_run: Path) -> dict[str, str]:
    """Digests of what every job makes of these products, whatever disturbs it."""
    return digest_of(three_run)


@pytest.fixture(scope="session")
def tile_run(small_region: DemoRegion, tile_inputs: list[object], made_once: MadeOnce) -> Path:
    """Output of a finished job on one tile with Sentinel-1: reBEN in all its forms, the LMDB in two shards."""
    pairs = ("--s1", small_region.s1, "--s1-pairs", small_region.s1_pairs, "--lmdb-shards", 2)
    formats = ("--export", "geotiff", "--export", "geotiff-archives")
    return made_once("tile-run", finished_job(*tile_inputs, *pairs, *formats)) / "out"


@pytest.fixture(scope="session")
def v1_run(small_region: DemoRegion, made_once: MadeOnce) -> Path:
    """Output of a finished job on two tiles: version 1 with its trees, Sentinel-1 included."""
    pairs = ("--s1", small_region.s1, "--s1-pairs", small_region.s1_pairs)
    export = ("--recipe", "bigearthnet_v1", "--export", "geotiff")
    return made_once("v1-run", finished_job(*_inputs(small_region, "*20180725*"), *pairs, *export)) / "out"


@pytest.fixture(scope="session")
def grids_run(small_region: DemoRegion, made_once: MadeOnce) -> Path:
    """The same of two grids and dates, with trees and archives of SeasoNet; first labels leave small regions out.

    A third tile fails its quality indicators.
    """

    def make(folder: Path) -> None:
        recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "seasonet.yaml").read_text())
        recipe["split"]["block_m"] = 4800
        recipe |= {"name": "grids", "region_thresholds_px": {"medium": 100, "hard": 0, "easy": 300}}
        (folder / "grids.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        export = ("--recipe", folder / "grids.yaml", "--export", "geotiff", "--export", "geotiff-archives")
        finished_job(*_inputs(small_region, "*UVP*"), *export)(folder)

    return made_once("grids-run", make) / "out"


@pytest.fixture(scope="session")
def changed_run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The patch table of that dataset with other labels, and less of it."""
    folder = tmp_path_factory.mktemp("changed") / "changed"
    (folder / "patches.parquet").mkdir(parents=True)
    for part in (small_run / "patches.parquet").glob("*.parquet"):
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
def compared_runs(
    small_run: Path, changed_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str]:
    """Both compared: folder of the page, folder of the tables, and what was printed."""
    place = tmp_path_factory.mktemp("compared")
    arguments = [small_run, changed_run, "--report", place / "page", "--out", place / "tables"]
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return place / "page", place / "tables", result.stdout


@pytest.fixture
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of reports are not saved, which takes most of the time of a report."""
    monkeypatch.setattr("reben_dask.report.page.image_bytes", lambda *_: b"<svg ></svg>")


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
