"""The disk is full, twice; the job goes on each time that there is more room."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from digest import digest_of
from processes import Cluster, Job, require_unfinished

IN_BANDS, IN_LMDB, ENOUGH = "2500k", "7m", "100m"
"""Sizes of the disk: the cubes of the tiles have 5 MB, their LMDB 5."""


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
