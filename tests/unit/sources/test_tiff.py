"""Small TIFF files: pixels, place and NODATA as rasterio reads them, or an error that names the file."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import assume, given
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine, from_origin

from reben_dask.errors import InputError
from reben_dask.sources.gdal import GDAL_OPTIONS
from reben_dask.sources.published import tiff
from reben_dask.sources.published.tiff import Corner, decode_image, read_corner, read_tiff

PLAIN_TYPES = ["uint8", "uint16", "float32"]
OTHER_TYPES = ["uint32", "int16", "int32", "float64", "int8", "uint64", "complex64"]
PLAIN: list[dict[str, Any]] = [
    {},
    {"blockysize": 7},
    {"blockysize": 1000},
    {"compress": "deflate"},
    {"compress": "deflate", "predictor": 2, "blockysize": 5},
    {"count": 2},
    {"count": 3, "blockysize": 5, "photometric": "MINISBLACK"},
]
OTHER: list[dict[str, Any]] = [
    {"ENDIANNESS": "BIG"},
    {"tiled": True, "blockxsize": 16, "blockysize": 32},
    {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate", "predictor": 2},
    {"compress": "lzw", "predictor": 2},
    {"compress": "packbits"},
    {"compress": "zstd"},
    {"BIGTIFF": "YES"},
    {"photometric": "MINISWHITE"},
    {"photometric": "RGB", "count": 3},
    {"count": 2, "interleave": "band"},
    {"count": 2, "alpha": "YES"},
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

    def refuse(source: object, *_: object, **__: object) -> None:
        raise AssertionError(f"{source!r:.100} was left to GDAL")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff, "_by_gdal", refuse)
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
        with rasterio.open(path) as file, _without_gdal():
            assert _same(read_tiff(path), file.read(1)), path
            transform = file.transform
            assert read_corner(path) == (file.crs.to_epsg(), transform.c, transform.f, transform.a)
            _require_as_rasterio(path)


@pytest.mark.parametrize("dtype", PLAIN_TYPES)
@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_plain_files(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    pixels = _numbers((41, 37), dtype)
    path = _write(tmp_path / "plain.tif", pixels, options)
    with _without_gdal():
        found = read_tiff(path)
    assert _same(found, pixels)
    assert found.dtype.isnative
    assert found.flags.writeable


@given(
    pixels=st.builds(
        _numbers,
        st.tuples(st.integers(1, 70), st.integers(1, 70)),
        st.sampled_from(PLAIN_TYPES + OTHER_TYPES),
        st.integers(0, 99),
    ),
    options=st.sampled_from(PLAIN + OTHER),
    extras=st.fixed_dictionaries(
        {}, optional={"nodata": st.just(0), "transform": st.just(from_origin(3e5, 5e6, 10, 10)), "crs": st.just(32633)}
    ),
)
def test_any_file_that_rasterio_writes(
    scratch: Path, pixels: np.ndarray, options: dict[str, Any], extras: dict[str, Any]
) -> None:
    try:
        path = _write(scratch / "any.tif", pixels, {**options, **extras})
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


def _tiff(tags: dict[int, int | tuple[int, ...]], body: bytes) -> bytes:
    """A file with one image, its pixels at byte 8; values that do not fit stand behind them."""
    tail, entries = body, b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            packed, tail = struct.pack("<I", 8 + len(tail)), tail + packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + packed
    return b"II*\0" + struct.pack("<I", 8 + len(tail)) + tail + struct.pack("<H", len(tags)) + entries + bytes(4)


def _tags(body: bytes, **changes: Any) -> dict[int, Any]:
    """Tags of 6 x 4 pixels of 8 bits in one strip."""
    tags = {256: 4, 257: 6, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 6, 279: len(body)}
    return {tag: value for tag, value in {**tags, **{int(k[1:]): v for k, v in changes.items()}}.items() if value != ""}


PIXELS = np.arange(24, dtype=np.uint8).reshape(6, 4)


DIFFERENCES = np.diff(PIXELS, axis=1, prepend=np.uint8(0))


def test_a_last_strip_with_all_the_rows_of_the_others(tmp_path: Path) -> None:
    strips = [zlib.compress(DIFFERENCES[:4].tobytes()), zlib.compress(DIFFERENCES[4:].tobytes() + bytes(8))]
    body = b"".join(strips)
    tags = _tags(body, _259=8, _317=2, _278=4, _273=(8, 8 + len(strips[0])), _279=tuple(map(len, strips)))
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
        {"_277": 2, "_256": 2},
        {"_277": 2, "_256": 2, "_258": (8, 8)},
        {"_277": 2, "_256": 2, "_258": (8, 8), "_338": 0},
        {"_277": 2, "_256": 2, "_258": (8, 8), "_338": 2},
        {"_277": 2, "_256": 2, "_258": (8, 8), "_338": (0, 0)},
        {"_277": 2**32 - 1},
        {"_338": 0},
        {"_284": 2},
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
        patch.setattr(tiff, "_by_gdal", lambda *_, **__: None)
        here = read_tiff(path)
    assert here is None or _same(here, expected)


@pytest.fixture(scope="module")
def intact(scratch: Path) -> list[bytes]:
    """A small file of each plain kind."""
    place = {"crs": 32633, "transform": from_origin(3e5, 5e6, 10, 10), "nodata": 0}
    pixels = _numbers((20, 23), "uint16")
    return [_write(scratch / "intact.tif", pixels, {**place, **options}).read_bytes() for options in PLAIN]


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


@given(st.data())
def test_truncated_files(scratch: Path, intact: list[bytes], data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(intact))
    path = scratch / "short.tif"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    _agree(path)


def test_a_damaged_stream_is_an_error_and_not_numbers(tmp_path: Path) -> None:
    raw = DIFFERENCES.tobytes()
    good = zlib.compress(raw)
    for body in (good[:-1] + b"x", good[:-6], zlib.compress(raw[:-1]), zlib.compress(raw + b"x"), b"no stream"):
        (tmp_path / "a.tif").write_bytes(_tiff(_tags(body, _259=8, _317=2), body))
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


# Places


def _place(epsg: int | None, *numbers: float) -> dict[str, Any]:
    return {**({"crs": epsg} if epsg else {}), "transform": Affine(*numbers)}


@pytest.mark.parametrize("crs", [32633, 32733, 3035, 4326])
@pytest.mark.parametrize("kind", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}], ids=str)
def test_corners(tmp_path: Path, crs: int, kind: dict[str, Any]) -> None:
    place = {"crs": crs, "transform": from_origin(300_000.5, 5_000_020, 60, 60)}
    path = _write(tmp_path / "a.tif", PIXELS, {**place, **kind})
    assert read_corner(path) == Corner(crs, 300_000.5, 5_000_020, 60)


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"crs": 32633},
        _place(32633, 10, 1, 0, 1, -10, 0),
        _place(32633, 10, 0, 0, 0, -20, 0),
        _place(32633, 10, 0, 0, 0, 10, 0),
        _place(None, 10, 0, 0, 0, -10, 0),
    ],
    ids=str,
)
def test_what_has_no_corner(tmp_path: Path, place: dict[str, Any]) -> None:
    path = _write(tmp_path / "a.tif", PIXELS, place)
    with pytest.raises(InputError, match=rf"{path} cannot be placed: .+\."):
        read_corner(path)


def test_a_corner_of_a_file_that_is_damaged_or_missing(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match=r"a\.tif cannot be placed"):
        read_corner(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"b\.tif cannot be read"):
        read_corner(tmp_path / "b.tif")


# Images with their places

PLACED = {"crs": 32633, "transform": from_origin(300_000, 5_400_000, 20, 20)}
PLAIN_IMAGES: dict[str, dict[str, Any]] = {
    "Sentinel-2": {"nodata": 0},
    "Sentinel-1": {"dtype": "float32"},
    "reference map": {"nodata": 0, "compress": "deflate", "predictor": 2},
    "southern zone": {"crs": 32733, "nodata": 0},
    "another value": {"nodata": 65535},
    "two bands": {"count": 2, "nodata": 0},
}
OTHER_IMAGES: dict[str, dict[str, Any]] = {
    "no system": {"crs": None, "nodata": 0},
    "degrees": {"crs": 4326},
    "rotated": {"transform": Affine.translation(300_000, 5_400_000) * Affine.rotation(10) * Affine.scale(10, -10)},
    "oblong pixels": {"transform": from_origin(300_000, 5_400_000, 10, 20)},
    "another compression": {"compress": "lzw", "nodata": 0},
}


def _write_image(path: Path, name: str) -> Path:
    options = {**PLACED, **{**PLAIN_IMAGES, **OTHER_IMAGES}[name]}
    return _write(path, _numbers((121, 60), options.pop("dtype", "uint16")), options)


def _require_as_rasterio(path: Path) -> None:
    image = decode_image(path.read_bytes())
    with rasterio.open(path) as file:
        assert _same(image.bands, file.read())
        assert _same(image.pixels, file.read(1))
        assert (image.count, image.nodata) == (file.count, file.nodata)
        assert image.epsg == (file.crs and file.crs.to_epsg())
        assert image.transform == tuple(file.transform)[:6]
        if file.transform.is_rectilinear:
            assert image.bounds == tuple(file.bounds)


@pytest.mark.parametrize("name", [*PLAIN_IMAGES, *OTHER_IMAGES])
def test_images(tmp_path: Path, name: str) -> None:
    path = _write_image(tmp_path / "image.tif", name)
    with _without_gdal() if name in PLAIN_IMAGES else nullcontext():
        _require_as_rasterio(path)


@pytest.mark.parametrize("content", [b"", b"II*\0", b"GIF89a", b"<VRTDataset/>"], ids=repr)
def test_what_is_no_image(content: bytes) -> None:
    with pytest.raises(InputError, match=r"is empty|cannot be decoded"):
        decode_image(content)


@pytest.mark.parametrize("name", ["Sentinel-2", "reference map", "another compression"])
def test_an_image_that_is_cut_short(tmp_path: Path, name: str) -> None:
    content = _write_image(tmp_path / "image.tif", name).read_bytes()
    with pytest.raises(InputError, match="cannot be decoded"):
        decode_image(content[: len(content) // 2])


def test_a_huge_image_without_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    options = {**PLACED, "count": 1, "dtype": "uint16", "SPARSE_OK": True}
    with rasterio.open(path, "w", driver="GTiff", height=40_000, width=40_000, **options):
        pass
    with pytest.raises(InputError, match="40,000 x 40,000 pixels"):
        decode_image(path.read_bytes())
