"""Columns: types, order and null flags, against what was published."""

from __future__ import annotations

import pickle
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reben_dask.formats import columns
from reben_dask.formats.columns import (
    CLOUD,
    METADATA,
    METADATA_SCHEMA,
    PATCH_ID,
    PATCH_TABLE,
    PATCH_TABLE_SCHEMA,
    PUBLISHED_METADATA,
    SNOW,
)

FLAGS = [(True, False), (False, True), (None, None), (None, True), (False, None)]
FLAGGED = [True, True, False, True, False]


def test_metadata_begin_with_the_published_columns_in_their_order(data_dir: Path) -> None:
    published = pq.read_schema(data_dir / "bigearthnet" / "metadata.parquet").names
    assert list(PUBLISHED_METADATA) == published
    assert METADATA_SCHEMA.names[: len(published)] == published
    assert METADATA_SCHEMA.field("contains_seasonal_snow").type == pa.bool_()


def test_columns_of_the_metadata_are_numbered() -> None:
    assert [column.published for column in METADATA] == list(range(1, len(METADATA) + 1))


def test_each_column_is_named_once_and_described() -> None:
    assert len(set(PATCH_TABLE)) == len(PATCH_TABLE)
    assert all(column.description for column in PATCH_TABLE)
    assert PATCH_TABLE_SCHEMA.names == [str(column) for column in PATCH_TABLE]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("labels_easy", pa.list_(pa.string())), ("split_random", pa.string()), ("urbanisation", pa.string())],
)
def test_columns_of_a_recipe_have_the_type_that_their_name_says(name: str, kind: pa.DataType) -> None:
    assert columns.patch_table_schema([name]).field(name).type == kind


def test_flags_that_are_null_count_as_false() -> None:
    rows = [{"contains_seasonal_snow": snow, "contains_cloud_or_shadow": cloud} for snow, cloud in FLAGS]
    table = pa.Table.from_pylist(rows, pa.schema([(SNOW, pa.bool_()), (CLOUD, pa.bool_())]))
    assert columns.flagged(table).to_pylist() == FLAGGED
    assert columns.flagged(pd.DataFrame(rows)).tolist() == FLAGGED
    assert [columns.flagged(row) for row in rows] == FLAGGED
    assert columns.fill_flags(table)["contains_seasonal_snow"].to_pylist() == [True, False, False, False, False]


def test_a_column_is_its_name_for_every_library() -> None:
    frame = pd.DataFrame({PATCH_ID: ["a"]})
    assert frame["patch_id"].tolist() == ["a"]
    assert pa.table({PATCH_ID: ["a"]}).column_names == ["patch_id"]
    assert pickle.loads(pickle.dumps(PATCH_ID)) == "patch_id"  # noqa: S301
    assert f"{PATCH_ID}" == "patch_id"


@pytest.mark.parametrize("classes", [(), ("Pastures",), ("Forêt", "Eau, douce")])
def test_classes_come_back_from_parquet_metadata(classes: tuple[str, ...]) -> None:
    assert columns.decode_classes(columns.encode_classes(classes)) == classes
    assert columns.decode_classes({}) is None
    assert columns.decode_classes(None) is None
