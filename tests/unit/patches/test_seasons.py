"""Seasons by calendar month in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.formats.names import TileName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import Scene, candidate_patches, season_of
from reben_dask.recipes import load_recipe

METEOROLOGICAL = {"spring": (3, 4, 5), "summer": (6, 7, 8), "fall": (9, 10, 11), "winter": (12, 1, 2)}
SEASONET = {"spring": (4, 5), "summer": (7, 8), "fall": (10, 11), "winter": (1, 2)}
BY_MONTH = ["winter"] * 2 + ["spring"] * 3 + ["summer"] * 3 + ["fall"] * 3 + ["winter"]
BY_MONTH_WITH_GAPS = [
    *("winter", "winter", None, "spring", "spring", None),
    *("summer", "summer", None, "fall", "fall", None),
]


@pytest.mark.parametrize(("months", "expected"), [(METEOROLOGICAL, BY_MONTH), (SEASONET, BY_MONTH_WITH_GAPS)])
@pytest.mark.parametrize("year", [2017, 2018, 2020])
def test_every_first_and_last_moment_of_a_month(
    months: dict[str, tuple[int, ...]], expected: list[str | None], year: int
) -> None:
    for number, season in enumerate(expected, start=1):
        first = datetime(year, number, 1, tzinfo=UTC)
        following = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
        assert season_of(first, months) == season
        assert season_of(following - timedelta(microseconds=1), months) == season


def test_reben_has_the_meteorological_seasons() -> None:
    assert dict(load_recipe("reben").seasons) == METEOROLOGICAL


@pytest.mark.parametrize(
    ("time", "season"),
    [
        ("2018-03-01T00:59:59+01:00", "winter"),  # still February in UTC
        ("2018-03-01T01:00:00+01:00", "spring"),
        ("2018-02-28T23:00:00-01:00", "spring"),  # already March in UTC
        ("2018-02-28T22:59:59-01:00", "winter"),
        ("2018-01-01T05:00:00+14:00", "winter"),
        ("2018-06-01T13:59:59+14:00", "spring"),
        ("2017-08-31T12:00:00-12:00", "fall"),
        ("2017-12-01T05:29:59+05:30", "fall"),
    ],
)
def test_the_month_is_that_of_utc(time: str, season: str) -> None:
    assert season_of(datetime.fromisoformat(time), METEOROLOGICAL) == season


@given(st.datetimes(datetime(2015, 6, 23), datetime(2040, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_the_same_instant_has_one_season(moment: datetime, minutes: int) -> None:
    instant = moment.replace(tzinfo=UTC)
    elsewhere = instant.astimezone(timezone(timedelta(minutes=minutes)))
    assert season_of(elsewhere, METEOROLOGICAL) == season_of(instant, METEOROLOGICAL) == BY_MONTH[instant.month - 1]


@pytest.mark.parametrize(("month", "season"), [(2, "winter"), (3, None)])
def test_patches_of_a_gap_have_a_null_season(month: int, season: str | None) -> None:
    recipe = load_recipe("reben").model_copy(update={"seasons": SEASONET})
    grid = PatchGrid(32632, 300_000, 5_400_000, ShapeYX(2400, 1200))
    patches = candidate_patches(
        Scene(
            TileName("S2A_MSIL2A_20180209T101031_N9999_R022_T32UUP", ""),
            datetime(2018, month, 9, tzinfo=UTC),
            (grid,),
            None,
        ),
        recipe,
    )
    assert patches["season"].dtype == "str"
    assert patches["season"].fillna("none").tolist() == [season or "none"] * 2
