"""Verification of datasets that are not reBEN: other names, several grids, several labels, patches in no split."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from verifying import listing, problems_of, verified

from reben_dask.cli.verify import verify as command
from reben_dask.nomenclature import load_nomenclature
from reben_dask.verify.expected import Expected
from reben_dask.verify.inventory import label_fault

METADATA, RECORD = "metadata.parquet", Path("run") / "record.json"
TABLE, AGREE = "Patch table", "Metadata as in the patch table"

Rows = list[dict[str, Any]]


@pytest.fixture
def grids(grids_run: Path, tmp_path: Path) -> Path:
    """A copy to damage, without trees, archives and their tables."""
    kept = [path.name for path in _without_trees(grids_run)]
    left_out = shutil.ignore_patterns(*{path.name for path in grids_run.iterdir()}.difference(kept))
    return Path(shutil.copytree(grids_run, tmp_path / "out", ignore=left_out))


def _without_trees(run: Path) -> list[Path]:
    names = ("run", "cubes.zarr", "lmdb", "patches.parquet")
    return [*(run / name for name in names), *run.glob("metadata*.parquet")]


def _linked(run: Path, out: Path) -> Path:
    """A dataset of links to what another has, without its trees."""
    out.mkdir()
    for path in _without_trees(run):
        (out / path.name).symlink_to(path)
    return out


def _parts(out: Path) -> list[Path]:
    """Part files of tiles with pixels: the first tile failed its quality indicators."""
    parts = sorted((out / "patches.parquet").iterdir())
    return [part for part in parts if (out / "cubes.zarr" / part.stem).exists()]


def _change(path: Path, change: Callable[[Rows], object]) -> None:
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


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
    line = next(check.line() for check in verified(grids_run).checks if check.title == "Splits")
    assert splits.null_count > 0
    assert line.endswith(f"train, validation, test; {splits.null_count} patches in none")
    out = _linked(v1_run, tmp_path / "out")
    (out / METADATA).unlink()
    shutil.copy(v1_run / METADATA, out)
    _change(out / METADATA, lambda rows: rows[0].update(split=None))
    assert problems_of(out)["Splits"].endswith("is in the split None")


def test_a_record_that_is_older_than_its_recipes(mini_run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(mini_run, tmp_path / "out"))
    record = json.loads((out / RECORD).read_text())
    for key in ("grid_offsets_m", "patch_name", "region_thresholds_px", "more_splits", "images", "attributes", "tree"):
        del record["recipe"][key]
    (out / RECORD).write_text(json.dumps(record))
    assert problems_of(out) == {}


# Damage


def _move_second_grid(rows: Rows) -> None:
    for row in rows[64:]:
        row.update(minx=row["minx"] + 1200, maxx=row["maxx"] + 1200)


GRIDS: dict[str, tuple[Callable[[Rows], object], str]] = {
    "moved": (_move_second_grid, "has a grid 2 that does not lie 600 m from the corner of grid 1"),
    "mixed": (lambda rows: rows.insert(0, rows.pop(70)), "does not have its rows grid after grid"),
    "lost": (lambda rows: rows.__delitem__(slice(64, None)), "has no rows of its grid 2"),
    "third": (lambda rows: rows[70].update(grid=3), "has rows of the grid 3, of 2"),
}


@pytest.mark.parametrize("name", GRIDS)
def test_damaged_grids_of_the_table(grids: Path, name: str) -> None:
    change, text = GRIDS[name]
    part = _parts(grids)[0]
    _change(part, change)
    problem = problems_of(grids)[TABLE]
    assert text in problem
    assert part.stem in problem


def test_damaged_values_of_the_table(grids: Path) -> None:
    labels, name, reference = _parts(grids)[:3]
    other = _kept(labels, 2)
    more = sorted({*other["labels_easy"]} ^ {"Airports"})
    _change(labels, lambda rows: next(r for r in rows if r["patch_id"] == other["patch_id"]).update(labels_easy=more))
    _change(name, lambda rows: rows[100].update(patch_id=f"{name.stem}_04_04"))
    _change(reference, lambda rows: rows[64 + 9].update(minx=0))
    problems = problems_of(grids, full=True)
    assert f"{other['patch_id']} has the labels_easy " in problems["Zarr pixels as in the patch table"]
    assert f"{name.stem}/grid2 has the patch_id {name.stem}_04_04 in row 36, not " in problems[TABLE]
    assert f"{reference.stem}/grid2 has the minx 0 in row 9, not " in problems[TABLE]


def test_damaged_groups(grids: Path) -> None:
    first, second, third = (part.stem for part in _parts(grids)[:3])
    cubes = grids / "cubes.zarr"
    shutil.rmtree(cubes / first / "grid2" / "r10m" / "dn" / "c")
    (cubes / second / "grid3").mkdir()
    problems = problems_of(grids)
    assert f"{first}/grid2/r10m/dn/c/0/0/0 is missing" in problems["Zarr shards"]
    assert f"{second}/grid3 is a group of no tile" in problems["Zarr cubes"]
    (cubes / second / "grid3").rmdir()
    shutil.rmtree(cubes / third / "grid2")
    assert f"{third}/grid2/zarr.json is not as cubes.zarr/zarr.json says" in problems_of(grids)["Zarr cubes"]


def test_metadata_of_two_grids(grids: Path) -> None:
    patch = _kept(_parts(grids)[0], 2)["patch_id"]
    path = grids / METADATA
    _change(path, lambda rows: rows.remove(next(row for row in rows if row["patch_id"] == patch)))
    problems = problems_of(grids)
    assert problems[AGREE] == f"{patch} is kept, but not in the metadata"
    assert problems["Nothing left over in the LMDB"] == f"{patch}; {patch}_reference_map"
    _change(path, lambda rows: rows[0].update(patch_id=f"{_parts(grids)[0].stem}_04_04"))
    assert problems_of(grids)["Patch ids"].endswith("_04_04 is not the name of a Sentinel-2 patch")


# Names and labels

TILES = (
    "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP",
    "S2A_MSIL2A_20180725T100031_N0500_R122_T33UWP",
    "S2B_MSIL2A_20190116T100359_N9999_R122_T33UVP",
)
TEMPLATES = (
    "{tile}_{xx}_{yy}",
    "{product}_{x}_{y}",
    "{mgrs}_{time}_{lat}_{lon}",
    "{time}_{mgrs}_{grid}_{y}_{x}",
    "{tile}.{grid}.{x}.{y}_{mgrs}_{xx}",
)


def test_small_regions_do_not_count_towards_labels_of_a_map() -> None:
    nomenclature = load_nomenclature("bigearthnet19")
    codes = np.full((120, 120), 312, np.uint16)
    codes[:3, :3] = 211
    every = Expected(("B02",), 1200, nomenclature)
    large = Expected(("B02",), 1200, nomenclature, thresholds_px={"large": 10, "all": 0})
    assert label_fault(codes, ["Arable land", "Coniferous forest"], every) is None
    assert label_fault(codes, ["Coniferous forest"], large) is None
    assert label_fault(codes, ["Arable land", "Coniferous forest"], large) == "only the metadata have Arable land"


# Further splits and attributes


def test_damaged_splits_and_attributes(v1_run: Path, grids: Path, tmp_path: Path) -> None:
    out = _linked(v1_run, tmp_path / "v1")
    (out / "patches.parquet").unlink()
    shutil.copytree(v1_run / "patches.parquet", out / "patches.parquet")
    first, second = _parts(out)[:2]
    _change(first, lambda rows: rows[0].update(split_grid="val"))
    _change(second, lambda rows: rows[0].update(split_geographic=None))
    problem = problems_of(out)[TABLE]
    assert "_0_0 has the split_grid 'val'; " in problem
    assert "_0_0 has the split_geographic None" in problem
    _change(_parts(grids)[0], lambda rows: rows[0].update(urbanisation="51"))
    text = f"{_parts(grids)[0].stem} has values of urbanisation, but the run record names no layer of it"
    assert problems_of(grids)[TABLE] == text


def test_further_columns_in_metadata(v1_run: Path, tmp_path: Path) -> None:
    out = _linked(v1_run, tmp_path / "v1")
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
        path.unlink()
        pq.write_table(table.append_column("split_grid", pa.array(values, pa.string())), path)
    problems = problems_of(out)
    assert f"{METADATA} also has the column split_grid" in problems["Metadata files"]
    assert problems["Splits"] == f"{name} is in the split_grid 'mine'"
    assert problems[AGREE] == f"{name} has another split_grid"
