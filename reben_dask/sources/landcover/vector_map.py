"""Published land-cover vector maps, as any file that GDAL reads, and their polygons in batches."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyogrio
import shapely

from reben_dask.errors import InputError, missing
from reben_dask.sources.vector_layers import files_of

CODE_COLUMNS = ("code_18", "clc_code", "code", "code_12", "code_06", "code_00", "clc")
"""Names in lower case of the class code in releases of CORINE and its relatives."""

ROWS_AT_ONCE = 16_384
"""A batch of the official map takes about 40 MB, and as much again as geometries."""

_POLYGON, _MULTIPOLYGON, _CURVE_POLYGON, _MULTISURFACE = 3, 6, 10, 12


@dataclass(frozen=True)
class LandcoverMap:
    """Description of a land-cover file, without its polygons."""

    path: str
    layer: str
    code_column: str
    """Column of the class codes, spelt as in the file."""

    crs: str
    polygons: int

    bounds: tuple[float, ...] | None = None
    """``(minx, miny, maxx, maxy)`` of all rows in ``crs``, if the file stores it."""

    about: str = ""
    """Description of the layer in the file, such as that of a GeoPackage; mostly empty."""

    @property
    def identity(self) -> dict[str, Any]:
        """Properties that distinguish this map from others and from later versions of the same file."""
        stats = {file.name: file.stat() for file in sorted(files_of(Path(self.path)))}
        return {
            "name": Path(self.path).name,
            "bytes": {name: status.st_size for name, status in stats.items()},
            "modified_ns": {name: status.st_mtime_ns for name, status in stats.items()},
            "layer": self.layer,
            "code_column": self.code_column,
        }

    @property
    def record(self) -> dict[str, Any]:
        """Entry of the map in a run record."""
        facts = {"crs": self.crs, "polygons": self.polygons, "about": self.about}
        return {"path": self.path, **facts, "source": self.identity}

    @property
    def cache_name(self) -> str:
        """File name for a sorted copy, unique to the version, layer and column of the map."""
        digest = hashlib.sha256(repr(sorted(self.identity.items())).encode()).hexdigest()
        return f"{Path(self.path).stem}-{digest[:8]}.parquet"


class PolygonBatch(NamedTuple):
    """Consecutive rows of a map."""

    first_row: int

    codes: pa.Array

    geometry: npt.NDArray[Any]
    """2-D polygons and multipolygons; ``None`` where the row has none with finite coordinates."""


def open_landcover(path: str, *, code_column: str | None = None) -> LandcoverMap:
    """Find the layer, code column, coordinate reference system and size of a land-cover map.

    Parameters
    ----------
    path : str
        Any vector file that GDAL reads; the first layer with polygons and a code column is used.
    code_column : str, optional
        Column of the class codes, in any case; by default one of :data:`CODE_COLUMNS`.

    Raises
    ------
    InputError
        If the file is unreadable, or has no such column, polygons or coordinate reference system.
    """
    if not Path(path).exists():
        raise InputError(missing("The land-cover map", path))
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind and _may_hold_polygons(kind)]
        descriptions = [pyogrio.read_info(path, layer=name, force_feature_count=True) for name in layers]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"The land-cover map {path} cannot be read ({str(error).rstrip('.')}).") from None
    if not descriptions:
        raise InputError(f"The land-cover map {path} has no layer of polygons.")
    for description in descriptions:
        column = _find_code_column(description, code_column)
        if column and description["crs"]:
            bounds = description["total_bounds"] if description["features"] else None
            return LandcoverMap(
                path,
                layer=description["layer_name"],
                code_column=column,
                crs=description["crs"],
                polygons=description["features"],
                bounds=None if bounds is None else tuple(map(float, bounds)),
                about=(description["layer_metadata"] or {}).get("DESCRIPTION", ""),
            )
    raise InputError(_explain_columns(path, descriptions, code_column))


def whole_bounds(source: LandcoverMap) -> tuple[float, ...]:
    """Bounds of a map; reads all of it if the format does not store them."""
    if source.bounds is not None:
        return source.bounds
    bounds = pyogrio.read_info(source.path, layer=source.layer, force_total_bounds=True)["total_bounds"]
    return tuple(map(float, bounds)) if bounds is not None else (0.0, 0.0, 1.0, 1.0)


def read_batches(source: LandcoverMap) -> Iterator[PolygonBatch]:
    """Read all rows of a map in order; a damaged file raises :class:`InputError` with its first bad row."""
    wanted: dict[str, Any] = {"layer": source.layer, "columns": [source.code_column], "return_fids": True}
    row = 0
    try:
        with pyogrio.open_arrow(source.path, batch_size=ROWS_AT_ONCE, use_pyarrow=True, **wanted) as (metadata, reader):
            column = metadata["geometry_name"] or "wkb_geometry"
            for batch in reader:
                geometry = _decode(source, batch.column(column), batch.column(0))
                yield PolygonBatch(row, batch.column(source.code_column), _areas_only(geometry))
                row += len(geometry)
    except (RuntimeError, OSError, pa.ArrowException, shapely.errors.ShapelyError) as error:
        raise InputError(f"The land-cover map {source.path} cannot be read beyond row {row}: {error}.") from None
    if row != source.polygons:
        raise InputError(
            f"The land-cover map {source.path} declares {source.polygons:,} rows, but only {row:,} can be "
            "read; the file is damaged, download it again."
        )


def _may_hold_polygons(kind: str) -> bool:
    """Test if a layer may hold polygons; many programs declare its type as unknown."""
    return "Polygon" in kind or "Surface" in kind or kind in {"Unknown", "Geometry", "GeometryCollection"}


def _find_code_column(description: dict[str, Any], wanted: str | None) -> str | None:
    by_lower = {str(field).lower(): str(field) for field in description["fields"]}
    candidates = CODE_COLUMNS if wanted is None else (wanted.lower(),)
    return next((by_lower[name] for name in candidates if name in by_lower), None)


def _explain_columns(path: str, descriptions: list[dict[str, Any]], wanted: str | None) -> str:
    fields = sorted({str(field) for description in descriptions for field in description["fields"]})
    expected = wanted or "Code_18"
    if any(_find_code_column(description, wanted) for description in descriptions):
        return f"The land-cover map {path} has no coordinate reference system; assign the one it was made in."
    near = difflib.get_close_matches(expected, fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"its columns are {', '.join(fields) or 'none'}."
    return f"The land-cover map {path} has no column {expected} with the class codes; {hint} Set --code-column."


def _decode(source: LandcoverMap, wkb: pa.Array, fids: pa.Array) -> npt.NDArray[Any]:
    encoded = wkb.to_numpy(zero_copy_only=False)
    try:
        geometry: npt.NDArray[Any] = shapely.from_wkb(encoded)
    except (NotImplementedError, shapely.errors.GEOSException):
        return _decode_by_kind(source, encoded, fids.to_numpy())
    return geometry


def _decode_by_kind(source: LandcoverMap, encoded: npt.NDArray[Any], fids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Decode polygons, read those with arcs (unknown to GEOS) again in straight pieces, and leave out other kinds."""
    kinds = np.array([_kind(value) for value in encoded])
    geometry = np.full(len(encoded), None, object)
    straight = np.isin(kinds, [_POLYGON, _MULTIPOLYGON])
    geometry[straight] = shapely.from_wkb(encoded[straight])
    curved = np.isin(kinds, [_CURVE_POLYGON, _MULTISURFACE])
    if curved.any():
        again = pyogrio.read_dataframe(source.path, layer=source.layer, columns=[], fids=fids[curved])
        geometry[curved] = again.geometry.to_numpy()
    return geometry


def _kind(wkb: bytes | None) -> int:
    """Geometry type without dimensions: ISO adds thousands for them, older WKB sets high bits."""
    if not wkb:
        return 0
    return (int.from_bytes(wkb[1:5], "little" if wkb[0] else "big") & 0xFFFF) % 1_000


def _areas_only(geometry: npt.NDArray[Any]) -> npt.NDArray[Any]:
    kinds = shapely.get_type_id(geometry)
    areal = np.isin(kinds, [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON])
    areas: npt.NDArray[Any] = shapely.force_2d(geometry)
    # An infinite coordinate would make the bounds of its whole part infinite.
    finite = np.isfinite(shapely.bounds(geometry)).all(axis=1)
    areas[~areal | ~finite] = None
    return areas
