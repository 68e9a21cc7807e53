"""Table I of the paper, against the published metadata counted by another program."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from reben_dask.patches.class_table import class_table

MAIN = "metadata.parquet"
APART = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"


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
