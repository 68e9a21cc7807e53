"""Products in other forms, written from a ``.SAFE`` folder with rasterio, zarr and regular expressions alone.

The layouts are those of ESA's samples of EOPF Zarr and of public STAC catalogues.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr
from numcodecs import Blosc

BANDS = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20),
    **dict.fromkeys(("B01", "B09"), 60),
}
IMAGES = {**BANDS, "SCL": 20}
CHUNK_PX = {10: 1830, 20: 915, 60: 305}
EARTH_SEARCH = {
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B08": "nir",
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
    "B8A": "nir08",
    "B11": "swir16",
    "B12": "swir22",
    "B01": "coastal",
    "B09": "nir09",
    "SCL": "scl",
}
PLANETARY_COMPUTER = dict(zip(IMAGES, IMAGES, strict=True))
COPERNICUS = {image: f"{image}_{resolution}m" for image, resolution in IMAGES.items()}


@dataclass(frozen=True)
class Safe:
    """Facts about a ``.SAFE`` folder."""

    path: Path

    @property
    def xml(self) -> str:
        return (self.path / "MTD_MSIL2A.xml").read_text(encoding="utf-8")

    def text(self, element: str) -> str:
        found = re.search(rf"<{element}>([^<]*)<", self.xml)
        assert found, element
        return found[1]

    @property
    def product(self) -> str:
        return self.text("PRODUCT_URI")

    @property
    def offset(self) -> int | None:
        found = re.search(r"<BOA_ADD_OFFSET[^>]*>(-?\d+)<", self.xml)
        return int(found[1]) if found else None

    def image(self, image: str) -> Path:
        return next(self.path.rglob(f"*_{image}_{IMAGES[image]}m.*"))

    def pixels(self, image: str) -> tuple[np.ndarray, dict[str, Any]]:
        return _decoded(self.image(image))


@lru_cache(maxsize=64)
def _decoded(image: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with rasterio.open(image) as dataset:
        return dataset.read(1), {"transform": dataset.transform, "crs": dataset.crs}


def write_eopf(
    safe: Path,
    folder: Path,
    *,
    properties: Mapping[str, object] | None = None,
    other: Mapping[str, object] | None = None,
    chunk_px: Mapping[int, int] = CHUNK_PX,
) -> Path:
    """Write a product as EOPF Zarr: Zarr v2, consolidated; gives the folder of the store.

    Offsets are in the attributes of the arrays, and only if the product has any.
    """
    source, store = Safe(safe), folder / f"{safe.stem}.zarr"
    dn, placed = source.pixels("B02")
    left, top = placed["transform"].c, placed["transform"].f
    epsg = placed["crs"].to_epsg()
    stated = {
        "datetime": source.text("PRODUCT_START_TIME"),
        "start_datetime": source.text("PRODUCT_START_TIME"),
        "platform": f"sentinel-{safe.name[1:3].lower()}",
        "processing:version": source.text("PROCESSING_BASELINE"),
        "proj:code": f"EPSG:{epsg}",
        "proj:bbox": [left, top - 10 * dn.shape[0], left + 10 * dn.shape[1], top],
    }
    attributes = {
        "stac_discovery": {"id": source.product, "type": "Feature", "properties": {**stated, **(properties or {})}},
        "other_metadata": {"horizontal_crs_code": f"EPSG:{epsg}", **(other or {})},
    }
    root = zarr.create_group(store, zarr_format=2, attributes=attributes)
    for image, resolution in IMAGES.items():
        pixels, _ = source.pixels(image)
        side, node = chunk_px[resolution], f"measurements/reflectance/r{resolution}m"
        described: dict[str, Any] = {"_ARRAY_DIMENSIONS": ["y", "x"], "scale_factor": 0.0001}
        if image == "SCL":
            node, described = "conditions/mask/l2a_classification/r20m", {"_ARRAY_DIMENSIONS": ["y", "x"]}
        elif source.offset is not None:
            described["add_offset"] = source.offset / 10_000
        array = root.create_array(
            f"{node}/{image.lower()}",
            shape=pixels.shape,
            dtype=pixels.dtype,
            chunks=(side, side),
            compressors=Blosc("zstd", 3, Blosc.BITSHUFFLE),
            fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            attributes=described,
        )
        array[...] = pixels
        sides = {"x": (left, resolution, pixels.shape[1]), "y": (top, -resolution, pixels.shape[0])}
        for axis, (first, step, length) in sides.items():
            if not (store / node / axis).exists():
                centres = (first + step * (np.arange(length) + 0.5)).astype("int64")
                named = {"_ARRAY_DIMENSIONS": [axis]}
                root.create_array(f"{node}/{axis}", data=centres, chunks=(length,), attributes=named)
    zarr.consolidate_metadata(store, zarr_format=2)
    return store


def zip_folder(folder: Path, destination: Path, root: str = "") -> Path:
    """Zip a folder, uncompressed, below ``root``."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, f"{root}{file.relative_to(folder)}")
    return destination


def write_cogs(
    safe: Path,
    folder: Path,
    *,
    assets: Mapping[str, str] = EARTH_SEARCH,
    offset_key: str | None = "raster:bands",
    product_metadata: str | None = None,
    properties: Mapping[str, object] | None = None,
    **item: object,
) -> Path:
    """Write the images of a product as cloud-optimized GeoTIFFs with a STAC item beside them; gives the item.

    ``assets`` are the names of the assets; ``offset_key`` tells where offsets are stated, if the product has any;
    ``product_metadata`` is the name of the asset that is the product's metadata.
    """
    source, images = Safe(safe), folder / safe.stem
    images.mkdir(parents=True)
    described: dict[str, Any] = {}
    for image, name in assets.items():
        pixels, placed = source.pixels(image)
        file = images / f"{image}.tif"
        with rasterio.open(
            file, "w", driver="COG", height=pixels.shape[0], width=pixels.shape[1], count=1, dtype=pixels.dtype,
            nodata=0, compress="deflate", predictor="YES", blocksize=512, **placed,
        ) as dataset:  # fmt: skip
            dataset.write(pixels, 1)
        transform = placed["transform"]
        described[name] = {
            "href": f"./{safe.stem}/{image}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "proj:shape": list(pixels.shape),
            "proj:transform": list(transform)[:6],
        }
        if offset_key and image != "SCL" and source.offset is not None:
            band = {"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": source.offset / 10_000}
            described[name][offset_key] = [band]
    if product_metadata:
        shutil.copyfile(safe / "MTD_MSIL2A.xml", images / "MTD_MSIL2A.xml")
        described[product_metadata] = {"href": f"./{safe.stem}/MTD_MSIL2A.xml", "type": "application/xml"}
    stated = {
        "datetime": source.text("PRODUCT_START_TIME"),
        "platform": f"sentinel-{safe.name[1:3].lower()}",
        "s2:product_uri": source.product,
        "s2:processing_baseline": source.text("PROCESSING_BASELINE"),
        "proj:epsg": placed["crs"].to_epsg(),
    }
    content = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2B_33UXU_20180507_0_L2A",
        "geometry": None,
        "links": [],
        "properties": {**stated, **(properties or {})},
        "assets": described,
        **item,
    }
    path = folder / f"{safe.stem}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def with_offsets(safe: Path, folder: Path, offset: int = -1000) -> Path:
    """Copy a product whose metadata state an offset of each of the 13 bands; pixels stay."""
    copy = folder / safe.name
    shutil.copytree(safe, copy, copy_function=shutil.copyfile)
    stated = "".join(f'<BOA_ADD_OFFSET band_id="{number}">{offset}</BOA_ADD_OFFSET>' for number in range(13))
    path, end = copy / "MTD_MSIL2A.xml", "</Product_Image_Characteristics>"
    text = path.read_text(encoding="utf-8")
    assert end in text
    path.write_text(text.replace(end, f"{stated}{end}"), encoding="utf-8")
    return copy


def write_l1c(safe: Path, folder: Path) -> Path:
    """Write a product as the L1C product that it was made from, with its pixels: 13 bands, no scene classification.

    B10 is B09 plus 7. Images have no resolution in their names, and offsets another element.
    """
    source = Safe(safe)
    product = folder / safe.name.replace("MSIL2A", "MSIL1C")
    (tile_file,) = safe.glob("GRANULE/*/MTD_TL.xml")
    granule = f"GRANULE/{tile_file.parent.name.replace('L2A_', 'L1C_')}"
    (product / granule / "IMG_DATA").mkdir(parents=True)
    shutil.copyfile(tile_file, product / granule / "MTD_TL.xml")
    names = {}
    for band in (*BANDS, "B10"):
        image = source.image("B09" if band == "B10" else band)
        names[band] = f"{granule}/IMG_DATA/{image.stem.rpartition('_')[0][:-3]}{band}"
        target = product / f"{names[band]}{image.suffix}"
        if band != "B10":
            shutil.copyfile(image, target)
            continue
        with rasterio.open(image) as dataset:
            pixels, profile = dataset.read(1), {**dataset.profile, "QUALITY": "100", "REVERSIBLE": "YES"}
        with rasterio.open(target, "w", **profile) as dataset:
            dataset.write(np.where(pixels == 0, 0, pixels + 7).astype(pixels.dtype), 1)
    xml = re.sub(r"\s*<IMAGE_FILE>[^<]*</IMAGE_FILE>", "", source.xml)
    listed = "".join(f"<IMAGE_FILE>{name}</IMAGE_FILE>" for name in (*names.values(), names["B02"][:-3] + "TCI"))
    xml = re.sub("(<Granule [^>]*>)", rf"\g<1>{listed}", xml)
    for old, new in (("MSIL2A", "MSIL1C"), ("Level-2A", "Level-1C"), ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")):
        xml = xml.replace(old, new)
    (product / "MTD_MSIL1C.xml").write_text(xml, encoding="utf-8")
    return product
