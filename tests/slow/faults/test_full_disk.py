"""The disk is full, twice; the job goes on each time that there is more room."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from digest import digest_of
from processes import Cluster, Job, require_unfinished

IN_BANDS, IN_LMDB, ENOUGH = "2500k", "7m", "100m"
"""Sizes of the disk: the cubes of the tiles have 5 MB, their LMDB 5."""

WRITE = """
import errno, shutil, sys
from pathlib import Path
from reben_dask.stores.lmdb import put, shared_environment

disk = Path(sys.argv[1])
for pages in range(12):
    with (disk / "rest").open("wb", buffering=0) as rest:
        try:
            while True:
                rest.write(bytes(4_096))
        except OSError:
            rest.truncate(rest.tell() - pages * 4_096)
    try:
        with shared_environment(disk / "lmdb", 2**20) as environment:
            put(environment, [(b"patch", bytes(10_000))])
        print("written", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
    shutil.rmtree(disk / "lmdb")
"""
"""Write an environment on a disk that has no page left, one, two and more."""


def _mount(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("mount") or "/bin/mount", "-t", "tmpfs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = _mount("-o", f"size={IN_BANDS}", "tmpfs", folder)
        reason = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError:
        reason = "there is no mount"
    if reason:
        pytest.skip(f"a small disk cannot be mounted here ({reason})")
    yield folder
    subprocess.run([shutil.which("umount") or "/bin/umount", folder], check=True)


def test_a_job_goes_on_when_there_is_room(
    disk: Path, three_inputs: list[object], cluster: Cluster, three_digest: dict[str, str]
) -> None:
    out = disk / "out"
    arguments = [*three_inputs, "--out", out, *cluster.options]
    for more, is_late in ((IN_LMDB, False), (ENOUGH, True)):
        ended = Job(*arguments).end()
        assert ended.code == 1
        assert ended.sentence.startswith(f"No space left on the disk of {out}")
        require_unfinished(out)
        # The LMDB is filled while tiles are built: the first of them may be finished when their bands fill the disk.
        assert not is_late or re.search(r"[1-3] of 3 tiles done", ended.said)
        assert _mount("-o", f"remount,size={more}", "tmpfs", disk).returncode == 0
    ended = Job(*arguments).end()
    assert ended.code == 0, ended.complained
    assert digest_of(out) == three_digest


def test_an_environment_on_a_disk_with_few_pages_left(disk: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WRITE, disk], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    written = said.index("written")
    assert set(said[:written]) == {"ENOSPC"}
    assert set(said[written:]) == {"written"}
    assert len(said) == 12
