"""Catalogue of a dataset: items of patches and tiles as STAC-GeoParquet, each with its collection as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.atomic import write_text
from reben_dask.formats import columns
from reben_dask.formats.footprints import united_bounds
from reben_dask.formats.stac import (
    PATCHES,
    STAC_GEOPARQUET_KEY,
    STAC_GEOPARQUET_VERSION,
    TILE_COLUMNS,
    TILES,
    WORLD,
    CatalogueContents,
    bounds_of,
    describe_collection,
    patch_items,
    tile_item,
)
from reben_dask.grid import PatchGrid
from reben_dask.stores.patch_table import read_rows


def write_catalogue(
    parts: Sequence[Path], grids: Mapping[str, PatchGrid], folder: Path, contents: CatalogueContents
) -> None:
    """Write ``patches`` and ``tiles``, each as ``.parquet`` and ``.json``, into a folder.

    Parameters
    ----------
    parts : sequence of Path
        Part files of the patch table, at least one.
    grids : mapping of str to PatchGrid
        First grid of each tile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = (read_rows(part, [columns.BBOX, columns.SENSING_TIME], status=columns.KEPT) for part in parts)
    items = (read_patch_items(part, contents) for part in parts)
    _write(
        folder,
        PATCHES,
        items,
        _Extent.of((rows[columns.BBOX], rows[columns.SENSING_TIME]) for rows in places),
        contents,
    )
    tiles = pa.concat_tables(read_tile_item(part, grids[part.stem], contents) for part in parts)
    _write(folder, TILES, [tiles], _Extent.of([(tiles["bbox"], tiles["datetime"])]), contents)


def read_patch_items(part: Path, contents: CatalogueContents) -> pa.Table:
    """Make the items of the kept patches of a part file, in the order of their names."""
    rows = read_rows(part, contents.patch_columns, status=columns.KEPT)
    return patch_items(part.stem, rows.sort_by(columns.PATCH_ID), contents)


def read_tile_item(part: Path, grid: PatchGrid, contents: CatalogueContents) -> pa.Table:
    """Make the item of the tile of a part file."""
    return tile_item(part.stem, grid, read_rows(part, TILE_COLUMNS), contents)


class _Extent(NamedTuple):
    """Extent of items: bounds in degrees, first and last time (``None`` without items)."""

    bounds: list[float]
    times: tuple[datetime, datetime] | None
    is_split: bool
    """True if items are split at the 180th meridian."""

    @classmethod
    def of(cls, tiles: Iterable[tuple[pa.ChunkedArray, pa.ChunkedArray]]) -> Self:
        """Unite the bounds and times of the items of several tiles."""
        found = [(bounds_of(boxes), *pc.min_max(times).as_py().values()) for boxes, times in tiles if len(times)]
        if not found:
            return cls(list(WORLD), None, is_split=False)
        bounds, first, last = zip(*found, strict=True)
        is_split = any(west > east for west, _, east, _ in bounds)
        return cls(united_bounds(np.array(bounds)), (min(first), max(last)), is_split)


def _write(folder: Path, name: str, tables: Iterable[pa.Table], extent: _Extent, contents: CatalogueContents) -> None:
    """Write items, a row group for each table, so that readers skip tiles elsewhere."""
    collection = describe_collection(name, contents, extent.bounds, extent.times)
    described = {"version": STAC_GEOPARQUET_VERSION, "collections": {collection["id"]: collection}}
    metadata = {b"geo": json.dumps(_geo_metadata(extent)), STAC_GEOPARQUET_KEY: json.dumps(described)}
    waiting = iter(tables)
    first = next(waiting).replace_schema_metadata(metadata)
    with pq.ParquetWriter(folder / f"{name}.parquet", first.schema, compression="zstd") as writer:
        for items in chain([first], waiting):
            if len(items):
                writer.write_table(items.replace_schema_metadata(metadata))
    write_text(folder / f"{name}.json", json.dumps(collection, indent=2, ensure_ascii=False) + "\n")


def _geo_metadata(extent: _Extent) -> dict[str, Any]:
    """GeoParquet metadata; without ``crs``, coordinates are longitude and latitude (OGC:CRS84)."""
    covering = {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}
    geometry = {
        "encoding": "WKB",
        "geometry_types": ["Polygon", *(["MultiPolygon"] if extent.is_split else [])],
        "bbox": extent.bounds,
        "covering": {"bbox": covering},
    }
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
