"""Sentinel-1 patches of the demo, in BigEarthNet's layout: two small GeoTIFFs for each Sentinel-2 patch."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.transform import from_origin

from reben_dask.demo.surface import HALO, SEASONS, VARIANTS, Surface, column
from reben_dask.demo.terrain import EPSG, PIXEL_M, Centres, Field, Grain
from reben_dask.formats.names import PatchName

if TYPE_CHECKING:
    from reben_dask.demo.products import Acquisition

_POLARISATIONS = ("VV", "VH")
_STEPS_PER_DB = 16
_SPECKLE_DB, _FIELD_DB, _SLOPE_DB, _WINTER_DB = 1.3, 0.9, 7.0, -0.8


def write_partners(folder: Path, acquisition: Acquisition, surface: Surface, pool: Executor) -> list[dict[str, str]]:
    """Write two files for each complete patch of an acquisition with a Sentinel-1 scene; return the pairs of names."""
    scene, grid = acquisition.sentinel1, acquisition.tile.grid
    if scene is None:
        return []
    speckle = Grain("speckle", blur_px=0.55)
    cut = {p: grid.blocks(_backscatter(surface, acquisition.season, p, speckle), PIXEL_M) for p in _POLARISATIONS}
    pairs, files = [], []
    for x, y, (west, _, _, north) in zip(*grid.indices_xy(), grid.bounds().tolist(), strict=True):
        if (x, y) == acquisition.unpaired_xy:
            continue
        name = str(PatchName(f"{scene}_{acquisition.tile.mgrs}", x, y))
        pairs.append({"s2_name": str(PatchName(acquisition.tile_name, x, y, grid.digits)), "s1_name": name})
        (folder / scene / name).mkdir(parents=True)
        files += [(folder / scene / name / f"{name}_{p}.tif", cut[p][y, x], west, north) for p in _POLARISATIONS]
    list(pool.map(_write_tiff, *zip(*files, strict=True)))
    return pairs


def _backscatter(surface: Surface, season: str, polarisation: str, speckle: Grain) -> Field:
    """Gamma nought in dB on the tile's 10 m grid, in steps of 1/16 dB so that files stay small."""
    inner = (slice(HALO, -HALO), slice(HALO, -HALO))
    material, slope = surface.material[inner], surface.slope[inner].astype(np.float32)
    variant = (material % VARIANTS).astype(np.float32) / VARIANTS - 0.5
    values = column(f"{polarisation.lower()}_db")[material // VARIANTS] + 2 * _FIELD_DB * variant
    values += np.clip(_SLOPE_DB * slope, -4, 4) + (_WINTER_DB if season == "winter" else 0)
    number = 1 + _POLARISATIONS.index(polarisation) + 2 * SEASONS.index(season)
    noise = speckle.sample(Centres.of(surface.tile.box), (211 * number, 83 * number))
    # The distribution of speckle in dB is skewed to low values.
    values += _SPECKLE_DB * (noise - 0.12 * (noise**2 - 1))
    return (np.rint(values * _STEPS_PER_DB) / _STEPS_PER_DB).astype(np.float32)


def _write_tiff(path: Path, pixels: Field, west: int, north: int) -> None:
    height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=pixels.dtype, crs=EPSG,
        transform=from_origin(west, north, PIXEL_M, PIXEL_M), compress="deflate", predictor=3, zlevel=9,
        blockysize=height,
    ) as image:  # fmt: skip
        image.write(pixels, 1)
