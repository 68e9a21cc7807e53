"""Ground of two MGRS tiles in a dataset: its conflicts, and the recipe's rules about them.

The tiles of the small region have 4 x 4 patches and overlap by 900 m: the last column of 33UVP shares 660 m with the
first of 33UWP. Both have a day in summer and one in winter. Of the last column, 840 m from the border, rows 1 to 3 are
validation, and row 0 is training like all of the first column.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
from building import build
from distributed import Client
from pages import read_page
from verifying import change_rows, problems_of, verified, with_copies

from reben_dask.demo import DemoRegion
from reben_dask.job.overlaps import count_at_place, drop_at_place
from reben_dask.job.plan import make_plan
from reben_dask.patches.overlaps import find_places
from reben_dask.recipes import Recipe, load_recipe
from reben_dask.verify.dataset import Dataset
from reben_dask.verify.expected import published

pytestmark = pytest.mark.slow

TITLE = "Overlaps of tiles"
WEST, EAST = "33UVP", "33UWP"


@pytest.fixture(scope="module")
def built(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets of the two summer products with each rule that rejects patches."""
    folder, reben = tmp_path_factory.mktemp("overlaps"), load_recipe("reben").model_dump(mode="json")
    found = {}
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        for rule in ("drop", "first"):
            plan = make_plan(
                s2=[str(path) for path in sorted(small_region.s2.glob("*20180725*"))],
                landcover=str(small_region.landcover),
                countries=str(small_region.countries),
                recipe=Recipe.model_validate(reben | {"overlaps": rule}),
            )
            found[rule] = build(client, plan, folder / rule)
    return found


def _rows(out: Path) -> pd.DataFrame:
    rows = gpd.read_parquet(out / "patches.parquet").set_index("patch_id").sort_index()
    return rows.assign(mgrs=rows["tile"].str[-5:], reason=rows["reason"].fillna(""))


def _rows_of_summer(out: Path) -> pd.DataFrame:
    rows = _rows(out)
    return rows[rows["season"] == "summer"]


def _conflicting(rows: pd.DataFrame) -> list[str]:
    """Kept validation and test patches, each compared with all others."""
    kept = rows[rows["status"] == "kept"].reset_index().to_dict("records")

    def shared(one: dict, other: dict) -> float:
        east, north = (
            min(one[f"max{axis}"], other[f"max{axis}"]) - max(one[f"min{axis}"], other[f"min{axis}"]) for axis in "xy"
        )
        return max(east, 0) * max(north, 0)

    found = {
        one["patch_id"]
        for one, other in product(kept, kept)
        if one["tile"] != other["tile"] and one["split"] != other["split"] and shared(one, other) > 14_400
    }
    return sorted(name for name in found if rows["split"][name] != "train")


def test_conflicts_are_counted_and_told(small_run: Path) -> None:
    rows = _rows(small_run)
    found = _conflicting(rows)
    assert found
    assert {(rows["mgrs"][name], rows["x"][name], rows["split"][name]) for name in found} == {(WEST, 3, "validation")}
    record = json.loads((small_run / "run" / "record.json").read_text(encoding="utf-8"))
    assert record["counts"]["conflict"] == {"test": 0, "validation": len(found)}
    assert "overlaps" in record["seconds"]
    counts = pd.read_csv(small_run / "run" / "counts.csv").query("measure == 'conflict' and patches > 0")
    assert counts.set_index("tile")["patches"].to_dict() == rows.loc[found, "tile"].value_counts().to_dict()
    held_out = rows[rows["status"] == "kept"]["split"].isin(["validation", "test"]).sum()
    share = f"({len(found) / held_out:.1%})"
    sentence = f"{len(found)} of {held_out} validation or test patches {share} share more than 1 % of their area"
    told = [
        (small_run.parent / "said.txt").read_text(encoding="utf-8"),
        (small_run / "README.md").read_text(encoding="utf-8"),
        read_page(small_run / "report" / "index.html").text,
        *next(check.notes for check in verified(small_run).checks if check.title == TITLE),
    ]
    assert [sentence in " ".join(text.split()) for text in told] == [True] * 4
    assert "Set overlaps: drop in the recipe" in told[0]


def test_dropped_patches(built: dict[str, Path], small_run: Path) -> None:
    before, after = _rows_of_summer(small_run), _rows(built["drop"])
    at_seam = (before["mgrs"] == WEST) & (before["x"] == 3) & (before["y"] > 0) & (before["status"] == "kept")
    assert at_seam.any()
    assert after["status"].to_dict() == before["status"].mask(at_seam, "rejected").to_dict()
    assert after["reason"].to_dict() == before["reason"].mask(at_seam, "split_conflict").to_dict()
    assert _conflicting(after) == []
    record = json.loads((built["drop"] / "run" / "record.json").read_text(encoding="utf-8"))
    assert record["counts"]["conflict"] == {"test": 0, "validation": 0}
    assert record["counts"]["reason"]["split_conflict"] == at_seam.sum()
    card = (built["drop"] / "README.md").read_text(encoding="utf-8")
    assert "None of the " in card
    assert problems_of(built["drop"], full=True) == {}


def test_first_tiles_only(built: dict[str, Path], small_run: Path) -> None:
    before, after = _rows_of_summer(small_run), _rows(built["first"])
    at_seam = (before["mgrs"] == EAST) & (before["x"] == 0) & (before["status"] == "kept")
    assert at_seam.any()
    assert after["status"].to_dict() == before["status"].mask(at_seam, "rejected").to_dict()
    assert after["reason"].to_dict() == before["reason"].mask(at_seam, "duplicate_ground").to_dict()
    assert problems_of(built["first"], full=True) == {}


def test_tasks_may_be_repeated(small_run: Path, tmp_path: Path) -> None:
    """A second run of the tasks of a place finds the same, whatever the first has rejected."""
    out = with_copies(small_run, tmp_path / "out", ["patches.parquet"])
    table, parts = out / "patches.parquet", sorted((out / "patches.parquet").iterdir())
    tiles = [Dataset(out, parts, published(), None, full=False).read(part) for part in parts]
    west, east = find_places({tile.name: tuple(tile.grids) for tile in tiles if tile.is_observed})
    drop_at_place(table, west, [east])
    once = _rows(out)
    assert (once["reason"] == "split_conflict").any()
    drop_at_place(table, west, [east])
    assert _rows(out).equals(once)
    counts = count_at_place(table, west, [east])
    assert counts["patches"].tolist() == [0] * 2 * len(west.tiles)


@pytest.mark.parametrize("rule", ["drop", "first"])
def test_a_rule_that_is_not_kept_is_a_fault(built: dict[str, Path], rule: str, tmp_path: Path) -> None:
    reason = {"drop": "split_conflict", "first": "duplicate_ground"}[rule]
    meaning = {
        "drop": "it overlaps a patch of another split in another MGRS tile",
        "first": "an earlier MGRS tile (in name order) covers it in the same season, or on the same date",
    }[rule]
    out = with_copies(built[rule], tmp_path / "out", ["patches.parquet"])
    rows = _rows(out)
    lost = rows.index[rows["reason"] == reason][0]
    tile = rows["tile"][lost]
    other = rows.index[(rows["status"] == "kept") & (rows["tile"] == tile) & rows["x"].isin([1, 2])][0]

    def change(found: list[dict]) -> None:
        of_name = {row["patch_id"]: row for row in found}
        of_name[lost].update(status="kept", reason=None)
        of_name[other].update(status="rejected", reason=reason)

    change_rows(out / "patches.parquet" / f"{tile}.parquet", change)
    problem = problems_of(out)[TITLE]
    assert f"{lost} is kept, but {meaning} (overlaps: {rule})" in problem
    assert f"{other} is rejected for the reason '{reason}', which does not apply (overlaps: {rule})" in problem


def test_a_wrong_count_is_a_fault(small_run: Path, tmp_path: Path) -> None:
    out = with_copies(small_run, tmp_path / "out", ["run"])
    path = out / "run" / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    found = record["counts"]["conflict"]["validation"]
    record["counts"]["conflict"]["validation"] = found + 5
    path.write_text(json.dumps(record), encoding="utf-8")
    assert problems_of(out) == {TITLE: f"conflict validation: {found + 5} in the record, {found} in the patch table"}
