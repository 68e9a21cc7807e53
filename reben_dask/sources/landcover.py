"""Land-cover vector maps: from a file as it is published to a spatially partitioned frame.

A GeoPackage can be read only from its beginning to its end, and its polygons lie in no useful order. It is therefore
sorted once along a Hilbert curve and written as GeoParquet files, each of which covers a compact area, so that a tile
opens only the few files it overlaps.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask_geopandas
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from reben_dask.errors import InputError

CODE_COLUMNS = ("code_18", "clc_code", "code", "code_12", "code_06", "code_00", "clc")
"""Names, in small letters, under which releases of CORINE and its relatives keep the class code."""

POLYGONS_PER_PART = 8_000
"""A part of the official map is then about 10 MB in memory, and a tile overlaps a handful of parts."""


@dataclass(frozen=True)
class LandcoverMap:
    """What a land-cover file says of itself; opening it reads no polygon.

    Parameters
    ----------
    path : str
        The file.
    layer : str
        Layer that holds the polygons.
    code_column : str
        Column of the class codes, spelt as in the file.
    crs : str
        Coordinate reference system.
    polygons : int
        Number of rows.
    bounds : tuple of float or None
        ``(minx, miny, maxx, maxy)`` of all rows in ``crs``, if the file keeps it.
    """

    path: str
    layer: str
    code_column: str
    crs: str
    polygons: int
    bounds: tuple[float, ...] | None = None


def open_landcover(path: str, *, code_column: str | None = None) -> LandcoverMap:
    """Look at a land-cover map: its layer, code column, system and size.

    Parameters
    ----------
    path : str
        Any vector file that GDAL reads. Of several layers, the first with polygons and a code column is used.
    code_column : str, optional
        Name of the column with the class codes, in any case; by default one of :data:`CODE_COLUMNS`.

    Raises
    ------
    InputError
        If the file is no readable map, or has no such column, polygons or coordinate reference system.
    """
    if not Path(path).exists():
        raise InputError(f"The land-cover map {path} does not exist.")
    try:
        layers = [(name, kind) for name, kind in pyogrio.list_layers(path) if kind and _may_hold_polygons(kind)]
        descriptions = [pyogrio.read_info(path, layer=name, force_feature_count=True) for name, _ in layers]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"The land-cover map {path} cannot be read: {error}.") from None
    if not descriptions:
        raise InputError(f"The land-cover map {path} has no layer of polygons.")
    for description in descriptions:
        column = _find_code_column(list(description["fields"]), code_column)
        if column and description["crs"]:
            bounds = description["total_bounds"] if description["features"] else None
            return LandcoverMap(
                path,
                layer=description["layer_name"],
                code_column=column,
                crs=description["crs"],
                polygons=description["features"],
                bounds=None if bounds is None else tuple(map(float, bounds)),
            )
    raise InputError(_explain_columns(path, descriptions, code_column))


def sort_landcover(
    source: LandcoverMap,
    destination: Path,
    *,
    known_codes: Collection[int],
    area: shapely.Geometry | None = None,
) -> Path:
    """Write a map as spatially sorted GeoParquet parts.

    Parameters
    ----------
    source : LandcoverMap
        The map as published.
    destination : Path
        Folder for the parts; it is made, and replaced if an interrupted task has left one.
    known_codes : collection of int
        Codes that the nomenclature knows, labelled or not.
    area : Geometry, optional
        Part of the map that is needed, in its own system; by default all of it.

    Returns
    -------
    Path
        ``destination``, to be opened with :func:`read_sorted_landcover`.

    Raises
    ------
    InputError
        If a polygon has no code, or one outside ``known_codes``.
    """
    table = _read(source, area)
    codes = _checked_codes(table[source.code_column], source, known_codes)
    polygons = table[["geometry"]].assign(code=codes, order=table.index.to_numpy(np.int64))
    polygons = polygons[_is_polygon(polygons.geometry)]
    curve = polygons.geometry.hilbert_distance() if len(polygons) else polygons["order"]
    polygons = polygons.iloc[np.lexsort([polygons["order"], curve])].reset_index(drop=True)
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    for number, start in enumerate(range(0, max(len(polygons), 1), POLYGONS_PER_PART)):
        part = polygons.iloc[start : start + POLYGONS_PER_PART]
        part.to_parquet(destination / f"part-{number:05d}.parquet", index=False, write_covering_bbox=True)
    return destination


def read_sorted_landcover(folder: Path) -> dask_geopandas.GeoDataFrame:
    """Open a sorted map as a spatially partitioned frame, lazily.

    Parameters
    ----------
    folder : Path
        What :func:`sort_landcover` wrote.

    Returns
    -------
    dask_geopandas.GeoDataFrame
        Columns ``code`` (uint16), ``order`` (int64, position in the source) and ``geometry``; one partition per part,
        with ``spatial_partitions`` known.
    """
    frame = dask_geopandas.read_parquet(folder, columns=["code", "order", "geometry"], split_row_groups=False)
    if frame.spatial_partitions is None:
        # A part without polygons has no bounds, and then none of the partitions are known.
        frame.spatial_partitions = gpd.GeoSeries([shapely.Polygon()] * frame.npartitions, crs=frame.crs)
    return frame


def _read(source: LandcoverMap, area: shapely.Geometry | None) -> gpd.GeoDataFrame:
    """Codes and polygons, indexed by their row in the map: feature ids count from 0 or 1, as the format has it."""
    wanted = {"layer": source.layer, "columns": [source.code_column], "fid_as_index": True}
    first = pyogrio.read_dataframe(source.path, max_features=1, **wanted)
    table = pyogrio.read_dataframe(source.path, mask=area, **wanted)
    return table.set_axis(table.index - (first.index[0] if len(first) else 0))


def _may_hold_polygons(kind: str) -> bool:
    """Many programs declare a layer's geometry as unknown; what it holds is seen when it is read."""
    return "Polygon" in kind or "Surface" in kind or kind in {"Unknown", "Geometry", "GeometryCollection"}


def _is_polygon(geometry: Any) -> Any:
    kinds = shapely.get_type_id(geometry.to_numpy())
    return np.isin(kinds, [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON]) & ~geometry.is_empty


def _find_code_column(fields: list[str], wanted: str | None) -> str | None:
    by_lower = {field.lower(): field for field in fields}
    candidates = CODE_COLUMNS if wanted is None else (wanted.lower(),)
    return next((by_lower[name] for name in candidates if name in by_lower), None)


def _explain_columns(path: str, descriptions: list[dict[str, Any]], wanted: str | None) -> str:
    fields = sorted({str(field) for description in descriptions for field in description["fields"]})
    expected = wanted or "Code_18"
    if any(_find_code_column(list(description["fields"]), wanted) for description in descriptions):
        return f"The land-cover map {path} has no coordinate reference system; assign the one it was made in."
    near = difflib.get_close_matches(expected, fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"its columns are {', '.join(fields) or 'none'}."
    return f"The land-cover map {path} has no column {expected} with the class codes; {hint} Set --code-column."


def _checked_codes(column: pd.Series[Any], source: LandcoverMap, known: Collection[int]) -> Any:
    codes = pd.to_numeric(column, errors="coerce")
    unknown = ~codes.isin(list(known))
    if unknown.any():
        first = int(np.flatnonzero(unknown)[0])
        raise InputError(
            f"The land-cover map {source.path} has the code {column.iloc[first]!r} (column {source.code_column}, "
            f"row {column.index[first]}; {int(unknown.sum())} rows in all have such), "
            "which the recipe's nomenclature does not know."
        )
    return codes.astype(np.uint16).to_numpy()
