"""Polygon layers of vector files: countries, attributes of patches, outlines for a map."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyogrio

from reben_dask.errors import InputError, missing
from reben_dask.sources.vector_files import (
    Layer,
    VectorFile,
    find_layers,
    layer_names,
    parquet_parts,
    split_layer,
    without_locks,
)

if TYPE_CHECKING:
    import geopandas

_OTHER_GEOMETRY = ("Point", "LineString")
_COUNTRIES = "The countries file"
_NAME_COLUMNS = ("name", "name_engl", "country", "shapename", "name_0", "admin", "cntr_name", "name_en", "name_long")
"""Lower-case names of columns with English country names (Natural Earth, GISCO, GADM, …), in order of preference."""


@dataclass(frozen=True)
class CountryLayer:
    """Layer and column of a file of country polygons, and the names that are used."""

    path: str
    """As given."""

    file: VectorFile
    layer: str
    column: str
    names: tuple[str, ...] | None
    """Countries used; ``None`` for all of the layer."""

    found: tuple[str, ...]
    """Those of them that the layer has, in alphabetical order."""


def open_countries(path: str, listed: tuple[str, ...] | None = None, *, only_listed: bool = False) -> CountryLayer:
    """Find the layer of country polygons of a file, the column of their names, and the countries to use.

    The layer in which most of the listed countries occur is taken; of several, the one named as its file. All of its
    countries are used, except with ``only_listed``.

    Parameters
    ----------
    path : str
        Vector file, or a zip archive or folder that holds one; ``FILE:LAYER`` names a layer.
    listed : tuple of str, optional
        Names that identify the column: the text column in which most of them occur. Without them, or where none of
        them occurs, the column is ``NAME`` or the like.
    only_listed : bool
        Leave out all other countries of the file.

    Raises
    ------
    InputError
        If the file is unreadable; if no layer, or no single one, has polygons with names and a coordinate reference
        system.
    """
    given, wanted = split_layer(path)
    layers = [layer for layer in find_layers(given, _COUNTRIES) if wanted in {None, layer.name}]
    # The whole Natural Earth package has more than 100 layers.
    layers = [layer for layer in layers if "countries" in layer.name.lower()] or layers
    if not any(layer.crs for layer in layers):
        named = f" in the layer {wanted}" if wanted else ""
        raise InputError(f"{_COUNTRIES} {given} has no polygons with a coordinate reference system{named}.")
    ranked: list[tuple[tuple[int, bool, bool], Layer, str, set[str]]] = []
    for layer in layers:
        table = _read_names(layer)
        if layer.crs and (column := _name_column(table, listed, only_listed=only_listed)):
            names = set(table[column].dropna())
            is_named = layer.name.lower() == layer.file.stem.lower()
            rank = (len(names & set(listed or ())), layer.name.lower().endswith("countries"), is_named)
            ranked.append((rank, layer, column, names))
    if not ranked:
        who = ", ".join(listed) if listed and only_listed else "any country"
        raise InputError(f"{_COUNTRIES} {given} has no column that names {who}; give a file with their names.")
    best = max(rank for rank, *_ in ranked)
    (_, layer, column, present), *others = (each for each in ranked if each[0] == best)
    if others:
        equal = ", ".join(layer_names([layer, *(other for _, other, *_ in others)]))
        raise InputError(
            f"{_COUNTRIES} {given} has several layers of countries: {equal}. Name one of them: {given}:{layer.name}."
        )
    counted = listed if listed and (only_listed or present <= set(listed)) else None
    found = tuple(sorted(present if counted is None else present & set(counted)))
    return CountryLayer(path, layer.file, layer.name, column, counted, found)


def read_countries(layer: CountryLayer) -> geopandas.GeoDataFrame:
    """Read the polygons of the countries used: columns ``country`` and ``geometry``, one row per polygon."""
    table = _with_geometry(_read(layer.file, layer.layer, [layer.column], _COUNTRIES)).dropna(subset=layer.column)
    chosen = table if layer.names is None else table[table[layer.column].isin(layer.names)]
    return chosen[[layer.column, "geometry"]].rename(columns={layer.column: "country"}).reset_index(drop=True)


def polygons_digest(table: geopandas.GeoDataFrame) -> str:
    """SHA-256 of the first column and the polygons of a layer, whatever file they are in."""
    digest = hashlib.sha256(repr(table.iloc[:, 0].tolist()).encode())
    for polygon in table.geometry.to_wkb():
        digest.update(polygon)
    return digest.hexdigest()


def read_outlines(path: str) -> geopandas.GeoSeries:
    """Read all polygons of a vector file.

    :class:`InputError` if it is unreadable, or has no polygons with a coordinate reference system.
    """
    given, wanted = split_layer(path)
    layers = find_layers(given, _COUNTRIES)
    found = next((layer for layer in layers if layer.crs and wanted in {None, layer.name}), None)
    if found is None:
        raise InputError(f"{_COUNTRIES} {path} has no polygons with a coordinate reference system.")
    return _with_geometry(_read(found.file, found.name, [], _COUNTRIES)).geometry.reset_index(drop=True)


def read_attribute(path: str, column: str) -> geopandas.GeoDataFrame:
    """Read the polygons of a layer with one column, its name in any case.

    Returns
    -------
    GeoDataFrame
        Columns ``value`` (str) and ``geometry``, without rows in which one is missing.

    Raises
    ------
    InputError
        If the file is unreadable, has no coordinate reference system, or has no such column.
    """
    found = require_attribute(path, column)
    table = _with_geometry(pyogrio.read_dataframe(path, columns=[found])).rename(columns={found: "value"})
    chosen = table[["value", "geometry"]].dropna(subset="value").reset_index(drop=True)
    return chosen.assign(value=chosen["value"].map(_text).astype("str"))


def require_attribute(path: str, column: str) -> str:
    """Check the header of a layer for :func:`read_attribute`; return the column as the layer spells it."""
    if not Path(path).exists():
        raise InputError(missing("The layer", path))
    without_locks(path)
    try:
        info = pyogrio.read_info(path)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"The layer {path} cannot be read: {error}.") from None
    kind, fields = info["geometry_type"], [str(field) for field in info["fields"]]
    if info["crs"] is None or kind is None or any(other in kind for other in _OTHER_GEOMETRY):
        raise InputError(f"The layer {path} has no polygons with a coordinate reference system.")
    exact = [field for field in fields if field == column]
    found = next(iter([*exact, *(field for field in fields if field.lower() == column.lower())]), None)
    if found is None:
        raise InputError(
            f"The layer {path} has no column {column}; it has {', '.join(fields)}. "
            "Name one of them in the recipe (attributes)."
        )
    return found


def _read(file: VectorFile, layer: str | None, columns: list[str], what: str) -> geopandas.GeoDataFrame:
    import geopandas  # noqa: PLC0415 - takes long to import
    import pandas as pd  # noqa: PLC0415

    without_locks(file.location)
    try:
        if file.is_parquet:
            return pd.concat([geopandas.read_parquet(part) for part in parquet_parts(file)], ignore_index=True)
        return pyogrio.read_dataframe(file.location, layer=layer, columns=columns)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"{what} {file.location} cannot be read: {error}.") from None


def _read_names(layer: Layer) -> Any:
    """Text columns of a layer, without polygons."""
    import pandas as pd  # noqa: PLC0415 - takes long to import

    if layer.file.is_parquet:
        parts = [pd.read_parquet(part, columns=list(layer.fields)) for part in parquet_parts(layer.file)]
        return pd.concat(parts, ignore_index=True)
    return pyogrio.read_dataframe(layer.file.location, layer=layer.name, read_geometry=False)


def _with_geometry(table: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    return table[~(table.geometry.isna() | table.geometry.is_empty)]


def _name_column(table: Any, listed: tuple[str, ...] | None, *, only_listed: bool) -> str | None:
    """Text column that holds most of the listed names; of several, that of :data:`_NAME_COLUMNS`."""

    def place(column: str) -> int:
        name = column.lower()
        return _NAME_COLUMNS.index(name) if name in _NAME_COLUMNS else len(_NAME_COLUMNS)

    texts = sorted((column for column in table if table[column].dtype.kind in "OUT"), key=place)
    if listed:
        matches = {column: table.loc[table[column].isin(listed), column].nunique() for column in texts}
        best = max(matches, key=lambda column: int(matches[column]), default=None)
        if best is not None and (matches[best] or only_listed):
            return best if matches[best] else None
    return next((column for column in texts if place(column) < len(_NAME_COLUMNS)), None)


def _text(value: object) -> str:
    """Text of a value; GDAL returns whole numbers as floats where some are missing."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
