"""Workers are killed again and again while a job runs on them; the dataset is the same."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from digest import digest_of
from distributed import Client
from processes import Ended, Job, loopback_cluster, require_unfinished, wait_for

from reben_dask.errors import ClusterError
from reben_dask.job import scheduling
from reben_dask.job.scheduling import Completed

KILLS = 5


@dataclass(frozen=True)
class Survived:
    """A job, and how many of its workers were killed."""

    out: Path
    ended: Ended
    kills: int


@pytest.fixture(scope="module")
def survived(three_inputs: list[object], tmp_path_factory: pytest.TempPathFactory) -> Survived:
    """Whenever files have come or gone, one of the workers of that moment is killed; its nanny starts another."""
    folder = tmp_path_factory.mktemp("killed-workers")
    out, random, kills = folder / "out", Random(20180725), 0  # noqa: S311
    with loopback_cluster(folder / "cluster") as cluster, Client(scheduler_file=str(cluster.file)) as client:
        arguments = [*three_inputs, "--out", out, *cluster.options]
        job, files = Job(*arguments), 0
        while kills < KILLS:
            wait_for(lambda job=job, before=files: _files(out) != before or job.process.poll() is not None)
            if job.process.poll() == 0:
                break
            if job.process.poll() is not None:
                # A task that lost its workers time and again ends a job; the same command goes on.
                job, files = Job(*arguments), 0
                continue
            _kill(client, random)
            kills += 1
            require_unfinished(out)
            files = _files(out)
        ended = job.end()
        if ended.code:
            ended = Job(*arguments).end()
        return Survived(out, ended, kills)


def _files(out: Path) -> int:
    """Count the files of an unfinished job."""
    return sum(len(files) for _, _, files in os.walk(out / ".building"))


def _kill(client: Client, random: Random) -> None:
    """Kill one of the workers that the scheduler knows: a nanny gives up a worker that ends before it has begun."""
    address = random.choice(sorted(wait_for(client.nthreads)))
    (pid,) = client.run(os.getpid, workers=[address]).values()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: address not in client.nthreads())


def test_the_dataset_is_the_same(survived: Survived, three_digest: dict[str, str]) -> None:
    assert survived.ended.code == 0, survived.ended.complained
    assert survived.kills == KILLS
    assert digest_of(survived.out) == three_digest


def test_nobody_has_to_know(survived: Survived) -> None:
    assert survived.ended.complained == ""
    assert "Traceback" not in survived.ended.said


@pytest.mark.parametrize("workers", [0, 1])
def test_a_job_does_not_wait_for_workers_that_never_work(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """They are gone, or each is paused because its memory is nearly full."""
    monkeypatch.setattr(scheduling, "_LOOK_S", 0.05)
    monkeypatch.setattr(scheduling, "WORKERS_TIMEOUT_S", 0.2)
    memory = "1MB" if workers else "auto"
    cluster = {"processes": False, "n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with Client(**cluster, memory_limit=memory) as client:
        wait_for(lambda: set(_states(client)) <= {"paused"})
        completed = Completed(client, client.submit(abs, 1))
        with pytest.raises(ClusterError, match=r"paused .+--memory-limit" if workers else "has had no workers"):
            list(completed)


def _states(client: Client) -> list[str]:
    return [worker["status"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
