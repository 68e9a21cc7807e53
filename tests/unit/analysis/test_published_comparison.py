"""Comparison of patches with published ones, on a real tile with names of two digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.analysis.published import COMPARED, class_differences, compare_patches

FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")


@pytest.fixture(scope="module")
def there(data_dir: Path) -> pd.DataFrame:
    """The published patches of one real tile."""
    folder = data_dir / "bigearthnet"
    rows = pd.concat([pd.read_parquet(folder / name, filters=[("patch_id", ">=", f"{TILE}_")]) for name in FILES])
    rows = rows[rows["patch_id"].str.startswith(f"{TILE}_")].reset_index(drop=True)
    assert len(rows) > 1000
    return rows


@pytest.fixture
def here(there: pd.DataFrame) -> pd.DataFrame:
    """A patch table that agrees: all the published patches are kept, and some others rejected."""
    ids = [f"{TILE}_{x:02d}_{y:02d}" for x in range(91) for y in range(91)]
    rejected = pd.DataFrame({"patch_id": sorted(set(ids) - set(there["patch_id"]))}).assign(reason="not_published")
    rows = pd.concat([there.assign(reason=None), rejected]).sort_values("patch_id", ignore_index=True)
    return rows.assign(status=np.where(rows["reason"].isna(), "kept", "rejected"), reason=rows["reason"].astype("str"))


def _rows(differences: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    assert differences.columns.tolist() == ["patch_id", "tile", "what", "here", "there"]
    assert set(differences["tile"]) <= {TILE}
    return list(differences.drop(columns="tile").itertuples(index=False, name=None))


def test_what_agrees_has_no_difference(here: pd.DataFrame, there: pd.DataFrame) -> None:
    assert _rows(compare_patches(TILE, here, there)) == []
    shuffled = there.sample(frac=1, random_state=1)
    assert _rows(compare_patches(TILE, here.sample(frac=1, random_state=2), shuffled)) == []
    assert class_differences(compare_patches(TILE, here, there)).to_dict("index") == {}


def test_every_kind_of_difference_is_a_row(here: pd.DataFrame, there: pd.DataFrame) -> None:
    names = there["patch_id"].iloc[[3, 50, 99, 400, 500, 600]].tolist()
    row = {name: here.index[here["patch_id"] == name][0] for name in names}
    country, split = (there.set_index("patch_id")[name] for name in ("country", "split"))
    here.loc[row[names[0]], ["status", "reason"]] = ["rejected", "nodata"]
    here.loc[row[names[1]], "country"] = "Atlantis"
    here.loc[row[names[2]], "split"] = "other"
    here.loc[row[names[3]], "contains_seasonal_snow"] = True
    labels = pd.Series([np.array(["Pastures", "Arable land"])], [row[names[4]]])
    here.loc[labels.index, "labels"] = labels
    added = here.loc[here["reason"] == "not_published", "patch_id"].iloc[7]
    here.loc[here["patch_id"] == added, "reason"] = None
    here = here[here["patch_id"] != names[5]]

    expected = [
        (names[0], "missing here", "nodata", ""),
        (names[1], "country", "Atlantis", country[names[1]]),
        (names[2], "split", "other", split[names[2]]),
        (names[3], "contains_seasonal_snow", "True", "False"),
        (
            names[4],
            "labels",
            "Arable land; Pastures",
            "; ".join(sorted(there.set_index("patch_id")["labels"][names[4]])),
        ),
        (names[5], "missing here", "no such patch", ""),
        (added, "missing there", "", ""),
    ]
    assert _rows(compare_patches(TILE, here, there)) == sorted(expected)


def test_the_order_of_labels_does_not_matter(here: pd.DataFrame, there: pd.DataFrame) -> None:
    turned = there.assign(labels=there["labels"].map(lambda labels: list(labels)[::-1]))
    assert _rows(compare_patches(TILE, here, turned)) == []


@pytest.mark.parametrize("column", COMPARED)
def test_a_column_that_nobody_filled_is_not_compared(here: pd.DataFrame, there: pd.DataFrame, column: str) -> None:
    """Such as the country of a job without countries."""
    assert _rows(compare_patches(TILE, here.assign(**{column: None}), there)) == []


def test_nulls_differ_from_values(here: pd.DataFrame, there: pd.DataFrame) -> None:
    first, second = there["patch_id"].iloc[:2]
    here.loc[here["patch_id"] == first, "country"] = None
    country = there["country"].copy()
    country.iloc[1] = None
    rows = _rows(compare_patches(TILE, here, there.assign(country=country)))
    assert rows == [(first, "country", "", "Austria"), (second, "country", "Austria", "")]


@pytest.mark.parametrize(("ours", "theirs"), [(True, False), (False, True), (False, False)])
def test_a_side_without_patches(here: pd.DataFrame, there: pd.DataFrame, *, ours: bool, theirs: bool) -> None:
    here = here if ours else here.assign(reason="nodata", status="rejected")
    found = compare_patches(TILE, here, there if theirs else there.iloc[:0])
    wanted = {(True, False): "missing there", (False, True): "missing here"}.get((ours, theirs))
    assert set(found["what"]) == ({wanted} if wanted else set())
    assert len(found) == (len(there) if wanted else 0)
    assert set(found["here"]) <= {"", "nodata"}


def test_classes_here_only_and_there_only() -> None:
    rows = [("labels", "a; b, c; d", "a; e"), ("labels", "", "a"), ("labels", "e", "e; a"), ("country", "x", "y")]
    differences = pd.DataFrame(rows, columns=["what", "here", "there"])
    assert class_differences(differences).to_dict("index") == {
        "a": {"here only": 0, "there only": 2},
        "b, c": {"here only": 1, "there only": 0},
        "d": {"here only": 1, "there only": 0},
        "e": {"here only": 0, "there only": 1},
    }


LABELS = st.lists(st.sampled_from(["a", "b, c", "d"]), unique=True, max_size=3)
SIDE = st.dictionaries(
    st.integers(0, 6), st.tuples(LABELS, st.sampled_from("xy"), st.booleans(), st.booleans()), max_size=7
)


@given(ours=SIDE, theirs=SIDE, rejected=st.sets(st.integers(0, 6)))
def test_exactly_the_differences_are_listed(
    ours: dict[int, tuple], theirs: dict[int, tuple], rejected: set[int]
) -> None:
    """Against a comparison cell by cell."""
    columns = ["labels", "split", *FLAGS]
    kept = {key: row for key, row in ours.items() if key not in rejected}
    expected = {(key, "missing here") for key in theirs.keys() - kept.keys()}
    expected |= {(key, "missing there") for key in kept.keys() - theirs.keys()}
    for key in kept.keys() & theirs.keys():
        pairs = zip(columns, kept[key], theirs[key], strict=True)
        changed = [name for name, one, other in pairs if (set(one) != set(other) if name == "labels" else one != other)]
        expected |= {(key, name) for name in changed}

    def frame(side: dict[int, tuple]) -> pd.DataFrame:
        table = pd.DataFrame(list(side.values()), columns=columns).astype({"split": "str"})
        return table.assign(patch_id=[f"{TILE}_{key}" for key in side], country=None)

    here = frame(ours)
    here["reason"] = pd.Series([None if key in kept else "nodata" for key in ours], dtype="str")
    found = compare_patches(TILE, here, frame(theirs))
    assert {(int(name[-1]), what) for name, what in zip(found["patch_id"], found["what"], strict=True)} == expected
    assert len(found) == len(expected)
