"""Patch tables read for a comparison, and what is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from patch_tables import dataset

from reben_dask.analysis.patch_set import read_patch_set
from reben_dask.errors import InputError

CLASSES = ["a", "b", "c"]
ROWS = pd.DataFrame(
    {
        "minx": [500_000, 501_200, 502_400],
        "maxy": 5_400_000,
        "tile": ["T1", "T1", "T2"],
        "labels": [["a", "c"], None, []],
        "status": ["kept", "rejected", "kept"],
        "split": ["train", "test", None],
    }
)


def test_the_table_of_a_run(small_run: Path) -> None:
    found = read_patch_set(small_run)
    table = gpd.read_parquet(small_run / "patches.parquet").sort_values("patch_id", ignore_index=True)
    order = np.argsort(found.patches["patch_id"].to_numpy().astype(str))
    for name in ("patch_id", "tile", "status", "reason", "split", "sensing_time", "epsg", "minx", "maxy"):
        left, right = (side[name].astype(object).to_numpy() for side in (found.patches.iloc[order], table))
        assert [None if pd.isna(value) else value for value in left] == [
            None if pd.isna(value) else value for value in right
        ]
    assert found.patches["side"].eq(1200).all()
    assert found.splits == ("split",)
    part = next((small_run / "patches.parquet").glob("*.parquet"))
    assert list(found.labels.classes) == json.loads(pq.read_schema(part).metadata[b"reben:classes"])
    presence = found.labels.carried[order]
    names = np.array(found.labels.classes)
    assert [names[row].tolist() for row in presence] == [
        [] if labels is None else list(labels) for labels in table["labels"]
    ]
    assert found.kept().patches["status"].eq("kept").all()
    assert len(found.kept()) == len(found.kept().labels) == (table["status"] == "kept").sum()


def test_more_splits_and_patches_without_labels(tmp_path: Path) -> None:
    out = dataset(tmp_path / "out", ROWS.assign(split_random="test", split_grid=ROWS["split"]), CLASSES)
    found = read_patch_set(out)
    assert found.splits == ("split", "split_random", "split_grid")
    assert found.labels.carried.tolist() == [[True, False, True], [False] * 3, [False] * 3]
    assert found.patches["split"].isna().tolist() == [False, False, True]
    assert found.patches["split_random"].tolist() == ["test"] * 3


def test_what_is_no_dataset(tmp_path: Path, data_dir: Path) -> None:
    with pytest.raises(InputError, match=f"The dataset {tmp_path / 'none'} does not exist"):
        read_patch_set(tmp_path / "none")
    with pytest.raises(InputError, match=f"{tmp_path} is not a dataset of this program"):
        read_patch_set(tmp_path)
    with pytest.raises(InputError, match=r"README.md cannot be read"):
        read_patch_set(data_dir / "README.md")
    # A dataset without its patch table is no published metadata.
    shutil.copy(data_dir / "bigearthnet" / "configilm_24_patches" / "metadata.parquet", tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").touch()
    with pytest.raises(InputError, match=r"patches.parquet has no parts"):
        read_patch_set(tmp_path)


PUBLISHED = Path("bigearthnet") / "configilm_24_patches"
FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")


def test_published_metadata_have_the_places_and_times_of_their_names(data_dir: Path) -> None:
    found = read_patch_set(data_dir / PUBLISHED)
    rows = pd.concat([pd.read_parquet(data_dir / PUBLISHED / name) for name in FILES], ignore_index=True)
    origins = pd.read_csv(data_dir / "bigearthnet" / "tile_origins.csv").set_index("mgrs")
    assert found.patches["patch_id"].tolist() == rows["patch_id"].tolist()
    known = 0
    for row in found.patches.itertuples():
        tile, x, y = row.patch_id.rsplit("_", 2)
        mgrs = tile.rsplit("_", 1)[1]
        assert row.tile == tile
        assert f"{row.sensing_time:%Y%m%dT%H%M%S.%f}" == f"{tile.split('_')[2]}.000000"
        if mgrs in origins.index:
            origin, known = origins.loc[mgrs], known + 1
            assert (row.epsg, row.minx, row.maxy) == (
                origin["epsg"],
                origin["ox"] + 1200 * int(x),
                origin["oy"] - 1200 * int(y),
            )
    assert known > 5
    names = np.array(found.labels.classes)
    assert len(names) == 19
    assert [names[presence].tolist() for presence in found.labels.carried] == [
        sorted(labels) for labels in rows["labels"]
    ]
    assert found.patches["split"].tolist() == rows["split"].tolist()
    assert found.patches["status"].eq("kept").all()


def test_names_without_tile_and_time_are_refused(tmp_path: Path, data_dir: Path) -> None:
    rows = pd.read_parquet(data_dir / PUBLISHED / FILES[0])
    rows.assign(patch_id=rows["s2v1_name"]).to_parquet(tmp_path / FILES[0])
    with pytest.raises(InputError, match=r"is not the name of a patch with its tile, position and time, such as S2A_"):
        read_patch_set(tmp_path)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("a tile of other classes", "T2.parquet has other classes or splits than T1.parquet"),
        ("a tile with one more split", "T2.parquet has other classes or splits than T1.parquet"),
        ("a label of no class", "T2.parquet has the label d, which is not in its list of classes"),
        ("no list of classes", "T1.parquet names no classes"),
        ("no column maxy", "T1.parquet has no column maxy"),
        ("a page of zeros", "T1.parquet of the patch table cannot be read"),
        ("no Parquet", "T1.parquet cannot be read as part of a patch table"),
    ],
)
def test_what_is_no_patch_table(tmp_path: Path, fault: str, words: str) -> None:
    out = dataset(tmp_path / "out", ROWS, CLASSES)
    first, other = out / "patches.parquet" / "T1.parquet", ROWS[ROWS["tile"] == "T2"]
    if fault == "a tile of other classes":
        dataset(out, other, CLASSES[:2])
    elif fault == "a tile with one more split":
        dataset(out, other.assign(split_grid="test"), CLASSES)
    elif fault == "a label of no class":
        dataset(out, other.assign(labels=[["a", "d"]]), CLASSES)
    elif fault == "no list of classes":
        pq.write_table(pq.read_table(first).replace_schema_metadata(None), first)
    elif fault == "no column maxy":
        pq.write_table(pq.read_table(first).drop_columns("maxy"), first)
    elif fault == "a page of zeros":
        first.write_bytes(b"PAR1" + bytes(100) + first.read_bytes()[104:])
    else:
        first.write_text("no Parquet")
    with pytest.raises(InputError, match=words):
        read_patch_set(out)
