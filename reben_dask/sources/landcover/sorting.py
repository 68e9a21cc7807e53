"""Spatial sort of a vector map, in two passes and bounded memory.

A GeoPackage can be read only sequentially, its polygons have no useful order, and the map of Europe does not
fit into memory. The first pass reads batches and writes each polygon to an on-disk bucket, one per stretch of a Hilbert
curve; the second sorts the buckets one by one and writes full parts.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import shapely

from reben_dask.atomic import atomic_path
from reben_dask.errors import InputError, OutputError
from reben_dask.nomenclature import code_text
from reben_dask.sources.landcover.sorted_map import SortedMap, is_sorted_landcover, part_name, write_description
from reben_dask.sources.landcover.vector_map import (
    LandcoverMap,
    PolygonBatch,
    read_batches,
    read_codes,
    update_digest,
    whole_bounds,
)

POLYGONS_PER_PART = 8_000
"""A part of the official map is about 16 MB in memory, and a tile overlaps a handful of parts."""

POLYGONS_PER_ROW_GROUP = 1_000
"""A tile decodes only the row groups it overlaps."""

STRETCH_BITS = 10
"""1,024 stretches: each is a small share of any map larger than a city."""

_CURVE_BITS = 32
_MOST_CODES = 65_536
_SPILLED = pa.schema([("code", pa.uint16()), ("order", pa.int64()), ("curve", pa.uint32()), ("geometry", pa.binary())])
"""``code`` is the number of a code in order of appearance, ``order`` the row in the source, ``curve`` the position on
the curve, ``geometry`` WKB."""


def sort_landcover(
    source: LandcoverMap, destination: Path, advance: Callable[[int], None] = lambda _: None
) -> SortedMap:
    """Write a map as spatially sorted GeoParquet parts with a bbox covering; it is streamed in bounded memory.

    Parameters
    ----------
    destination : Path
        Folder for the parts, visible only when complete; kept if it holds the same map already.
    advance : callable
        Called with numbers of rows, which add up to those of the map.

    Raises
    ------
    InputError
        If the map cannot be read, or a code is missing.
    OutputError
        If something else is at ``destination``.
    """
    if destination.exists():
        return _require_same(source, destination)
    advance = _of_two_passes(advance)
    # Another job may sort the same map, and be faster: its copy stays.
    with atomic_path(destination, keep_existing=True) as draft:
        draft.mkdir()
        spill = _Spill(draft.parent / "spill.arrow")
        codes = _Codes(source)
        left_out = 0
        extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
        bounds = whole_bounds(source)
        digest = hashlib.sha256()
        for batch in read_batches(source):
            has_area = ~shapely.is_missing(batch.geometry)
            polygons = shapely.to_wkb(batch.geometry, byte_order=1)
            table = _spilled(batch, codes.number(batch.codes, batch.first_row), polygons, has_area, bounds)
            update_digest(digest, batch.codes, polygons)
            spill.add(table.filter(has_area))
            extent = _united(extent, batch.geometry[has_area])
            left_out += int(np.count_nonzero(~has_area))
            advance(len(has_area))
        advance(left_out)
        for number, part in enumerate(_parts(spill.stretches())):
            _write_part(part, codes.as_written[part["code"].to_numpy()], draft / part_name(number), source.crs)
            advance(part.num_rows)
        write_description(draft, source, codes.counts, tuple(extent.tolist()), left_out, digest.hexdigest())
    return _require_same(source, destination)


def count_codes(source: LandcoverMap) -> dict[str, dict[str, int]]:
    """Count ``rows`` and ``first_row`` of each code of a map, reading no polygon; errors as :func:`sort_landcover`."""
    codes = _Codes(source)
    for first_row, batch in read_codes(source):
        codes.number(batch, first_row)
    return codes.counts


def _of_two_passes(advance: Callable[[int], None]) -> Callable[[int], None]:
    """Call ``advance`` with half of the rows, for passes that count each row twice."""
    passed = 0

    def count(rows: int) -> None:
        nonlocal passed
        before, passed = passed // 2, passed + rows
        advance(passed // 2 - before)

    return count


class _Codes:
    """Codes of a map, numbered and counted as they appear."""

    def __init__(self, source: LandcoverMap) -> None:
        self._source = source
        self._number_of: dict[str, int] = {}
        self.counts: dict[str, dict[str, int]] = {}

    def number(self, found: pa.Array, first_row: int) -> npt.NDArray[np.uint16]:
        """Count a batch of codes, and return their numbers."""
        places, values = pd.factorize(found.to_pandas())
        texts = ["" if value is None else code_text(value) for value in values]
        is_missing = np.array([*(not text for text in texts), True])[places]
        if is_missing.any():
            row = int(np.flatnonzero(is_missing)[0])
            raise InputError(
                f"The land-cover map {self._source.path} has the code {found[row].as_py()!r} (column "
                f"{self._source.code_column}, row {first_row + row}), which is not a code; repair or remove such rows."
            )
        numbers = np.array([self._number_of.setdefault(text, len(self._number_of)) for text in texts], int)
        if len(self._number_of) > _MOST_CODES:
            raise InputError(
                f"The column {self._source.code_column} of the land-cover map {self._source.path} has more than "
                f"{_MOST_CODES:,} different values, too many for class codes; set --code-column."
            )
        for text, first, rows in zip(texts, _first_places(places), np.bincount(places).tolist(), strict=True):
            self.counts.setdefault(text, {"rows": 0, "first_row": first_row + first})["rows"] += rows
        return numbers.astype(np.uint16)[places]

    @property
    def as_written(self) -> npt.NDArray[Any]:
        """Codes by number: uint16, or text if one is not a whole number from 1 to 65535."""
        texts = list(self._number_of)
        numbers = [int(text) if text.isascii() and text.isdigit() else 0 for text in texts]
        are_small = all(0 < number <= np.iinfo(np.uint16).max for number in numbers)
        return np.array(numbers, np.uint16) if are_small else np.array(texts, object)


def _first_places(places: npt.NDArray[np.int64]) -> list[int]:
    """First position of each of the values 0, 1, … of an array."""
    first: list[int] = np.unique(places, return_index=True)[1].tolist()
    return first


class _Spill:
    """On-disk buckets for an external sort along the Hilbert curve; one file, written once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = pa.ipc.new_file(str(path), _SPILLED)
        self._batches: dict[int, list[int]] = defaultdict(list)
        self._written = 0

    def add(self, table: pa.Table) -> None:
        if not len(table):
            return
        in_order = table.sort_by("curve").combine_chunks()
        stretch = in_order["curve"].to_numpy() >> np.uint32(_CURVE_BITS - STRETCH_BITS)
        numbers, starts = np.unique(stretch, return_index=True)
        stops = [*starts[1:].tolist(), len(stretch)]
        for number, start, stop in zip(numbers.tolist(), starts.tolist(), stops, strict=True):
            for batch in in_order.slice(start, stop - start).to_batches():
                self._writer.write_batch(batch)
                self._batches[number].append(self._written)
                self._written += 1

    def stretches(self) -> Iterator[pa.Table]:
        """Rows of each non-empty bucket along the curve; ends writing."""
        self._writer.close()
        # Not memory-mapped: Dask counts mapped pages against a worker's memory.
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_file(file) as reader:
            for number in sorted(self._batches):
                yield pa.Table.from_batches([reader.get_batch(batch) for batch in self._batches[number]], _SPILLED)


def _spilled(
    batch: PolygonBatch,
    codes: npt.NDArray[np.uint16],
    polygons: npt.NDArray[np.object_],
    has_area: npt.NDArray[np.bool_],
    bounds: tuple[float, ...],
) -> pa.Table:
    curve = np.zeros(len(has_area), np.uint32)
    if has_area.any():
        curve[has_area] = gpd.GeoSeries(batch.geometry[has_area]).hilbert_distance(bounds)
    columns = {
        "code": codes,
        "order": batch.first_row + np.arange(len(has_area)),
        "curve": curve,
        "geometry": polygons,
    }
    return pa.table(columns, schema=_SPILLED)


def _united(extent: npt.NDArray[np.float64], areas: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    bounds = np.vstack([extent, shapely.bounds(areas)])
    return np.concatenate([bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)])


def _parts(stretches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Full parts across stretches; at least one, which may be empty."""
    rest, number = _SPILLED.empty_table(), 0
    for stretch in stretches:
        rest = pa.concat_tables([rest, stretch.sort_by([("curve", "ascending"), ("order", "ascending")])])
        while len(rest) >= POLYGONS_PER_PART:
            yield rest.slice(0, POLYGONS_PER_PART)
            rest = rest.slice(POLYGONS_PER_PART)
            number += 1
    if len(rest) or not number:
        yield rest


def _write_part(part: pa.Table, codes: npt.NDArray[Any], path: Path, crs: str) -> None:
    columns = {"code": codes, "order": part["order"].to_numpy()}
    frame = gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries.from_wkb(part["geometry"].to_numpy(), crs=crs))
    frame.to_parquet(
        path, index=False, write_covering_bbox=True, compression="zstd", row_group_size=POLYGONS_PER_ROW_GROUP
    )


def _require_same(source: LandcoverMap, destination: Path) -> SortedMap:
    if is_sorted_landcover(destination) and SortedMap(destination).description["source"] == source.identity:
        return SortedMap(destination)
    raise OutputError(f"{destination} exists, and is not a sorted copy of {source.path}; give another name.")
