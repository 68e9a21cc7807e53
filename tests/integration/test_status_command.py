"""What `reben status` prints for people, and for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import CliRunner

from reben_dask.cli import main
from reben_dask.formats.dataset import RunRecord
from reben_dask.workspace import Output


def _status(*arguments: object) -> str:
    return CliRunner().invoke(main, ["status", *map(str, arguments)]).output


def test_times_are_for_people(small_run: Path) -> None:
    day, time = re.fullmatch(r"(.{10})T(.{8})\+00:00", RunRecord.read(small_run).finished).groups()
    assert re.match(
        rf"Dataset: recipe reben, finished {day} {time} UTC \(\d+ (second|minute|hour)s? ago\), 5 tiles",
        _status(small_run),
    )
    assert json.loads(_status(small_run, "--json"))["finished"] == f"{day}T{time}+00:00"


def test_the_heartbeat_of_a_job(tmp_path: Path) -> None:
    output = Output(tmp_path / "out")
    with output.owned():
        output.start({"tiles": {"A": "1"}}, {"A": "/A"}, restart=False)
        assert re.search(r"A job is writing here \(.+; last heartbeat \d+ seconds? ago\)\.", _status(output.root))
