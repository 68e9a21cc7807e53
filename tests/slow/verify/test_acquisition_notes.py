"""Notes of `reben verify` about inputs: offsets, an acquisition in two processings, warnings of the job."""

from __future__ import annotations

import json
from pathlib import Path

from verifying import change_rows, verified, with_copies

TABLE = "Patch table"
TILE = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP"


def _notes(out: Path) -> list[str]:
    (notes,) = [check.notes for check in verified(out).checks if check.title == TABLE]
    return notes


def test_tiles_that_differ_in_their_offset_are_counted(small_run: Path) -> None:
    """Baseline 05.00 has an offset of -1000; products of 99.99 and 02.12 state none."""
    assert _notes(small_run) == ["tiles differ in boa_add_offset: 2 tiles with -1000 DN, 2 tiles without one"]


def test_tiles_on_one_scale_are_not_mentioned(small_run: Path, tmp_path: Path) -> None:
    out = with_copies(small_run, tmp_path / "out", ["patches.parquet"])
    for part in (out / "patches.parquet").iterdir():
        change_rows(part, lambda rows: [row.update(boa_add_offset=0) for row in rows])
    assert _notes(out) == []


def test_one_acquisition_in_two_processings_is_named(small_run: Path, tmp_path: Path) -> None:
    out = with_copies(small_run, tmp_path / "out", ["run"])
    path = out / "run" / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    (tile,) = [tile for tile in record["inputs"]["tiles"] if tile["tile"] == TILE]
    record["inputs"]["tiles"].append({**tile, "tile": TILE.replace("N0500", "N0510")})
    path.write_text(json.dumps(record), encoding="utf-8")
    note = f"{TILE}, {TILE.replace('N0500', 'N0510')} are one acquisition, whose patches may be in different splits"
    assert note in _notes(out)


def test_warnings_about_inputs_are_repeated_without_folders(small_run: Path, tmp_path: Path) -> None:
    out = with_copies(small_run, tmp_path / "out", ["run"])
    path = out / "run" / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    layer = "Layer 'U2006_CLC2000' of /home/me/maps/clc.gpkg is read; it also has 'U2018_CLC2018'."
    path.write_text(json.dumps({**record, "warnings": [layer, "No country file is given."]}), encoding="utf-8")
    (check,) = [check for check in verified(out).checks if check.title == "Warnings of the job"]
    assert check.line() == (
        "ok            Warnings of the job: 2 in the run record; Layer 'U2006_CLC2000' of clc.gpkg is read; it also has"
        " 'U2018_CLC2018'; No country file is given"
    )
