"""Reading small TIFF files: the pixels that rasterio gives, or an error that names the file, whatever the file."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import from_origin

from reben_dask.errors import InputError
from reben_dask.sources.gdal import GDAL_OPTIONS
from reben_dask.sources.published import tiff
from reben_dask.sources.published.tiff import read_tiff

PLAIN_TYPES = ["uint8", "uint16", "uint32", "int16", "int32", "float32", "float64"]
OTHER_TYPES = ["int8", "uint64", "complex64"]
PLAIN: list[dict[str, Any]] = [
    {},
    {"blockysize": 7},
    {"blockysize": 1000},
    {"compress": "deflate"},
    {"compress": "deflate", "predictor": 2, "blockysize": 5},
    {"tiled": True, "blockxsize": 16, "blockysize": 32},
    {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate", "predictor": 2},
]
OTHER: list[dict[str, Any]] = [
    {"compress": "lzw", "predictor": 2},
    {"compress": "packbits"},
    {"compress": "zstd"},
    {"BIGTIFF": "YES"},
    {"photometric": "MINISWHITE"},
    {"photometric": "RGB", "count": 3},
    {"count": 2},
    {"count": 2, "interleave": "band"},
    {"SPARSE_OK": True},
]


@pytest.fixture(autouse=True)
def _without_georeference() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiff")


@contextmanager
def _without_gdal() -> Iterator[None]:
    """The file must be one that is read here."""

    def refuse(path: object) -> None:
        raise AssertionError(f"{path} was left to GDAL")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff, "_read_with_gdal", refuse)
        yield


def _numbers(shape: tuple[int, int], dtype: str, seed: int = 0) -> np.ndarray:
    """Smooth, with noise and extreme values: both kinds of compression and overflows of sums are met."""
    random = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * random.integers(1, 9)
    values = (smooth + random.integers(0, 3, shape)).astype(dtype)
    extremes = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    if extremes is not None:
        values[random.random(shape) < 0.1] = extremes.max
        values[random.random(shape) < 0.1] = extremes.min
    return values


def _write(path: Path, pixels: np.ndarray, options: dict[str, Any]) -> Path:
    bands = options.get("count", 1)
    height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, dtype=pixels.dtype, **{"count": 1, **options}
    ) as file:
        for band in range(1, bands + 1):
            file.write(pixels if band == 1 else pixels[::-1], band)
    return path


def _rasterio(path: Path) -> np.ndarray | None:
    try:
        with rasterio.Env(**GDAL_OPTIONS), rasterio.open(path, driver="GTiff") as file:
            pixels: np.ndarray = file.read(1)
            return pixels
    except UnicodeDecodeError:
        raise
    except (RasterioError, OSError, ValueError, LookupError):
        return None


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


# Files that are as they should be


def test_all_published_files_are_read_here_as_rasterio_does(data_dir: Path) -> None:
    files = [path for tree in ("bigearthnet", "bigearthnet-v1") for path in (data_dir / tree).rglob("*.tif")]
    assert len(files) == 99
    for path in files:
        with _without_gdal():
            pixels = read_tiff(path)
        with rasterio.open(path) as file:
            assert _same(pixels, file.read(1)), path


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
@pytest.mark.parametrize("dtype", PLAIN_TYPES)
@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_plain_files(tmp_path: Path, options: dict[str, Any], dtype: str, order: str) -> None:
    pixels = _numbers((41, 37), dtype)
    if options.get("predictor") and dtype == "float64":
        options = {name: value for name, value in options.items() if name != "predictor"}
    path = _write(tmp_path / "plain.tif", pixels, {**options, "ENDIANNESS": order})
    with _without_gdal():
        found = read_tiff(path)
    assert _same(found, pixels)
    assert found.dtype.isnative
    assert found.flags.writeable


@settings(deadline=None, max_examples=200)
@given(
    pixels=st.builds(
        _numbers,
        st.tuples(st.integers(1, 70), st.integers(1, 70)),
        st.sampled_from(PLAIN_TYPES + OTHER_TYPES),
        st.integers(0, 99),
    ),
    order=st.sampled_from(["LITTLE", "BIG"]),
    options=st.sampled_from(PLAIN + OTHER),
    extras=st.fixed_dictionaries(
        {}, optional={"nodata": st.just(0), "transform": st.just(from_origin(3e5, 5e6, 10, 10)), "crs": st.just(32633)}
    ),
)
def test_any_file_that_rasterio_writes(
    scratch: Path, pixels: np.ndarray, order: str, options: dict[str, Any], extras: dict[str, Any]
) -> None:
    try:
        path = _write(scratch / "any.tif", pixels, {**options, **extras, "ENDIANNESS": order})
    except (RasterioError, ValueError):
        assume(False)
    expected = _rasterio(path)
    assert expected is not None
    assert _same(read_tiff(path), expected)


@pytest.mark.parametrize("what", ["mask", "overviews", "metadata", "bits", "palette", "cog"])
def test_files_with_more_than_one_image_or_unusual_tags(tmp_path: Path, what: str) -> None:
    pixels = _numbers((64, 80), "uint8")
    path = _write(tmp_path / "more.tif", pixels, {"NBITS": 7} if what == "bits" else {"tiled": True, "blockxsize": 16})
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        if what == "mask":
            file.write_mask(pixels > 9)
        elif what == "overviews":
            file.build_overviews([2, 4])
        elif what == "metadata":
            file.update_tags(HELLO="world")
        elif what == "palette":
            file.write_colormap(1, {1: (1, 2, 3, 255)})
    if what == "cog":
        with (
            rasterio.open(path) as source,
            rasterio.open(tmp_path / "cog.tif", "w", driver="COG", height=64, width=80, count=1, dtype="uint8") as cog,
        ):
            cog.write(source.read())
        path = tmp_path / "cog.tif"
    expected = _rasterio(path)
    assert expected is not None
    assert _same(read_tiff(path), expected)


def test_a_file_that_was_never_filled(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    kind = {"driver": "GTiff", "height": 30, "width": 30, "count": 1, "dtype": "uint16"}
    with rasterio.open(path, "w", **kind, nodata=7, SPARSE_OK=True, blockysize=10):
        pass
    assert (read_tiff(path) == 7).all()


# By hand


def _tiff(tags: dict[int, int | tuple[int, ...]], body: bytes, order: str = "<") -> bytes:
    """A file with one image, its pixels at byte 8; values that do not fit stand behind them."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    tail, entries = body, b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            packed, tail = struct.pack(f"{order}I", 8 + len(tail)), tail + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    head = magic + struct.pack(f"{order}I", 8 + len(tail))
    return head + tail + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def _tags(body: bytes, **changes: Any) -> dict[int, Any]:
    """Tags of 6 x 4 pixels of 8 bits in one strip."""
    tags = {256: 4, 257: 6, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 6, 279: len(body)}
    return {tag: value for tag, value in {**tags, **{int(k[1:]): v for k, v in changes.items()}}.items() if value != ""}


PIXELS = np.arange(24, dtype=np.uint8).reshape(6, 4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [8, 32946])
def test_both_numbers_of_deflate(tmp_path: Path, order: str, compression: int) -> None:
    body = zlib.compress(PIXELS.tobytes())
    (tmp_path / "a.tif").write_bytes(_tiff(_tags(body, _259=compression), body, order))
    with _without_gdal():
        assert _same(read_tiff(tmp_path / "a.tif"), PIXELS)
    assert _same(read_tiff(tmp_path / "a.tif"), _rasterio(tmp_path / "a.tif"))


def test_a_last_strip_with_all_the_rows_of_the_others(tmp_path: Path) -> None:
    strips = [zlib.compress(PIXELS[:4].tobytes()), zlib.compress(PIXELS[4:].tobytes() + bytes(8))]
    body = b"".join(strips)
    tags = _tags(body, _259=8, _278=4, _273=(8, 8 + len(strips[0])), _279=tuple(map(len, strips)))
    (tmp_path / "a.tif").write_bytes(_tiff(tags, body))
    with _without_gdal():
        assert _same(read_tiff(tmp_path / "a.tif"), PIXELS)


@pytest.mark.parametrize(
    "changes",
    [
        {"_274": 3},
        {"_266": 2},
        {"_262": 0},
        {"_278": ""},
        {"_259": ""},
        {"_277": ""},
        {"_278": 2**32 - 1},
        {"_279": 20},
        {"_279": 30},
        {"_279": 0},
        {"_273": 0},
        {"_273": 2**32 - 1},
        {"_317": 2},
        {"_339": 2},
        {"_339": (1, 1)},
        {"_256": 0},
        {"_257": 2**31},
        {"_257": ""},
        {"_65000": 1},
        {"_322": 16},
        {"_258": 7},
        {"_259": 5},
    ],
    ids=str,
)
def test_unusual_tags_mean_what_they_mean_to_rasterio(tmp_path: Path, changes: dict[str, Any]) -> None:
    body = PIXELS.tobytes()
    path = tmp_path / "a.tif"
    path.write_bytes(_tiff(_tags(body, **changes), body))
    _agree(path)


@pytest.mark.parametrize("side", [4_096, 2**20, 2**31])
@pytest.mark.parametrize("is_tiled", [False, True])
def test_a_huge_image_is_refused_before_memory_is_asked_for(tmp_path: Path, side: int, *, is_tiled: bool) -> None:
    body = zlib.compress(bytes(2**20))
    layout = {"_322": side, "_323": side, "_324": 8, "_325": len(body), "_273": "", "_278": "", "_279": ""}
    changes = layout if is_tiled else {"_256": side, "_257": side, "_278": side}
    path = tmp_path / "bomb.tif"
    path.write_bytes(_tiff(_tags(body, _259=8, _258=64, _339=3, **changes), body))
    with pytest.raises(InputError, match=r"bomb\.tif"):
        read_tiff(path)


# Damage


def _outcome(path: Path) -> np.ndarray | str:
    try:
        return read_tiff(path)
    except InputError as error:
        return str(error)


def _agree(path: Path) -> None:
    """An error that names the file, or what rasterio gives."""
    found = _outcome(path)
    if isinstance(found, str):
        assert str(path) in found
        assert "\n" not in found
        return
    try:
        expected = _rasterio(path)
    except UnicodeDecodeError:
        # Rasterio gives up for the name of a coordinate system that is no text any more; the pixels are sound.
        return
    assert expected is not None
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    with pytest.MonkeyPatch.context() as patch:
        # What GDAL makes of damaged pixels is not even the same twice.
        patch.setattr(tiff, "_read_with_gdal", lambda _: None)
        here = read_tiff(path)
    assert here is None or _same(here, expected)


@pytest.fixture(scope="module")
def intact(scratch: Path) -> list[bytes]:
    """A small file of each plain kind."""
    place = {"crs": 32633, "transform": from_origin(3e5, 5e6, 10, 10), "nodata": 0}
    pixels = _numbers((20, 23), "uint16")
    return [_write(scratch / "intact.tif", pixels, {**place, **options}).read_bytes() for options in PLAIN]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_files(scratch: Path, intact: list[bytes], data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(intact)))
    # Half of the changes in the tags, which most of a file is not.
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(450, len(content) - 1)))
        content[position] = data.draw(st.integers(0, 255))
    path = scratch / "damaged.tif"
    path.write_bytes(content)
    _agree(path)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_truncated_files(scratch: Path, intact: list[bytes], data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(intact))
    path = scratch / "short.tif"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    _agree(path)


def test_a_damaged_stream_is_an_error_and_not_numbers(tmp_path: Path) -> None:
    raw = PIXELS.tobytes()
    good = zlib.compress(raw)
    for body in (good[:-1] + b"x", good[:-6], zlib.compress(raw[:-1]), zlib.compress(raw + b"x"), b"no stream"):
        (tmp_path / "a.tif").write_bytes(_tiff(_tags(body, _259=8), body))
        with pytest.raises(InputError, match=r"a\.tif cannot be decoded \(.+\); the file is damaged"):
            read_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [b"", b"II*\0", b"not a TIFF file", b"<VRTDataset></VRTDataset>"])
def test_what_is_no_tiff_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif cannot be decoded"):
        read_tiff(tmp_path / "a.tif")


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.tif"):
        with pytest.raises(InputError, match="cannot be read"):
            read_tiff(path)
