"""A worker that takes more memory than it may."""

from __future__ import annotations

import re
from pathlib import Path

from digest import digest_of
from processes import Cluster, Job, require_unfinished

LIMIT = "700MiB"

GREEDY = """
import time
from reben_dask.job import tasks

append_to_lmdb = tasks.append_to_lmdb

def greedy(*_):
    hoard = [bytearray(b"x" * 2**25) for _ in range(32)]
    while hoard:
        time.sleep(1)

greedy.__module__, greedy.__qualname__ = append_to_lmdb.__module__, append_to_lmdb.__qualname__
tasks.append_to_lmdb = greedy
"""
"""Loaded by workers: the LMDB takes all the memory there is, and more."""


def test_the_user_is_told_which_setting_to_change(
    three_inputs: list[object], cluster: Cluster, three_digest: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY)
    out = tmp_path / "out"
    embedded = ["--workers", 1, "--threads", 1, "--memory-limit", LIMIT, "--dashboard-address", ":0"]
    environment = {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str([str(tmp_path / "greedy.py")]),
        # Else the scheduler tries four workers each time.
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    }
    ended = Job(*three_inputs, "--out", out, *embedded, **environment).end()
    assert ended.code == 1
    assert ended.sentence.startswith("The task lmdb-")
    assert (
        "most likely because it ran out of memory; give workers more (--memory-limit), or fewer threads"
        in ended.sentence
    )
    require_unfinished(out)
    again = Job(*three_inputs, "--out", out, *cluster.options).end()
    assert again.code == 0, again.complained
    assert re.search(
        r"^Note: [1-3] of 3 tiles were finished by an earlier attempt, and are kept\.", again.said, re.MULTILINE
    )
    assert digest_of(out) == three_digest
