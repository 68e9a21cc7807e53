"""The same patches in two tables, against a join in DuckDB."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.analysis.matching import (
    at_places_of,
    match_patches,
    overlap_table,
    reasons_elsewhere,
    split_table,
)

TIMES = [pd.Timestamp(f"2018-07-25T10:00:{second}.024Z") for second in (31, 32)]
COLUMNS = ["epsg", "minx", "maxy", "side", "sensing_time"]
KEYS = st.tuples(
    st.sampled_from([32632, 32633]),
    st.sampled_from([0, 600, 1200]),
    st.sampled_from([0, 600]),
    st.sampled_from([1200, 1260]),
    st.sampled_from(TIMES),
)


def _table(keys: list[tuple[object, ...]], **columns: object) -> pd.DataFrame:
    return pd.DataFrame(keys, columns=COLUMNS).astype({"sensing_time": "datetime64[us, UTC]"}).assign(**columns)


@given(st.lists(KEYS, max_size=25), st.lists(KEYS, max_size=25))
def test_place_side_and_time_decide(a: list[tuple[object, ...]], b: list[tuple[object, ...]]) -> None:
    """Equal rows are matched in their order: the first with the first, the second with the second."""
    here, there = _table(a), _table(b)
    found = match_patches(here, there)
    seen: dict[tuple[object, ...], int] = {}
    waiting = {key: [row for row, other in enumerate(b) if other == key] for key in b}
    expected = []
    for row, key in enumerate(a):
        number = seen.get(key, 0)
        seen[key] = number + 1
        if number < len(waiting.get(key, [])):
            expected.append((row, waiting[key][number]))
    assert list(zip(found.a.tolist(), found.b.tolist(), strict=True)) == expected
    assert at_places_of(here, there).tolist() == [key[:4] in {other[:4] for other in b} for key in a]


def test_a_time_from_a_name_has_whole_seconds() -> None:
    """As published names have it: 10:00:31 is the time of a product that began at 10:00:31.024."""
    place = (32633, 0, 0, 1200)
    found = match_patches(_table([(*place, TIMES[0])]), _table([(*place, TIMES[0].floor("s")), (*place, TIMES[1])]))
    assert (found.a.tolist(), found.b.tolist()) == ([0], [0])


def test_a_thousand_patches_as_duckdb_joins_them() -> None:
    random = np.random.default_rng(5)
    grid = [(32633, 1200 * x, 1200 * y, 1200, time) for x in range(16) for y in range(16) for time in TIMES]
    shifted = [(epsg, x + 600, y + 600, side, time) for epsg, x, y, side, time in grid]
    here, there = (
        _table([(grid + shifted)[row] for row in random.permutation(len(grid) * 2)[:700]]).assign(
            status=random.choice(["kept", "rejected"], 700), split=random.choice(["train", "test"], 700)
        )
        for _ in range(2)
    )
    found = match_patches(here, there)
    here["row"], there["row"] = range(700), range(700)
    joined = duckdb.sql(f"SELECT a.row, b.row FROM here a JOIN there b USING ({', '.join(COLUMNS)})").fetchall()  # noqa: S608
    assert sorted(zip(found.a.tolist(), found.b.tolist(), strict=True)) == sorted(joined)
    kept = duckdb.sql(
        f"SELECT count(*) FROM here a JOIN there b USING ({', '.join(COLUMNS)}) "  # noqa: S608
        "WHERE a.status = 'kept' AND b.status = 'kept'"
    ).fetchall()[0][0]
    a, b = ((table["status"] == "kept").sum() for table in (here, there))
    both = len(joined)
    assert overlap_table(here, there, found).to_numpy().tolist() == [
        [700, 700, both, 700 - both, 700 - both],
        [a, b, kept, a - kept, b - kept],
    ]
    counts = split_table(here["split"].iloc[found.a], there["split"].iloc[found.b])
    assert counts.index.tolist() == counts.columns.tolist() == ["train", "validation", "test", "all"]
    for one in ("train", "test"):
        for other in ("train", "test"):
            query = (
                f"SELECT count(*) FROM here a JOIN there b USING ({', '.join(COLUMNS)}) "  # noqa: S608
                f"WHERE a.split = '{one}' AND b.split = '{other}'"
            )
            assert counts.loc[one, other] == duckdb.sql(query).fetchall()[0][0]
    assert counts.loc["all", "all"] == both
    assert counts["validation"].sum() == 0


def test_why_a_patch_is_not_kept_in_the_other_dataset() -> None:
    here = pd.DataFrame({"status": ["kept", "kept", "kept", "kept", "rejected"], "reason": [None] * 4 + ["nodata"]})
    there = pd.DataFrame({"status": ["rejected", "rejected", "kept"], "reason": ["nodata", "no_sentinel1", None]})
    counts = reasons_elsewhere(here, there, np.array([0, -1, 2, 0, 1]))
    assert counts.to_dict() == {"nodata": 2, "no_candidate": 1}
    assert list(counts.index) == ["nodata", "no_candidate"]


def test_patches_without_a_split_and_splits_of_other_names() -> None:
    counts = split_table(pd.Series(["train", None]), pd.Series(["val", "test"], dtype="category"))
    assert counts.loc["train", "val"] == counts.loc["none", "test"] == 1
    assert counts.loc["all"].tolist() == [0, 0, 1, 1, 2]
