"""A job that is stopped with Ctrl-C, goes on, is in the way of others, is begun anew, and is finished in the end."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from conftest import run_job
from digest import digest_of
from processes import Cluster, Ended, Job, contents, require_unfinished, status_of, wait_for

from reben_dask.demo import DemoRegion
from reben_dask.run import run

EMBEDDED = ["--workers", 2, "--threads", 1, "--dashboard-address", ":0"]

ORBIT, ANOTHER_ORBIT = "_R122_", "_R022_"


@dataclass(frozen=True)
class Interrupted:
    """A job that was interrupted when a tile was done, and what happened meanwhile."""

    out: Path
    inputs: list[object]
    second: Ended
    owner: str
    ended: Ended


@pytest.fixture(scope="module")
def interrupted(three_inputs: list[object], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    out = tmp_path_factory.mktemp("interrupted") / "out"
    inputs = [*three_inputs, "--out", out]
    job = Job(*inputs, *EMBEDDED)
    job.until("Bands to Zarr: 5 of")
    # A worker that was started later than the others is to be as deaf as they are.
    victim, *_ = before = wait_for(job.workers)
    victim.send_signal(signal.SIGKILL)
    wait_for(lambda: set(job.workers()) - set(before))
    job.process.send_signal(signal.SIGSTOP)
    second = Job(*inputs, *cluster.options).end()
    owner = status_of(out)["owner"]
    job.process.send_signal(signal.SIGCONT)
    wait_for(lambda: list((out / ".building" / "state" / "tiles").glob("S2*.json")))
    require_unfinished(out)
    os.killpg(job.process.pid, signal.SIGINT)
    # An impatient user.
    job.until("tiles done.")
    os.killpg(job.process.pid, signal.SIGINT)
    return Interrupted(out, inputs, second, owner, job.end())


def test_a_second_job_is_refused(interrupted: Interrupted) -> None:
    assert interrupted.second.code == 1
    assert interrupted.second.sentence.startswith(f"Another job is writing to {interrupted.out} (host, process and job")
    assert interrupted.owner in interrupted.second.sentence


def test_an_interrupted_job_says_one_sentence(interrupted: Interrupted) -> None:
    assert interrupted.ended.code == 1
    assert interrupted.ended.sentence == "Interrupted. Finished tiles are kept."
    assert "Traceback" not in interrupted.ended.complained
    assert "tiles done. Run the same command again to resume." in interrupted.ended.said
    require_unfinished(interrupted.out)


def _refusal(*arguments: object) -> str:
    """Message of a job that is refused before it starts."""
    result = CliRunner().invoke(run, [*map(str, arguments), "--dry-run"])
    assert result.exit_code == 1, result.output
    return result.output.strip().splitlines()[-1]


def test_another_recipe_is_refused(interrupted: Interrupted) -> None:
    said = _refusal(*interrupted.inputs, "--recipe", "bigearthnet-v1")
    assert said.startswith(f"Error: {interrupted.out} holds an unfinished job with other inputs (")
    assert "another recipe" in said
    assert "--restart to discard it, or another folder." in said


def test_more_tiles_and_changed_ones_are_refused(
    interrupted: Interrupted, small_region: DemoRegion, tmp_path: Path
) -> None:
    done = [name for name, state in status_of(interrupted.out)["unfinished"].items() if state == "done"]
    (product,) = small_region.s2.glob(f"{done[0]}_*")
    changed = tmp_path / product.name
    shutil.copytree(product, changed) if product.is_dir() else shutil.copy(product, changed)
    with (next(changed.rglob("*_B02_10m.jp2")) if changed.is_dir() else changed).open("ab") as file:
        file.write(b"\0")
    inputs = [changed if argument == product else argument for argument in interrupted.inputs]
    assert f"other tiles: 1 changed ({done[0]})" in _refusal(*inputs)
    (other,) = small_region.s2.glob("*20180725*T33UVP*")
    another = shutil.copytree(other, tmp_path / other.name.replace(ORBIT, ANOTHER_ORBIT))
    for document in another.rglob("*.xml"):
        document.write_text(document.read_text().replace(ORBIT, ANOTHER_ORBIT))
    said = _refusal(*interrupted.inputs, "--s2", another)
    assert f"other tiles: 1 more (S2A_MSIL2A_20180725T100031_N0500{ANOTHER_ORBIT}T33UVP)" in said
    assert "--restart" in said


# The tests below go on with this job, in this order


def test_a_restart_begins_anew_and_leaves_no_worker_behind(interrupted: Interrupted) -> None:
    """Its client is killed too; the workers that it started end with it."""
    job = Job(*interrupted.inputs, *EMBEDDED, "--restart", dying=("/state/tiles/", 1))
    job.until("Dashboard:")
    workers = job.workers()
    ended = job.end()
    assert ended.code == -signal.SIGKILL
    assert "finished by an earlier attempt" not in ended.said
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    require_unfinished(interrupted.out)
    assert set(status_of(interrupted.out)["unfinished"].values()) == {"waiting"}


def test_the_same_command_finishes_it(interrupted: Interrupted, cluster: Cluster, three_digest: dict[str, str]) -> None:
    ended = Job(*interrupted.inputs, *cluster.options).end()
    assert ended.code == 0, ended.complained
    assert digest_of(interrupted.out) == three_digest
    assert status_of(interrupted.out)["is_settled"]


def test_a_job_that_is_finished_writes_nothing(three_run: Path, three_inputs: list[object]) -> None:
    before = contents(three_run.parent)
    done = run_job(*three_inputs, "--out", three_run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{three_run} is complete and was built from the same inputs; nothing to do."
    assert contents(three_run.parent) == before
