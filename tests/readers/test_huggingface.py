"""Hugging Face opens the tables of a dataset with the lines of the README; pandas reads the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from other_readers import METADATA, METADATA_FLAGGED, find_lines, run_lines

pytestmark = pytest.mark.slow

SAVE = """
for name, rows in patches.items():
    rows.to_pandas().to_parquet(f"{name}.parquet")
candidates.to_pandas().to_parquet("candidates.parquet")
"""


def _open(dataset: Path, folder: Path) -> dict[str, pd.DataFrame]:
    """Tables that ``load_dataset`` finds, by the names of their splits."""
    run_lines("huggingface", ["-c", find_lines("huggingface") + SAVE], dataset, folder)
    return {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}


def _expect(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found) == list(expected)
    for name in expected:
        assert [*map(_plain, found[name])] == [*map(_plain, expected[name])], name


def _plain(value: object) -> object:
    """Value without NumPy's types; None for any null."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if not isinstance(value, (bytes, dict)) and pd.isna(value) else value


def test_both_tables(small_run: Path, tmp_path: Path) -> None:
    found = _open(small_run, tmp_path)
    assert set(found) == {"clear", "flagged", "candidates"}
    _expect(found["clear"], pd.read_parquet(small_run / METADATA))
    _expect(found["flagged"], pd.read_parquet(small_run / METADATA_FLAGGED))
    parts = sorted((small_run / "patches.parquet").glob("*.parquet"))
    _expect(found["candidates"], pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True))
