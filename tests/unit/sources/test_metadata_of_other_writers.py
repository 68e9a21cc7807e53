"""Metadata that a user has filtered and written again with another program: the same rows, or refused at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reben_dask.errors import InputError
from reben_dask.formats.columns import METADATA_SCHEMA, PUBLISHED_METADATA, schema
from reben_dask.sources.published.metadata import read_metadata, require_metadata

TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
IDS = [f"{TILE}_07_05", f"{TILE}_08_05", f"{TILE}X_07_05"]
ROWS: dict[str, list[Any]] = {
    "patch_id": IDS,
    "labels": [["Pastures"], ["Arable land", "Pastures"], ["Pastures"]],
    "split": ["train", "test", "validation"],
    "country": ["Austria", None, "Serbia"],
    "s1_name": [f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_{x}_5" for x in (7, 8, 9)],
    "s2v1_name": [None, None, None],
    "contains_seasonal_snow": [False, True, False],
    "contains_cloud_or_shadow": [False, None, True],
}
TABLE = pa.table(ROWS, schema=schema(PUBLISHED_METADATA))

Write = Callable[[Path], object]


def _with_text(text: pa.DataType, texts: pa.DataType) -> pa.Table:
    types = {pa.string(): text, pa.list_(pa.string()): texts}
    return TABLE.cast(pa.schema([(field.name, types.get(field.type, field.type)) for field in TABLE.schema]))


def _index(path: Path) -> None:
    TABLE.to_pandas().set_index("patch_id").to_parquet(path)


def _categories(path: Path) -> None:
    frame = TABLE.to_pandas()
    for name in ("patch_id", "split", "country"):
        frame[name] = frame[name].astype("category")
    frame.to_parquet(path)


def _numbers(path: Path) -> None:
    frame = TABLE.to_pandas()
    for name in ("contains_seasonal_snow", "contains_cloud_or_shadow"):
        frame[name] = frame[name].astype("boolean").astype("Int8")
    frame.to_parquet(path)


READ: dict[str, Write] = {
    "as published": lambda path: pq.write_table(TABLE, path),
    "text views, as Polars writes them": lambda path: pq.write_table(
        _with_text(pa.string_view(), pa.list_(pa.string_view())), path
    ),
    "large text, as DuckDB and Hugging Face write it": lambda path: pq.write_table(
        _with_text(pa.large_string(), pa.large_list(pa.large_string())), path
    ),
    "patch_id as index": _index,
    "categories": _categories,
    "flags as 0 and 1": _numbers,
    "another order of columns": lambda path: pq.write_table(TABLE.select(sorted(TABLE.column_names)), path),
}


@pytest.mark.parametrize("kind", READ)
def test_rows_are_the_same_whoever_wrote_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "metadata.parquet"
    READ[kind](path)
    assert require_metadata([path]) == 3
    for tile, rows in ((None, range(3)), (TILE, range(2))):
        found = read_metadata([path], tile=tile)
        assert list(found) == list(ROWS)
        for name, values in ROWS.items():
            column = [list(each) for each in found[name]] if name == "labels" else found[name].tolist()
            assert [None if not isinstance(each, list) and pd.isna(each) else each for each in column] == [
                values[row] for row in rows
            ]


def _column(name: str, values: list[Any]) -> pa.Table:
    return TABLE.set_column(TABLE.column_names.index(name), name, pa.array(values))


REFUSED: dict[str, tuple[pa.Table, str]] = {
    "labels as text": (_column("labels", ["['Pastures']"] * 3), "has labels as string, not as list<item: string>"),
    "flags as text": (_column("contains_seasonal_snow", ["True"] * 3), "has contains_seasonal_snow as string"),
    "a flag of 2": (_column("contains_cloud_or_shadow", [0, 1, 2]), "has 2 in contains_cloud_or_shadow"),
    "names as numbers": (_column("patch_id", [1, 2, 3]), "has patch_id as int64, not as string"),
    "splits as numbers": (_column("split", [0, 1, 2]), "has split as int64, not as string"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_at_opening(tmp_path: Path, kind: str) -> None:
    table, words = REFUSED[kind]
    path = tmp_path / "metadata.parquet"
    pq.write_table(table, path)
    for function in (lambda: require_metadata([path]), lambda: read_metadata([path])):
        with pytest.raises(InputError) as caught:
            function()
        assert str(path) in str(caught.value)
        assert words in str(caught.value)


def test_csv_is_named(tmp_path: Path) -> None:
    TABLE.to_pandas().to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(InputError, match=r"read from Parquet, not from CSV\.$"):
        require_metadata([tmp_path / "metadata.csv"])


def test_columns_of_this_program_have_the_published_types() -> None:
    assert METADATA_SCHEMA.names[:8] == TABLE.column_names
