"""The record of a run: what is written comes back, and what is not a record is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reben_dask.errors import InputError
from reben_dask.formats.dataset import FORMAT, RECORD, RunRecord

CONTENT: dict[str, Any] = {
    "format": FORMAT,
    "finished": "2026-11-29T12:00:00+00:00",
    "recipe": {"name": "reben", "bands": ["B02"]},
    "classes": ["Pastures"],
    "class_of_code": {"231": "Pastures", "999": None},
    "inputs": {
        "tiles": [{"tile": "T1", "path": "/a.SAFE", "metadata_sha256": "0", "size_m_yx": [1200, 2400]}],
        "landcover": {"path": "/m.gpkg", "crs": "EPSG:3035", "polygons": 3, "source": {"name": "m.gpkg"}},
    },
    "failures": [{"tile": "T2", "error": "no bands", "tries": 3}],
    "counts": {"status": {"kept": 2}},
}


def _write(out: Path, text: str) -> Path:
    (out / RECORD).parent.mkdir(parents=True)
    (out / RECORD).write_text(text, encoding="utf-8")
    return out


def test_a_record_comes_back(tmp_path: Path) -> None:
    record = RunRecord.model_validate(CONTENT)
    (tmp_path / RECORD).parent.mkdir()
    record.write((tmp_path / RECORD).parent)
    assert RunRecord.read(tmp_path) == record
    assert record.tile_size_m("T1") == (1200, 2400)
    assert record.tile_size_m("T9") is None
    assert record.class_of_code == {231: "Pastures", 999: None}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (
            json.dumps({**CONTENT, "format": 1}),
            "has format 1, and this version reads format 3; build",
        ),
        (json.dumps({key: CONTENT[key] for key in CONTENT if key != "format"}), "has format 1"),
        (json.dumps({**CONTENT, "classes": 3}), r"is damaged \(classes: "),
        (json.dumps({**CONTENT, "inputs": {}}), r"is damaged \(inputs\.tiles: "),
    ],
)
def test_a_record_that_cannot_be_used_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        RunRecord.read(_write(tmp_path, text))


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no record of its run \(run/record.json\)"):
        RunRecord.read(tmp_path)
