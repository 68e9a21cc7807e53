"""A worker that takes more memory than it may."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from digest import digest_of
from processes import Cluster, Ended, Job, require_unfinished, status_of

TILE = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP"
LIMIT = "700MiB"

GREEDY = f"""
import time
from reben_dask.job import tasks

label_tile = tasks.label_tile

def greedy(store, layouts, *rest):
    if layouts[0].group.startswith({TILE!r}):
        hoard = []
        while True:
            if len(hoard) < 24:
                hoard.append(bytearray(b"x" * 2**25))
            time.sleep(0.02)
    return label_tile(store, layouts, *rest)

greedy.__module__, greedy.__qualname__ = label_tile.__module__, label_tile.__qualname__
tasks.label_tile = greedy
"""
"""Loaded by workers: the labels of one tile take all the memory there is, and more."""


@dataclass(frozen=True)
class Attempts:
    """A job with a tile that takes too much memory, its state then, and the job after that was mended."""

    out: Path
    ended: Ended
    states: list[str]
    digest: dict[str, str]
    mended: Ended


@pytest.fixture(scope="module")
def attempts(demo_inputs: list[object], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Attempts:
    folder = tmp_path_factory.mktemp("memory")
    (folder / "greedy.py").write_text(GREEDY)
    out = folder / "out"
    embedded = ["--workers", 2, "--threads", 1, "--memory-limit", LIMIT, "--dashboard-address", ":0"]
    environment = {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str([str(folder / "greedy.py")]),
        # Else the scheduler tries four workers each time.
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    }
    job = Job(*demo_inputs, "--out", out, *embedded, **environment)
    job.until("Patch table: 1 of")
    require_unfinished(out)
    ended = job.end()
    states, digest = list(status_of(out)["dataset"].values()), digest_of(out)
    mended = Job(*demo_inputs, "--out", out, *cluster.options).end()
    return Attempts(out, ended, states, digest, mended)


def test_the_user_is_told_which_setting_to_change(attempts: Attempts) -> None:
    assert attempts.ended.code == 3
    assert "Traceback" not in attempts.ended.said + attempts.ended.complained
    (line,) = (line for line in attempts.ended.said.splitlines() if line.startswith("Failed: "))
    assert line.startswith(f"Failed: {TILE}: The task labels-{TILE}")
    assert "most likely for want of memory; give workers more (--memory-limit), or fewer threads (--threads)" in line


def test_the_other_tiles_are_a_complete_dataset(attempts: Attempts, demo_digest: dict[str, str]) -> None:
    assert sorted(attempts.states) == ["done"] * 4 + ["failed"]
    assert not [name for name in attempts.digest if TILE in name]
    pixels = {name: digest for name, digest in attempts.digest.items() if "_T33" in name}
    assert pixels == {name: digest for name, digest in demo_digest.items() if "_T33" in name and TILE not in name}


def test_a_tile_that_was_mended_is_added(attempts: Attempts, demo_digest: dict[str, str]) -> None:
    assert attempts.mended.code == 0, attempts.mended.complained
    assert "4 of 5 tiles were finished by an earlier attempt, and are kept." in attempts.mended.said
    assert digest_of(attempts.out) == demo_digest
    assert status_of(attempts.out)["is_settled"]
