"""Correction of L1C products by processes, and jobs that begin with them; the stand-in of sen2cor does what it is told.

Products that cannot be corrected are tiles that failed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import dask
import pytest
from click.testing import CliRunner, Result
from conftest import ONE_WORKER, maps_of, run_here
from digest import digest_of
from distributed import Client, LocalCluster
from processes import Cluster, status_of
from stand_in import StandIn, install, l1c_names, tile_of, write_l1c

from reben_dask.cli import main
from reben_dask.demo import DemoRegion
from reben_dask.job.correct import RESOURCES, CorrectionResult, correct_products
from reben_dask.options import Sen2CorOptions
from reben_dask.sources.sentinel2 import read_tile, search_products

NAMES = l1c_names(8)
BEHAVIOURS = {
    NAMES[1]: ["fails"],
    NAMES[2]: ["nothing"],
    NAMES[3]: ["empty"],
    NAMES[4]: ["crashes", "good"],
    NAMES[5]: ["ends its worker", "good"],
}
SET_ASIDE = NAMES[1:4]


@pytest.fixture
def stand_in(small_folders: list[Path], tmp_path: Path) -> StandIn:
    return install(tmp_path / "sen2cor", small_folders[0])


@pytest.fixture
def client() -> Iterator[Client]:
    """Two workers of two threads: without the resource, each would run two at once."""
    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": None, "resources": dict(RESOURCES)}
    with LocalCluster(**options, processes=True) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def _correct(folder: Path, stand_in: StandIn, client: Client) -> CorrectionResult:
    settings = Sen2CorOptions.of(sen2cor=stand_in.root)
    return correct_products([str(folder / "l1c")], folder / "l2a", settings, client)


def test_each_product_is_corrected_or_set_aside(client: Client, stand_in: StandIn, tmp_path: Path) -> None:
    """All that sen2cor may do, on workers that never run two at once; the second command retries the failed ones."""
    out = tmp_path / "l2a"
    for name in NAMES:
        write_l1c(tmp_path / "l1c", name)
    stand_in.tell(BEHAVIOURS)
    result = _correct(tmp_path, stand_in, client)
    good = [name for name in NAMES if name not in SET_ASIDE]
    assert [read_tile(path).name for path in result.products] == list(map(tile_of, good))
    assert [(failure.name, Path(failure.location).stem) for failure in result.failures] == [
        (tile_of(n), n) for n in SET_ASIDE
    ]
    assert [str(failure.error).partition(" on ")[0] for failure in result.failures] == [
        f"sen2cor ended with status {status}" for status in (1, 0, 0)
    ]
    runs = [run["name"] for run in stand_in.noted()]
    assert {name: runs.count(name) for name in NAMES} == {name: 1 + (name in BEHAVIOURS) for name in NAMES}
    assert stand_in.noted("overlaps") == []
    assert len({run["worker"] for run in stand_in.noted()}) > 1

    record = json.loads((out / "l2a-record.json").read_text())
    assert record["sen2cor"] == "02.11.00"
    assert record["gipp_sha256"] == sha256((out / "L2A_GIPP.xml").read_bytes()).hexdigest()
    assert {run["gipp"] for run in stand_in.noted()} == {record["gipp_sha256"]}
    assert {name: entry["l2a"] for name, entry in record["products"].items()} == {
        name: path.name for name, path in zip(good, result.products, strict=True)
    }
    assert set(record["failures"]) == set(SET_ASIDE)
    assert {path.name for path in out.iterdir()} == {
        *(path.name for path in result.products), "l2a-record.json", "L2A_GIPP.xml", "logs",
    }  # fmt: skip
    assert {path.stem for path in (out / "logs").iterdir()} == set(NAMES)
    assert not list(tmp_path.glob(".*"))

    stand_in.tell({})
    again = _correct(tmp_path, stand_in, client)
    assert [read_tile(path).name for path in again.products] == list(map(tile_of, NAMES))
    assert (again.failures, set(again.products) >= set(result.products)) == ((), True)
    assert sorted(run["name"] for run in stand_in.noted()[len(runs) :]) == sorted(SET_ASIDE)
    assert [product.location for product in search_products([out]).products] == sorted(again.products)
    assert search_products([out]).note is None


def _reben(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(main, list(map(str, arguments)))


@pytest.fixture
def new_workers() -> Iterator[None]:
    """Workers are new processes, as those of users, and have the environment of the moment."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):
        yield


@pytest.mark.usefixtures("new_workers")
def test_the_command(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an embedded cluster, with sen2cor on PATH."""
    monkeypatch.setenv("PATH", f"{stand_in.program.parent}:{os.environ['PATH']}")
    for name in NAMES[:2]:
        write_l1c(tmp_path / "l1c", name)
    stand_in.tell({NAMES[1]: ["fails"]})
    command = ["l2a", tmp_path / "l1c", "--out", tmp_path / "l2a", "--dashboard-address", ":0", "--workers", 1]
    planned = _reben(*command, "--dry-run")
    assert (planned.exit_code, stand_in.noted()) == (0, [])
    assert "2, 0 of them corrected already" in planned.output
    assert not (tmp_path / "l2a").exists()
    done = _reben(*command)
    assert done.exit_code == 3, done.output
    assert "1 of 2 products corrected" in done.output
    assert f"{NAMES[1]}.SAFE failed: sen2cor ended with status 1" in done.output
    stand_in.tell({})
    assert _reben(*command).exit_code == 0
    assert len(list((tmp_path / "l2a").glob("*.SAFE"))) == 2
    assert "2, 2 of them corrected already" in _reben(*command).output


def test_a_job_from_l1c_products(stand_in: StandIn, small_region: DemoRegion, cluster: Cluster, tmp_path: Path) -> None:
    good, bad = NAMES[:2]
    for name in (good, bad):
        write_l1c(tmp_path / "l1c", name)
    stand_in.tell({bad: ["fails"]})
    maps = maps_of(small_region)
    command = ["--l1c", tmp_path / "l1c", *maps, *ONE_WORKER, "--sen2cor", stand_in.root, "--out", tmp_path / "out"]

    planned = run_here(*command, "--dry-run")
    assert (planned.returncode, stand_in.noted()) == (0, [])
    assert "The plan of the dataset follows once the L2A products are complete." in planned.stdout

    done = run_here(*command)
    assert done.returncode == 3, done.stderr
    record = json.loads((tmp_path / "out" / "run" / "record.json").read_text())
    ((failed, error),) = ((failure["tile"], failure["error"]) for failure in record["failures"])
    assert failed == tile_of(bad)
    assert error.startswith(f"sen2cor ended with status 1 on {bad} ")
    assert any(note.startswith("1 product corrected with sen2cor 02.11.00; SHA-256 of") for note in record["warnings"])
    states = status_of(tmp_path / "out")["dataset"]
    assert (states.pop(tile_of(bad)), set(states.values())) == ("failed", {"done"})

    stand_in.tell({})
    mended = run_here(*command)
    assert mended.returncode == 0, mended.stderr
    assert [run["name"] for run in stand_in.noted()] == [good, bad, bad, bad]
    whole = run_here("--s2", tmp_path / "out-l2a", *maps, "--out", tmp_path / "whole", *cluster.options)
    assert whole.returncode == 0, whole.stderr
    assert digest_of(tmp_path / "out") == digest_of(tmp_path / "whole")

    again = run_here(*command)
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)


def test_no_product_can_be_corrected(stand_in: StandIn, small_region: DemoRegion, tmp_path: Path) -> None:
    name = NAMES[0]
    write_l1c(tmp_path / "l1c", name)
    stand_in.tell({name: ["nothing"]})
    command = [
        "--l1c",
        tmp_path / "l1c",
        "--landcover",
        small_region.landcover,
        "--sen2cor",
        stand_in.root,
        *ONE_WORKER,
    ]
    done = run_here(*command, "--out", tmp_path / "out", "--l2a", tmp_path / "l2a")
    assert done.returncode == 1
    assert "Error: sen2cor corrected none of 1 L1C product. sen2cor ended with status 0" in done.stderr
    assert not (tmp_path / "out").exists()
    refused = run_here(*command, "--out", tmp_path / "out", "--landcover", tmp_path / "nowhere.gpkg")
    assert refused.returncode == 1
    assert len(stand_in.noted()) == 2  # other inputs are looked at before the correction
