"""From a vector map as it is published to a sorted map, in two passes and bounded memory.

A GeoPackage can be read only from its beginning to its end, its polygons lie in no useful order, and the map of Europe
does not fit into memory. The first pass therefore reads it in batches and lays each polygon aside by the stretch of a
Hilbert curve on which it lies; the second takes up one stretch after the other, sorts it and writes full parts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyogrio
import shapely

from reben_dask.errors import InputError, OutputError
from reben_dask.sources.landcover.polygons import PolygonBatch, read_batches
from reben_dask.sources.landcover.sorted_map import SortedMap, describe, is_sorted_landcover, part_name
from reben_dask.sources.landcover.spill import SPILLED, Spill
from reben_dask.sources.landcover.vector_map import LandcoverMap

POLYGONS_PER_PART = 8_000
"""A part of the official map is then about 16 MB in memory, and a tile overlaps a handful of parts."""

POLYGONS_PER_ROW_GROUP = 1_000
"""Within a part, a tile decodes only the row groups it overlaps."""


def sort_landcover(
    source: LandcoverMap, destination: Path, advance: Callable[[int], None] = lambda _: None
) -> SortedMap:
    """Write a map as spatially sorted GeoParquet parts with a bbox covering.

    Parameters
    ----------
    source : LandcoverMap
        The map as published. It is streamed: memory does not grow with its size.
    destination : Path
        Folder for the parts. It appears when it is complete; if the same map is there already, nothing is done.
    advance : callable
        Called with a number of rows as they pass; each passes twice.

    Returns
    -------
    SortedMap
        What is at ``destination``.

    Raises
    ------
    InputError
        If a row has no code, or one that is not a whole number from 1 to 65535, or if the map cannot be read.
    OutputError
        If something else is at ``destination``.
    """
    if destination.exists():
        return _require_same(source, destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as scratch:
        building = Path(scratch) / "sorted"
        building.mkdir()
        codes: dict[int, dict[str, int]] = {}
        left_out = 0
        extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
        spill = Spill(Path(scratch) / "spill.arrow")
        bounds = _whole_bounds(source)
        for batch in read_batches(source):
            table = _checked(batch, source, bounds)
            _count(codes, table["code"].to_numpy(), batch.first_row)
            spill.add(table.filter(batch.has_area))
            extent = _united(extent, batch)
            left_out += batch.rows - int(batch.has_area.sum())
            advance(batch.rows)
        advance(left_out)
        for number, part in enumerate(_parts(spill.stretches())):
            _write_part(part, building / part_name(number), source.crs)
            advance(part.num_rows)
        describe(building, source, codes, tuple(extent.tolist()), left_out)
        return _publish(building, source, destination)


def _whole_bounds(source: LandcoverMap) -> tuple[float, ...]:
    """Bounds of the map; from a format that does not keep them, they are gathered by reading it once more."""
    if source.bounds is not None:
        return source.bounds
    bounds = pyogrio.read_info(source.path, layer=source.layer, force_total_bounds=True)["total_bounds"]
    return tuple(map(float, bounds)) if bounds is not None else (0.0, 0.0, 1.0, 1.0)


def _united(extent: npt.NDArray[np.float64], batch: PolygonBatch) -> npt.NDArray[np.float64]:
    """Bounds of what was seen before and of a batch."""
    bounds = shapely.bounds(batch.geometry[batch.has_area])
    low, high = (np.vstack([extent, bounds])[:, half] for half in (slice(0, 2), slice(2, 4)))
    return np.concatenate([low.min(axis=0), high.max(axis=0)])


def _checked(batch: PolygonBatch, source: LandcoverMap, bounds: tuple[float, ...]) -> pa.Table:
    areal = batch.has_area
    curve = np.zeros(batch.rows, np.uint32)
    if areal.any():
        curve[areal] = gpd.GeoSeries(batch.geometry[areal]).hilbert_distance(bounds)
    columns = {
        "code": _checked_codes(batch, source),
        "order": batch.first_row + np.arange(batch.rows),
        "curve": curve,
        "geometry": shapely.to_wkb(batch.geometry),
    }
    return pa.table(columns, schema=SPILLED)


def _checked_codes(batch: PolygonBatch, source: LandcoverMap) -> npt.NDArray[np.uint16]:
    codes: pd.Series[Any] = pd.to_numeric(batch.codes.to_pandas(), errors="coerce")
    wrong = ~(codes.between(1, np.iinfo(np.uint16).max) & (codes % 1 == 0)).to_numpy(bool)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        code, row = batch.codes[first].as_py(), batch.first_row + first
        raise InputError(
            f"The land-cover map {source.path} has the code {code!r} (column {source.code_column}, row {row}), "
            "which is not a number of a class; mend or remove such rows."
        )
    return codes.to_numpy(np.uint16)


def _count(codes: dict[int, dict[str, int]], found: npt.NDArray[np.uint16], first_row: int) -> None:
    values, first, counts = np.unique(found, return_index=True, return_counts=True)
    for code, position, count in zip(values.tolist(), first.tolist(), counts.tolist(), strict=True):
        codes.setdefault(code, {"rows": 0, "first_row": first_row + position})["rows"] += count


def _parts(stretches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Full parts, whatever the lengths of the stretches; at least one, which may be empty."""
    rest = SPILLED.empty_table()
    number = 0
    for stretch in stretches:
        rest = pa.concat_tables([rest, stretch.sort_by([("curve", "ascending"), ("order", "ascending")])])
        while len(rest) >= POLYGONS_PER_PART:
            yield rest.slice(0, POLYGONS_PER_PART)
            rest = rest.slice(POLYGONS_PER_PART)
            number += 1
    if len(rest) or not number:
        yield rest


def _write_part(part: pa.Table, path: Path, crs: str) -> None:
    columns = {name: part[name].to_numpy() for name in ("code", "order")}
    geometry = gpd.GeoSeries.from_wkb(part["geometry"].to_numpy(), crs=crs)
    frame = gpd.GeoDataFrame(columns, geometry=geometry)
    frame.to_parquet(
        path, index=False, write_covering_bbox=True, compression="zstd", row_group_size=POLYGONS_PER_ROW_GROUP
    )


def _publish(building: Path, source: LandcoverMap, destination: Path) -> SortedMap:
    try:
        building.rename(destination)
    except OSError:
        # Another job may have been sorting the same map, and was faster.
        return _require_same(source, destination)
    return SortedMap(destination)


def _require_same(source: LandcoverMap, destination: Path) -> SortedMap:
    if is_sorted_landcover(destination) and SortedMap(destination).description["source"] == source.identity:
        return SortedMap(destination)
    raise OutputError(f"{destination} exists, and is not a sorted copy of {source.path}; give another name.")
