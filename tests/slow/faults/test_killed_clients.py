"""The client is killed at one moment after the other, and its scheduler in between; the same command goes on.

All attempts work on one dataset, on a cluster that outlives them: tasks of an attempt that was killed may still run
when the next one begins.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from conftest import ROOT, run_here
from digest import digest_of
from processes import Cluster, Ended, Job, loopback_cluster, require_unfinished, status_of

SHARDS = ["--lmdb-shards", 3]


class Moment(NamedTuple):
    """Moment at which the client is killed: the ``count``-th time that it prints or renames something."""

    name: str
    at: str
    count: int
    tiles: int
    """Tiles that are noted as done when it is over, at the least."""


WHILE_TILES_ARE_BUILT = [
    Moment("sorting the map", "^say Sort land cover: ", 1, 0),
    Moment("before the first tile is noted", "/state/tiles/", 1, 0),
    Moment("after one more tile", "/state/tiles/", 2, 1),
]
AFTERWARDS = [
    Moment("before the journal", r"/publish\.json$", 1, 3),
    Moment("half published", r"/out/lmdb$", 1, 0),
]


@dataclass(frozen=True)
class Attempts:
    """Outcome of each attempt, and the final dataset."""

    out: Path
    by_moment: dict[str, Ended]
    scheduler: Ended
    last: Ended


@pytest.fixture(scope="module")
def attempts(three_inputs: list[object], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Attempts:
    folder = tmp_path_factory.mktemp("killed-clients")
    out = folder / "out"
    inputs = [*three_inputs, "--out", out, *SHARDS]
    ended = {}
    for moment in WHILE_TILES_ARE_BUILT:
        ended[moment.name] = _killed([*inputs, *cluster.options], out, moment)
    with loopback_cluster(folder / "cluster") as other:
        without_scheduler = _without_scheduler([*inputs, *other.options], other)
    require_unfinished(out)
    for moment in AFTERWARDS:
        ended[moment.name] = _killed([*inputs, *cluster.options], out, moment)
    last = Job(*inputs, *cluster.options).end()
    return Attempts(out, ended, without_scheduler, last)


def _killed(arguments: list[object], out: Path, moment: Moment) -> Ended:
    ended = Job(*arguments, dying=(moment.at, moment.count)).end()
    require_unfinished(out)
    states = status_of(out).get("unfinished", {})
    assert list(states.values()).count("done") >= moment.tiles
    return ended


def _without_scheduler(arguments: list[object], cluster: Cluster) -> Ended:
    job = Job(*arguments)
    job.until("Dashboard:")
    cluster.scheduler.send_signal(signal.SIGKILL)
    return job.end()


@pytest.mark.parametrize("moment", [*WHILE_TILES_ARE_BUILT, *AFTERWARDS], ids=lambda moment: moment.name)
def test_each_attempt_was_killed_at_its_moment(attempts: Attempts, moment: Moment) -> None:
    ended = attempts.by_moment[moment.name]
    assert ended.code == -signal.SIGKILL, ended
    assert "Traceback" not in ended.said + ended.complained


def test_a_job_that_loses_its_scheduler_says_so(attempts: Attempts) -> None:
    assert attempts.scheduler.code == 1
    assert attempts.scheduler.sentence.startswith("Lost connection to the scheduler")


def test_what_was_finished_is_not_done_again(attempts: Attempts) -> None:
    said = attempts.by_moment["half published"].said
    assert "3 of 3 tiles were finished by an earlier attempt, and are kept." in said


def test_the_last_attempt_finishes_what_was_being_published(attempts: Attempts, three_digest: dict[str, str]) -> None:
    assert attempts.last.code == 0, attempts.last.complained
    assert "by an earlier job is now complete" in attempts.last.said
    assert "nothing to do" in attempts.last.said
    assert digest_of(attempts.out) == three_digest
    assert status_of(attempts.out)["is_settled"]
    assert not (attempts.out / ".building").exists()


# The second look


@pytest.fixture(scope="module")
def looks_again(
    three_inputs: list[object], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[object]]:
    """An undisturbed dataset of bands that decode quickly, and the arguments for another."""
    folder = tmp_path_factory.mktemp("looks-again")
    recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "seasonet.yaml").read_text(encoding="utf-8"))
    (folder / "mine.yaml").write_text(yaml.safe_dump({**recipe, "name": "mine", "bands": ["B01", "B05"]}))
    arguments = [*three_inputs, "--recipe", folder / "mine.yaml", *cluster.options]
    done = run_here(*arguments, "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out", arguments


def test_steps_of_all_tiles_start_over(looks_again: tuple[Path, list[object]], tmp_path: Path) -> None:
    undisturbed, inputs = looks_again
    out = tmp_path / "out"
    arguments = [*inputs, "--out", out]
    for at in ("^say Select images and splits: 1 of", "/state/choice/"):
        ended = Job(*arguments, dying=(at, 1)).end()
        assert ended.code == -signal.SIGKILL, ended
        require_unfinished(out)
    done = run_here(*arguments)
    assert done.returncode == 0, done.stderr
    assert digest_of(out) == digest_of(undisturbed)
