"""Inputs of the training: normalised bands, maps as classes, and batches that depend on seed and epoch alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny import CLASSES, PATCHES, of_patch, write_tiny

from reben_dask.errors import InputError
from reben_dask.training import close_environments
from reben_dask.training.inputs import (
    IGNORED,
    Batches,
    PatchTensors,
    band_scales,
    class_lookup,
    load_batches,
    open_split,
)

BANDS = ("B04", "B11", "B01")
TRAIN = [patch for patch in PATCHES if patch.split == "train"]
CODES = {112: "Urban fabric", 211: "Arable land", 231: "Pastures"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "dataset")


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_environments()


@pytest.fixture
def lookup() -> np.ndarray:
    table = np.full(65_536, IGNORED)
    for code, name in CODES.items():
        table[code] = CLASSES.index(name)
    return table


def test_scales_are_those_of_all_training_pixels(tiny: Path) -> None:
    read: list[int] = []
    scales = band_scales(tiny, open_split(tiny, "train", BANDS), read.append)
    assert sum(read) == len(TRAIN)
    for name in BANDS:
        pixels = np.concatenate([of_patch(patch, name).ravel() for patch in TRAIN]).astype(float)
        pixels = pixels[pixels != 0]
        assert (scales[name].mean, scales[name].std) == pytest.approx((pixels.mean(), pixels.std()))


def test_statistics_of_the_dataset_are_taken_if_there_are_any(tmp_path: Path) -> None:
    out = write_tiny(tmp_path / "out")
    bands = {name: {"train": {"count": 1, "mean": 5.0, "std": 2.0}} for name in BANDS}
    (out / "statistics.json").write_text(json.dumps({"bands": bands, "classes": {}}))
    scales = band_scales(out, open_split(out, "train", BANDS), lambda _: pytest.fail("pixels were read"))
    assert {(scale.mean, scale.std) for scale in scales.values()} == {(5.0, 2.0)}


def test_tensors_are_normalised_pixels(tiny: Path, lookup: np.ndarray) -> None:
    samples = open_split(tiny, "train", BANDS)
    scales = band_scales(tiny, samples, lambda _: None)
    tensors = PatchTensors(samples, scales, lookup)
    for number, patch in enumerate(TRAIN):
        item = tensors[number]
        for layer, name in zip(item["image"].numpy(), BANDS, strict=True):
            pixels = of_patch(patch, name)
            times = 120 // len(pixels)
            expected = (np.kron(pixels, np.ones((times, times))) - scales[name].mean) / scales[name].std
            np.testing.assert_allclose(layer, expected, rtol=1e-4, atol=1e-5)
        codes = of_patch(patch, "map")
        expected = np.where(codes == 999, IGNORED, -1)
        for code, name in CODES.items():
            expected[codes == code] = CLASSES.index(name)
        np.testing.assert_array_equal(item["map"].numpy(), expected)
        assert item["label"].tolist() == [float(name in patch.labels) for name in CLASSES]


def test_small_regions_do_not_count(tiny: Path, lookup: np.ndarray) -> None:
    samples = open_split(tiny, "train", ("B04",))
    scales = band_scales(tiny, samples, lambda _: None)
    every, large = (PatchTensors(samples, scales, lookup, pixels)[0]["map"].numpy() for pixels in (1, 8))
    assert set(np.unique(large)) - {IGNORED}
    assert 0 < (large != IGNORED).sum() < (every != IGNORED).sum()
    item = PatchTensors(samples, scales, lookup, 14_401)[0]
    assert (item["map"] == IGNORED).all()
    assert item["label"].tolist() == [0, 0, 0]


def test_codes_of_an_lmdb_without_record(data_dir: Path) -> None:
    published = data_dir / "bigearthnet" / "configilm_24_patches"
    classes = open_split(published / "BigEarthNet-V2-LMDB", "train", BANDS).classes
    table = class_lookup(published, classes)
    assert [classes[table[code]] for code in (111, 231, 523)] == ["Urban fabric", "Pastures", "Marine waters"]
    assert {table[code] for code in (131, 335, 999)} == {IGNORED}
    with pytest.raises(InputError, match="has no run record, so the classes of its reference maps are not known"):
        class_lookup(published, classes[:-1])


@pytest.mark.parametrize(("length", "size", "sizes"), [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (3, 8, [3]), (1, 8, [1])])
def test_shuffled_batches(length: int, size: int, sizes: list[int]) -> None:
    batches = Batches(length, size, seed=5)
    first = list(batches)
    assert [len(batch) for batch in first] == sizes
    assert len(batches) == len(sizes)
    assert len({number for batch in first for number in batch}) == sum(sizes)
    assert list(batches) == first
    batches.epoch = 1
    assert length < 4 or list(batches) != first
    in_order = Batches(length, size)
    assert [number for batch in in_order for number in batch] == list(range(length))
    assert len(in_order) == len(list(in_order))


def test_workers_read_the_same_batches(tiny: Path, lookup: np.ndarray) -> None:
    samples = open_split(tiny, "train", BANDS)
    tensors = PatchTensors(samples, band_scales(tiny, samples, lambda _: None), lookup)
    alone, helped = (list(load_batches(tensors, Batches(3, 2, seed=1), workers)) for workers in (0, 2))
    assert len(alone) == len(helped) == 1
    for name in alone[0]:
        assert (alone[0][name] == helped[0][name]).all()
