"""Samples for training: the same pixels and labels from the LMDB and from the Zarr store, as they were written."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest
from tiny import CLASSES, PATCHES, of_patch, write_lmdb, write_metadata, write_tiny

from reben_dask.errors import InputError
from reben_dask.formats.lmdb import Shard, ShardIndex
from reben_dask.training import batches, close_environments, cube_samples, lmdb_samples

SOURCES = {"lmdb": lmdb_samples, "cubes": cube_samples}
TRAIN = tuple(patch for patch in PATCHES if patch.split == "train")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "dataset")


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_environments()


@pytest.mark.parametrize("source", SOURCES)
def test_samples_are_what_was_written(tiny: Path, source: str) -> None:
    bands = ("B04", "B11", "B01", "B08", "B8A")
    samples = SOURCES[source](tiny, bands=bands).with_masks("codes")
    assert len(samples) == len(PATCHES)
    assert samples.patch_ids == [patch.name for patch in PATCHES]
    assert samples.classes == CLASSES
    for number, patch in enumerate(PATCHES):
        sample = samples[number]
        assert {name: array.dtype.name for name, array in sample.items()} == {
            "image": "float32",
            "label": "float32",
            "mask": "int64",
        }
        assert sample["image"].shape == (5, 120, 120)
        for layer, name in zip(sample["image"], bands, strict=True):
            written = of_patch(patch, name)
            times = 120 // len(written)
            np.testing.assert_array_equal(layer, np.kron(written, np.ones((times, times))))
        np.testing.assert_array_equal(sample["mask"], of_patch(patch, "map"))
        assert sample["label"].tolist() == [float(name in patch.labels) for name in CLASSES]


@pytest.mark.parametrize("source", SOURCES)
def test_bands_of_20_m_alone_have_the_pixels_of_the_map(tiny: Path, source: str) -> None:
    sample = SOURCES[source](tiny, bands=["B05"]).with_masks("codes")[0]
    assert sample["image"].shape[1:] == sample["mask"].shape == (120, 120)


@pytest.mark.parametrize("source", SOURCES)
def test_a_split_has_its_patches_in_their_order(tiny: Path, source: str) -> None:
    samples = SOURCES[source](tiny, split="train")
    assert samples.patch_ids == [patch.name for patch in TRAIN]
    assert samples[-1]["label"].tolist() == [1, 1, 1]
    with pytest.raises(IndexError):
        samples[len(TRAIN)]


@pytest.mark.parametrize("source", SOURCES)
def test_sentinel1_is_read_by_the_name_of_the_partner(tiny: Path, source: str) -> None:
    sample = SOURCES[source](tiny, bands=["VV", "B02", "VH"])[1]
    for layer, name in zip(sample["image"], ("VV", "B02", "VH"), strict=True):
        np.testing.assert_array_equal(layer, of_patch(PATCHES[1], name))


def test_a_patch_without_partner_says_so(tiny: Path) -> None:
    number = next(number for number, patch in enumerate(PATCHES) if patch.s1_name is None)
    with pytest.raises(InputError, match=r"^The patch T_2_1 has no band VV in this dataset"):
        lmdb_samples(tiny, bands=["B02", "VV"])[number]


@pytest.mark.parametrize("source", SOURCES)
def test_a_band_that_does_not_exist(tiny: Path, source: str) -> None:
    with pytest.raises(InputError, match=r"^The patch T_0_0 has no band B10 in this dataset; leave it out"):
        SOURCES[source](tiny, bands=["B02", "B10"])[0]


@pytest.mark.parametrize("source", SOURCES)
def test_a_split_that_does_not_exist(tiny: Path, source: str) -> None:
    with pytest.raises(InputError, match=r"in the split 'val'; available: test, train, validation\.$"):
        SOURCES[source](tiny, split="val")


@pytest.mark.parametrize("source", SOURCES)
def test_metadata_of_another_dataset(tmp_path: Path, source: str) -> None:
    write_metadata(tmp_path, json.dumps(CLASSES).encode())
    (tmp_path / "patches.parquet").mkdir()
    write_lmdb(tmp_path / "lmdb", PATCHES[1:])
    with pytest.raises(InputError, match=r"has no (kept )?patch T_0_0; it belongs to another dataset"):
        SOURCES[source](tmp_path)[0]


def test_a_folder_without_lmdb(tmp_path: Path) -> None:
    write_metadata(tmp_path, None)
    with pytest.raises(InputError, match=r"lmdb is not an LMDB environment"):
        lmdb_samples(tmp_path)[0]


def test_shards_are_found_by_their_index_even_if_they_overlap(tiny: Path, tmp_path: Path) -> None:
    write_metadata(tmp_path, json.dumps(CLASSES).encode())
    parts = {"part-00000-of-00003": PATCHES[::2], "part-00001-of-00003": PATCHES[1::2]}
    for name, patches in parts.items():
        write_lmdb(tmp_path / "lmdb" / name, patches)
    shards = [Shard(name, patches[0].name, patches[-1].name, len(patches), 0) for name, patches in parts.items()]
    shards.append(Shard("part-00002-of-00003", None, None, 0, 0))
    ShardIndex(CLASSES, tuple(shards)).write(tmp_path / "lmdb")
    sharded, whole = lmdb_samples(tmp_path), lmdb_samples(tiny)
    for number in range(len(PATCHES)):
        np.testing.assert_array_equal(sharded[number]["image"], whole[number]["image"])


def test_two_splits_share_an_environment_and_others_can_open_it_afterwards(tiny: Path) -> None:
    lmdb_samples(tiny, split="train")[0]
    lmdb_samples(tiny, split="test")[0]
    close_environments()
    with lmdb.open(str(tiny / "lmdb"), readonly=True, lock=False) as environment:
        assert environment.stat()["entries"] == 2 * len(PATCHES) + 4
    lmdb_samples(tiny)[0]


READ_THERE = """
import multiprocessing
import sys

from reben_dask.training import lmdb_samples

samples = lmdb_samples(sys.argv[1])


def total(number):
    return float(samples[number]["image"].sum())


if __name__ == "__main__":
    here = [total(number) for number in range(len(samples))]
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        assert pool.map(total, range(len(samples))) == here
    assert [total(number) for number in range(len(samples))] == here
    print("the same")
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_lmdb_that_this_one_has_open(tiny: Path, tmp_path: Path, method: str) -> None:
    script = tmp_path / "read_there.py"
    script.write_text(READ_THERE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, tiny, method], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "the same\n", done.stderr


def test_samples_of_the_lmdb_can_be_pickled_after_reading(tiny: Path) -> None:
    samples = lmdb_samples(tiny)
    here = samples[3]["image"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(samples))[3]["image"], here)  # noqa: S301 - our own


def test_cubes_can_be_pickled_after_reading(tiny: Path) -> None:
    samples = cube_samples(tiny)
    here = samples[3]["image"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(samples))[3]["image"], here)  # noqa: S301 - our own


@pytest.mark.parametrize("source", SOURCES)
def test_batches_have_all_samples_once(tiny: Path, source: str) -> None:
    samples = SOURCES[source](tiny).with_masks("codes")
    found = list(batches(samples, 2))
    assert [len(batch["image"]) for batch in found] == [2, 2, 1]
    assert {name: array.shape[1:] for name, array in found[0].items()} == {
        "image": (10, 120, 120),
        "label": (3,),
        "mask": (120, 120),
    }
    for name in found[0]:
        together = np.concatenate([batch[name] for batch in found])
        np.testing.assert_array_equal(together, np.stack([samples[number][name] for number in range(len(samples))]))


def test_a_seed_shuffles_always_in_the_same_way(tiny: Path) -> None:
    samples = lmdb_samples(tiny)

    def order(seed: int | None) -> list[float]:
        return [float(image.sum()) for batch in batches(samples, 3, seed=seed) for image in batch["image"]]

    assert order(1) == order(1)
    assert sorted(order(1)) == sorted(order(None))
    assert len({tuple(order(seed)) for seed in range(5)}) > 1
