"""Counts of patches by date, season and number of labels."""

from __future__ import annotations

import pandas as pd
import pytest

from reben_dask.patches.count_tables import TABLES, date_table, label_number_table, season_table

SPLITS = ["train", "validation", "test", "all"]


def _patches(*rows: tuple[str | None, str, str | None]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["season", "sensing_time", "split"])
    return frame.assign(sensing_time=pd.to_datetime(frame["sensing_time"], utc=True))


def test_days_are_those_of_utc() -> None:
    patches = _patches(("spring", "2018-04-01T01:30:00+02:00", "test"), ("spring", "2018-03-31T23:59:59Z", None))
    berlin = patches.assign(sensing_time=patches["sensing_time"].dt.tz_convert("Europe/Berlin"))
    for frame in (patches, berlin):
        assert date_table(frame).to_dict("index") == {"2018-03-31": dict(zip(SPLITS, (0, 0, 1, 2), strict=True))}


def test_seasons_are_in_the_order_of_the_year() -> None:
    patches = _patches(
        ("winter", "2018-12-31T12:00:00Z", "train"),
        ("winter", "2018-02-28T12:00:00Z", "train"),
        ("fall", "2018-10-01T12:00:00Z", "train"),
        ("snow", "2018-01-15T12:00:00Z", "validation"),
        ("spring", "2018-05-15T12:00:00Z", "test"),
        (None, "2018-06-15T12:00:00Z", None),
        ("summer", "2018-07-15T12:00:00Z", "test"),
    )
    table = season_table(patches)
    assert list(table.index) == ["spring", "summer", "fall", "winter", "snow", "(none)"]
    assert table.loc["winter"].tolist() == [2, 0, 0, 2]
    assert table.loc["(none)"].tolist() == [0, 0, 0, 1]


def test_numbers_are_in_their_own_order_and_no_labels_are_a_number_too() -> None:
    labels = [["a"] * 10, ["a", "b"], [], ["c"], None]
    table = label_number_table(pd.DataFrame({"labels": labels, "split": ["train", "test", "test", "train", None]}))
    assert table["all"].to_dict() == {0: 2, 1: 1, 2: 1, 10: 1}
    assert table.loc[0].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("by", list(TABLES))
def test_without_patches_a_table_has_its_columns(by: str) -> None:
    nothing = _patches().assign(labels=pd.Series(dtype=object))
    table = TABLES[by](nothing)
    assert (list(table.columns), table.index.name, len(table)) == (SPLITS, by, 0)
