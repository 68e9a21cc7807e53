"""TorchGeo opens the trees of all three layouts with the documented lines; rasterio reads the same pixels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from conftest import MadeOnce
from oracle import CLASS_OF_CODE
from other_readers import METADATA, Reading, Samples, find_lines, make_dataset, read_metadata, read_samples
from rasterio.enums import Resampling

from reben_dask.demo import DemoRegion

pytestmark = pytest.mark.slow

S1_BANDS = ("VH", "VV")
S2_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
SEASONET_FILES = ("10m_RGB", "10m_IR", "20m", "60m")
CLASSES = tuple(dict.fromkeys(CLASS_OF_CODE[code] for code in sorted(CLASS_OF_CODE)))
"""Classes in the paper's order."""

NUMBERS = np.arange(1_000)
"""Numbers of classes by code; codes without a class stay."""
NUMBERS[list(CLASS_OF_CODE)] = [CLASSES.index(name) for name in CLASS_OF_CODE.values()]


def _stack(folder: Path, files: Iterable[str]) -> np.ndarray:
    """Bands of a patch's files, resampled to 10 m: axes ``(band, y, x)``."""
    stack = []
    for file in files:
        with rasterio.open(folder / f"{folder.name}_{file}.tif") as image:
            stack.append(image.read(out_shape=(image.count, 120, 120), resampling=Resampling.bilinear))
    return np.concatenate(stack)


def _expect_images(found: np.ndarray, folders: Iterable[Path], files: Iterable[str], atol: float = 0) -> None:
    expected = np.stack([_stack(folder, files) for folder in folders])
    np.testing.assert_allclose(found, expected.astype(float), rtol=0, atol=atol)


def _expect_labels(found: np.ndarray, labels: Iterable[Iterable[str]]) -> None:
    np.testing.assert_array_equal(found, [[name in names for name in CLASSES] for names in labels])


@pytest.fixture(scope="module")
def dataset(small_region: DemoRegion, made_once: MadeOnce) -> Path:
    return make_dataset(small_region, made_once)


def _seasonet_rows(dataset: Path) -> dict[str, list[int]]:
    """Numbers of the patches of each split that has any."""
    texts = {path.stem: path.read_text().split() for path in (dataset / "splits").glob("*.csv")}
    rows = {split: [int(line) for line in lines if line != "Index"] for split, lines in texts.items()}
    return {split: numbers for split, numbers in rows.items() if numbers}


@pytest.fixture(scope="module")
def found(
    dataset: Path, v1_run: Path, grids_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Samples]]:
    """Samples of each layout; of reBEN's also without Sentinel-1."""
    folder = tmp_path_factory.mktemp("found")
    (folder / "alone").mkdir()
    for name in ("BigEarthNet-S2", "Reference_Maps", METADATA):
        (folder / "alone" / name).symlink_to(dataset / name)
    splits = ("train", "val", "test")
    datasets = {
        "torchgeo": (dataset, splits),
        "torchgeo-s2": (folder / "alone", splits),
        "torchgeo-v1": (v1_run, splits),
        "torchgeo-seasonet": (grids_run, tuple(_seasonet_rows(grids_run))),
    }
    readings = {name: Reading(find_lines(name), *given) for name, given in datasets.items()}
    return read_samples("torchgeo", readings, folder)


def test_trees_of_reben(dataset: Path, found: dict[str, dict[str, Samples]]) -> None:
    for split, samples in found["torchgeo"].items():
        rows = read_metadata(dataset / METADATA, {"val": "validation"}.get(split, split))
        places = [Path(name.rsplit("_", 2)[0], name) for name in rows["patch_id"]]
        scenes = [Path(name.rsplit("_", 3)[0], name) for name in rows["s1_name"]]
        _expect_images(samples["image_s2"], [dataset / "BigEarthNet-S2" / place for place in places], S2_BANDS)
        # TorchGeo reads decibels as whole numbers.
        _expect_images(
            samples["image_s1"], [dataset / "BigEarthNet-S1" / place for place in scenes], S1_BANDS, atol=0.5
        )
        _expect_labels(samples["label"], rows["labels"])
        maps = np.stack([_stack(dataset / "Reference_Maps" / place, ["reference_map"]) for place in places])
        np.testing.assert_array_equal(samples["mask"], NUMBERS[maps])


def test_trees_of_reben_without_sentinel1(dataset: Path, found: dict[str, dict[str, Samples]]) -> None:
    for split, samples in found["torchgeo-s2"].items():
        rows = read_metadata(dataset / METADATA, {"val": "validation"}.get(split, split))
        places = [Path(name.rsplit("_", 2)[0], name) for name in rows["patch_id"]]
        _expect_images(samples["image"], [dataset / "BigEarthNet-S2" / place for place in places], S2_BANDS)
        _expect_labels(samples["label"], rows["labels"])


def test_trees_of_bigearthnet_v1(v1_run: Path, found: dict[str, dict[str, Samples]]) -> None:
    for split, samples in found["torchgeo-v1"].items():
        pairs = pd.read_csv(v1_run / f"bigearthnet-{split}.csv", header=None)
        _expect_images(samples["image"][:, 2:], [v1_run / "BigEarthNet-v1.0" / name for name in pairs[0]], S2_BANDS)
        scenes = [v1_run / "BigEarthNet-S1-v1.0" / name for name in pairs[1]]
        _expect_images(samples["image"][:, :2], scenes, S1_BANDS, atol=0.5)
        maps = [_stack(v1_run / "Reference_Maps-v1.0" / name, ["reference_map"]) for name in pairs[0]]
        _expect_labels(samples["label"], [{CLASS_OF_CODE.get(code) for code in np.unique(codes)} for codes in maps])


def test_trees_of_seasonet(grids_run: Path, found: dict[str, dict[str, Samples]]) -> None:
    meta, rows = pd.read_csv(grids_run / "meta.csv", index_col="Index"), _seasonet_rows(grids_run)
    assert "train" in rows
    for split, samples in found["torchgeo-seasonet"].items():
        folders = [grids_run / path for path in meta.loc[rows[split], "Path"]]
        _expect_images(samples["image"], folders, SEASONET_FILES)
        labels = np.concatenate([_stack(folder, ["labels"]) for folder in folders])
        # Classes count from 0; what is no class wraps around.
        np.testing.assert_array_equal(samples["mask"], labels - np.uint8(1))
