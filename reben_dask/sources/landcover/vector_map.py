"""Published land-cover vector maps, in any form that GDAL or Arrow reads, and their polygons in batches."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from reben_dask.errors import InputError
from reben_dask.sources.vector_files import (
    Layer,
    VectorFile,
    files_on_disk,
    find_layers,
    geo_metadata,
    layer_names,
    parquet_parts,
    split_layer,
    without_locks,
)

UNDATED_COLUMNS = ("clc_code", "code", "clc")
"""Names in lower case of the class code where a release does not name its reference year."""

_DATED_COLUMN = re.compile(r"(?:code|clc|clc_code)_?(?:19|20)?(\d\d)", re.IGNORECASE)
"""``Code_18``, ``CLC18``, ``code_2018``: a year before 1970 is one of this century."""

_FIRST_YEAR = 70
_MAP = "The land-cover map"

ROWS_AT_ONCE = 16_384
"""A batch of the official map takes about 40 MB, and as much again as geometries."""

_POLYGON, _MULTIPOLYGON, _CURVE_POLYGON, _MULTISURFACE = 3, 6, 10, 12


@dataclass(frozen=True)
class LandcoverMap:
    """Description of the layer of a land-cover map, without its polygons."""

    path: str
    """As given, without the layer."""

    file: VectorFile
    """File with the layer, which may be inside ``path``."""

    layer: str
    code_column: str
    """Column of the class codes, spelt as in the file."""

    crs: str
    polygons: int

    bounds: tuple[float, ...] | None = None
    """``(minx, miny, maxx, maxy)`` of all rows in ``crs``, if the file stores it."""

    about: str = ""
    """Description of the layer in the file, such as that of a GeoPackage; mostly empty."""

    others: tuple[str, ...] = ()
    """Further layers of class codes at the same path, which are not read."""

    known: dict[str, Any] | None = None
    """Identity of an earlier version of the file with the same content, which replaces its own."""

    @property
    def year(self) -> int | None:
        """Reference year, if the code column names it."""
        return _year(self.code_column)

    @property
    def identity(self) -> dict[str, Any]:
        """Properties that distinguish this map from others and from later versions of the same file."""
        if self.known is not None:
            return self.known
        stats = {file.name: file.stat() for file in files_on_disk(self.file.location)}
        return {
            "name": self.file.inside.name,
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
        return cache_name(self.identity)


def cache_name(identity: dict[str, Any]) -> str:
    """Return the file name of a sorted copy of a map with such an identity."""
    stem = VectorFile("", PurePosixPath(identity["name"])).stem
    digest = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()
    return f"{stem}-{digest[:8]}.parquet"


class PolygonBatch(NamedTuple):
    """Consecutive rows of a map."""

    first_row: int

    codes: pa.Array

    geometry: npt.NDArray[Any]
    """2-D polygons and multipolygons; ``None`` where the row has none with finite coordinates."""


def open_landcover(path: str, *, layer: str | None = None, code_column: str | None = None) -> LandcoverMap:
    """Find the layer, code column, coordinate reference system and size of a land-cover map.

    If several layers have class codes, the one named as the file is used, else the one with the newest reference year.
    Layers of changes, which have the codes of two years, are not maps.

    Parameters
    ----------
    path : str
        Vector file that GDAL reads, GeoParquet, or a zip archive or folder that holds one, as they are downloaded;
        ``FILE:LAYER`` names a layer.
    layer : str, optional
        Layer to read.
    code_column : str, optional
        Column of the class codes, in any case; by default ``Code_18`` or the like, ``clc_code``, ``code`` or ``clc``.

    Raises
    ------
    InputError
        If the path is unreadable or a raster; if no layer, or no single one, is a map with a coordinate reference
        system.
    """
    if layer is None:
        path, layer = split_layer(path)
    layers = find_layers(path, _MAP)
    if layer is not None:
        layers = _named(path, layers, layer)
    if not layers:
        raise InputError(f"{_MAP} {path} has no layer of polygons.")
    columns = {number: _find_code_column(each, code_column) for number, each in enumerate(layers)}
    maps = [(each, column) for number, each in enumerate(layers) if (column := columns[number]) and each.crs]
    if not maps:
        raise InputError(_explain_columns(path, layers, code_column))
    found, column = _chosen(path, maps)
    names = layer_names([each for each, _ in maps])
    return LandcoverMap(
        path,
        file=found.file,
        layer=found.name,
        code_column=column,
        crs=str(found.crs),
        polygons=found.rows,
        bounds=found.bounds,
        about=found.about,
        others=tuple(name for name, other in zip(names, maps, strict=True) if other[0] is not found),
    )


def whole_bounds(source: LandcoverMap) -> tuple[float, ...]:
    """Bounds of a map; reads all of it if the format does not store them."""
    if source.bounds is not None:
        return source.bounds
    if source.file.is_parquet:
        edges = [shapely.total_bounds(batch.geometry) for batch in read_batches(source)]
        known = np.array([bounds for bounds in edges if np.isfinite(bounds).all()]).reshape(-1, 4)
        bounds = [*known[:, :2].min(axis=0), *known[:, 2:].max(axis=0)] if len(known) else None
    else:
        bounds = pyogrio.read_info(source.file.location, layer=source.layer, force_total_bounds=True)["total_bounds"]
    return tuple(map(float, bounds)) if bounds is not None else (0.0, 0.0, 1.0, 1.0)


def read_batches(source: LandcoverMap) -> Iterator[PolygonBatch]:
    """Read all rows of a map in order; a damaged file raises :class:`InputError` with its first bad row."""
    row = 0
    without_locks(source.file.location)
    try:
        for codes, geometry in _read_parquet(source) if source.file.is_parquet else _read_with_gdal(source):
            yield PolygonBatch(row, codes, _areas_only(geometry))
            row += len(geometry)
    except (RuntimeError, OSError, ValueError, pa.ArrowException, shapely.errors.ShapelyError) as error:
        raise InputError(f"The land-cover map {source.path} cannot be read beyond row {row}: {error}.") from None
    if row != source.polygons:
        raise InputError(
            f"The land-cover map {source.path} declares {source.polygons:,} rows, but only {row:,} can be "
            "read; the file is damaged, download it again."
        )


def read_codes(source: LandcoverMap) -> Iterator[tuple[int, pa.Array]]:
    """Read the codes of a map without its polygons: batches with the number of their first row."""
    column, row = source.code_column, 0
    without_locks(source.file.location)
    try:
        for codes in _read_column(source):
            yield row, codes
            row += len(codes)
    except (RuntimeError, OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"The column {column} of {source.path} cannot be read beyond row {row}: {error}.") from None


def _read_column(source: LandcoverMap) -> Iterator[pa.Array]:
    names = [source.code_column]
    if source.file.is_parquet:
        for part in parquet_parts(source.file):
            yield from (batch.column(0) for batch in pq.ParquetFile(part).iter_batches(ROWS_AT_ONCE, columns=names))
        return
    options: dict[str, Any] = {"layer": source.layer, "columns": names, "read_geometry": False}
    with pyogrio.open_arrow(source.file.location, batch_size=ROWS_AT_ONCE, use_pyarrow=True, **options) as (_, reader):
        yield from (batch.column(source.code_column) for batch in reader)


def content_digest(source: LandcoverMap) -> str:
    """SHA-256 of the codes and polygons of a map in the order of its rows."""
    digest = hashlib.sha256()
    for batch in read_batches(source):
        update_digest(digest, batch.codes, shapely.to_wkb(batch.geometry, byte_order=1))
    return digest.hexdigest()


def update_digest(digest: hashlib._Hash, codes: pa.Array, polygons: npt.NDArray[np.object_]) -> None:
    """Add codes and polygons (WKB, little-endian) of a batch, independent of how rows are divided into batches."""
    for code, polygon in zip(codes.to_pylist(), polygons.tolist(), strict=True):
        digest.update(f"{code}\0{len(polygon or b'')}\0".encode())
        digest.update(polygon or b"")


def _read_with_gdal(source: LandcoverMap) -> Iterator[tuple[pa.Array, npt.NDArray[Any]]]:
    wanted: dict[str, Any] = {"layer": source.layer, "columns": [source.code_column], "return_fids": True}
    opened = pyogrio.open_arrow(source.file.location, batch_size=ROWS_AT_ONCE, use_pyarrow=True, **wanted)
    with opened as (metadata, reader):
        column = metadata["geometry_name"] or "wkb_geometry"
        for batch in reader:
            yield batch.column(source.code_column), _decode(source, batch.column(column), batch.column(0))


def _read_parquet(source: LandcoverMap) -> Iterator[tuple[pa.Array, npt.NDArray[Any]]]:
    """Read parts in batches; geometries in other encodings than WKB are read a part at once."""
    for part in parquet_parts(source.file):
        opened = pq.ParquetFile(part)
        column, metadata = geo_metadata(opened)
        if metadata["encoding"] != "WKB":
            table = gpd.read_parquet(part)
            yield pa.array(table[source.code_column], from_pandas=True), table.geometry.to_numpy()
            continue
        for batch in opened.iter_batches(ROWS_AT_ONCE, columns=[source.code_column, column]):
            wkb = batch.column(column)
            wkb = wkb.storage if isinstance(wkb, pa.ExtensionArray) else wkb
            yield batch.column(source.code_column), shapely.from_wkb(wkb.to_numpy(zero_copy_only=False))


def _named(path: str, layers: list[Layer], name: str) -> list[Layer]:
    found = [layer for layer in layers if layer.name == name]
    if not found:
        names = [layer.name for layer in layers]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"its layers of polygons are {', '.join(names) or 'none'}."
        raise InputError(f"{_MAP} {path} has no layer {name} of polygons; {hint}")
    return found


def _chosen(path: str, maps: list[tuple[Layer, str]]) -> tuple[Layer, str]:
    """Take the layer named as its file, then the newest year, of the least nested files."""
    depth = min(len(layer.file.inside.parts) for layer, _ in maps)
    near = [(layer, column) for layer, column in maps if len(layer.file.inside.parts) == depth]
    several_files = len({layer.file for layer, _ in near}) > 1
    package = f"{Path(path).stem.lower()}_" if near[0][0].file.location != path else ""

    def rank(candidate: tuple[Layer, str]) -> tuple[bool, int]:
        layer, column = candidate
        name = layer.name.lower()
        is_named = package.startswith(f"{name}_") or (not several_files and name == layer.file.stem.lower())
        return is_named, _year(column) or 0

    best = max(map(rank, near))
    chosen = [candidate for candidate in near if rank(candidate) == best]
    if len(chosen) > 1:
        names = ", ".join(layer_names([layer for layer, _ in chosen]))
        raise InputError(
            f"{_MAP} {path} holds several maps, and none is newer than the others: {names}. Name one of them: "
            f"{path}:{chosen[0][0].name}, or give its file."
        )
    return chosen[0]


def _find_code_column(layer: Layer, wanted: str | None) -> str | None:
    by_lower = {field.lower(): field for field in layer.fields}
    if wanted is not None:
        return by_lower.get(wanted.lower())
    dated = _dated_columns(layer)
    if len(dated) > 1:
        return None
    return next(iter([*dated, *(by_lower[name] for name in UNDATED_COLUMNS if name in by_lower)]), None)


def _dated_columns(layer: Layer) -> list[str]:
    return [field for field in layer.fields if _year(field)]


def _year(column: str) -> int | None:
    if (match := _DATED_COLUMN.fullmatch(column)) is None:
        return None
    year = int(match[1])
    return year + (2000 if year < _FIRST_YEAR else 1900)


def _explain_columns(path: str, layers: list[Layer], wanted: str | None) -> str:
    fields = sorted({field for layer in layers for field in layer.fields})
    expected = wanted or "Code_18"
    if any(_find_code_column(layer, wanted) for layer in layers):
        return f"{_MAP} {path} has no coordinate reference system; assign the one it was made in."
    if changes := [layer for layer in layers if len(_dated_columns(layer)) > 1 and wanted is None]:
        columns = ", ".join(_dated_columns(changes[0]))
        return (
            f"{_MAP} {path} holds changes, not a map: the layer {changes[0].name} has the codes of several years "
            f"({columns}). Give the map of one year, or --code-column if the layer covers the whole area."
        )
    near = difflib.get_close_matches(expected, fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"its columns are {', '.join(fields) or 'none'}."
    return f"{_MAP} {path} has no column {expected} with the class codes; {hint} Set --code-column."


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
        again = pyogrio.read_dataframe(source.file.location, layer=source.layer, columns=[], fids=fids[curved])
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
