"""Inputs of the training: the scales of bands, and the classes of codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny import PATCHES, of_patch, write_tiny

from reben_dask.errors import InputError
from reben_dask.training import close_environments
from reben_dask.training.inputs import band_scales, open_split
from reben_dask.training.table import IGNORED, class_lookup

BANDS = ("B04", "B11", "B01")
TRAIN = [patch for patch in PATCHES if patch.split == "train"]


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_environments()


def test_scales_are_those_of_all_training_pixels(tmp_path: Path) -> None:
    read: list[int] = []
    scales = band_scales(open_split(write_tiny(tmp_path / "out"), "train", BANDS), read.append)
    assert sum(read) == len(TRAIN)
    for name in BANDS:
        pixels = np.concatenate([of_patch(patch, name).ravel() for patch in TRAIN]).astype(float)
        pixels = pixels[pixels != 0]
        assert (scales[name].mean, scales[name].std) == pytest.approx((pixels.mean(), pixels.std()))


def test_statistics_of_the_dataset_are_taken_if_there_are_any(tmp_path: Path) -> None:
    out = write_tiny(tmp_path / "out")
    bands = {name: {"train": {"count": 1, "mean": 5.0, "std": 2.0}} for name in BANDS}
    (out / "statistics.json").write_text(json.dumps({"bands": bands, "classes": {}}))
    scales = band_scales(open_split(out, "train", BANDS), lambda _: pytest.fail("pixels were read"))
    assert {(scale.mean, scale.std) for scale in scales.values()} == {(5.0, 2.0)}


def test_codes_of_an_lmdb_without_record(data_dir: Path) -> None:
    published = data_dir / "bigearthnet" / "configilm_24_patches"
    classes = open_split(published / "BigEarthNet-V2-LMDB", "train", BANDS).classes
    table = class_lookup(published, classes)
    assert [classes[table[code]] for code in (111, 231, 523)] == ["Urban fabric", "Pastures", "Marine waters"]
    assert {table[code] for code in (131, 335, 999)} == {IGNORED}
    with pytest.raises(InputError, match="has no run record, so the codes of its classes are not known"):
        class_lookup(published, classes[:-1])
