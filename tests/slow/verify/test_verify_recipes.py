"""Verification of datasets that are not reBEN: other names, several grids, several labels, patches in no split."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from verifying import Rows, change_rows, listing, problems_of, verified, with_copies

from reben_dask.cli.verify import verify as command
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE as FLAGGED
from reben_dask.formats.dataset import METADATA_FILE as METADATA
from reben_dask.verify.engine import label_fault
from reben_dask.verify.expected import published
from reben_dask.wording import counted

TABLE, AGREE = "Patch table", "Metadata as in the patch table"

FORMS = ("run", "cubes.zarr", "lmdb", "patches.parquet", METADATA, FLAGGED)


def _copy(run: Path, folder: Path, *copied: str) -> Path:
    """A dataset without its trees, with copies of what is to be damaged."""
    return with_copies(run, folder, copied, left_out=[path.name for path in run.iterdir() if path.name not in FORMS])


@pytest.fixture
def grids(grids_run: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return _copy(grids_run, tmp_path / "out", "cubes.zarr", "patches.parquet", METADATA)


def _parts(out: Path) -> list[Path]:
    """Part files of tiles with pixels: the first tile failed its quality indicators."""
    parts = sorted((out / "patches.parquet").iterdir())
    return [part for part in parts if (out / "cubes.zarr" / part.stem).exists()]


def _kept(path: Path, grid: int) -> dict[str, Any]:
    rows = pq.read_table(path, partitioning=None).to_pylist()
    return next(row for row in rows if row["status"] == "kept" and row["grid"] == grid)


# Finished runs


@pytest.mark.parametrize("run", ["v1_run", "grids_run"])
def test_finished_runs_pass(run: str, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue(run)
    before = listing(out)
    done = CliRunner().invoke(command, [str(out), "--full"])
    assert done.exit_code == 0, done.output
    rows = sum(pq.read_metadata(path).num_rows for path in out.glob("metadata*.parquet"))
    assert done.output.endswith(f"{out}: {rows:,} patches: complete and consistent.\n")
    assert problems_of(out) == {}
    assert problems_of(out / "cubes.zarr", full=True) == {}
    assert problems_of(out / "lmdb", full=True) == {}
    assert listing(out) == before


def test_patches_in_no_split(grids_run: Path, v1_run: Path, tmp_path: Path) -> None:
    splits = pq.read_table(grids_run / METADATA)["split"]
    checks = verified(_copy(grids_run, tmp_path / "grids")).checks
    line = next(check.line() for check in checks if check.title == "Splits")
    assert splits.null_count > 0
    assert line.endswith(f"train, validation, test; {counted(splits.null_count, 'patch')} in none")
    out = _copy(v1_run, tmp_path / "out", METADATA)
    change_rows(out / METADATA, lambda rows: rows[0].update(split=None))
    assert problems_of(out)["Splits"].endswith("is in the split None")


# Damage


def _move_second_grid(rows: Rows) -> None:
    for row in rows[16:]:
        row.update(minx=row["minx"] + 1200, maxx=row["maxx"] + 1200)


GRIDS: dict[str, tuple[Callable[[Rows], object], str]] = {
    "moved": (_move_second_grid, ", row 16, has the minx "),
    "mixed": (lambda rows: rows.insert(0, rows.pop(20)), ", row 0, has the grid 2, not 1"),
    "lost": (lambda rows: rows.__delitem__(slice(16, None)), " has 16 rows, but its grids have "),
    "third": (lambda rows: rows[20].update(grid=3), ", row 20, has the grid 3, not 2"),
}


@pytest.mark.parametrize("name", GRIDS)
def test_damaged_grids_of_the_table(grids: Path, name: str) -> None:
    change, text = GRIDS[name]
    part = _parts(grids)[0]
    change_rows(part, change)
    problem = problems_of(grids)[TABLE]
    assert text in problem
    assert part.stem in problem


def test_damaged_values_of_the_table(grids: Path) -> None:
    labels, name = _parts(grids)
    other = _kept(labels, 2)
    more = sorted({*other["labels_easy"]} ^ {"Airports"})
    change_rows(
        labels, lambda rows: next(r for r in rows if r["patch_id"] == other["patch_id"]).update(labels_easy=more)
    )
    change_rows(name, lambda rows: rows[22].update(patch_id=f"{name.stem}_04_04"))
    change_rows(name, lambda rows: rows[16 + 2].update(minx=0))
    problems = problems_of(grids, full=True)
    assert f"{other['patch_id']}: its map has the labels_easy " in problems["Zarr pixels as in the patch table"]
    assert f"{name.stem}, row 22, has the patch_id '{name.stem}_04_04', not " in problems[TABLE]
    assert f"{name.stem}, row 18, has the minx 0, not " in problems[TABLE]


def test_damaged_groups(grids: Path) -> None:
    first, second = (part.stem for part in _parts(grids))
    cubes = grids / "cubes.zarr"
    shutil.rmtree(cubes / first / "grid2" / "r10m" / "dn" / "c")
    (cubes / second / "grid3").mkdir()
    problems = problems_of(grids)
    assert f"{first}/grid2/r10m/dn/c/0/0/0 is missing" in problems["Zarr patches"]
    assert f"{second}/grid3 is not the group of a tile" in problems["Zarr cubes"]
    (cubes / second / "grid3").rmdir()
    shutil.rmtree(cubes / second / "grid2")
    assert f"{second}/grid2/zarr.json differs from its copy in cubes.zarr" in problems_of(grids)["Zarr cubes"]


def test_metadata_of_two_grids(grids: Path) -> None:
    patch = _kept(_parts(grids)[0], 2)["patch_id"]
    path = grids / METADATA
    change_rows(path, lambda rows: rows.remove(next(row for row in rows if row["patch_id"] == patch)))
    problems = problems_of(grids)
    assert problems[AGREE] == f"{patch} is kept, but not in the metadata"
    assert problems["Nothing left over in the LMDB"] == f"{patch}; {patch}_reference_map"
    change_rows(path, lambda rows: rows[0].update(patch_id=f"{_parts(grids)[0].stem}_04_04"))
    assert problems_of(grids)["Patch ids"].endswith("_04_04 is not the name of a Sentinel-2 patch")


# Labels


def test_small_regions_do_not_count_towards_labels_of_a_map() -> None:
    codes = np.full((120, 120), 312, np.uint16)
    codes[:3, :3] = 211
    every = published()
    large = replace(every, recipe=every.recipe.model_copy(update={"region_thresholds_px": {"large": 10, "all": 0}}))
    assert label_fault(codes, ["Arable land", "Coniferous forest"], every) is None
    assert label_fault(codes, ["Coniferous forest"], large) is None
    assert label_fault(codes, ["Arable land", "Coniferous forest"], large) == "only the metadata have Arable land"


# Further splits and attributes


def test_damaged_splits_and_attributes(v1_run: Path, grids: Path, tmp_path: Path) -> None:
    out = _copy(v1_run, tmp_path / "v1", "patches.parquet", METADATA, FLAGGED)
    first, second = _parts(out)[:2]
    change_rows(first, lambda rows: rows[0].update(split_grid="val"))
    change_rows(second, lambda rows: rows[0].update(split_geographic=None))
    problem = problems_of(out)[TABLE]
    assert "_0_0 has the split_grid 'val'; " in problem
    assert "_0_0 has the split_geographic None" in problem
    change_rows(_parts(grids)[0], lambda rows: rows[0].update(urbanisation="51"))
    text = f"{_parts(grids)[0].stem} has values of urbanisation, but the run record names no layer of it"
    assert problems_of(grids)[TABLE] == text


def test_further_columns_in_metadata(v1_run: Path, tmp_path: Path) -> None:
    out = _copy(v1_run, tmp_path / "v1", "patches.parquet", METADATA, FLAGGED)
    splits = {
        row["patch_id"]: row["split_grid"]
        for part in _parts(out)
        for row in pq.read_table(part, columns=["patch_id", "split_grid"], partitioning=None).to_pylist()
    }
    for path in out.glob("metadata*.parquet"):
        table = pq.read_table(path)
        values = [splits[name] for name in table["patch_id"].to_pylist()]
        if values and path.name == METADATA:
            name, values[0] = table["patch_id"][0].as_py(), "mine"
        pq.write_table(table.append_column("split_grid", pa.array(values, pa.string())), path)
    problems = problems_of(out)
    assert f"{METADATA} also has the column split_grid" in problems["Metadata files"]
    assert problems["Splits"] == f"{name} is in the split_grid 'mine'"
    assert f"{name} has the split_grid 'mine', not " in problems[AGREE]
