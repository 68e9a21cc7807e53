"""The script for Slurm and the page on dask-jobqueue, where commands of the same names stand in for Slurm's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from deployed import HERE, TIMEOUT_S, run, wait_until
from processes import status_of

SLURM = ROOT / "deploy" / "slurm"
SCRIPT = SLURM / "reben.sbatch"
DIRECTIVES = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE))

SRUN = """#!/usr/bin/env bash
# Starts a command as often as --ntasks says, here.
echo "$*" >> srun.txt
step=0
until mkdir ".step-$SLURM_JOB_ID.$step" 2>/dev/null; do step=$((step + 1)); done
tasks=1
while [[ $1 == --* ]]; do
    case $1 in
        --ntasks=*) tasks=${1#*=} ;;
        --overlap | --nodes=1 | --cpus-per-task=1 | --nodelist=node1) ;;
        *) echo "srun: no such option: $1" >&2; exit 2 ;;
    esac
    shift
done
for ((task = 0; task < tasks; task++)); do
    "$@" &
    echo $! >> ".step-$SLURM_JOB_ID.$step/pids"
done
wait
rm -r ".step-$SLURM_JOB_ID.$step"
"""
SCONTROL = '#!/usr/bin/env bash\necho "$*" >> scontrol.txt\n'
SBATCH = """#!/usr/bin/env bash
# Starts a script of one task here, and gives it a number. Who submits it may delete it at once.
mkdir -p jobs
cp "$1" "jobs/$$.sh"
setsid bash "jobs/$$.sh" > "jobs/$$.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/usr/bin/env bash
# Ends jobs by their number, or tells the tasks of a step.
if [[ $1 == --signal=* ]]; then
    xargs kill "-${1#*=}" < ".step-$2/pids"
else
    for job in "$@"; do kill -TERM -- "-$job" 2> /dev/null || true; done
fi
"""

HOLD = """
import time
from pathlib import Path
import reben_dask.job.tasks as tasks

def held(*args, _original=tasks.export_lmdb, **kwargs):
    Path({reached!r}).touch()
    while not Path({release!r}).exists():
        time.sleep(0.05)
    return _original(*args, **kwargs)

held.__module__, held.__qualname__ = tasks.export_lmdb.__module__, tasks.export_lmdb.__qualname__
tasks.export_lmdb = held
"""
"""A preload of the workers: they stop before the last stage, until they are let go."""


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """Variables of a job of two tasks, as Slurm gives them to its script, in whose folder nothing else is."""
    commands = {"srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH, "scancel": SCANCEL}
    for name, text in commands.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "submitted").mkdir()
    (tmp_path / "scratch").mkdir()
    memory = DIRECTIVES["mem-per-cpu"]
    assert memory.endswith("G")
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "2",
        "SLURM_CPUS_PER_TASK": DIRECTIVES["cpus-per-task"],
        "SLURM_MEM_PER_CPU": str(int(memory.removesuffix("G")) * 1024),
        "SLURM_SUBMIT_DIR": str(tmp_path / "submitted"),
        "SLURMD_NODENAME": "node1",
    }
    settings = {"REBEN_INTERFACE": "lo", "REBEN_DASHBOARD": "127.0.0.1:0", "REBEN_SCRATCH": str(tmp_path / "scratch")}
    path = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{HERE['PATH']}"}
    return {**os.environ, **slurm, **settings, **path, "COLUMNS": "120"}


@contextmanager
def submitted(arguments: list[object], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The script as a job, whose log is ``job.log``."""
    folder = Path(environment["SLURM_SUBMIT_DIR"])
    with (folder / "job.log").open("a") as log:
        command = ["bash", str(SCRIPT), *map(str, arguments)]
        job = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, text=True)
        try:
            yield job
            job.wait(TIMEOUT_S)
        finally:
            if job.poll() is None:
                job.terminate()


def test_shellcheck_has_nothing_to_say() -> None:
    run(["shellcheck", str(SCRIPT)], ROOT, {**os.environ, **HERE})


def test_the_directives_are_those_that_the_script_counts_on() -> None:
    assert DIRECTIVES["signal"] == "B:USR1@300"
    assert {"requeue", "nodes", "ntasks-per-node", "time", "open-mode"} <= DIRECTIVES.keys()
    assert DIRECTIVES["open-mode"] == "append"


def test_memory_has_to_be_given_for_each_thread(node: dict[str, str]) -> None:
    del node["SLURM_MEM_PER_CPU"]
    with submitted([], node) as job:
        pass
    assert job.returncode != 0
    folder = Path(node["SLURM_SUBMIT_DIR"])
    assert "Give memory with --mem-per-cpu" in (folder / "job.log").read_text()
    assert [path.name for path in folder.iterdir()] == ["job.log"]


def test_a_job_that_meets_its_limit_goes_on_when_it_is_queued_again(
    node: dict[str, str], tile_inputs: list[object], tmp_path: Path
) -> None:
    folder = Path(node["SLURM_SUBMIT_DIR"])
    log, reached, release = folder / "job.log", tmp_path / "reached", tmp_path / "release"
    (tmp_path / "hold.py").write_text(HOLD.format(reached=str(reached), release=str(release)))
    arguments = [*tile_inputs, "--no-report", "--out", tmp_path / "out"]
    held = node | {"DASK_DISTRIBUTED__WORKER__PRELOAD": str(tmp_path / "hold.py"), "REBEN_REQUEUES": "1"}
    with submitted(arguments, held) as job:
        wait_until(lambda: reached.exists() or job.poll() is not None, "the last stage began")
        assert job.poll() is None, log.read_text()
        job.send_signal(signal.SIGUSR1)
        wait_until(lambda: "Interrupted. Finished tiles are kept." in log.read_text(), "the job was told")
        release.touch()
    assert job.returncode == 1
    assert "Interrupted by the time limit; finished tiles are kept" in log.read_text()
    assert (folder / "scontrol.txt").read_text() == "requeue 7\n"
    assert not (tmp_path / "out" / "metadata.parquet").exists()

    with submitted(arguments, node | {"SLURM_RESTART_COUNT": "1"}) as job:
        pass
    said = log.read_text()
    assert job.returncode == 0, said
    assert "1 of 1 tiles were finished by an earlier attempt, and are kept." in said.replace("\n", " ")
    assert status_of(tmp_path / "out")["is_settled"]
    scheduler, worker = (folder / "srun.txt").read_text().splitlines()[-2:]
    assert "dask scheduler" in scheduler
    assert "--ntasks=2" in worker
    assert "--nthreads 1 --memory-limit 2764MiB" in worker
    assert sorted(path.name for path in folder.iterdir()) == ["job.log", "scontrol.txt", "srun.txt"]


def test_the_page_on_dask_jobqueue(node: dict[str, str], tile_inputs: list[object], tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (SLURM / "jobqueue.md").read_text(encoding="utf-8"), re.DOTALL)
    activate = "source /path/to/environment/bin/activate"
    for word, other in (('"ib0"', '"lo"'), (f'"{activate}"', '"cd ."'), ("WORKERS = 32", "WORKERS = 2")):
        assert word in program
        program = program.replace(word, other)
    (tmp_path / "jobqueue.py").write_text(program)
    folder = Path(node["SLURM_SUBMIT_DIR"])
    arguments = [*map(str, tile_inputs), "--no-report", "--out", str(tmp_path / "out")]
    quiet = {"DASK_DISTRIBUTED__DASHBOARD__LINK": "", "DASK_TEMPORARY_DIRECTORY": str(tmp_path / "scratch")}
    run([sys.executable, str(tmp_path / "jobqueue.py"), *arguments], folder, node | quiet)
    assert status_of(tmp_path / "out")["is_settled"]
    assert len(list((folder / "jobs").glob("*.log"))) >= 2
