"""Reading for training: images, masks, labels and orders beside lmdb, safetensors, NumPy and SciPy."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from scipy import ndimage
from tiny import CLASSES, PATCHES, of_patch, write_tiny

import reben_dask as rb
from reben_dask.errors import InputError
from reben_dask.formats.bands import MODALITIES
from reben_dask.formats.lmdb import Stack, view_stacks
from reben_dask.formats.training_run import BandScale
from reben_dask.training import close_environments, cube_samples, lmdb_samples, stream
from reben_dask.training.readers import LmdbReader
from reben_dask.training.samples import Masks, Samples
from reben_dask.training.stacking import Stacker
from reben_dask.training.table import TrainingTable

SOURCES = {"lmdb": lmdb_samples, "cubes": cube_samples}
S2 = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
PAIRED = [number for number, patch in enumerate(PATCHES) if patch.s1_name]
CODES = {112: "Urban fabric", 211: "Arable land", 231: "Pastures"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "dataset")


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_environments()


def _repeated(pixels: np.ndarray) -> np.ndarray:
    times = 120 // len(pixels)
    return np.repeat(np.repeat(pixels, times, axis=0), times, axis=1).astype(np.float32)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("modality", "bands"), [("S2", S2), ("S1", ("VV", "VH")), ("S1+S2", (*S2, "VV", "VH"))])
def test_the_channels_of_each_modality(tiny: Path, source: str, modality: str, bands: tuple[str, ...]) -> None:
    samples = SOURCES[source](tiny, modality=modality)
    assert samples.bands == bands == MODALITIES[modality]
    with lmdb.open(str(tiny / "lmdb"), readonly=True, lock=False) as environment, environment.begin() as values:
        stored = [
            load(values.get(PATCHES[number].name.encode())) | load(values.get(PATCHES[number].s1_name.encode()))
            for number in PAIRED
        ]
    expected = [[_repeated(pixels[name]) for name in bands] for pixels in stored]
    np.testing.assert_array_equal(samples.batch(PAIRED)["image"], expected)


@st.composite
def _stacks(draw: st.DrawFn) -> list[Stack]:
    names = iter("abcdefghij")
    stacks = []
    for _ in range(draw(st.integers(1, 3))):
        count, side = draw(st.integers(1, 3)), draw(st.sampled_from([120, 60, 20, 1]))
        dtype = draw(st.sampled_from([np.uint16, np.float32]))
        pixels = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 65_536, (count, side, side)).astype(dtype)
        stacks.append(Stack(tuple(next(names) for _ in range(count)), pixels))
    return stacks


@given(stacks=_stacks(), data=st.data())
def test_images_of_any_arrangement(stacks: list[Stack], data: st.DataObject) -> None:
    pixels = {name: image for stack in stacks for name, image in zip(stack.names, stack.pixels, strict=True)}
    bands = tuple(data.draw(st.lists(st.sampled_from(sorted(pixels)), min_size=1, max_size=8)))
    image = np.full((len(bands), 120, 120), np.nan, np.float32)
    Stacker(bands).write(stacks, image)
    np.testing.assert_array_equal(image, [_repeated(pixels[name]) for name in bands])
    scales = {name: BandScale(mean=1_000 / 3 + number, std=777 / 7) for number, name in enumerate(sorted(pixels))}
    Stacker(bands, scales).write(stacks, image)
    for layer, name in zip(image, bands, strict=True):
        expected = (_repeated(pixels[name]) - np.float32(scales[name].mean)) / np.float32(scales[name].std)
        np.testing.assert_array_equal(layer, expected)


@pytest.mark.parametrize("shape", [(50, 50), (120, 60), (240, 240)])
def test_bands_of_other_sizes_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="which do not divide 120"):
        Stacker(("a",)).write([Stack(("a",), np.zeros((1, *shape), np.uint16))], np.empty((1, 120, 120), np.float32))


DTYPES = (np.uint8, np.uint16, np.int16, np.uint32, np.float32, np.float64)


@given(st.dictionaries(st.text("aB0_é", max_size=6), st.tuples(st.sampled_from(DTYPES), st.integers(1, 9)), max_size=6))
def test_views_of_a_value_are_what_safetensors_loads(tensors: dict[str, tuple[type, int]]) -> None:
    tensors.pop("__metadata__", None)
    arrays = {name: np.random.default_rng(side).integers(0, 99, (side, 2)).astype(dtype) for name, (dtype, side) in tensors.items()}  # noqa: E501  # fmt: skip
    value = save(arrays)
    found = {name: image for stack in view_stacks(memoryview(value)) for name, image in zip(*stack, strict=True)}
    assert found.keys() == arrays.keys()
    for name, array in load(value).items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert not found[name].flags.owndata
        assert not found[name].flags.writeable


VALUE = save({"B02": np.zeros((4, 4), np.uint16), "B03": np.ones((4, 4), np.uint16)})


@pytest.mark.parametrize(
    "damaged",
    [b"", VALUE[:7], VALUE[:40], VALUE[:-1], VALUE + b"\0", b"\xff" * 8 + VALUE[8:], VALUE.replace(b"U16", b"Q16"),
     VALUE.replace(b"[4,4]", b"[4,5]"), VALUE.replace(b"[4,4]", b"[16 ]"), VALUE.replace(b"[0,32]", b"[0,31]"),
     VALUE.replace(b"{", b"["), VALUE.replace(b'"shape"', b'"shap_"')],
)  # fmt: skip
def test_damaged_values_are_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"it has|its header is not|is not a whole image"):
        view_stacks(memoryview(damaged))


def test_a_damaged_value_is_named(tiny: Path, tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "lmdb"), map_size=2**20) as environment, environment.begin(write=True) as values:
        values.put(PATCHES[0].name.encode(), VALUE[:-1])
    samples = replace(lmdb_samples(tiny), reader=LmdbReader(tmp_path / "lmdb"))
    with pytest.raises(InputError, match=r"^The value of T_0_0 in .*lmdb is damaged \(it has .* instead of .*verify"):
        samples[0]


def test_statistics_normalise(tiny: Path, tmp_path: Path) -> None:
    raw = lmdb_samples(tiny, split="train", bands=("B04", "B11"))
    with pytest.raises(InputError, match=r"has no statistics.json with all bands; write it with `reben statistics .*`"):
        raw.normalized()
    parts = {"count": 1, "min": 0.0}
    bands = {name: {"train": {"mean": mean, "std": 20.0, **parts}, "all": parts} for name, mean in (("B04", 7.0), ("B11", 8.0))}  # noqa: E501  # fmt: skip
    (tmp_path / "statistics.json").write_text(json.dumps({"bands": bands, "classes": {}}))
    stored = replace(raw, folder=tmp_path).normalized()
    given = raw.normalized({"B11": BandScale(mean=8, std=20), "B04": BandScale(mean=7, std=20)})
    for samples in (stored, given):
        expected = (raw[1]["image"] - np.array([7, 8], np.float32)[:, None, None]) / np.float32(20)
        np.testing.assert_array_equal(samples[1]["image"], expected)
    with pytest.raises(InputError, match=r"The band B11 has no mean"):
        raw.normalized({"B04": BandScale(mean=0, std=1)})
    (tmp_path / "statistics.json").write_text("{}")
    with pytest.raises(InputError, match=r"^The statistics .*statistics.json are damaged"):
        replace(raw, folder=tmp_path).normalized()


def _with_masks(samples: Samples, **keys: object) -> Samples:
    """Masks of the three classes of the tiny dataset, which has no run record."""
    lookup = np.full(65_536, -100, np.int64)
    for code, name in CODES.items():
        lookup[code] = CLASSES.index(name)
    return replace(samples, masks=Masks(class_of_code=lookup, **keys))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["classes", "codes"])
@pytest.mark.parametrize("threshold", [0, 3])
def test_masks(tiny: Path, source: str, kind: str, threshold: int) -> None:
    samples = _with_masks(SOURCES[source](tiny, bands=["B02"]), kind=kind, ignore_index=255, min_region_px=threshold)
    batch = samples.batch(range(len(PATCHES)))
    for number, patch in enumerate(PATCHES):
        codes = of_patch(patch, "map")
        expected = np.full(codes.shape, 255 if kind == "classes" else 999)
        present = []
        for code, name in CODES.items():
            regions, many = ndimage.label(codes == code)
            sizes = np.bincount(regions.ravel(), minlength=many + 1)
            counted = (codes == code) & (sizes[regions] >= threshold)
            expected[counted] = CLASSES.index(name) if kind == "classes" else code
            present += [name] if counted.any() else []
        np.testing.assert_array_equal(batch["mask"][number], expected)
        labels = present if threshold else patch.labels
        assert batch["label"][number].tolist() == [float(name in labels) for name in CLASSES]


def test_codes_that_nothing_tells(tiny: Path) -> None:
    with pytest.raises(InputError, match="has no run record, so the codes of its classes are not known"):
        lmdb_samples(tiny).with_masks()
    with pytest.raises(InputError, match="has no run record"):
        lmdb_samples(tiny, classes="paper")
    with pytest.raises(InputError, match="There is no class order 'Paper'; use alphabetical, paper, or a list"):
        lmdb_samples(tiny, classes="Paper")


def test_class_orders_of_the_published_patches(data_dir: Path) -> None:
    folder = data_dir / "bigearthnet" / "configilm_24_patches"
    table = pd.read_parquet(folder / "metadata.parquet")
    paper = rb.open_dataset(folder).samples(classes="paper")
    assert paper.classes[:3] == ("Urban fabric", "Industrial or commercial units", "Arable land")
    assert paper.classes[-3:] == ("Coastal wetlands", "Inland waters", "Marine waters")
    named = rb.open_dataset(folder / "BigEarthNet-V2-LMDB").samples()
    assert list(named.classes) == sorted(paper.classes)
    assert rb.open_dataset(folder).classes == named.classes
    for samples in (paper, named):
        found = [{samples.classes[place] for place in np.flatnonzero(row)} for row in samples.batch([0, 5, 9])["label"]]
        assert found == [set(table["labels"].iloc[number]) for number in (0, 5, 9)]


@pytest.mark.parametrize("source", SOURCES)
def test_batches_in_any_order(tiny: Path, source: str) -> None:
    samples = SOURCES[source](tiny, bands=["B02", "B05"]).with_masks("codes")
    numbers = [3, -1, 0, 3]
    made: list[np.ndarray] = []

    def allocate(shape: tuple[int, ...], dtype: type) -> np.ndarray:
        made.append(np.zeros(shape, dtype))
        return made[-1]

    found = samples.batch(numbers, allocate=allocate)
    assert [id(array) for array in found.values()] == [id(array) for array in made]
    for place, number in enumerate(numbers):
        for name, values in samples[number].items():
            np.testing.assert_array_equal(found[name][place], values)
    assert {name: len(values) for name, values in samples.batch([]).items()} == {"image": 0, "label": 0, "mask": 0}


@pytest.mark.parametrize("source", SOURCES)
def test_streams_have_all_samples_once(tiny: Path, source: str) -> None:
    samples = SOURCES[source](tiny, bands=["B02", "B11"]).with_masks("codes")
    expected = {image.tobytes() for image in samples.batch(range(len(samples)))["image"]}
    assert sorted(np.concatenate(samples.shards()).tolist()) == list(range(len(samples)))

    def read(**keys: object) -> list[dict[str, np.ndarray]]:
        return list(stream(samples, 2, buffer_shards=2, **keys))

    assert [len(batch["mask"]) for batch in read()] == [2, 2, 1]
    for keys in ({}, {"seed": 3}, {"seed": (3, 1)}):
        images = [image.tobytes() for batch in read(**keys) for image in batch["image"]]
        assert len(images) == len(expected)
        assert set(images) == expected
    parts = [image.tobytes() for part in range(3) for batch in read(seed=1, part=(part, 3)) for image in batch["image"]]
    assert len(parts) == len(expected)
    assert set(parts) == expected
    again = [[batch["image"].tobytes() for batch in read(seed=5)] for _ in range(2)]
    assert again[0] == again[1]


def test_samples_with_masks_and_scales_can_be_pickled(tiny: Path) -> None:
    samples = lmdb_samples(tiny, bands=["B02"]).with_masks("codes").normalized({"B02": BandScale(mean=1, std=2)})
    samples[0]
    np.testing.assert_equal(pickle.loads(pickle.dumps(samples))[2], samples[2])  # noqa: S301 - our own


def test_a_patch_of_another_dataset_does_not_keep_the_lock(tiny: Path) -> None:
    samples = lmdb_samples(tiny)
    table = replace(samples.table, patch_ids=np.array(["X"] * len(PATCHES), object))
    with pytest.raises(InputError, match="has no patch X") as kept:
        replace(samples, table=TrainingTable(**vars(table)))[0]
    assert kept.value
    samples[0]
    close_environments()
