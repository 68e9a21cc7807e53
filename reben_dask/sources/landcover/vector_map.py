"""Land-cover vector maps as they are published: any file that GDAL reads."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyogrio

from reben_dask.errors import InputError, missing
from reben_dask.sources.vector_files import files_of

CODE_COLUMNS = ("code_18", "clc_code", "code", "code_12", "code_06", "code_00", "clc")
"""Names, in small letters, under which releases of CORINE and its relatives keep the class code."""


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
    about : str
        What the layer says of itself, such as the description of a layer of a GeoPackage; mostly nothing.
    """

    path: str
    layer: str
    code_column: str
    crs: str
    polygons: int
    bounds: tuple[float, ...] | None = None
    about: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this map from others and from later versions of the same file."""
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
        """What a run record keeps of the map."""
        facts = {"crs": self.crs, "polygons": self.polygons, "about": self.about}
        return {"path": self.path, **facts, "source": self.identity}

    @property
    def cache_name(self) -> str:
        """Name for a sorted copy; a changed map, or another layer or column of it, has another name."""
        digest = hashlib.sha256(repr(sorted(self.identity.items())).encode()).hexdigest()
        return f"{Path(self.path).stem}-{digest[:8]}.parquet"


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
        raise InputError(missing("The land-cover map", path))
    try:
        layers = [(name, kind) for name, kind in pyogrio.list_layers(path) if kind and _may_hold_polygons(kind)]
        descriptions = [pyogrio.read_info(path, layer=name, force_feature_count=True) for name, _ in layers]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"The land-cover map {path} cannot be read ({str(error).rstrip('.')}).") from None
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
                about=(description["layer_metadata"] or {}).get("DESCRIPTION", ""),
            )
    raise InputError(_explain_columns(path, descriptions, code_column))


def _may_hold_polygons(kind: str) -> bool:
    """Many programs declare a layer's geometry as unknown; what it holds is seen when it is read."""
    return "Polygon" in kind or "Surface" in kind or kind in {"Unknown", "Geometry", "GeometryCollection"}


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
