"""The polygons of a vector map, as a stream of batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyogrio
import shapely

from reben_dask.errors import InputError
from reben_dask.sources.landcover.vector_map import LandcoverMap

ROWS_AT_ONCE = 16_384
"""A batch of the official map is about 40 MB, and as much again as geometries."""

_POLYGON, _MULTIPOLYGON, _CURVE_POLYGON, _MULTISURFACE = 3, 6, 10, 12


@dataclass(frozen=True)
class PolygonBatch:
    """Some rows of a map, in its order.

    Parameters
    ----------
    first_row : int
        Position of the first of them in the map, from 0.
    codes : Array
        Class codes as the map has them.
    geometry : ndarray of Geometry, shape (row,)
        Polygons and multipolygons in two dimensions; ``None`` where the row has none with finite coordinates.
    """

    first_row: int
    codes: pa.Array
    geometry: npt.NDArray[Any]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.geometry)

    @property
    def has_area(self) -> npt.NDArray[np.bool_]:
        """Which rows are polygons, shape ``(row,)``."""
        mask: npt.NDArray[np.bool_] = ~shapely.is_missing(self.geometry)
        return mask


def read_batches(source: LandcoverMap) -> Iterator[PolygonBatch]:
    """Read a map from its beginning to its end.

    Raises
    ------
    InputError
        If the file is damaged.
    """
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
            f"The land-cover map {source.path} has {source.polygons:,} rows by its own account, but {row:,} can be "
            "read; the file is damaged, download it again."
        )


def _decode(source: LandcoverMap, wkb: pa.Array, fids: pa.Array) -> npt.NDArray[Any]:
    encoded = wkb.to_numpy(zero_copy_only=False)
    try:
        geometry: npt.NDArray[Any] = shapely.from_wkb(encoded)
    except (NotImplementedError, shapely.errors.GEOSException):
        return _decode_by_kind(source, encoded, fids.to_numpy())
    return geometry


def _decode_by_kind(source: LandcoverMap, encoded: npt.NDArray[Any], fids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As GEOS knows no arcs, polygons bounded by them are read again, in straight pieces; other kinds are left out."""
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
    """Kind of a geometry, whatever its dimensions: ISO adds thousands to it, older WKB sets high bits."""
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
