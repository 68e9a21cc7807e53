"""Counts of patches, against DuckDB and loops."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.job.record import NO_COUNTS, concat_counts, count_patches, split_notes, sum_counts
from reben_dask.recipes import load_recipe

CLASSES = ["Arable land", "Broad-leaved forest", "Pastures"]
SPLITS = ["train", "validation", "test"]
REASONS = ["tile_quality", "nodata", "too_little_labeled"]


def _frame(rows: list[tuple[object, ...]], tile: str = "T1") -> pd.DataFrame:
    """Finished patches from (reason, labels, split, snow, cloud) of each; without a reason a patch is kept."""
    reasons, labels, splits, snow, cloud = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "tile": pd.Series([tile] * len(rows), dtype="str"),
            "status": pd.Series(["rejected" if reason else "kept" for reason in reasons], dtype="str"),
            "reason": pd.Series(reasons, dtype="str"),
            "labels": pd.Series(list(map(list, labels)), dtype=object),
            "split": pd.Series(splits, dtype="str"),
            "contains_seasonal_snow": snow,
            "contains_cloud_or_shadow": cloud,
        }
    )


PATCHES = st.lists(
    st.tuples(
        st.sampled_from([None, None, *REASONS]),
        st.sets(st.sampled_from(CLASSES)).map(sorted),
        st.sampled_from(SPLITS),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=20,
)


def _counts(table: pd.DataFrame) -> dict[tuple[str, str, str, str], int]:
    keys = table[["tile", "measure", "key", "split"]].itertuples(index=False, name=None)
    counts = dict(zip(keys, table["patches"].tolist(), strict=True))
    assert len(counts) == len(table)
    return counts


@given(PATCHES)
def test_counts_are_those_of_a_loop(rows: list[tuple[object, ...]]) -> None:
    expected: Counter[tuple[str, str, str]] = Counter()
    for reason, labels, split, snow, cloud in rows:
        expected["status", "rejected" if reason else "kept", ""] += 1
        if reason:
            expected["reason", reason, ""] += 1
            continue
        expected["split", split, ""] += 1
        for name in labels:
            expected["class", name, split] += 1
        expected["apart", "snow", ""] += snow
        expected["apart", "cloud_or_shadow", ""] += cloud
        expected["apart", "any", ""] += snow or cloud
    counts = {key[1:]: count for key, count in _counts(count_patches(_frame(rows))).items() if count}
    assert counts == {key: count for key, count in expected.items() if count}


@given(PATCHES)
def test_a_tally_has_one_shape(rows: list[tuple[object, ...]]) -> None:
    table = count_patches(_frame(rows))
    assert list(table.columns) == ["tile", "measure", "key", "split", "patches"]
    assert table.dtypes.to_dict() == NO_COUNTS.dtypes.to_dict()
    assert set(table["tile"]) == {"T1"}


@given(st.lists(PATCHES, max_size=4))
def test_tallies_add_up(tiles: list[list[tuple[object, ...]]]) -> None:
    frames = [_frame(rows, f"T{number}") for number, rows in enumerate(tiles)]
    together = concat_counts(map(count_patches, frames))
    assert together.dtypes.to_dict() == NO_COUNTS.dtypes.to_dict()
    everything = pd.concat(frames) if frames else _frame([(None, [], "train", False, False)]).iloc[:0]
    assert sum(sum_counts(together, "status").values()) == len(everything)
    for measure in ("status", "reason"):
        assert sum_counts(together, measure) == everything[measure].dropna().value_counts().to_dict()
    kept = everything[everything["status"] == "kept"]
    assert sum_counts(together, "split") == kept["split"].value_counts().to_dict()
    assert sum_counts(together, "class") == kept["labels"].explode().dropna().value_counts().to_dict()


def test_counts_are_those_of_another_program() -> None:
    random = np.random.default_rng(7)
    rows = [
        (
            random.choice([None, *REASONS], p=[0.7, 0.1, 0.1, 0.1]),
            sorted(random.choice(CLASSES, random.integers(0, 4), replace=False)),
            random.choice(SPLITS),
            bool(random.random() < 0.2),
            bool(random.random() < 0.2),
        )
        for _ in range(500)
    ]
    patches = _frame(rows)
    counted = duckdb.sql(
        "SELECT label, split, count(*) FROM (SELECT unnest(labels) AS label, split FROM patches WHERE status = 'kept') "
        "GROUP BY label, split"
    ).fetchall()
    counts = _counts(count_patches(patches))
    assert {key[2:]: count for key, count in counts.items() if key[1] == "class"} == {
        (label, split): count for label, split, count in counted
    }
    assert len(patches) == 500


@pytest.mark.parametrize("flag", [None, np.nan, False])
def test_flags_that_are_not_known_are_not_counted(flag: object) -> None:
    patches = _frame([(None, ["Pastures"], "train", True, True)] * 3)
    unknown = pd.Series([flag] * 3, dtype=object)
    table = count_patches(patches.assign(contains_seasonal_snow=unknown, contains_cloud_or_shadow=unknown))
    assert sum_counts(table, "apart") == {"snow": 0, "cloud_or_shadow": 0, "any": 0}


def test_a_tile_that_was_not_looked_at() -> None:
    patches = _frame([("tile_quality", [], "train", False, False)] * 4)
    nulls = pd.Series([None] * 4, dtype=object)
    table = count_patches(patches.assign(labels=nulls, contains_seasonal_snow=nulls, contains_cloud_or_shadow=nulls))
    assert sum_counts(table, "status") == {"rejected": 4}
    assert sum_counts(table, "reason") == {"tile_quality": 4}
    assert sum_counts(table, "class") == sum_counts(table, "split") == {}


def test_nothing_adds_up_to_an_empty_table() -> None:
    pd.testing.assert_frame_equal(concat_counts([]), NO_COUNTS)
    assert sum_counts(concat_counts([]), "status") == {}


@pytest.mark.parametrize(
    ("recipe", "splits", "notes"),
    [
        # Shares of 0.5, 0.25 and 0.25: the limits are 0.125 and 0.375 of 16 patches.
        ("reben", (8, 6, 2), []),
        ("reben", (8, 7, 1), ["43.8% of the kept patches are in validation, instead of 25%", "6.2% of the kept"]),
        ("reben", (12, 4, 0), ["No kept patch is in test; the area is small"]),
        # 0.7, 0.1 and 0.2, over blocks of all tiles.
        (
            "seasonet",
            (70, 4, 26),
            ["4.0% of the kept patches are in validation, instead of 10%; the area has few blocks"],
        ),
        ("reben", (0, 0, 0), []),
    ],
)
def test_splits_that_miss_their_share_are_told(recipe: str, splits: tuple[int, ...], notes: list[str]) -> None:
    names = [name for name, number in zip(SPLITS, splits, strict=True) for _ in range(number)]
    rows = [(None, ["Pastures"], name, False, False) for name in names] or [("nodata", [], "train", False, False)]
    found = split_notes(SimpleNamespace(recipe=load_recipe(recipe)), count_patches(_frame(rows)))
    assert [text[: len(note)] for text, note in zip(found, notes, strict=True)] == notes
