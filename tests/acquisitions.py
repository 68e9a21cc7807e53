"""More acquisitions of a tile, made from one of the demo region: another day, another sky."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

CELL_PX = 30
"""SCL pixels along half a patch: patches of both grids are made of whole cells."""

CLEAR, SHADOW, SNOW, CLOUDS = 4, 3, 11, (8, 9, 10)


def acquire_again(
    product: Path,
    folder: Path,
    start: datetime,
    *,
    platform: str = "S2A",
    baseline: str | None = None,
    scl: NDArray[np.uint8] | None = None,
) -> Path:
    """Copy a product as if its tile had been seen again.

    Parameters
    ----------
    product : Path
        A ``.SAFE`` folder.
    folder : Path
        Where the copy goes.
    start : datetime
        When the tile was seen, UTC, in whole seconds.
    platform : str
        ``S2A`` or ``S2B``.
    baseline : str, optional
        Another processing baseline in the name, such as ``N0206``.
    scl : ndarray of uint8, shape (y, x), optional
        The scene classification; without it, the copy has none.

    Returns
    -------
    Path
        The copy. Its pixels of B01 are larger by the day of the year, so that no two copies are alike.
    """
    _, level, _, old_baseline, orbit, tile, made = product.name.split("_")
    name = "_".join([platform, level, f"{start:%Y%m%dT%H%M%S}", baseline or old_baseline, orbit, tile, made])
    copy = folder / name
    # Its checksums are those of the first acquisition.
    without_checksums = shutil.ignore_patterns("manifest.safe")
    shutil.copytree(product, copy, copy_function=shutil.copyfile, ignore=without_checksums)
    _rewrite(copy, "B01_60m", lambda dn: np.where(dn == 0, 0, dn + start.timetuple().tm_yday))
    xml = (copy / "MTD_MSIL2A.xml").read_text(encoding="utf-8").replace(product.name, name)
    xml = re.sub(r"(<PRODUCT_START_TIME>)[^<]+", rf"\g<1>{start:%Y-%m-%dT%H:%M:%S}.024Z", xml)
    if scl is None:
        next(copy.rglob("*_SCL_20m.jp2")).unlink()
        xml = re.sub(r"\s*<IMAGE_FILE>[^<]*_SCL_20m</IMAGE_FILE>", "", xml)
    else:
        _rewrite(copy, "SCL_20m", lambda _: scl)
    (copy / "MTD_MSIL2A.xml").write_text(xml, encoding="utf-8")
    return copy


class Place(NamedTuple):
    """Position of a tile: its MGRS name, system, and upper-left corner in whole metres."""

    mgrs: str
    epsg: int
    ulx: int
    uly: int


def acquire_elsewhere(product: Path, folder: Path, place: Place, side_px: int, images: Sequence[str]) -> Path:
    """Copy the upper-left part of a product as if it were that of another tile, in another system.

    Parameters
    ----------
    product : Path
        A ``.SAFE`` folder.
    folder : Path
        Where the copy goes.
    place : Place
        The other tile.
    side_px : int
        Side of the copy in pixels of 10 m, a multiple of 6.
    images : sequence of str
        Images that it has, such as ``B01_60m``.

    Returns
    -------
    Path
        The copy.
    """
    old = product.name.split("_T")[1][:5]
    copy = folder / product.name.replace(old, place.mgrs)
    for path in sorted(product.rglob("*")):
        target = folder / str(path.relative_to(product.parent)).replace(old, place.mgrs)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".xml":
            target.write_text(_moved(path.read_text(encoding="utf-8"), old, place, side_px), encoding="utf-8")
        elif path.stem.endswith(tuple(images)):
            with rasterio.open(path) as source:
                resolution = round(source.res[0])
                pixels, profile = source.read(1), source.profile
            side = side_px * 10 // resolution
            profile |= {"height": side, "width": side, "crs": f"EPSG:{place.epsg}"}
            profile |= {"transform": from_origin(place.ulx, place.uly, resolution, resolution)}
            _write(target, pixels[:side, :side], profile)
    return copy


def _moved(xml: str, old: str, place: Place, side_px: int) -> str:
    xml = xml.replace(old, place.mgrs)
    xml = re.sub(r"(<HORIZONTAL_CS_CODE>)[^<]+", rf"\g<1>EPSG:{place.epsg}", xml)
    for corner in ("ULX", "ULY"):
        xml = re.sub(rf"(<{corner}>)[^<]+", rf"\g<1>{getattr(place, corner.lower())}", xml)
    for resolution in (10, 20, 60):
        size = rf'(<Size resolution="{resolution}">\s*<NROWS>)\d+(</NROWS>\s*<NCOLS>)\d+'
        side = side_px * 10 // resolution
        xml = re.sub(size, rf"\g<1>{side}\g<2>{side}", xml)
    return xml


def sky(side_px: int, seed: int, snow: Sequence[int], cloud: Sequence[int], shadow: Sequence[int]) -> NDArray[np.uint8]:
    """A scene classification in which each half patch has one of a few numbers of snow, cloud and shadow pixels.

    With few numbers, many patches have exactly as much as a limit allows, and many images of a place are equally clear.
    """
    random = np.random.default_rng(seed)
    scl = np.full((side_px, side_px), CLEAR, np.uint8)
    for top in range(0, side_px, CELL_PX):
        for left in range(0, side_px, CELL_PX):
            values = [SNOW] * random.choice(snow)
            values += np.resize(CLOUDS, random.choice(cloud)).tolist()
            values += [SHADOW] * random.choice(shadow)
            cell = scl[top : top + CELL_PX, left : left + CELL_PX]
            cell.flat[: len(values)] = values[: cell.size]
    return scl


def _rewrite(product: Path, image: str, change: object) -> None:
    """Give an image of a product other pixels, without loss."""
    path = next(product.rglob(f"*_{image}.jp2"))
    with rasterio.open(path) as source:
        pixels, profile = source.read(1), source.profile
    path.unlink()
    _write(path, change(pixels), profile)  # type: ignore[operator]


def _write(path: Path, pixels: NDArray[Any], profile: Mapping[str, Any]) -> None:
    keep = {key: profile[key] for key in ("height", "width", "count", "dtype", "crs", "transform")}
    blocks = {"tiled": True, "blockxsize": min(512, profile["width"]), "blockysize": min(512, profile["height"])}
    with rasterio.open(path, "w", driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES", **keep, **blocks) as target:
        target.write(pixels.astype(profile["dtype"]), 1)
