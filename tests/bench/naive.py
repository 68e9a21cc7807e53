"""The way a user would write it: a window for each patch and band, a rasterisation for each patch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import geopandas as gpd
import lmdb
import numpy as np
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.windows import Window
from safetensors.numpy import save

from reben_dask.formats.bands import BAND_RESOLUTION_M
from reben_dask.job.plan import Plan

PATCH_PX = 120
FILL = 999


def sample_of(plan: Plan, patches: int, seed: int = 0) -> list[tuple[int, int]]:
    """Column and row of some patches of the plan's first tile, chosen at random."""
    x, y = plan.grids(plan.usable[0])[0].indices_xy()
    chosen = np.random.default_rng(seed).choice(len(x), min(patches, len(x)), replace=False)
    return [(int(x[number]), int(y[number])) for number in chosen]


def decode_windows(plan: Plan, sample: Sequence[tuple[int, int]]) -> None:
    """Read each band of each patch from its file, opened anew."""
    for x, y in sample:
        dict(_windows(plan, x, y))


def windows_to_lmdb(plan: Plan, sample: Sequence[tuple[int, int]], folder: Path) -> None:
    """Read each patch from its files and write it to an LMDB."""
    with lmdb.open(str(folder), map_size=2**32) as environment, environment.begin(write=True) as transaction:
        for x, y in sample:
            transaction.put(f"{x}_{y}".encode(), save(dict(_windows(plan, x, y))))


def rasterize_patches(plan: Plan, sample: Sequence[tuple[int, int]]) -> None:
    """Burn the polygons near each patch into its own map, and list the codes; the map is read once."""
    polygons = polygons_in_tile_system(plan)
    for x, y in sample:
        np.unique(rasterize_patch(polygons, bounds_of(plan, x, y)))


def polygons_in_tile_system(plan: Plan) -> gpd.GeoDataFrame:
    """The plan's map as GeoPandas reads it, with an integer ``code``, in the system of the first tile."""
    table = gpd.read_file(plan.landcover.path)
    column = next(name for name in table.columns if name.lower() == "code_18")
    return table[["geometry"]].assign(code=table[column].astype(int)).to_crs(plan.usable[0].epsg)


def rasterize_patch(polygons: gpd.GeoDataFrame, bounds: Sequence[float], *, clipped: bool = False) -> np.ndarray:
    """Map of one patch, shape ``(120, 120)``; later polygons win."""
    minx, _, _, maxy = bounds
    box = shapely.box(*bounds)
    near = polygons.iloc[np.sort(polygons.sindex.query(box, predicate="intersects"))]
    geometry = near.geometry.intersection(box) if clipped else near.geometry
    shapes = [(shape, code) for shape, code in zip(geometry, near["code"], strict=True) if shape.area]
    if not shapes:
        return np.full((PATCH_PX, PATCH_PX), FILL, np.uint16)
    transform = from_origin(minx, maxy, 10, 10)
    return rasterize(shapes, (PATCH_PX, PATCH_PX), fill=FILL, transform=transform, dtype="uint16")


def bounds_of(plan: Plan, x: int, y: int) -> tuple[int, int, int, int]:
    """Bounds in metres of a patch of the first tile."""
    tile, side = plan.usable[0], plan.recipe.patch_size_m
    return tile.ulx + x * side, tile.uly - (y + 1) * side, tile.ulx + (x + 1) * side, tile.uly - y * side


def _windows(plan: Plan, x: int, y: int) -> Iterator[tuple[str, np.ndarray]]:
    tile = plan.usable[0]
    for band in plan.recipe.bands:
        side = plan.recipe.patch_size_m // BAND_RESOLUTION_M[band]
        with rasterio.open(tile.images[band].location) as dataset:
            yield band, dataset.read(1, window=Window(x * side, y * side, side, side))
