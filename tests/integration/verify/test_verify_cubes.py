"""Verification of a Zarr store by itself: converted ones pass, and each kind of damage is found and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from click.testing import CliRunner
from published_trees import MAPS, S2, write_tree
from verifying import assert_found, listing, problems_of, verified

from reben_dask.cli.convert import convert
from reben_dask.cli.verify import verify as command
from reben_dask.formats import bands as formats
from reben_dask.formats.bands import Band, ImageKind
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import load_nomenclature
from reben_dask.stores.cubes import consolidate_store, create_cube, create_store, held_chunks, write_block
from reben_dask.verify.expected import every_published

BANDS = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B06", "B07", "B8A", "B11", "B12"), 60: ("B01", "B09")}
TILES = ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", "S2A_MSIL2A_20170613T101031_N9999_R022_T33UVP")
CELLS = ((0, 0), (0, 3), (2, 1), (14, 2))
"""Columns and rows of the patches that there are, in a grid of 15 x 5."""

CODES = np.array([*load_nomenclature("bigearthnet19").class_of, 999], np.uint16)
ALL = {"S2", "S1", "MAP"}


def _patch(number: int, kinds: set[str]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(number)
    images: dict[str, np.ndarray] = {}
    for resolution, bands in BANDS.items() if "S2" in kinds else ():
        images |= {band: random.integers(1, 9_999, 2 * [1200 // resolution], np.uint16) for band in bands}
    if "S1" in kinds:
        images |= {name: random.uniform(-30, 5, (120, 120)).astype(np.float32) for name in ("VV", "VH")}
    if "MAP" in kinds:
        images["reference_map"] = random.choice(CODES, (120, 120))
    return images


def _make(store: Path, kinds: set[str]) -> Path:
    """A store of two tiles with four patches each, as the conversion writes it."""
    create_store(store, {})
    for number, tile in enumerate(TILES):
        grid = PatchGrid(32633, 300_000 + 100_000 * number, 5_400_000, ShapeYX(6_000, 18_000))
        bands = BANDS if "S2" in kinds else {}
        layout = CubeLayout(tile, grid, bands, {}, ("VV", "VH") if "S1" in kinds else ())
        create_cube(store, layout)
        for left in (0, 13):
            here = [(x, y, _patch(100 * x + y, kinds)) for x, y in CELLS if left <= x < left + 13]
            write_block(store, layout, ShapeYX(0, left), here)
    consolidate_store(store, len(TILES))
    return store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(tmp_path_factory.mktemp("cubes") / "cubes.zarr", ALL)


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "cubes.zarr"))


# Sound stores


@pytest.mark.slow
def test_a_converted_store(tmp_path: Path) -> None:
    s2 = write_tree(tmp_path / "s2", S2, [(0, 0), (1, 5), (90, 90)])
    maps = write_tree(tmp_path / "maps", MAPS, [(0, 0), (90, 90)])
    for path in maps.rglob("*.tif"):
        with rasterio.open(path, "r+") as image:
            image.write(np.resize(CODES, (120, 120)), 1)
    out = tmp_path / "c.zarr"
    options = [str(word) for word in ("--s2", s2, "--maps", maps, "--zarr", out, "--workers", 1)]
    done = CliRunner().invoke(convert, options)
    assert done.exit_code == 0, done.output
    before = listing(out)
    done = CliRunner().invoke(command, [str(out), "--digest"])
    assert done.exit_code == 0, done.output
    assert "Zarr cubes: 1 tile\n" in done.output
    assert "Zarr patches: 3 of Sentinel-2, 2 of reference maps\n" in done.output
    assert "  c.zarr\n" in done.output
    assert done.output.endswith(": 3 patches: complete and consistent, without Sentinel-1.\n")
    assert listing(out) == before


@pytest.mark.parametrize("full", [False, True])
def test_all_there(sound: Path, full: bool) -> None:  # noqa: FBT001
    assert verified(sound, full=full).verdict() == "8 patches: complete and consistent."


def test_bands_alone(tmp_path: Path) -> None:
    verdict = verified(_make(tmp_path / "c.zarr", {"S2"})).verdict()
    assert verdict.startswith("8 patches: complete and consistent, without Sentinel-1")


def test_zeros_of_a_band_without_nodata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Zarr does not write them, and they are no pixels that were lost."""
    band = Band("AOT", ImageKind.S2, 20, "uint16", None)
    for bands in (formats.BANDS, formats.FURTHER_BANDS):
        monkeypatch.setitem(bands, band.name, band)
    every_published.cache_clear()
    request.addfinalizer(every_published.cache_clear)
    create_store(tmp_path / "c.zarr", {})
    grid = PatchGrid(32633, 300_000, 5_400_000, ShapeYX(2_400, 2_400))
    layout = CubeLayout(TILES[0], grid, {**BANDS, 20: (*BANDS[20], band.name)}, {}, has_map=False)
    create_cube(tmp_path / "c.zarr", layout)
    pixels = _patch(1, {"S2"}) | {band.name: np.zeros((60, 60), np.uint16)}
    write_block(tmp_path / "c.zarr", layout, ShapeYX(0, 0), [(0, 1, pixels)])
    consolidate_store(tmp_path / "c.zarr", 1)
    report = verified(tmp_path / "c.zarr", full=True)
    assert report.verdict() == "1 patch: complete and consistent, without Sentinel-1 and reference maps."


def test_the_store_of_a_job(tile_run: Path, tmp_path: Path) -> None:
    """Its tiles have NODATA at their edges, where bands may differ."""
    store = Path(shutil.copytree(tile_run / "cubes.zarr", tmp_path / "c.zarr"))
    (tile,) = (path for path in store.iterdir() if path.is_dir())
    zarr.open_array(tile / "r10m" / "dn", mode="r+")[0, :120, :120] = 0
    report = verified(store, full=True)
    assert report.verdict() == "16 patches: complete and consistent."


def test_metadata_are_not_taken(sound: Path) -> None:
    done = CliRunner().invoke(command, [str(sound), "--metadata", str(sound)])
    assert done.exit_code == 2
    assert "is a Zarr store, which is checked by itself" in " ".join(done.output.split())


# Damage


def _array(store: Path, path: str) -> zarr.Array[Any]:
    return zarr.open_array(store / TILES[0] / path, mode="r+")


def _patch_of(path: str, x: int, y: int, value: float) -> Callable[[Path], None]:
    """Fill one image of a patch, the second where there are several."""

    def damage(store: Path) -> None:
        array = _array(store, path)
        side = array.chunks[-1]
        image = (1,) if array.ndim == 3 else ()
        array[(*image, slice(y * side, (y + 1) * side), slice(x * side, (x + 1) * side))] = value

    return damage


def _pixel(path: str, x: int, y: int, value: int) -> Callable[[Path], None]:
    def damage(store: Path) -> None:
        array = _array(store, path)
        side = array.chunks[-1]
        array[(*([0] * (array.ndim - 2)), y * side + 7, x * side + 9)] = value

    return damage


def _describe(member: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change what is said of an array of the first tile, in its own document and in all copies."""

    def damage(store: Path) -> None:
        for path in store.rglob("zarr.json"):
            document = json.loads(path.read_text())
            place = path.parent.relative_to(store).as_posix()
            copies = (document.get("consolidated_metadata") or {}).get("metadata", {})
            members = {f"{place}/{name}".removeprefix("./"): copy for name, copy in copies.items()} | {place: document}
            if f"{TILES[0]}/{member}" in members:
                change(members[f"{TILES[0]}/{member}"])
                path.write_text(json.dumps(document))

    return damage


def _shift(store: Path) -> None:
    array = _array(store, "r20m/x")
    array[:] = array[:] + 20


def _flip_index(store: Path) -> None:
    path = store / TILES[0] / "r20m" / "dn" / "c" / "2" / "0" / "0"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def _shard(*parts: str) -> Path:
    return Path(TILES[0], *parts)


CUBES, PATCHES, PIXELS = "Zarr cubes", "Zarr patches", "Zarr pixels"
DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "patch lost in a band": (_patch_of("r10m/dn", 2, 1, 0), PATCHES, f"{TILES[0]}_02_01 has no B03"),
    "patch lost in a polarisation": (_patch_of("s1/db", 2, 1, np.nan), PATCHES, f"{TILES[0]}_02_01 has no VH"),
    "shard lost": (
        lambda store: (store / _shard("r20m", "dn", "c", "4", "0", "1")).unlink(),
        PATCHES,
        f"{TILES[0]}/r20m/dn/c/4/0/1 is missing",
    ),
    "NODATA": (_pixel("r60m/dn", 0, 3, 0), PIXELS, f"{TILES[0]}_00_03 has NODATA in B01"),
    "unknown code": (
        _pixel("reference_map/reference_map", 0, 0, 7),
        PIXELS,
        f"{TILES[0]}_00_00 has the unknown code 7 in its map",
    ),
    "index": (_flip_index, PIXELS, f"{TILES[0]}, column 0, cannot be read from r20m (RuntimeError: the checksum"),
    "type": (
        _describe("r10m/dn", lambda array: array.update(data_type="int16")),
        CUBES,
        f"{TILES[0]}/r10m has the type int16, not uint16",
    ),
    "fill value": (
        _describe("r10m/dn", lambda array: array.update(fill_value=1)),
        CUBES,
        f"{TILES[0]}/r10m has the fill value 1, not 0",
    ),
    "shape": (
        _describe("r60m/dn", lambda array: array.update(shape=[3, 100, 300])),
        CUBES,
        f"{TILES[0]}/r60m: conflicting sizes for dimension 'band'",
    ),
    "chunks": (
        _describe("s1/db", lambda array: array["codecs"][0]["configuration"].update(chunk_shape=[1, 60, 60])),
        CUBES,
        f"{TILES[0]}/s1 has the chunks (1, 60, 60), not (1, 120, 120)",
    ),
    "shards": (
        _describe("r20m/dn", lambda array: array["chunk_grid"]["configuration"].update(chunk_shape=[1, 60, 60])),
        CUBES,
        f"{TILES[0]}/r20m has the shards (1, 60, 60), not (1, 780, 780)",
    ),
    "dimensions": (
        _describe("reference_map/reference_map", lambda array: array.update(dimension_names=["x", "y"])),
        CUBES,
        f"{TILES[0]}/reference_map",
    ),
    "coordinates": (_shift, CUBES, f"{TILES[0]}/r20m has other x coordinates than its tile"),
    "names of bands": (
        lambda store: _array(store, "r60m/band").__setitem__(slice(None), np.array(["B09", "B01"], object)),
        CUBES,
        f"{TILES[0]}/r60m has other band coordinates than its tile",
    ),
    "coordinate system": (
        _describe(
            "r20m/spatial_ref",
            lambda array: array["attributes"].update(crs_wkt=rasterio.crs.CRS.from_epsg(32634).to_wkt()),
        ),
        CUBES,
        f"{TILES[0]}/r20m has the crs wkt EPSG:32634, not EPSG:32633",
    ),
    "transform": (
        _describe("r20m/spatial_ref", lambda array: array["attributes"].update(GeoTransform="0 20 0 0 0 -20")),
        CUBES,
        f"{TILES[0]}/r20m has the GeoTransform '0 20 0 0 0 -20', not '300000.0 20.0",
    ),
    "no place": (
        _describe("r10m/spatial_ref", lambda array: array["attributes"].clear()),
        CUBES,
        f"{TILES[0]}",
    ),
    "node missing": (lambda store: shutil.rmtree(store / TILES[0] / "r60m"), CUBES, f"{TILES[0]}/r60m"),
    "map of one tile missing": (
        lambda store: shutil.rmtree(store / TILES[0] / "reference_map"),
        CUBES,
        f"{TILES[0]}/reference_map",
    ),
    "node of nobody": (
        lambda store: (store / TILES[0] / "mine").mkdir(),
        CUBES,
        f"{TILES[0]}/mine is not a node of a tile",
    ),
    "group of no tile": (lambda store: (store / "mine").mkdir(), CUBES, "mine: has no node"),
    "document": (
        lambda store: (store / TILES[0] / "r20m" / "dn" / "zarr.json").write_text("{"),
        CUBES,
        f"{TILES[0]}: dn/zarr.json: ",
    ),
    "copy of a document": (
        lambda store: (store / "zarr.json").write_text((store / "zarr.json").read_text().replace("backscatter", "db")),
        CUBES,
        f"{TILES[0]}/s1/db/zarr.json differs from its copy in cubes.zarr/zarr.json",
    ),
    "document of the store": (lambda store: (store / "zarr.json").write_text("[]"), CUBES, "cubes.zarr/zarr.json: "),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_stores(store: Path, name: str) -> None:
    damage, title, text = DAMAGE[name]
    damage(store)
    assert_found(store, {title: text})


def test_a_shard_that_is_cut_short(store: Path) -> None:
    os.truncate(store / _shard("r10m", "dn", "c", "1", "0", "0"), 900)
    problems = problems_of(store)
    assert f"{TILES[0]}_00_00 has no B03" in problems[PATCHES]
    assert f"{TILES[0]}, column 0, cannot be read from r10m" in problems[PIXELS]


def test_pixels_beyond_the_sample(store: Path) -> None:
    """Columns 0 and 14 are read, in which there is a patch of each shard."""
    _pixel("r20m/dn", 2, 1, 0)(store)
    assert problems_of(store) == {}
    assert problems_of(store, full=True) == {PIXELS: f"{TILES[0]}_02_01 has NODATA in B05"}
    _pixel("r20m/dn", 14, 2, 0)(store)
    assert problems_of(store) == {PIXELS: f"{TILES[0]}_14_02 has NODATA in B05"}


def test_a_store_without_tiles(tmp_path: Path) -> None:
    create_store(tmp_path / "c.zarr", {})
    assert problems_of(tmp_path / "c.zarr") == {CUBES: "c.zarr has no tile"}


def test_held_chunks_are_those_that_were_written(sound: Path) -> None:
    for node, images in (("r10m/dn", 4), ("r60m/dn", 2), ("reference_map/reference_map", 1), ("s1/db", 2)):
        held = held_chunks(sound / TILES[1] / node).reshape(images, 5, 15)
        expected = np.zeros((5, 15), bool)
        for x, y in CELLS:
            expected[y, x] = True
        assert (held == expected).all()
