"""Counts of patches: Table I against the published metadata counted by DuckDB; dates, seasons and numbers of labels."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from reben_dask.analysis.counts import (
    TABLES,
    class_table,
    date_table,
    label_number_table,
    season_table,
    with_unassigned,
)

SPLITS = ["train", "validation", "test", "all"]
MAIN = "metadata.parquet"
APART = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"


@pytest.mark.slow
@pytest.mark.parametrize("files", [(MAIN,), (MAIN, APART)], ids=["clear", "all"])
def test_every_cell_equals_the_published_counts(data_dir: Path, files: tuple[str, ...]) -> None:
    paths = [str(data_dir / "bigearthnet" / name) for name in files]
    cells = duckdb.sql(
        f"SELECT label, split, count(*) FROM (SELECT unnest(labels) AS label, split FROM read_parquet({paths})) "  # noqa: S608
        "GROUP BY label, split"
    ).fetchall()
    table = class_table(pd.concat([pd.read_parquet(path, columns=["labels", "split"]) for path in paths]))
    assert {(name, split): count for name, split, count in cells} == {
        (name, split): table.loc[name, split]
        for name in table.index
        for split in ("train", "validation", "test")
        if table.loc[name, split]
    }
    assert len(table) == 19
    assert list(table.index) == sorted(table.index)
    assert (table["all"] == table[["train", "validation", "test"]].sum(axis=1)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "patches"),
    [
        ((MAIN, APART), {"train": 272_544, "validation": 139_577, "test": 137_367}),
        ((MAIN,), {"train": 237_871, "validation": 122_342, "test": 119_825}),
    ],
)
def test_split_sizes_are_the_published_ones(data_dir: Path, files: tuple[str, ...], patches: dict[str, int]) -> None:
    frames = [pd.read_parquet(data_dir / "bigearthnet" / name, columns=["split"]) for name in files]
    assert pd.concat(frames)["split"].value_counts().to_dict() == patches


def test_a_patch_counts_once_for_each_label() -> None:
    patches = pd.DataFrame({"labels": [["a", "b"], ["b"], []], "split": ["train", "test", "test"]})
    table = class_table(patches)
    assert table.to_dict("index") == {
        "a": {"train": 1, "validation": 0, "test": 0, "all": 1},
        "b": {"train": 1, "validation": 0, "test": 1, "all": 2},
    }


def test_no_patches_make_an_empty_table() -> None:
    assert class_table(pd.DataFrame({"labels": [], "split": []})).empty


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


def test_patches_in_no_split_have_a_column_if_there_are_any() -> None:
    patches = pd.DataFrame({"labels": [["a"], ["a", "b"], ["b"]], "split": ["train", None, "test"]})
    table = with_unassigned(class_table(patches))
    assert [*table] == ["train", "validation", "test", "no split", "all"]
    assert table.loc["a"].tolist() == [1, 0, 0, 1, 2]
    assert table.loc["b"].tolist() == [0, 0, 1, 1, 2]
    assert [*with_unassigned(class_table(patches.dropna()))] == ["train", "validation", "test", "all"]
