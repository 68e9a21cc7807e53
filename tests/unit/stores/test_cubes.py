"""The Zarr store: its layout, what repeating and concurrency do to it, and how others open it."""

from __future__ import annotations

import json
import multiprocessing
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rioxarray  # noqa: F401 - gives datasets their .rio accessor
import xarray as xr
import zarr

from reben_dask.errors import InputError
from reben_dask.formats.bands import POLARISATIONS, PUBLISHED_BANDS, by_resolution
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.stores.cubes import (
    consolidate,
    consolidate_store,
    create_cube,
    create_store,
    write_band,
    write_reference_map,
)
from reben_dask.stores.lazy_cubes import open_cubes

BANDS = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B11"), 60: ("B01", "B09")}
NODES = {10: "r10m", 20: "r20m", 60: "r60m"}
ATTRIBUTES = {"mgrs": "33UXU", "sensing_time": "2018-05-07T10:00:29.024000+00:00", "boa_add_offset": {"B02": -1000}}


def _layout(rows: int = 3, columns: int = 2, tile: str = "T1", strip_m: int = 120) -> CubeLayout:
    side = PatchGrid(32633, 634_380, 5_840_280, ShapeYX(1200 * rows + strip_m, 1200 * columns + strip_m))
    return CubeLayout(tile, side, BANDS, ATTRIBUTES)


def _random(layout: CubeLayout, resolution: int, seed: int) -> np.ndarray:
    """Pixels of a whole tile, left-over strip included."""
    shape = [edge // resolution for edge in layout.grid.tile_m]
    return np.random.default_rng(seed).integers(1, 10_000, shape, np.uint16)


def _pixels(layout: CubeLayout) -> dict[str, np.ndarray]:
    places = [(band, resolution) for resolution, bands in BANDS.items() for band in bands]
    return {band: _random(layout, resolution, seed) for seed, (band, resolution) in enumerate(places)}


def _codes(layout: CubeLayout, seed: int = 99) -> np.ndarray:
    return np.random.default_rng(seed).integers(111, 523, layout.grid.shape_px_yx(10), np.uint16)


def _array(store: Path, layout: CubeLayout, resolution: int) -> zarr.Array[Any]:
    return zarr.open_array(store / layout.group / f"r{resolution}m" / "dn", mode="r")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "cubes.zarr"
    create_store(path, {"recipe": "reben", "classes": ["a", "b"]})
    return path


@pytest.fixture
def written(store: Path) -> tuple[Path, CubeLayout]:
    """A store of one tile with all its pixels."""
    layout = _layout()
    create_cube(store, layout)
    for band, dn in _pixels(layout).items():
        write_band(store, layout, band, dn)
    write_reference_map(store, layout, _codes(layout))
    consolidate(store)
    return store, layout


def _assert_pixels(store: Path, layout: CubeLayout) -> None:
    pixels = _pixels(layout)
    for resolution, bands in BANDS.items():
        height, width = layout.grid.shape_px_yx(resolution)
        array = _array(store, layout, resolution)
        for index, band in enumerate(bands):
            assert (array[index] == pixels[band][:height, :width]).all(), band
    codes = zarr.open_array(store / layout.group / "reference_map" / "reference_map", mode="r")
    assert (codes[:] == _codes(layout)).all()


# Layout


@pytest.mark.parametrize(
    ("rows", "columns", "shard_patches"), [(1, 1, 1), (3, 2, 3), (1, 5, 5), (13, 13, 13), (14, 2, 13), (91, 91, 13)]
)
def test_a_chunk_is_a_patch_and_a_shard_is_whole_patches(
    store: Path, rows: int, columns: int, shard_patches: int
) -> None:
    layout = _layout(rows, columns)
    create_cube(store, layout)
    for resolution, bands in BANDS.items():
        patch = 1200 // resolution
        array = _array(store, layout, resolution)
        assert array.shape == (len(bands), rows * patch, columns * patch)
        assert array.dtype == np.uint16
        assert array.chunks == (1, patch, patch)
        assert array.shards == (1, shard_patches * patch, shard_patches * patch)
        assert array.fill_value == 0
        assert array.metadata.zarr_format == 3
        assert array.metadata.dimension_names == ("band", "y", "x")
    codes = zarr.open_array(store / layout.group / "reference_map" / "reference_map", mode="r")
    assert codes.shape == (rows * 120, columns * 120)
    assert (codes.chunks, codes.shards) == ((120, 120), (shard_patches * 120,) * 2)
    assert (codes.dtype, codes.fill_value) == (np.uint16, 999)
    assert codes.metadata.dimension_names == ("y", "x")


def test_creating_writes_no_pixels(store: Path) -> None:
    layout = _layout()
    create_cube(store, layout)
    assert not [file for file in (store / layout.group).rglob("dn/c/*") if file.is_file()]
    assert not list((store / layout.group / "reference_map" / "reference_map").glob("c/**/*"))
    assert (_array(store, layout, 10)[:] == 0).all()


def test_a_full_tile_has_49_files_a_band(store: Path) -> None:
    layout = CubeLayout("T", _layout(91, 91).grid, {60: ("B01",)}, {})
    create_cube(store, layout)
    write_band(store, layout, "B01", np.ones((1830, 1830), np.uint16))
    assert len([file for file in (store / "T" / "r60m" / "dn" / "c").rglob("*") if file.is_file()]) == 49


def test_attributes_of_store_and_tile(written: tuple[Path, CubeLayout]) -> None:
    store, layout = written
    assert dict(zarr.open_group(store, mode="r").attrs) == {"recipe": "reben", "classes": ["a", "b"]}
    assert dict(zarr.open_group(store / layout.group, mode="r").attrs) == ATTRIBUTES


def test_creating_a_store_again_keeps_what_is_in_it(written: tuple[Path, CubeLayout]) -> None:
    store, layout = written
    create_store(store, {"recipe": "seasonet"})
    assert zarr.open_group(store, mode="r").attrs["recipe"] == "seasonet"
    _assert_pixels(store, layout)


# Writing


def test_what_is_written_is_read(written: tuple[Path, CubeLayout]) -> None:
    _assert_pixels(*written)


def test_tasks_may_be_repeated(written: tuple[Path, CubeLayout]) -> None:
    store, layout = written
    create_cube(store, layout)
    _assert_pixels(store, layout)
    write_band(store, layout, "B03", np.full((372, 252), 5, np.uint16))
    assert (_array(store, layout, 10)[1] == 5).all()
    write_band(store, layout, "B03", _pixels(layout)["B03"])
    write_reference_map(store, layout, _codes(layout, 1))
    write_reference_map(store, layout, _codes(layout))
    create_cube(store, layout)
    _assert_pixels(store, layout)


class _LostWorkerError(Exception):
    pass


def _create_until(step: int, store: Path, layout: CubeLayout) -> bool:
    """Begin a cube on a worker that is lost before its ``step``-th write of metadata; whether there was one."""
    steps = count()

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if next(steps) == step:
                raise _LostWorkerError
            return write(*arguments, **options)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xr.Dataset, "to_zarr", counted(xr.Dataset.to_zarr))
        patch.setattr(zarr, "consolidate_metadata", counted(zarr.consolidate_metadata))
        try:
            create_cube(store, layout)
        except _LostWorkerError:
            return True
    return False


@pytest.mark.slow
def test_a_creation_that_was_interrupted_may_be_repeated(tmp_path: Path) -> None:
    """The task comes back on another worker, whatever the lost one had written."""
    for step in count():
        store, layout = tmp_path / f"{step}.zarr", _layout()
        create_store(store, {})
        was_interrupted = _create_until(step, store, layout)
        create_cube(store, layout)
        for band, dn in _pixels(layout).items():
            write_band(store, layout, band, dn)
        write_reference_map(store, layout, _codes(layout))
        _assert_pixels(store, layout)
        assert zarr.open_group(store / layout.group, mode="r").metadata.consolidated_metadata is not None
        if not was_interrupted:
            break
    assert step >= 4


def test_tiles_do_not_disturb_each_other(store: Path) -> None:
    layouts = [_layout(2, 2, "T1"), _layout(1, 3, "T2")]
    for layout in layouts:
        create_cube(store, layout)
    for layout in reversed(layouts):
        for band, dn in _pixels(layout).items():
            write_band(store, layout, band, dn)
        write_reference_map(store, layout, _codes(layout))
    for layout in layouts:
        _assert_pixels(store, layout)


@pytest.mark.parametrize("shape", [(360, 239), (240, 360), (1, 1), (359, 240)])
def test_a_map_of_another_shape_is_refused(written: tuple[Path, CubeLayout], shape: tuple[int, ...]) -> None:
    store, layout = written
    with pytest.raises(ValueError, match="does not fill the shards of an array of shape"):
        write_reference_map(store, layout, np.ones(shape, np.uint16))
    codes = zarr.open_array(store / layout.group / "reference_map" / "reference_map", mode="r")
    assert (codes[:] == _codes(layout)).all()


@pytest.mark.parametrize("shape", [(359, 240), (360, 239), (1, 1), (240,), (1, 360, 240)])
def test_a_band_of_another_shape_is_refused(written: tuple[Path, CubeLayout], shape: tuple[int, ...]) -> None:
    store, layout = written
    with pytest.raises((ValueError, IndexError)):
        write_band(store, layout, "B02", np.ones(shape, np.uint16))
    _assert_pixels(store, layout)


@pytest.mark.parametrize("shards", [None, (2, 360, 360), (4, 360, 360)])
def test_a_band_that_does_not_own_its_shards_is_refused(
    written: tuple[Path, CubeLayout], shards: tuple[int, ...] | None
) -> None:
    store, layout = written
    place = store / layout.group / "r10m" / "dn"
    zarr.create_array(
        place, shape=(4, 360, 240), chunks=(1, 120, 120), shards=shards, dtype="uint16", zarr_format=3, overwrite=True
    )
    with pytest.raises(ValueError, match="is not a whole number of shards"):
        write_band(store, layout, "B02", np.ones((360, 240), np.uint16))
    assert not (zarr.open_array(place, mode="r")[:] != 0).any()


def _write_in_turns(store: Path, layout: CubeLayout, band: str, barrier: Any, rounds: int) -> None:
    for value in range(1, rounds + 1):
        dn = np.full([edge // 10 for edge in layout.grid.tile_m], value, np.uint16)
        dn[0, 0] = BANDS[10].index(band)
        barrier.wait(60)
        write_band(store, layout, band, dn)


@pytest.mark.slow
def test_processes_write_bands_of_one_array_at_the_same_time(store: Path) -> None:
    layout = _layout(14, 14)
    create_cube(store, layout)
    context = multiprocessing.get_context("spawn")
    bands, rounds = BANDS[10][:2], 3
    barrier = context.Barrier(len(bands))
    processes = [context.Process(target=_write_in_turns, args=(store, layout, band, barrier, rounds)) for band in bands]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    array = _array(store, layout, 10)
    for index in range(len(bands)):
        pixels = array[index]
        assert pixels[0, 0] == index
        pixels[0, 0] = rounds
        assert (pixels == rounds).all()


# How others open it


def test_opens_with_xarray_without_a_warning(written: tuple[Path, CubeLayout]) -> None:
    store, layout = written
    pixels = _pixels(layout)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xr.open_datatree(store, engine="zarr")
        groups = {resolution: xr.open_zarr(store, group=f"{layout.group}/{node}") for resolution, node in NODES.items()}
        alone = xr.open_datatree(store / layout.group, engine="zarr")
        codes = xr.open_zarr(store, group=f"{layout.group}/reference_map")
    for resolution, bands in BANDS.items():
        for dataset in (tree[f"{layout.group}/{NODES[resolution]}"], groups[resolution], alone[NODES[resolution]]):
            assert dataset["dn"].dims == ("band", "y", "x")
            assert dataset["dn"].dtype == np.uint16
            assert dataset["band"].values.tolist() == list(bands)
            height, width = layout.grid.shape_px_yx(resolution)
            for band in bands:
                assert (dataset["dn"].sel(band=band).values == pixels[band][:height, :width]).all()
    assert codes["reference_map"].dtype == np.uint16
    assert (codes["reference_map"].values == _codes(layout)).all()
    assert tree[layout.group].attrs["mgrs"] == "33UXU"


@pytest.mark.parametrize("node", [*NODES.values(), "reference_map"])
def test_lies_where_the_tile_does(written: tuple[Path, CubeLayout], node: str) -> None:
    store, layout = written
    resolution = {**{name: metres for metres, name in NODES.items()}, "reference_map": 10}[node]
    dataset = xr.open_zarr(store, group=f"{layout.group}/{node}")
    variable = dataset["reference_map" if node == "reference_map" else "dn"]
    for located in (dataset, variable):
        assert located.rio.crs.to_epsg() == 32633
        assert located.rio.transform()[:6] == (resolution, 0, 634_380, 0, -resolution, 5_840_280)
        assert located.rio.bounds() == (634_380, 5_840_280 - 3600, 634_380 + 2400, 5_840_280)
    assert "spatial_ref" in variable.coords
    assert variable.attrs["grid_mapping"] == "spatial_ref"
    assert dataset["x"].attrs["standard_name"] == "projection_x_coordinate"
    assert dataset["y"].attrs["standard_name"] == "projection_y_coordinate"


@pytest.mark.parametrize("node", [*NODES.values(), "reference_map"])
def test_attributes_of_geozarr(written: tuple[Path, CubeLayout], node: str) -> None:
    """As plain JSON: GDAL and tensorstore read no arrays of text, and the place also without CF."""
    store, layout = written
    resolution = {**{name: metres for metres, name in NODES.items()}, "reference_map": 10}[node]
    array = store / layout.group / node / ("dn" if node in NODES.values() else node)
    document = json.loads((array / "zarr.json").read_text())
    found = document["attributes"]
    assert found.get("band_names") == (list(BANDS[resolution]) if node in NODES.values() else None)
    assert [convention["name"] for convention in found["zarr_conventions"]] == ["proj", "spatial"]
    assert found["proj:code"] == "EPSG:32633"
    assert found["spatial:dimensions"] == document["dimension_names"][-2:] == ["y", "x"]
    assert found["spatial:transform"] == [resolution, 0, 634_380, 0, -resolution, 5_840_280]
    assert found["spatial:shape"] == document["shape"][-2:] == [3600 // resolution, 2400 // resolution]
    assert found["spatial:bbox"] == [634_380, 5_840_280 - 3600, 634_380 + 2400, 5_840_280]


def test_bands_are_in_the_order_of_esa(store: Path) -> None:
    layout = CubeLayout("T1", _layout().grid, by_resolution(PUBLISHED_BANDS), {}, POLARISATIONS)
    create_cube(store, layout)
    consolidate_store(store, 1)
    names = {node: zarr.open_array(store / "T1" / node, mode="r").attrs["band_names"] for node in ("r20m/dn", "s1/db")}
    assert names == {"r20m/dn": ["B05", "B06", "B07", "B8A", "B11", "B12"], "s1/db": ["VV", "VH"]}
    assert xr.open_zarr(store, group="T1/r20m")["band"].to_numpy().tolist() == names["r20m/dn"]


@pytest.mark.usefixtures("nothing_computes")
def test_opens_with_one_chunk_for_each_shard(store: Path) -> None:
    """A full tile has 7 x 7 shards of 13 x 13 patches in each band."""
    layout = CubeLayout("T1", PatchGrid(32633, 600_000, 5_900_040, ShapeYX(109_800, 109_800)), BANDS, {})
    create_cube(store, layout)
    consolidate_store(store, 1)
    for cube in (open_cubes(store)["T1"], open_cubes(store, "T1")):
        for resolution, bands in BANDS.items():
            dn = cube[NODES[resolution]]["dn"]
            assert dn.chunks == ((1,) * len(bands), *2 * [(13 * 1200 // resolution,) * 7])
        assert cube["reference_map"]["reference_map"].chunks == 2 * ((1560,) * 7,)
    with pytest.raises(InputError, match="T2 is not a group of a Zarr store"):
        open_cubes(store, "T2")


def test_a_part_is_copied_without_its_encoding(store: Path, tmp_path: Path) -> None:
    """With the encoding of the store, xarray refuses chunks that are not those of the shards."""
    layout = CubeLayout("T1", _layout(1, 14).grid, {60: ("B01",)}, {})
    create_cube(store, layout)
    write_band(store, layout, "B01", (dn := _random(layout, 60, 7)))
    part = open_cubes(store, "T1")["r60m"].to_dataset().isel(x=slice(20, None))
    with pytest.raises(ValueError, match="chunk"):
        part.to_zarr(tmp_path / "refused.zarr")
    # What is true of the whole array alone does not go with a part.
    assert [name for name in part["dn"].attrs if ":" in name or "conventions" in name] == []
    part.drop_encoding().to_zarr(tmp_path / "copy.zarr")
    assert (xr.open_zarr(tmp_path / "copy.zarr")["dn"][0].values == dn[:20, 20:280]).all()


@pytest.mark.parametrize("group", ["", "T1", "T1/r10m", "T1/reference_map"])
def test_metadata_is_consolidated_at_each_level(written: tuple[Path, CubeLayout], group: str) -> None:
    store, _ = written
    document = json.loads((store / group / "zarr.json").read_text())
    below = {
        str(path.parent.relative_to(store / group))
        for path in (store / group).rglob("zarr.json")
        if path.parent != store / group
    }
    assert set(document["consolidated_metadata"]["metadata"]) == below
