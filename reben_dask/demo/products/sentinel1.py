"""Sentinel-1 patches in the way of BigEarthNet: two small GeoTIFFs for each Sentinel-2 patch, and a table of pairs."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import from_origin

from reben_dask.demo.ground.layout import EPSG, PIXEL_M
from reben_dask.demo.ground.noise import Grain, Stream
from reben_dask.demo.ground.spectra import SEASONS, VARIANTS, column
from reben_dask.demo.ground.surface import HALO
from reben_dask.formats.names import PatchName

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Executor
    from pathlib import Path

    from reben_dask.demo.ground.noise import Field
    from reben_dask.demo.ground.surface import Surface
    from reben_dask.demo.products.acquisitions import Acquisition

POLARISATIONS = ("VV", "VH")

_STEPS_PER_DB = 16
_SPECKLE_DB, _FIELD_DB, _SLOPE_DB, _WINTER_DB = 1.3, 0.9, 7.0, -0.8


class Pair(NamedTuple):
    """Names of a Sentinel-2 patch and of its Sentinel-1 partner."""

    s2_name: str
    s1_name: str


def write_partners(folder: Path, acquisition: Acquisition, surface: Surface, pool: Executor) -> list[Pair]:
    """Write a pair of files for each complete patch of an acquisition.

    Parameters
    ----------
    folder : Path
        Folder of scenes.
    acquisition : Acquisition
        The Sentinel-2 acquisition, which names its Sentinel-1 scene, and the patch without a partner.
    surface : Surface
        The ground of its tile.
    pool : Executor
        Threads that write.

    Returns
    -------
    list of Pair
        In the order of the names.
    """
    scene = acquisition.sentinel1
    if scene is None:
        return []
    grid, speckle = acquisition.tile.grid, Grain(Stream.SPECKLE, blur_px=0.55)
    cut = {p: grid.blocks(backscatter(surface, acquisition.season, p, speckle), PIXEL_M) for p in POLARISATIONS}
    columns, rows = grid.indices_xy()
    pairs = []
    files: list[tuple[Path, Field, int, int]] = []
    for x, y, (west, _, _, north) in zip(columns.tolist(), rows.tolist(), grid.bounds().tolist(), strict=True):
        if (x, y) == acquisition.unpaired_xy:
            continue
        name = str(PatchName(f"{scene}_{acquisition.tile.mgrs}", x, y))
        pairs.append(Pair(str(PatchName(acquisition.tile_name, x, y, grid.digits)), name))
        (folder / scene / name).mkdir(parents=True)
        files += [(folder / scene / name / f"{name}_{p}.tif", cut[p][y, x], west, north) for p in POLARISATIONS]
    list(pool.map(lambda file: _write_tiff(*file), files))
    return pairs


def backscatter(surface: Surface, season: str, polarisation: str, speckle: Grain) -> Field:
    """Return the backscatter of a tile.

    Parameters
    ----------
    surface : Surface
        The ground.
    season : str
        Dry vegetation scatters less in winter.
    polarisation : str
        ``VV`` or ``VH``.
    speckle : Grain
        Noise of coherent radar.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Gamma nought in dB on the tile's 10 m grid, in steps of 1/16 dB so that files stay small.
    """
    inner = (slice(HALO, -HALO), slice(HALO, -HALO))
    material, slope = surface.material[inner], surface.slope[inner].astype(np.float32)
    variant = (material % VARIANTS).astype(np.float32) / VARIANTS - 0.5
    values = column(f"{polarisation.lower()}_db")[material // VARIANTS] + 2 * _FIELD_DB * variant
    values += np.clip(_SLOPE_DB * slope, -4, 4) + (_WINTER_DB if season == "winter" else 0)
    number = 1 + POLARISATIONS.index(polarisation) + 2 * SEASONS.index(season)
    noise = speckle.sample(surface.eastings[inner[1]], surface.northings[inner[0]], (211 * number, 83 * number))
    # Low values of speckle are lower than high values are high.
    values += np.float32(_SPECKLE_DB) * (noise - np.float32(0.12) * (noise**2 - 1))
    return (np.rint(values * _STEPS_PER_DB) / _STEPS_PER_DB).astype(np.float32)


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write the table of pairs as CSV with a header, ordered by the Sentinel-2 name."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Pair._fields)
        writer.writerows(sorted(pairs))


def _write_tiff(path: Path, pixels: npt.NDArray[np.float32], west: int, north: int) -> None:
    height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=pixels.dtype, crs=EPSG,
        transform=from_origin(west, north, PIXEL_M, PIXEL_M), compress="deflate", predictor=3, zlevel=9,
        blockysize=height,
    ) as image:  # fmt: skip
        image.write(pixels, 1)
