"""Catalogue of a dataset: STAC items of its kept patches and its tiles, as STAC-GeoParquet 1.1.

Each property of an item is a column. ``reben:<name>`` is the column ``name`` of the patch table; the others belong to
STAC and its extensions. An item lacks properties and assets that are null. Hrefs are relative to the folder of the
catalogue, so that a dataset can be moved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from reben_dask.formats import columns
from reben_dask.formats.bands import BANDS, MAP_RESOLUTION_M, REFERENCE_MAP
from reben_dask.formats.cube import MAP_NODE, S1_NODE, group_of
from reben_dask.formats.dataset import CARD, CUBES, LMDB, TABLE
from reben_dask.formats.footprints import footprint_bounds, split_at_180, united_bounds
from reben_dask.formats.names import mgrs_of
from reben_dask.grid import PatchGrid

PATCHES, TILES = "patches", "tiles"
"""Names of the collections; ``<name>.parquet`` has the items, ``<name>.json`` the collection."""

STAC_VERSION, STAC_GEOPARQUET_VERSION = "1.1.0", "1.1.0"
STAC_GEOPARQUET_KEY = b"stac-geoparquet"
"""Key of the Parquet metadata that holds the version and the collection."""

SPLITS = dict(zip(columns.SPLITS, ("train", "validate", "test"), strict=True))
"""Splits in the words of the ML-AOI extension."""

WORLD = (-180.0, -90.0, 180.0, 90.0)
"""Bounds of a collection without items."""

REFLECTANCE_SCALE = 0.0001
"""Reflectance of one DN."""

_EXTENSIONS = {
    "eo": "v2.0.0",
    "label": "v1.0.1",
    "mgrs": "v1.0.0",
    "ml-aoi": "v0.2.0",
    "processing": "v1.2.0",
    "projection": "v2.0.0",
    "raster": "v2.0.0",
    "sat": "v1.1.0",
}
_OF_PATCHES = ("eo", "label", "mgrs", "ml-aoi", "projection", "raster")
_OF_TILES = ("eo", "mgrs", "processing", "projection", "raster", "sat")

_EO = {
    "B01": ("coastal", 0.443),
    "B02": ("blue", 0.49),
    "B03": ("green", 0.56),
    "B04": ("red", 0.665),
    "B05": ("rededge071", 0.704),
    "B06": ("rededge075", 0.741),
    "B07": ("rededge078", 0.783),
    "B08": ("nir", 0.833),
    "B8A": ("nir08", 0.865),
    "B09": ("nir09", 0.945),
    "B10": ("cirrus", 1.374),
    "B11": ("swir16", 1.614),
    "B12": ("swir22", 2.202),
}
"""Common name and centre wavelength (µm) of each band."""

_PREFIX = "reben:"
_LABELS = f"{_PREFIX}{columns.LABELS}"
_OWN = (
    columns.TILE,
    columns.GRID,
    columns.X,
    columns.Y,
    columns.LABELS,
    columns.LABELED_FRACTION,
    columns.COUNTRY,
    columns.SEASON,
    columns.SHADOW_FRACTION,
    *columns.FLAGS,
    columns.S1_NAME,
    columns.S2V1_NAME,
)
_ZARR, _PARQUET = "application/vnd.zarr; version=3", "application/vnd.apache.parquet"
_TEXTS, _INTEGERS = pa.list_(pa.string()), pa.list_(pa.int32())
_TILE_NAME = re.compile(r"S2(?P<satellite>[A-D])_MSI\w{3}_\w{15}_N(?P<baseline>\d{4})_R(?P<orbit>\d{3})_T")


@dataclass(frozen=True)
class CatalogueContents:
    """Facts about a dataset that its catalogue depends on."""

    dataset: str
    """Start of the ids of the collections."""
    title: str
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    patch_m: int
    extra_columns: tuple[str, ...] = ()
    """Columns that the recipe adds to the patch table."""
    has_sentinel1: bool = False

    @property
    def patch_columns(self) -> list[str]:
        """Columns of the patch table that items of patches are made of."""
        needed = (columns.PATCH_ID, *_OWN, *self.extra_columns, columns.SPLIT, columns.SENSING_TIME, columns.EPSG)
        cover = (columns.SNOW_FRACTION, columns.CLOUD_FRACTION, columns.BOA_ADD_OFFSET)
        return list(map(str, (*needed, *cover, *columns.BOUNDS, columns.GEOMETRY, columns.BBOX)))

    def id_of(self, collection: str) -> str:
        """Id of a collection."""
        return f"{self.dataset}-{collection}"


TILE_COLUMNS = (
    columns.STATUS,
    columns.GRID,
    columns.SENSING_TIME,
    columns.BOA_ADD_OFFSET,
    columns.SNOW_FRACTION,
    columns.CLOUD_FRACTION,
    columns.FAILED_QUALITY,
)
"""Columns of the patch table that the item of a tile is made of."""


class _Columns(dict[str, pa.Array]):
    """Columns of items by name, all of one length."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def constant(self, value: Any, kind: pa.DataType) -> pa.Array:
        # PyArrow does not repeat lists zero times.
        return pa.repeat(pa.scalar(value, kind), max(1, self.length)).slice(0, self.length)

    def struct(self, fields: Mapping[str, pa.Array], *, only: pa.Array | None = None) -> pa.Array:
        mask = None if only is None else pc.invert(only)
        return pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=mask)

    def start(self, contents: CatalogueContents, collection: str, extensions: Sequence[str]) -> None:
        """Add the fields that all items of a collection share."""
        link = {"rel": "collection", "href": f"./{collection}.json", "type": "application/json"}
        kind = pa.list_(pa.struct([(name, pa.string()) for name in link]))
        self["type"] = self.constant("Feature", pa.string())
        self["stac_version"] = self.constant(STAC_VERSION, pa.string())
        self["stac_extensions"] = self.constant([_schema_of(name) for name in extensions], _TEXTS)
        self["collection"] = self.constant(contents.id_of(collection), pa.string())
        self["links"] = self.constant([link], kind)

    def add_platform(self, tile: str) -> None:
        """Add the properties that the name of a tile states."""
        name, mgrs = _parse(tile), mgrs_of(tile)
        self["constellation"] = self.constant("sentinel-2", pa.string())
        self["platform"] = self.constant(f"sentinel-2{name['satellite'].lower()}", pa.string())
        self["instruments"] = self.constant(["msi"], _TEXTS)
        self["gsd"] = self.constant(10.0, pa.float64())
        self["mgrs:utm_zone"] = self.constant(int(mgrs[:2]), pa.int32())
        self["mgrs:latitude_band"] = self.constant(mgrs[2], pa.string())
        self["mgrs:grid_square"] = self.constant(mgrs[3:], pa.string())

    def add_projection(self, epsg: pa.Array, bounds: npt.NDArray[np.float64], shape_yx: tuple[int, int]) -> None:
        """Add the projection fields from UTM bounds in metres, shape ``(item, 4)``, and the number of 10 m pixels."""
        left, top, nothing = bounds[:, 0], bounds[:, 3], np.zeros(self.length)
        transform = np.column_stack([nothing + 10, nothing, left, nothing, nothing - 10, top])
        self["proj:code"] = pa.array([f"EPSG:{code}" for code in epsg.to_pylist()], pa.string())
        self["proj:bbox"] = _lists(bounds)
        self["proj:shape"] = self.constant(list(shape_yx), _INTEGERS)
        self["proj:transform"] = _lists(transform)

    def table(self) -> pa.Table:
        return pa.table(dict(self))


def patch_items(tile: str, rows: pa.Table, contents: CatalogueContents) -> pa.Table:
    """Return the items of a tile's kept patches.

    Parameters
    ----------
    rows : Table
        Rows of the patch table with ``contents.patch_columns``; there may be none.
    """
    of = {name: rows[name].combine_chunks() for name in contents.patch_columns}
    items = _Columns(len(rows))
    items["id"] = of[columns.PATCH_ID]
    items.start(contents, PATCHES, _OF_PATCHES)
    items["geometry"], items["bbox"] = of[columns.GEOMETRY], of[columns.BBOX]
    items["assets"] = _patch_assets(items, of, contents)
    items["datetime"] = of[columns.SENSING_TIME]
    items.add_platform(tile)
    bounds = np.column_stack([of[edge].to_numpy(zero_copy_only=False) for edge in columns.BOUNDS]).astype(np.float64)
    items.add_projection(of[columns.EPSG], bounds, (contents.patch_m // 10,) * 2)
    items["eo:cloud_cover"] = _percent(of[columns.CLOUD_FRACTION])
    items["eo:snow_cover"] = _percent(of[columns.SNOW_FRACTION])
    items["label:type"] = items.constant("vector", pa.string())
    items["label:properties"] = items.constant([_LABELS], _TEXTS)
    items["label:tasks"] = items.constant(["classification", "segmentation"], _TEXTS)
    items["label:description"] = items.constant("Classes in the reference map of the patch", pa.string())
    items["ml-aoi:split"] = pa.array([SPLITS.get(split) for split in of[columns.SPLIT].to_pylist()], pa.string())
    for name in (*_OWN, *contents.extra_columns):
        items[f"{_PREFIX}{name}"] = of[name]
    return items.table()


def _patch_assets(items: _Columns, of: Mapping[str, pa.Array], contents: CatalogueContents) -> pa.Array:
    places = zip(of[columns.TILE].to_pylist(), of[columns.GRID].to_pylist(), strict=True)
    groups = [f"../{CUBES}/{group_of(tile, grid)}" for tile, grid in places]
    assets = {
        "cubes": _asset(items, groups, _ZARR, "data", **_scale(items, of[columns.BOA_ADD_OFFSET])),
        "reference_map": _asset(items, [f"{group}/{MAP_NODE}" for group in groups], _ZARR, "labels", **_map(items)),
        "lmdb": _asset(items, [f"../{LMDB}"] * items.length, "application/vnd.lmdb", "data"),
    }
    if contents.has_sentinel1:
        hrefs, is_paired = [f"{group}/{S1_NODE}" for group in groups], of[columns.S1_NAME].is_valid()
        assets["sentinel1"] = _asset(items, hrefs, _ZARR, "data", only=is_paired)
    return items.struct(assets)


def tile_item(tile: str, grid: PatchGrid, rows: pa.Table, contents: CatalogueContents) -> pa.Table:
    """Return the item of a tile, a table of one row.

    Parameters
    ----------
    grid : PatchGrid
        First grid of the tile, with its size.
    rows : Table
        All candidates of the tile, with :data:`TILE_COLUMNS`.
    """
    first = rows.slice(0, 1).to_pylist()[0]
    in_grid = rows.filter(pc.equal(rows[columns.GRID], 1))
    bounds = np.array([grid.tile_bounds()], np.float64)
    footprint = split_at_180(gpd.GeoSeries(shapely.box(*bounds.T), crs=grid.epsg).to_crs(columns.TABLE_CRS))
    edges = footprint_bounds(footprint.to_numpy())
    name, items = _parse(tile), _Columns(1)
    items["id"] = pa.array([tile], pa.string())
    items.start(contents, TILES, _OF_TILES)
    items["geometry"] = pa.array(footprint.to_wkb(), pa.binary())
    items["bbox"] = pa.StructArray.from_arrays(list(map(pa.array, edges.T)), fields=list(columns.BBOX_TYPE))
    items["assets"] = _tile_assets(items, tile, first, contents)
    items["datetime"] = pa.array([first[columns.SENSING_TIME]], columns.SENSING_TIME.type)
    items.add_platform(tile)
    items.add_projection(pa.array([grid.epsg]), bounds, (grid.tile_m.y // 10, grid.tile_m.x // 10))
    items["eo:cloud_cover"] = _percent(pa.array([pc.mean(in_grid[columns.CLOUD_FRACTION]).as_py()], pa.float64()))
    items["eo:snow_cover"] = _percent(pa.array([pc.mean(in_grid[columns.SNOW_FRACTION]).as_py()], pa.float64()))
    items["processing:version"] = items.constant(f"{name['baseline'][:2]}.{name['baseline'][2:]}", pa.string())
    items["sat:relative_orbit"] = items.constant(int(name["orbit"]), pa.int32())
    kept = pc.sum(pc.equal(rows[columns.STATUS], columns.KEPT)).as_py()
    items[f"{_PREFIX}candidates"] = items.constant(len(rows), pa.int32())
    items[f"{_PREFIX}kept"] = items.constant(kept, pa.int32())
    items[f"{_PREFIX}{columns.FAILED_QUALITY}"] = items.constant(first[columns.FAILED_QUALITY], pa.string())
    return items.table()


def _tile_assets(items: _Columns, tile: str, first: Mapping[str, Any], contents: CatalogueContents) -> pa.Array:
    bands = [
        {
            "name": band,
            "eo:common_name": _EO.get(band, (None, None))[0],
            "eo:center_wavelength": _EO.get(band, (None, None))[1],
            "data_type": BANDS[band].dtype,
            "nodata": BANDS[band].nodata,
            "raster:spatial_resolution": float(BANDS[band].resolution_m),
        }
        for band in contents.bands
    ]
    texts, numbers = ("name", "eo:common_name", "data_type"), ("eo:center_wavelength", "nodata")
    kinds = {**dict.fromkeys(texts, pa.string()), **dict.fromkeys(numbers, pa.float64())}
    kind = pa.struct([(name, kinds.get(name, pa.float64())) for name in bands[0]])
    scale = _scale(items, pa.array([first[columns.BOA_ADD_OFFSET]], pa.int32()))
    # Tiles that failed their quality have no pixels.
    is_read = pa.array([first[columns.FAILED_QUALITY] is None])
    cubes, part = f"../{CUBES}/{tile}", f"../{TABLE}/{tile}.parquet"
    shown = {"bands": items.constant(bands, pa.list_(kind)), **scale}
    return items.struct(
        {
            "cubes": _asset(items, [cubes], _ZARR, "data", only=is_read, **shown),
            "reference_map": _asset(items, [f"{cubes}/{MAP_NODE}"], _ZARR, "labels", only=is_read, **_map(items)),
            "patches": _asset(items, [part], _PARQUET, "metadata"),
        }
    )


def _asset(
    items: _Columns, hrefs: Sequence[str], kind: str, role: str, only: pa.Array | None = None, **more: pa.Array
) -> pa.Array:
    fields = {
        "href": pa.array(hrefs, pa.string()),
        "type": items.constant(kind, pa.string()),
        "roles": items.constant([role], _TEXTS),
    }
    return items.struct({**fields, **more}, only=only)


def _scale(items: _Columns, offset_dn: pa.Array) -> dict[str, pa.Array]:
    """Conversion of DN to reflectance; the offset is null if the product states none."""
    return {
        "raster:scale": items.constant(REFLECTANCE_SCALE, pa.float64()),
        # Divided, as -1000 * 0.0001 is not -0.1.
        "raster:offset": pc.divide(offset_dn.cast(pa.float64()), round(1 / REFLECTANCE_SCALE)),
    }


def _map(items: _Columns) -> dict[str, pa.Array]:
    return {
        "data_type": items.constant(REFERENCE_MAP.dtype, pa.string()),
        "raster:spatial_resolution": items.constant(float(MAP_RESOLUTION_M), pa.float64()),
    }


def describe_collection(
    name: str, contents: CatalogueContents, bounds: Sequence[float], times: tuple[datetime, datetime] | None
) -> dict[str, Any]:
    """Return the STAC collection of the patches or the tiles.

    Parameters
    ----------
    name : str
        :data:`PATCHES` or :data:`TILES`.
    bounds : sequence of float
        West, south, east and north in degrees.
    times : tuple of datetime or None
        First and last sensing time in UTC; ``None`` without items.
    """
    interval = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in times] if times else [None, None]
    what = {PATCHES: "kept patches", TILES: "Sentinel-2 tiles"}[name]
    items = {
        "href": f"./{name}.parquet",
        "type": _PARQUET,
        "title": f"Items of the {what}, ordered by tile",
        "roles": ["collection-mirror"],
    }
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "id": contents.id_of(name),
        "title": f"{contents.title}: {what}",
        "description": f"The {what} of a dataset that was made with reben_dask (recipe {contents.dataset}).",
        "license": "other",
        "extent": {"spatial": {"bbox": [list(bounds)]}, "temporal": {"interval": [interval]}},
        "summaries": {_LABELS: list(contents.classes)} if name == PATCHES else {},
        "assets": {"items": items},
        "links": [{"rel": "license", "href": f"../{CARD}", "type": "text/markdown"}],
    }


def bounds_of(boxes: pa.ChunkedArray) -> list[float]:
    """Bounds of all items of a tile in degrees, from their boxes."""
    return united_bounds(np.column_stack([pc.struct_field(boxes, edge.name).to_numpy() for edge in columns.BBOX_TYPE]))


def _schema_of(extension: str) -> str:
    return f"https://stac-extensions.github.io/{extension}/{_EXTENSIONS[extension]}/schema.json"


def _parse(tile: str) -> Mapping[str, str]:
    found = _TILE_NAME.match(tile)
    if found is None:
        raise ValueError(f"{tile!r} is not the name of a tile")
    return found.groupdict()


def _percent(fraction: pa.Array) -> pa.Array:
    return pc.multiply(fraction, 100.0)


def _lists(values: npt.NDArray[np.float64]) -> pa.Array:
    """Convert an array to lists, one for each row."""
    starts = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(starts, pa.array(values.ravel()))
