"""ConfigILM opens LMDB and metadata with the lines of the README; lmdb and safetensors read the same pixels."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest
from conftest import MadeOnce
from oracle import CLASS_OF_CODE
from other_readers import (
    METADATA,
    METADATA_FLAGGED,
    Reading,
    Samples,
    find_lines,
    make_dataset,
    read_metadata,
    read_samples,
)
from safetensors.numpy import load

from reben_dask.demo import DemoRegion
from reben_dask.training import BandScale, close_environments, lmdb_samples

pytestmark = pytest.mark.slow

SPLITS = ["train", "validation", "test"]
OWN = Path("bigearthnet", "configilm_24_patches")
"""Patches that come with ConfigILM."""

S1_BANDS = ("VV", "VH")
S2_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
CLASSES = sorted(set(CLASS_OF_CODE.values()))


def _upsample(band: np.ndarray) -> np.ndarray:
    """Repeat pixels until a patch has 120 x 120 of them."""
    times = 120 // len(band)
    return band.repeat(times, axis=0).repeat(times, axis=1)


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


@pytest.fixture(scope="module")
def dataset(small_region: DemoRegion, made_once: MadeOnce) -> Path:
    return make_dataset(small_region, made_once)


@pytest.fixture(scope="module")
def found(dataset: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Samples]]:
    """Samples of a dataset without and with flagged patches, and of ConfigILM's own by the number of channels."""
    lines = find_lines("configilm")
    flagged = lines.replace("120)", "120), include_snowy=True, include_cloudy=True", 1)
    readings = {"clear": Reading(lines, dataset, SPLITS), "flagged": Reading(flagged, dataset, SPLITS[:2])}
    mean, std = ([getattr(scale, part) for scale in _scales().values()] for part in ("mean", "std"))
    transforms = dict.fromkeys(map(str, CHANNELS), "None") | {"normalised": f"Normalize({mean}, {std})"}
    for name, transform in transforms.items():
        own = OWN_PATCHES.replace("CHANNELS", "14" if name == "normalised" else name).replace("TRANSFORM", transform)
        readings[name] = Reading(own, data_dir / OWN, SPLITS)
    return read_samples("configilm", readings, tmp_path_factory.mktemp("found"))


def _scales() -> dict[str, BandScale]:
    return {
        name: BandScale(mean=400 + 1_000 / (3 + place), std=600 / 7 + place) for place, name in enumerate(CHANNELS[14])
    }


@pytest.mark.parametrize(
    ("reading", "files"), [("clear", [METADATA]), ("flagged", [METADATA, METADATA_FLAGGED])], ids=["clear", "flagged"]
)
def test_the_lmdb_and_both_metadata_files(
    dataset: Path, found: dict[str, dict[str, Samples]], reading: str, files: list[str]
) -> None:
    with lmdb.open(str(dataset / "lmdb"), readonly=True, lock=False) as values, values.begin() as cursor:
        for split, samples in found[reading].items():
            rows = pd.concat([read_metadata(dataset / file, split) for file in files]).sort_values("patch_id")
            bands = [
                load(cursor.get(s1.encode())) | load(cursor.get(s2.encode()))
                for s2, s1 in rows[["patch_id", "s1_name"]].to_numpy()
            ]
            images = [[_upsample(patch[band]) for band in (*S1_BANDS, *S2_BANDS)] for patch in bands]
            np.testing.assert_array_equal(samples["0"], images)
            np.testing.assert_array_equal(
                samples["1"], [[name in labels for name in CLASSES] for labels in rows["labels"]]
            )


@pytest.mark.parametrize("reading", [*map(str, CHANNELS), "normalised"])
def test_tensors_of_its_own_patches_are_ours(
    data_dir: Path, found: dict[str, dict[str, Samples]], reading: str
) -> None:
    """Raw images of every number of channels; those of 14 also normalised."""
    for split, samples in found[reading].items():
        if reading == "normalised":
            ours = lmdb_samples(data_dir / OWN, split=split, bands=CHANNELS[14]).normalized(_scales())
        else:
            ours = lmdb_samples(data_dir / OWN, split=split, bands=CHANNELS[int(reading)])
        batch = ours.batch(np.argsort(ours.patch_ids))
        np.testing.assert_array_equal(batch["image"], samples["0"])
        assert batch["image"].dtype == samples["0"].dtype
        np.testing.assert_array_equal(batch["label"], samples["1"])
    close_environments()
