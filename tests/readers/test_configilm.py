"""ConfigILM opens LMDB and metadata with the lines of the README; lmdb and safetensors read the same pixels."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest
from conftest import MadeOnce
from oracle import CLASS_OF_CODE
from other_readers import METADATA, METADATA_FLAGGED, find_lines, make_dataset, read_metadata, read_samples
from safetensors.numpy import load

from reben_dask.demo import DemoRegion
from reben_dask.training import BandScale, close_environments, lmdb_samples

pytestmark = pytest.mark.slow

SPLITS = ["train", "validation", "test"]
S1_BANDS = ("VV", "VH")
S2_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
CLASSES = sorted(set(CLASS_OF_CODE.values()))


def _upsample(band: np.ndarray) -> np.ndarray:
    """Repeat pixels until a patch has 120 x 120 of them."""
    times = 120 // len(band)
    return band.repeat(times, axis=0).repeat(times, axis=1)


@pytest.mark.parametrize("flagged", [False, True])
def test_the_lmdb_and_both_metadata_files(
    small_region: DemoRegion, made_once: MadeOnce, tmp_path: Path, *, flagged: bool
) -> None:
    root = make_dataset(small_region, made_once)
    lines = find_lines("configilm")
    if flagged:
        lines = lines.replace("120)", "120), include_snowy=True, include_cloudy=True", 1)
    splits = ["train", "validation"] if flagged else SPLITS
    files = [METADATA, METADATA_FLAGGED] if flagged else [METADATA]
    found = read_samples("configilm", lines, root, tmp_path, splits)
    with lmdb.open(str(root / "lmdb"), readonly=True, lock=False) as values, values.begin() as cursor:
        for split, samples in found.items():
            rows = pd.concat([read_metadata(root / file, split) for file in files]).sort_values("patch_id")
            bands = [
                load(cursor.get(s1.encode())) | load(cursor.get(s2.encode()))
                for s2, s1 in rows[["patch_id", "s1_name"]].to_numpy()
            ]
            images = [[_upsample(patch[band]) for band in (*S1_BANDS, *S2_BANDS)] for patch in bands]
            np.testing.assert_array_equal(samples["0"], images)
            np.testing.assert_array_equal(
                samples["1"], [[name in labels for name in CLASSES] for labels in rows["labels"]]
            )


CHANNELS = {
    2: S1_BANDS,
    3: ("B04", "B03", "B02"),
    10: ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    12: (*S1_BANDS, "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    14: (*S1_BANDS, *S2_BANDS),
}
"""Bands by the number of channels that ConfigILM takes."""

OWN_PATCHES = """
from configilm.extra.DataSets.BENv2_DataSet import BENv2DataSet
from torchvision.transforms import Normalize

files = {
    "images_lmdb": "dataset/BigEarthNet-V2-LMDB",
    "metadata_parquet": "dataset/metadata.parquet",
    "metadata_snow_cloud_parquet": "dataset/metadata_for_patches_with_snow_cloud_or_shadow.parquet",
}
train = BENv2DataSet(files, split="train", img_size=(CHANNELS, 120, 120), transform=TRANSFORM)
"""


@pytest.mark.parametrize("channels", CHANNELS)
def test_tensors_of_its_own_patches_are_ours(data_dir: Path, tmp_path: Path, channels: int) -> None:
    """Raw images of every number of channels; those of 14 also normalised."""
    folder, bands = data_dir / "bigearthnet" / "configilm_24_patches", CHANNELS[channels]
    scales = {name: BandScale(mean=400 + 1_000 / (3 + place), std=600 / 7 + place) for place, name in enumerate(bands)}
    mean, std = ([getattr(scale, part) for scale in scales.values()] for part in ("mean", "std"))
    transforms = {"raw": "None"} | ({"normalised": f"Normalize({mean}, {std})"} if channels == 14 else {})
    for name, transform in transforms.items():
        (tmp_path / name).mkdir()
        lines = OWN_PATCHES.replace("CHANNELS", str(channels)).replace("TRANSFORM", transform)
        for split, found in read_samples("configilm", lines, folder, tmp_path / name, SPLITS).items():
            raw = lmdb_samples(folder, split=split, bands=bands)
            ours = raw if name == "raw" else raw.normalized(scales)
            batch = ours.batch(np.argsort(ours.patch_ids))
            np.testing.assert_array_equal(batch["image"], found["0"])
            assert batch["image"].dtype == found["0"].dtype
            np.testing.assert_array_equal(batch["label"], found["1"])
    close_environments()
