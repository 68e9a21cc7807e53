"""The benchmark of splits runs, on little of everything, and what it says of balance holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bench_split
import measure
import pytest


def test_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a process of its own would measure better is of no interest here.
    monkeypatch.setattr(bench_split, "measure", lambda function, *arguments: measure._timed(function, arguments))
    options = {"--units": 5_000, "--patches": 2, "--tiles": 12, "--out": tmp_path}
    monkeypatch.setattr(sys, "argv", ["bench_split.py", *(str(word) for pair in options.items() for word in pair)])
    bench_split.main()
    found = json.loads((tmp_path / "split.json").read_text())
    assert [run["classes"] for run in found["stratified"]] == [33, 43]
    assert all(run["points_off"]["largest_of_a_class"] < 1 for run in found["stratified"])
    assert found["regions"]["patches"] == 4
    for blocks in found["borders"]:
        as_wanted, as_to_ask = (abs(blocks[way]["shares"]["train"] - 0.7) for way in ("as_wanted", "as_to_ask"))
        assert as_to_ask < as_wanted
        assert 0 < blocks["as_wanted"]["in_no_set"] < blocks["in_several_blocks"]
