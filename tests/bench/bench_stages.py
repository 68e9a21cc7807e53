"""CPU seconds of each stage of a tile beside the way a user would write it: ``make bench``.

Both sides run in this process, one after the other, on the same product of the demo region, so that the ratios hold
whatever the machine is doing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time

import geopandas as gpd
import lmdb
import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.windows import Window
from safetensors.numpy import save

from reben_dask.demo import make_demo_region
from reben_dask.job.plan import Plan, make_plan
from reben_dask.job.tasks import ingest_band, label_tile, make_cube
from reben_dask.patches.frame import candidate_frame
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import read_sorted_landcover, sort_landcover
from reben_dask.sources.sentinel2 import BAND_RESOLUTION_M, Tile, read_band
from reben_dask.stores.lmdb_export import TileRange, write_environment
from reben_dask.stores.patch_table import write_part

REPEATS = 3


def main() -> None:
    """Make the demo region, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        region = make_demo_region(Path(folder) / "region")
        plan = make_plan(s2=[str(region.s2)], landcover=str(region.landcover), recipe=load_recipe("reben"))
        tile = plan.usable[0]
        print(f"{tile.name}: {plan.grid(tile).size} patches, best of {REPEATS}, CPU seconds of one process\n")
        print(f"{'stage':<34}{'here':>9}{'baseline':>10}{'ratio':>8}   baseline")
        for row in _stages(plan, tile, Path(folder)):
            print(row)
            sys.stdout.flush()


def _stages(plan: Plan, tile: Tile, folder: Path) -> Iterator[str]:
    layout, store, bands = plan.layout(tile), folder / "cubes.zarr", plan.recipe.bands
    make_cube(store, layout)
    sort_landcover(plan.landcover, folder / "map", known_codes=plan.nomenclature.codes)
    polygons = read_sorted_landcover(folder / "map").compute(scheduler="synchronous")

    yield _compare(
        "bands to Zarr, NODATA",
        lambda: [ingest_band(tile, band, store, layout, harmonized=False) for band in bands],
        lambda: [read_band(tile, band) for band in bands],
        "decoding the 12 bands, nothing else",
    )
    yield _compare(
        "reference map, labels",
        lambda: label_tile(store, layout, plan.nomenclature, [polygons]),
        lambda: _rasterize_each_patch(plan, tile, polygons),
        "rasterising each patch by itself",
    )
    part = _all_kept(plan, tile, folder / "table")
    ranges = [TileRange(part, 0, plan.grid(tile).size)]
    yield _compare(
        "LMDB from Zarr",
        lambda: _fresh(folder, lambda path: write_environment(path, ranges, store)),
        lambda: _fresh(folder, lambda path: _windows_to_lmdb(plan, tile, path)),
        "a JP2 window for each patch and band",
    )


def _compare(stage: str, here: Callable[[], object], baseline: Callable[[], object], meaning: str) -> str:
    ours, theirs = [], []
    for _ in range(REPEATS):
        ours.append(_cpu(here))
        theirs.append(_cpu(baseline))
    ratio = min(ours) / min(theirs)
    return f"{stage:<34}{min(ours):>9.3f}{min(theirs):>10.3f}{ratio:>8.2f}   {meaning}"


def _cpu(action: Callable[[], object]) -> float:
    start = process_time()
    action()
    return process_time() - start


def _fresh(folder: Path, action: Callable[[Path], object]) -> None:
    with _scratch(folder) as path:
        action(path)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        yield Path(scratch)


def _all_kept(plan: Plan, tile: Tile, table: Path) -> Path:
    patches = candidate_frame([plan.scene(tile)], plan.recipe).compute(scheduler="synchronous")
    return write_part(patches.assign(status="kept"), table, plan.nomenclature.classes)


def _rasterize_each_patch(plan: Plan, tile: Tile, polygons: gpd.GeoDataFrame) -> None:
    placed = polygons.to_crs(tile.epsg)
    for minx, miny, maxx, maxy in plan.grid(tile).bounds():
        near = placed.cx[minx:maxx, miny:maxy]
        shapes = list(zip(near.geometry, near["code"].astype(int), strict=True))
        if shapes:
            np.unique(rasterize(shapes, (120, 120), fill=999, transform=from_origin(minx, maxy, 10, 10)))


def _windows_to_lmdb(plan: Plan, tile: Tile, path: Path) -> None:
    with lmdb.open(str(path), map_size=2**30).begin(write=True) as transaction:
        for x, y in zip(*plan.grid(tile).indices_xy(), strict=True):
            transaction.put(f"{x}_{y}".encode(), save(dict(_windows(plan, tile, x, y))))


def _windows(plan: Plan, tile: Tile, x: int, y: int) -> Iterator[tuple[str, np.ndarray]]:
    for band in plan.recipe.bands:
        side = plan.grid(tile).patch_px(BAND_RESOLUTION_M[band])
        with rasterio.open(tile.images[band]) as dataset:
            yield band, dataset.read(1, window=Window(x * side, y * side, side, side))


if __name__ == "__main__":
    main()
