"""Readers of foreign files, each as a function of one damaged file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import geopandas
import pandas as pd
import shapely

from reben_dask.formats.names import parse_patch_name
from reben_dask.nomenclature import load_nomenclature
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import open_landcover, sort_landcover
from reben_dask.sources.published.lists import read_names
from reben_dask.sources.published.metadata import read_metadata, require_metadata
from reben_dask.sources.published.pairs import read_pairs
from reben_dask.sources.published.tiff import decode_image
from reben_dask.sources.sentinel1 import find_scenes
from reben_dask.sources.sentinel2 import read_band, read_tile, search_products
from reben_dask.sources.sentinel2.metadata import parse_geocoding, parse_manifest, parse_product_metadata
from reben_dask.sources.vector_layers import open_countries, read_countries
from reben_dask.workspace import Output

Reader = Callable[[bytes, Path], object]
"""Reads a damaged file; the folder is empty, and for the reader alone."""


def _written(content: bytes, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="surrogateescape")


def _zip(content: bytes, folder: Path) -> object:
    tile = read_tile(_written(content, folder / "S2A_MSIL2A_x.zip"))
    for image in tile.images:
        tile.require_intact(image)
    return tile


def _map(content: bytes, folder: Path) -> object:
    source = open_landcover(str(_written(content, folder / "map.gpkg")))
    return sort_landcover(source, folder / "sorted.parquet")


def _shapes(content: bytes, folder: Path) -> object:
    """A map whose geometries are damaged, not its file."""
    codes = pd.Series(["111", "112", "211"] * 4, name="code")
    whole = [content[start : start + 93] for start in range(0, 12 * 93, 93)]
    shapes = shapely.from_wkb(whole, on_invalid="ignore")
    frame = geopandas.GeoDataFrame({"code": codes}, geometry=list(shapes), crs=3035)
    frame.to_file(folder / "map.gpkg", engine="pyogrio", geometry_type="Unknown")
    source = open_landcover(str(folder / "map.gpkg"))
    return sort_landcover(source, folder / "sorted.parquet")


def _image(safe: Path) -> Reader:
    """A product one of whose images is damaged; it has no checksums."""

    def read(content: bytes, folder: Path) -> object:
        copy = folder / safe.name
        shutil.copytree(safe, copy, ignore=shutil.ignore_patterns("*.jp2", "manifest.safe"), dirs_exist_ok=True)
        image = next(safe.rglob("*_B01_60m.jp2")).relative_to(safe)
        _written(content, copy / image)
        return read_band(read_tile(copy), "B01")

    return read


def _record(content: bytes, folder: Path) -> object:
    _written(content, folder / "run" / "record.json")
    output = Output(folder)
    output.check({"tiles": {}}, overwrite=True)
    output.finished({"tiles": {}})
    return output.check({"tiles": {"a": "d"}, "recipe": "c"}, overwrite=False)


def _state(content: bytes, folder: Path) -> object:
    _written(content, folder / ".building" / "state" / "origin.json")
    _written(content, folder / ".building" / "state" / "tiles" / "a.json")
    return Output(folder).check({"tiles": {}}, overwrite=False)


def _metadata(content: bytes, folder: Path) -> object:
    files = [_written(content, folder / "metadata.parquet")]
    require_metadata(files)
    return read_metadata(files)


def _scene(content: bytes, folder: Path) -> object:
    for polarisation in ("VV", "VH"):
        _written(content, folder / f"{SCENE}_{polarisation}.tif")
    return find_scenes(str(folder))


def _item(content: bytes, folder: Path) -> object:
    """A STAC item whose images are not there; its position and offsets are stated."""
    found = search_products([], items=[_written(content, folder / "item.json")])
    return [product.read_tile() for product in found.products]


def _store(content: bytes, folder: Path) -> object:
    """Consolidated metadata of an EOPF Zarr store whose chunks are not there; zarr reads the root beside it."""
    (folder / "a.zarr").mkdir()
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        (folder / "a.zarr" / ".zattrs").write_text(json.dumps(json.loads(content)["metadata"][".zattrs"]))
    _written(b'{"zarr_format": 2}', folder / "a.zarr" / ".zgroup")
    return read_tile(_written(content, folder / "a.zarr" / ".zmetadata").parent)


READERS: dict[str, Reader] = {
    "product-xml": lambda content, _: parse_product_metadata(content, "MTD_MSIL2A.xml"),
    "granule-xml": lambda content, _: parse_geocoding(content, "MTD_TL.xml"),
    "manifest": lambda content, _: parse_manifest(content, "manifest.safe"),
    "patch-name": lambda content, _: parse_patch_name(_text(content)),
    "recipe": lambda content, folder: load_recipe(str(_written(content, folder / "recipe.yaml"))),
    "nomenclature": lambda content, folder: load_nomenclature(str(_written(content, folder / "classes.csv"))),
    "names": lambda content, folder: read_names(_written(content, folder / "names.csv")),
    "pairs": lambda content, folder: read_pairs(_written(content, folder / "pairs.csv")),
    "metadata": _metadata,
    "tiff": lambda content, _: decode_image(content),
    "zip": _zip,
    "item": _item,
    "store": _store,
    "map": _map,
    "shapes": _shapes,
    "countries": lambda content, folder: read_countries(
        open_countries(str(_written(content, folder / "countries.gpkg")))
    ),
    "scene": _scene,
    "record": _record,
    "state": _state,
}
"""Readers by name; ``jp2`` needs a product, see :func:`reader`."""

SCENE = "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017012_01C56E"


def reader(target: str, file: Path) -> Reader:
    """The reader of a target; that of images takes the product that the file is in."""
    if target == "jp2":
        return _image(next(parent for parent in file.parents if parent.suffix == ".SAFE"))
    return READERS[target]
