"""An archive of many tiles without pixels: real folders and metadata files of realistic size, empty images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

BANDS = {
    10: ("B02", "B03", "B04", "B08"),
    20: ("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"),
    60: ("B01", "B09"),
}
EPSG = 32633
PLACES = 100
"""Different positions of tiles; products of the same position share a granule's metadata file."""

SIDE_M = 1_200
"""One patch: what is measured here does not depend on patches."""

_FIRST_DAY = datetime(2018, 1, 1, 10, 0, 0)  # noqa: DTZ001 - only a part of names
_ANGLES = "".join(f"<VALUES>{'55.1234 ' * 23}</VALUES>" for _ in range(2_300))
"""The grids of angles make up nearly all of a granule's metadata: half a megabyte in real products."""

_MASKS = "".join(f"<MASK_FILENAME>GRANULE/QI_DATA/MSK_QUALIT_{number:05}</MASK_FILENAME>" for number in range(700))


def make_archive(folder: Path, tiles: int) -> Path:
    """Write ``tiles`` products into ``folder``."""
    shared = folder / "shared"
    shared.mkdir(parents=True)
    for place in range(PLACES):
        (shared / f"{place}.xml").write_text(_granule_xml(*_corner(place)))
    products = folder / "products"
    for number in range(tiles):
        _product(products, number, shared)
    return products


def make_landcover(path: Path, polygons: int) -> Path:
    """Write a map of small squares over all places."""
    rng = np.random.default_rng(0)
    corners = np.array([_corner(place) for place in range(PLACES)])
    east = rng.uniform(corners[:, 0].min(), corners[:, 0].max() + SIDE_M, polygons)
    north = rng.uniform(corners[:, 1].min() - SIDE_M, corners[:, 1].max(), polygons)
    squares = shapely.box(east, north, east + 500, north + 500)
    codes = rng.choice(["112", "211", "231", "312"], polygons)
    gpd.GeoDataFrame({"Code_18": codes}, geometry=squares, crs=EPSG).to_file(path, layer="clc", engine="pyogrio")
    return path


def _corner(place: int) -> tuple[int, int]:
    return 300_000 + 60_000 * (place % 10), 5_400_000 + 60_000 * (place // 10)


def _product(folder: Path, number: int, shared: Path) -> None:
    time = (_FIRST_DAY + timedelta(seconds=60 * number)).strftime("%Y%m%dT%H%M%S")
    name = f"S2A_MSIL2A_{time}_N0500_R122_T33UXU_20240101T000000"
    granule = f"GRANULE/L2A_T33UXU_A012345_{time}"
    images = dict(_images(granule, time))
    safe = folder / f"{name}.SAFE"
    for image, resolution in images.items():
        place = safe / f"GRANULE/{Path(granule).name}/IMG_DATA/R{resolution}m"
        place.mkdir(parents=True, exist_ok=True)
        (safe / f"{image}.jp2").touch()
    os.link(shared / f"{number % PLACES}.xml", safe / granule / "MTD_TL.xml")
    (safe / "MTD_MSIL2A.xml").write_text(_product_xml(name, time, images))


def _images(granule: str, time: str) -> Iterator[tuple[str, int]]:
    for resolution, bands in BANDS.items():
        for band in bands:
            yield f"{granule}/IMG_DATA/R{resolution}m/T33UXU_{time}_{band}_{resolution}m", resolution


def _product_xml(name: str, time: str, images: dict[str, int]) -> str:
    start = datetime.strptime(time, "%Y%m%dT%H%M%S").isoformat()  # noqa: DTZ007
    files = "".join(f"<IMAGE_FILE>{image}</IMAGE_FILE>" for image in images)
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{band}">-1000</BOA_ADD_OFFSET>' for band in range(13))
    return (
        f"<Level-2A_User_Product><Product_Info><PRODUCT_START_TIME>{start}.000Z</PRODUCT_START_TIME>"
        f"<PRODUCT_URI>{name}.SAFE</PRODUCT_URI><PROCESSING_BASELINE>05.00</PROCESSING_BASELINE>"
        f'<Granule imageFormat="JPEG2000">{files}</Granule></Product_Info>{offsets}{_MASKS}'
        '<quality_check checkType="GENERAL_QUALITY">PASSED</quality_check></Level-2A_User_Product>'
    )


def _granule_xml(ulx: int, uly: int) -> str:
    sizes = "".join(
        f'<Size resolution="{resolution}"><NROWS>{SIDE_M // resolution}</NROWS><NCOLS>{SIDE_M // resolution}</NCOLS>'
        f'</Size><Geoposition resolution="{resolution}"><ULX>{ulx}</ULX><ULY>{uly}</ULY></Geoposition>'
        for resolution in BANDS
    )
    return (
        f"<Level-2A_Tile_ID><Tile_Geocoding><HORIZONTAL_CS_CODE>EPSG:{EPSG}</HORIZONTAL_CS_CODE>{sizes}"
        f"</Tile_Geocoding><Tile_Angles>{_ANGLES}</Tile_Angles></Level-2A_Tile_ID>"
    )
