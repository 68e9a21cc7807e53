"""Arrays opened with the codecs of zarrs: the same numbers as by Zarr's own, really by zarrs, and without a trace."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BloscShuffle
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarrs import ZarrsCodecPipeline

from reben_dask.formats import cube as cube_layout
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.stores.cube_reader import ColumnReader, CubeGroup
from reben_dask.stores.cubes import create_cube, create_store, open_array, write_band, write_reference_map

FILL = 999
ZSTD = BloscCodec(cname="zstd", clevel=1, shuffle=BloscShuffle.bitshuffle)
LZ4 = BloscCodec(cname="lz4", clevel=9, shuffle=BloscShuffle.bitshuffle)


def _create(path: Path, shape: tuple[int, ...], patch: int, patches: int, compressor: BloscCodec = ZSTD) -> Path:
    """An empty array of the layout of a store: a chunk is a patch, a shard some patches of one band."""
    leading = (1,) * (len(shape) - 2)
    zarr.create_array(
        path,
        shape=shape,
        chunks=(*leading, patch, patch),
        shards=(*leading, patch * patches, patch * patches),
        dtype="uint16",
        compressors=(compressor,),
        fill_value=FILL,
    )
    return path


def _plain(path: Path, mode: str = "r") -> zarr.Array[Any]:
    return zarr.open_array(path, mode=mode)


def _pipeline(array: zarr.Array[Any]) -> object:
    return array._async_array.codec_pipeline


def _bands(array: zarr.Array[Any]) -> Iterator[tuple[slice, ...]]:
    """Selections as the package writes: a band as a slice, or all of a map."""
    if array.ndim == 2:
        yield (slice(None),)
    else:
        yield from ((slice(band, band + 1),) for band in range(array.shape[0]))


def _write(array: zarr.Array[Any], values: np.ndarray) -> None:
    for selection in _bands(array):
        array[selection] = values[selection]


def _columns(array: zarr.Array[Any]) -> np.ndarray:
    """All of an array as the package reads it: one column of patches after another."""
    side = array.chunks[-1]
    return np.concatenate([array[..., x * side : (x + 1) * side] for x in range(ceil(array.shape[-1] / side))], axis=-1)


def _values(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Numbers of which some whole chunks are the fill value, as in a map without polygons."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 65_535, shape, np.uint16, endpoint=True)
    values[..., : shape[-1] // 2] = np.where(random.random() < 0.5, FILL, values[..., : shape[-1] // 2])
    return values


@pytest.fixture
def strict() -> Iterator[None]:
    """Unsupported operations of zarrs are errors instead of falling back to Zarr's own codecs."""
    with zarr.config.set({"codec_pipeline.strict": True}):
        yield


# The same numbers

layouts = st.tuples(
    st.one_of(st.just(()), st.tuples(st.integers(1, 3))),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.integers(2, 8),
    st.integers(1, 3),
)
"""Leading axis if any, rows and columns, pixels of a patch, patches of a shard; most shards are ragged."""


@given(layout=layouts, seed=st.integers(0, 99), compressor=st.sampled_from([ZSTD, LZ4]), zarrs_writes=st.booleans())
def test_what_one_writes_the_other_reads(
    *, layout: tuple[tuple[int, ...], tuple[int, int], int, int], seed: int, compressor: BloscCodec, zarrs_writes: bool
) -> None:
    leading, shape, patch, patches = layout
    values = _values((*leading, *shape), seed)
    writer, reader = (open_array, _plain) if zarrs_writes else (_plain, open_array)
    with tempfile.TemporaryDirectory() as folder:
        path = _create(Path(folder) / "array", values.shape, patch, patches, compressor)
        _write(writer(path, "r+"), values)
        for array in (reader(path, "r"), writer(path, "r")):
            np.testing.assert_array_equal(array[:], values)
            np.testing.assert_array_equal(_columns(array), values)


@pytest.mark.parametrize("shape", [(4, 360, 240), (6, 180, 120), (360, 240), (1, 130, 250), (250, 130)])
def test_sizes_as_in_a_store(tmp_path: Path, shape: tuple[int, ...]) -> None:
    patch = 120 if shape[0] != 6 else 60
    values = _values(shape, 1)
    for name, writer, reader in (("a", open_array, _plain), ("b", _plain, open_array)):
        path = _create(tmp_path / name, shape, patch, 2)
        _write(writer(path, "r+"), values)
        np.testing.assert_array_equal(reader(path, "r")[:], values)
        np.testing.assert_array_equal(_columns(reader(path, "r")), values)


@pytest.mark.parametrize(
    "view",
    [
        lambda values: values[::2, ::3],
        lambda values: values.T[:40, :50],
        lambda values: np.asfortranarray(values)[:40, :50],
        lambda values: values[::-1, ::-1][:40, :50],
        lambda values: values.astype(">u2")[:40, :50],
    ],
    ids=["steps", "transposed", "by columns", "backwards", "big-endian"],
)
def test_views_are_written_as_what_they_show(tmp_path: Path, view: Callable[[np.ndarray], np.ndarray]) -> None:
    values = view(_values((100, 150), 2))
    open_array(_create(tmp_path / "array", values.shape, 10, 2), "r+")[:] = values
    np.testing.assert_array_equal(_plain(tmp_path / "array")[:], values)


@pytest.mark.parametrize("shape", [(2, 25, 35), (25, 35)])
def test_what_was_never_written_is_the_fill_value(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = _create(tmp_path / "array", shape, 10, 2)
    assert (open_array(path, "r")[:] == FILL).all()
    if len(shape) == 3:
        open_array(path, "r+")[1:2] = np.ones((1, 25, 35), np.uint16)
        for array in (open_array(path, "r"), _plain(path)):
            assert (array[0] == FILL).all()
            assert (array[1] == 1).all()


def test_a_second_writing_replaces_the_first(tmp_path: Path) -> None:
    """A scheduler repeats tasks; what is the fill value now must not stay what it was."""
    path = _create(tmp_path / "array", (25, 35), 10, 2)
    for values in (_values((25, 35), 3), np.full((25, 35), FILL, np.uint16), _values((25, 35), 4)):
        open_array(path, "r+")[:] = values
        np.testing.assert_array_equal(_plain(path)[:], values)


# Really by zarrs


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("shape", [(3, 25, 35), (25, 35)])
def test_the_slices_in_use_are_left_to_zarrs(
    tmp_path: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Zarr's own codecs were used")

    path = _create(tmp_path / "array", shape, 10, 2)
    monkeypatch.setattr(BatchedCodecPipeline, "read", refuse)
    monkeypatch.setattr(BatchedCodecPipeline, "write", refuse)
    values = _values(shape, 5)
    array = open_array(path, "r+")
    pipeline = _pipeline(array)
    assert isinstance(pipeline, ZarrsCodecPipeline)
    assert pipeline.impl is not None
    assert pipeline.python_impl is None
    _write(array, values)
    np.testing.assert_array_equal(_columns(open_array(path, "r")), values)
    with pytest.raises(AssertionError, match="own codecs"):
        _plain(path)[:]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (1, 4)])
def test_a_store_is_written_and_read_by_zarrs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, columns: int
) -> None:
    monkeypatch.setattr(cube_layout, "SHARD_PATCHES", 2)
    bands = {10: ("B02", "B03"), 20: ("B05",), 60: ("B01", "B09")}
    grid = PatchGrid(32633, 300_000, 5_400_000, ShapeYX(1200 * rows + 300, 1200 * columns + 300))
    layout = CubeLayout("T1", grid, bands, {})
    create_store(tmp_path / "store", {})
    create_cube(tmp_path / "store", layout)
    pixels = {}
    for resolution, names in bands.items():
        for seed, band in enumerate(names):
            pixels[band] = _values(tuple(edge // resolution for edge in grid.tile_m), seed)
            write_band(tmp_path / "store", layout, band, pixels[band])
    codes = _values(grid.shape_px_yx(10), 9)
    write_reference_map(tmp_path / "store", layout, codes)

    group = CubeGroup(tmp_path / "store" / "T1")
    reader = ColumnReader(group)
    for x in range(columns):
        for y in range(rows):
            found, s1, found_codes = reader.patch(x, y)
            assert sorted(found) == sorted(pixels)
            assert not s1
            for band, dn in found.items():
                side = dn.shape[0]
                np.testing.assert_array_equal(
                    dn, pixels[band][y * side : (y + 1) * side, x * side : (x + 1) * side], err_msg=band
                )
            np.testing.assert_array_equal(found_codes, codes[y * 120 : (y + 1) * 120, x * 120 : (x + 1) * 120])


# Without a trace


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_the_configuration_stays_as_it_is(tmp_path: Path, mode: str) -> None:
    path = _create(tmp_path / "array", (10, 10), 10, 1)
    before = copy.deepcopy(zarr.config.config)
    open_array(path, mode)[:]
    assert zarr.config.config == before
    assert not isinstance(_pipeline(_plain(path)), ZarrsCodecPipeline)


def test_a_pipeline_that_someone_has_chosen_stays_theirs(tmp_path: Path) -> None:
    path = _create(tmp_path / "array", (10, 10), 10, 1)
    with zarr.config.set({"codec_pipeline.batch_size": 7, "array.write_empty_chunks": True}):
        before = copy.deepcopy(zarr.config.config)
        open_array(path, "r")
        assert zarr.config.config == before


@pytest.mark.parametrize("damage", ["missing", "no metadata", "not JSON"])
def test_also_when_there_is_no_array(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "array"
    if damage != "missing":
        path.mkdir()
    if damage == "not JSON":
        (path / "zarr.json").write_text("{")
    before = copy.deepcopy(zarr.config.config)
    with pytest.raises((OSError, ValueError)):
        open_array(path, "r")
    assert zarr.config.config == before


def test_many_threads_at_once(tmp_path: Path) -> None:
    values = [_values((2, 25, 35), seed) for seed in range(12)]
    paths = [_create(tmp_path / str(number), (2, 25, 35), 10, 2) for number in range(12)]
    before = copy.deepcopy(zarr.config.config)
    start = Barrier(len(paths))

    def work(path: Path, numbers: np.ndarray) -> bool:
        start.wait()
        arrays = [open_array(path, "r+") for _ in range(10)]
        _write(arrays[0], numbers)
        return all(isinstance(_pipeline(array), ZarrsCodecPipeline) for array in arrays)

    with ThreadPoolExecutor(len(paths)) as threads:
        assert all(threads.map(work, paths, values))
    assert zarr.config.config == before
    for path, numbers in zip(paths, values, strict=True):
        np.testing.assert_array_equal(_plain(path)[:], numbers)
