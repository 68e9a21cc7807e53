"""GeoTIFFs in memory: the published files tag for tag, and what GDAL itself would write, to the byte."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.errors import CRSError
from rasterio.io import MemoryFile

from reben_dask.stores import geotiff
from reben_dask.stores.geotiff import Place, encode_geotiff

PLACE = Place(32633, 390_000, 5_348_400, 10)
SIZES = {1: "B", 2: "s", 3: "H", 4: "I", 12: "d"}
STRIP_OFFSETS, STRIP_BYTES, ASCII = 273, 279, 2
LAYOUT = {STRIP_OFFSETS, STRIP_BYTES}
DATES = {306, 36867, 36868}


def _tags(file: bytes) -> dict[int, tuple[int, tuple[Any, ...]]]:
    """Type and values of each tag of a small little-endian TIFF with one image."""
    assert file[:4] == b"II*\0"
    (start,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, start)
    assert struct.unpack_from("<I", file, start + 2 + 12 * count) == (0,), "more than one image"
    return dict(_tag(file, start + 2 + 12 * number) for number in range(count))


def _tag(file: bytes, at: int) -> tuple[int, tuple[int, tuple[Any, ...]]]:
    tag, kind, count = struct.unpack_from("<HHI", file, at)
    layout = f"<{count}{SIZES[kind]}"
    where = at + 8 if struct.calcsize(layout) <= 4 else struct.unpack_from("<I", file, at + 8)[0]
    return tag, (kind, struct.unpack_from(layout, file, where))


def _published(data_dir: Path, tree: str) -> Iterator[tuple[bytes, np.ndarray, Place]]:
    """Each published file of a tree: its bytes, pixels and place."""
    paths = sorted((data_dir / "bigearthnet" / tree).glob("*/*/*.tif"))
    assert paths
    yield from map(_read, paths)


def _read(path: Path) -> tuple[bytes, np.ndarray, Place]:
    with rasterio.open(path) as dataset:
        corner = (int(dataset.bounds.left), int(dataset.bounds.top))
        return path.read_bytes(), dataset.read(1), Place(dataset.crs.to_epsg(), *corner, int(dataset.res[0]))


@contextmanager
def _open(file: bytes) -> Iterator[Any]:
    with MemoryFile(file) as memory, memory.open() as dataset:
        yield dataset


# As published


def test_published_bands_of_sentinel_2_to_the_byte(data_dir: Path) -> None:
    files = list(_published(data_dir, "BigEarthNet-S2"))
    assert len(files) == 12
    for file, pixels, place in files:
        encoded = encode_geotiff(pixels, place, nodata=0)
        assert _tags(encoded) == _tags(file)
        assert encoded == file


def test_a_published_reference_map_tag_for_tag(data_dir: Path) -> None:
    """The compressor may be another, so the lengths of the strips are not compared, but what they unpack to is."""
    ((file, pixels, place),) = _published(data_dir, "Reference_Maps")
    encoded = encode_geotiff(pixels, place, nodata=0, compress="deflate")
    expected, found = _tags(file), _tags(encoded)
    assert found.keys() == expected.keys()
    assert {tag: found[tag] for tag in found.keys() - LAYOUT} == {tag: expected[tag] for tag in found.keys() - LAYOUT}
    assert len(found[STRIP_BYTES][1]) == len(expected[STRIP_BYTES][1]) == 4
    with _open(encoded) as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels)
        assert dataset.tags(ns="IMAGE_STRUCTURE") == {"COMPRESSION": "DEFLATE", "INTERLEAVE": "BAND", "PREDICTOR": "2"}


def test_published_polarisations_of_sentinel_1_tag_for_tag(data_dir: Path) -> None:
    files = list(_published(data_dir, "BigEarthNet-S1"))
    assert len(files) == 2
    for file, pixels, place in files:
        _require_same_but_shorter(encode_geotiff(pixels, place), file, pixels)


@pytest.mark.parametrize(("tree", "count"), [("BigEarthNet-S2-Example", 12 * 6), ("BigEarthNet-S1-Example", 2 * 6)])
def test_files_of_version_1_tag_for_tag(data_dir: Path, tree: str, count: int) -> None:
    """They have no tag for NODATA."""
    paths = sorted((data_dir / "bigearthnet-v1" / tree).glob("*/*.tif"))
    assert len(paths) == count
    for path in paths:
        file, pixels, place = _read(path)
        _require_same_but_shorter(encode_geotiff(pixels, place), file, pixels)


def _require_same_but_shorter(encoded: bytes, file: bytes, pixels: np.ndarray) -> None:
    """Files of an older GDAL, which spent four bytes where two are enough for the length of a strip."""
    expected, found = _tags(file), _tags(encoded)
    assert {tag: values for tag, (_, values) in found.items() if tag != STRIP_OFFSETS} == {
        tag: values for tag, (_, values) in expected.items() if tag != STRIP_OFFSETS
    }
    saved, strips = len(file) - len(encoded), len(found[STRIP_BYTES][1])
    # A single length stands in the tag itself.
    assert saved == (2 * strips if strips > 1 else 0)
    assert [at + saved for at in found[STRIP_OFFSETS][1]] == list(expected[STRIP_OFFSETS][1])
    assert encoded[-pixels.nbytes :] == file[-pixels.nbytes :]


# As GDAL writes

sides, bands, seeds = st.integers(1, 150), st.integers(1, 6), st.integers(0, 2**32 - 1)
kinds = st.sampled_from([(np.uint16, 0), (np.uint16, None), (np.float32, None), (np.uint8, 0)])
places = st.builds(
    Place,
    st.sampled_from([32629, 32633, 32636, 32733, 3035]),
    st.integers(100_000, 900_000),
    st.integers(0, 9_999_960),
    st.sampled_from([10, 20, 60]),
)


@given(kind=kinds, place=places, shape=st.one_of(st.tuples(sides, sides), st.tuples(bands, sides, sides)), seed=seeds)
def test_files_are_those_of_gdal(
    kind: tuple[type, int | None], place: Place, shape: tuple[int, ...], seed: int
) -> None:
    dtype, nodata = kind
    pixels = np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)
    encoded = encode_geotiff(pixels, place, nodata=nodata)
    assert encoded == geotiff._encode_by_gdal(pixels, place, nodata)
    assert not _tags(encoded).keys() & DATES


@pytest.mark.parametrize("compress", [None, "deflate"])
@pytest.mark.parametrize(("resolution", "side", "rows"), [(10, 120, 34), (20, 60, 60), (60, 20, 20)])
def test_georeference_nodata_and_strips(resolution: int, side: int, rows: int, compress: Any) -> None:
    pixels = np.arange(1, side * side + 1, dtype=np.uint16).reshape(side, side)
    place = PLACE._replace(resolution=resolution)
    with _open(encode_geotiff(pixels, place, nodata=0, compress=compress)) as dataset:
        assert dataset.crs.to_epsg() == 32633
        assert tuple(dataset.transform)[:6] == (resolution, 0, 390_000, 0, -resolution, 5_348_400)
        assert dataset.bounds == (390_000, 5_347_200, 391_200, 5_348_400)
        assert (dataset.nodata, dataset.dtypes, dataset.count) == (0, ("uint16",), 1)
        assert dataset.block_shapes == [(rows, side)]
        assert dataset.compression == (rasterio.enums.Compression.deflate if compress else None)
        assert dataset.tags() == {"AREA_OR_POINT": "Area"}
        np.testing.assert_array_equal(dataset.read(1), pixels)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_bands_of_one_image_in_their_order(count: int) -> None:
    pixels = np.random.default_rng(count).integers(0, 65_535, (count, 60, 60), np.uint16)
    with _open(encode_geotiff(pixels, PLACE._replace(resolution=20))) as dataset:
        assert (dataset.count, set(dataset.dtypes), dataset.nodata) == (count, {"uint16"}, None)
        assert dataset.bounds == (390_000, 5_347_200, 391_200, 5_348_400)
        np.testing.assert_array_equal(dataset.read(), pixels)
        np.testing.assert_array_equal(dataset.read(count), pixels[-1])


def test_without_nodata_there_is_no_tag() -> None:
    with _open(encode_geotiff(np.zeros((120, 120), np.float32), PLACE)) as dataset:
        assert dataset.nodata is None
        assert (dataset.read_masks(1) == 255).all()


SPECIAL = {
    "all NODATA": np.zeros((120, 120), np.uint16),
    "all 65535": np.full((120, 120), 65_535, np.uint16),
    "a strip of NODATA": np.repeat(np.arange(120, dtype=np.uint16) // 34 % 2, 120).reshape(120, 120),
    "NaN": np.full((120, 120), np.nan, np.float32),
    "zeros": np.zeros((120, 120), np.float32),
    "infinite": np.array([[np.inf, -np.inf, np.nan, -0.0, 1e-45, 3.4e38]], np.float32),
}


@pytest.mark.parametrize("pixels", SPECIAL.values(), ids=SPECIAL)
def test_special_pixels_stay_as_they_are(pixels: np.ndarray) -> None:
    nodata = 0 if pixels.dtype == np.uint16 else None
    for compress in (None, "deflate"):
        with _open(encode_geotiff(pixels, PLACE, nodata=nodata, compress=compress)) as dataset:
            assert dataset.read(1).tobytes() == pixels.tobytes()


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[::2, ::3],
        lambda image: image.T[5:25, 10:40],
        np.asfortranarray,
        lambda image: image[::-1, ::-1],
        lambda image: image.astype(">u2"),
    ],
    ids=["steps", "transposed", "by columns", "backwards", "big-endian"],
)
def test_views_are_encoded_as_what_they_show(view: Callable[[np.ndarray], np.ndarray]) -> None:
    shown = view(np.arange(1, 60 * 60 + 1, dtype=np.uint16).reshape(60, 60))
    assert encode_geotiff(shown, PLACE) == encode_geotiff(np.array(shown, np.uint16, order="C"), PLACE)


# Always the same


def test_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib, numpy as np; from reben_dask.stores.geotiff import Place, encode_geotiff\n"
        "pixels = np.arange(14400, dtype=np.uint16).reshape(120, 120)\n"
        f"for compress in (None, 'deflate'):\n"
        f"    print(encode_geotiff(pixels, Place{tuple(PLACE)}, nodata=0, compress=compress).hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pixels = np.arange(14_400, dtype=np.uint16).reshape(120, 120)
    here = [encode_geotiff(pixels, PLACE, nodata=0, compress=compress).hex() for compress in (None, "deflate")]
    assert done.stdout.split() == here


def test_many_threads_at_once() -> None:
    geotiff._header.cache_clear()
    images = [np.full((20 + number % 5, 30), number + 1, np.uint16) for number in range(40)]

    def encode(image: np.ndarray) -> bytes:
        return encode_geotiff(image, PLACE) + encode_geotiff(image, PLACE, compress="deflate")

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(encode, images)) == [encode(image) for image in images]


# Where GDAL lays a file out in another way


def test_a_layout_that_is_not_understood_is_left_to_gdal(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(1, 401, dtype=np.uint16).reshape(20, 20)
    expected = encode_geotiff(pixels, PLACE, nodata=0)
    monkeypatch.setattr(geotiff, "_header", lambda *_: None)
    assert encode_geotiff(pixels, PLACE, nodata=0) == expected


@pytest.mark.parametrize("change", ["pixels first", "rows upwards", "corner twice", "no corner"])
def test_such_a_layout_is_noticed(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    corner = geotiff._CORNER.pack(*geotiff._ANYWHERE)

    def encode(pixels: np.ndarray, *_: object) -> bytes:
        body = pixels.tobytes()
        return {
            "pixels first": body + b"head" + corner,
            "rows upwards": b"head" + corner + pixels[::-1].tobytes(),
            "corner twice": corner + b"head" + corner + body,
            "no corner": b"head" + body,
        }[change]

    monkeypatch.setattr(geotiff, "_encode_by_gdal", encode)
    assert geotiff._header.__wrapped__((20, 20), "uint16", 32633, 10, 0) is None


# What is not an image


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 5, 5), (0, 5), (5, 0), (0, 5, 5), (2, 5, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="an image needs shape"):
        encode_geotiff(np.zeros(shape, np.uint16), PLACE)


def test_an_unknown_system_is_an_error() -> None:
    with pytest.raises(CRSError):
        encode_geotiff(np.ones((5, 5), np.uint16), PLACE._replace(epsg=123))
