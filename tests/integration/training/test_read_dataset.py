"""Samples of a real dataset: LMDB, shards and cubes are equal sources, also over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oracle import CLASS_OF_CODE
from serving import serving

import reben_dask as rb
from reben_dask.errors import InputError
from reben_dask.training import close_environments, stream


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_environments()


def test_cubes_over_http_are_what_the_lmdb_has(small_run: Path) -> None:
    local = rb.open_dataset(small_run).samples(split="train").with_masks()
    with serving(small_run) as served:
        dataset = rb.open_dataset(served.address)
        assert dataset.record == rb.open_dataset(small_run).record
        remote = dataset.samples(split="train").with_masks()
        assert remote.patch_ids == local.patch_ids
        numbers = list(range(0, len(local), 5))
        for name, values in remote.batch(numbers).items():
            np.testing.assert_array_equal(values, local.batch(numbers)[name])
        shards = len(remote.shards())
        served.asked.clear()
        found = {
            image.tobytes(): mask
            for batch in stream(remote, 16, seed=0)
            for image, mask in zip(batch["image"], batch["mask"], strict=True)
        }
        chunks = [path for path in served.asked if "/c/" in path]
        # Each shard of each band and of the map is read as a whole, once.
        assert len(chunks) == len(set(chunks)) == shards * 11
    batch = local.batch(range(len(local)))
    assert found.keys() == {image.tobytes() for image in batch["image"]}
    for image, mask in zip(batch["image"], batch["mask"], strict=True):
        np.testing.assert_array_equal(found[image.tobytes()], mask)


def test_masks_are_classes_of_the_run_record(small_run: Path) -> None:
    samples = rb.open_dataset(small_run).samples()
    classes, codes = (samples.with_masks(kind, ignore_index=-1).batch([0, 1])["mask"] for kind in ("classes", "codes"))
    names = np.array([*samples.classes, "unlabelled"])
    expected = [CLASS_OF_CODE.get(code, "unlabelled") for code in codes.ravel().tolist()]
    assert names[classes.ravel()].tolist() == expected


def test_the_paper_orders_classes_by_code(small_run: Path) -> None:
    paper = rb.open_dataset(small_run).samples(classes="paper")
    assert list(paper.classes) == list(dict.fromkeys(CLASS_OF_CODE[code] for code in sorted(CLASS_OF_CODE)))
    metadata = pd.read_parquet(small_run / "metadata.parquet")
    found = [{paper.classes[place] for place in np.flatnonzero(row)} for row in paper.table.labels]
    assert found == [set(labels) for labels in metadata["labels"]]


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no record of its run"):
        rb.open_dataset(tmp_path)
