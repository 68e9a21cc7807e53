"""Writing a product: JPEG 2000 images and metadata in a ``.SAFE`` folder, or in a zip archive of one."""

from __future__ import annotations

import shutil
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.transform import from_origin

from reben_dask.demo.ground.layout import EPSG, Layout, Tile
from reben_dask.demo.ground.noise import SmoothNoise, Stream, random_stream
from reben_dask.demo.ground.spectra import BANDS
from reben_dask.demo.products.imaging import NODATA, Camera
from reben_dask.demo.products.manifest import write_manifest
from reben_dask.demo.products.product_xml import granule_metadata, product_metadata

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    import numpy.typing as npt

    from reben_dask.demo.products.acquisitions import Acquisition

DEAD_PIXEL_BAND = "B11"
DEAD_PIXEL_PATCHES_XY = ((2, 2), (5, 4), (6, 6))
"""Patches of which a single pixel is NODATA."""

_DEAD_PIXEL_OFFSETS_YX = ((17, 41), (52, 9), (30, 30))
_ZIP_TIME = (2024, 3, 1, 12, 0, 0)


def write_product(
    folder: Path,
    acquisition: Acquisition,
    camera: Camera,
    scl: npt.NDArray[np.uint8],
    layout: Layout,
    pool: Executor,
) -> Path:
    """Take the images of an acquisition and write its product.

    Parameters
    ----------
    folder : Path
        Folder of products.
    acquisition : Acquisition
        What the product is.
    camera : Camera
        Takes the bands.
    scl : ndarray of uint8, shape (y, x)
        Scene classification at 20 m.
    layout : Layout
        Gives the block sizes.
    pool : Executor
        Threads that take and encode bands.

    Returns
    -------
    Path
        The ``.SAFE`` folder, or the ``.zip`` file.
    """
    safe = folder / acquisition.product
    tile = acquisition.tile
    images = {acquisition.image(band, resolution): (band, resolution) for band, resolution in BANDS.items()}
    images[acquisition.image("SCL", 20)] = ("SCL", 20)
    if acquisition.aerosol:
        images[acquisition.image("AOT", 20)] = ("AOT", 20)
    for resolution in (10, 20, 60):
        (safe / f"GRANULE/{acquisition.granule}/IMG_DATA/R{resolution}m").mkdir(parents=True)

    def take(image: str) -> None:
        band, resolution = images[image]
        if band == "SCL":
            pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] = scl
        elif band == "AOT":
            pixels = _aerosol(layout, tile)
        else:
            pixels = camera.band(band)
            if acquisition.dead_pixels and band == DEAD_PIXEL_BAND:
                _kill_pixels(pixels, tile)
        write_jp2(safe / f"{image}.jp2", pixels, tile, resolution, layout.block_px[resolution])

    list(pool.map(take, images))
    (safe / "MTD_MSIL2A.xml").write_bytes(product_metadata(acquisition, sorted(images), scl))
    (safe / f"GRANULE/{acquisition.granule}/MTD_TL.xml").write_bytes(granule_metadata(acquisition, scl))
    write_manifest(safe)
    return _zip(safe) if acquisition.zipped else safe


def write_jp2(
    path: Path, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], tile: Tile, resolution: int, block_px: int
) -> None:
    """Write an image as lossless, georeferenced JPEG 2000.

    Parameters
    ----------
    path : Path
        File to write.
    pixels : ndarray, shape (y, x)
        The image, from the tile's upper-left corner.
    tile : Tile
        Where it lies.
    resolution : int
        Pixel size in metres.
    block_px : int
        Side of the blocks that can be decoded by themselves.
    """
    height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", height=height, width=width, count=1, dtype=pixels.dtype, crs=EPSG,
        transform=from_origin(tile.ulx, tile.uly, resolution, resolution), tiled=True,
        blockxsize=min(block_px, width), blockysize=min(block_px, height), QUALITY="100", REVERSIBLE="YES",
    ) as image:  # fmt: skip
        image.write(pixels, 1)


def _kill_pixels(pixels: npt.NDArray[np.uint16], tile: Tile) -> None:
    side = tile.grid.patch_px(BANDS[DEAD_PIXEL_BAND])
    for (x, y), (down, right) in zip(DEAD_PIXEL_PATCHES_XY, _DEAD_PIXEL_OFFSETS_YX, strict=True):
        pixels[y * side + down, x * side + right] = NODATA


def _aerosol(layout: Layout, tile: Tile) -> npt.NDArray[np.uint16]:
    """Aerosol optical thickness times 1000 at 20 m."""
    haze = SmoothNoise(random_stream(Stream.LAYOUT_X, 99), layout.region, 0.2 * layout.side_m)
    thickness = 140 + 12 * haze.sample(tile.eastings()[::2], tile.northings()[::2])
    return np.clip(np.rint(thickness), 50, 400).astype(np.uint16)


def _zip(safe: Path) -> Path:
    """Move a ``.SAFE`` folder into a zip archive; the images are compressed already."""
    archive = safe.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for file in sorted(path for path in safe.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(safe.parent).as_posix(), _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            with file.open("rb") as source, target.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    shutil.rmtree(safe)
    return archive
