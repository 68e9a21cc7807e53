"""Hugging Face opens the tables and samples of a dataset with the lines of the README; pandas reads the same rows.

WebDataset, in the same environment, opens the samples in tar files with the lines of the guide.
"""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest
from conftest import MadeOnce
from other_readers import METADATA, METADATA_FLAGGED, find_lines, make_dataset, read_metadata, run_lines
from safetensors.numpy import load

from reben_dask.demo import DemoRegion

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


# Samples

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12", "VV", "VH")

SAVE_IMAGES = f"""
import numpy as np
assert set(images) == {{"train", "validation", "test", "flagged"}}
for row in train:
    found = {{name: row[name] for name in {(*BANDS, "reference_map")}}}
    np.savez(row["patch_id"], **found, labels=[str(label) for label in row["labels"]])
"""
SAVE_SAMPLES = f"""
import numpy as np
for sample in train:
    found = {{name: sample[name.lower() + ".npy"] for name in {(*BANDS, "reference_map")}}}
    np.savez(sample["__key__"], **found, labels=sample["json"]["labels"])
"""


@pytest.mark.parametrize(("lines", "save"), [("huggingface-images", SAVE_IMAGES), ("webdataset", SAVE_SAMPLES)])
def test_samples(small_region: DemoRegion, made_once: MadeOnce, tmp_path: Path, lines: str, save: str) -> None:
    dataset = make_dataset(small_region, made_once)
    run_lines("huggingface", ["-c", find_lines(lines) + save], dataset, tmp_path)
    rows = read_metadata(dataset / METADATA, "train").set_index("patch_id")
    found = {path.stem: np.load(path) for path in tmp_path.glob("S2*.npz")}
    assert sorted(found) == sorted(rows.index)
    with lmdb.open(str(dataset / "lmdb"), readonly=True, lock=False) as environment, environment.begin() as transaction:
        for name, sample in found.items():
            assert sample["labels"].tolist() == list(rows["labels"][name])
            images = load(transaction.get(name.encode())) | load(transaction.get(rows["s1_name"][name].encode()))
            images["reference_map"] = load(transaction.get(f"{name}_reference_map".encode()))["Data"]
            assert sorted(images) == sorted((*BANDS, "reference_map"))
            for band, pixels in images.items():
                np.testing.assert_array_equal(sample[band], pixels)
                assert sample[band].dtype == pixels.dtype
