"""Catalogue of a dataset: its items follow from the patch table and the sizes of tiles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.formats.columns import TILE
from reben_dask.formats.dataset import CATALOGUE
from reben_dask.formats.stac import PATCHES, STAC_GEOPARQUET_KEY, TILES, CatalogueContents
from reben_dask.stores.stac import read_patch_items, read_tile_item
from reben_dask.verify.dataset import Dataset, Tile
from reben_dask.verify.findings import Check, collect, differences
from reben_dask.wording import counted

_TILE_COLUMN = {PATCHES: f"reben:{TILE}", TILES: "id"}
"""Column with the name of the tile, by collection."""


def verify_catalogue(dataset: Dataset, folder: Path, contents: CatalogueContents) -> Iterator[Check]:
    """Compare the items of patches and tiles, tile by tile, with those that the patch table implies."""
    yield _verify(dataset, folder, PATCHES, lambda part, _: read_patch_items(part, contents))
    yield _verify(dataset, folder, TILES, lambda part, tile: read_tile_item(part, tile.grids[0], contents))


def _verify(dataset: Dataset, folder: Path, name: str, items_of: Callable[[Path, Tile], pa.Table]) -> Check:
    check, path = Check(f"Catalogue of {name}"), folder / f"{name}.parquet"
    # Parts that cannot be read are problems of the patch table.
    read = {part: dataset.read_sound(part) for part in dataset.parts}
    count, is_whole = 0, None not in read.values()
    place, column = f"{CATALOGUE}/{path.name}", _TILE_COLUMN[name]
    with collect(check, place):
        found = pq.ParquetFile(path)
        if STAC_GEOPARQUET_KEY not in (found.schema_arrow.metadata or {}):
            check.problem(f"{place} has no metadata of STAC-GeoParquet")
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for part, tile in read.items():
            if tile is None:
                continue
            wanted = items_of(part, tile)
            count += len(wanted)
            rows = pq.read_table(path, filters=[(column, "=", part.stem)])
            check.add(_faults(rows, wanted), place)
        if read and is_whole and found.metadata.num_rows != count:
            check.problem(f"{place} has {found.metadata.num_rows:,} items, not {count:,}")
    check.summary = counted(count, "item")
    check.not_checked = None if read else "there is no patch table"
    return check


def _faults(found: pa.Table, wanted: pa.Table) -> Iterator[str]:
    """Phrases for items that are missing, or differ."""
    if found.schema.names != wanted.schema.names:
        yield f"has the columns {', '.join(found.schema.names)}, not {', '.join(wanted.schema.names)}"
        return
    if found.equals(wanted):
        return
    rows = {row["id"]: row for row in found.to_pylist()}
    for row in wanted.to_pylist():
        if row["id"] not in rows:
            yield f"has no {row['id']}"
        else:
            yield from (f"{row['id']} {fault}" for fault in differences(rows[row["id"]], row))
    known = pc.is_in(found["id"], wanted["id"].combine_chunks())
    yield from (f"has {name}, which is not kept" for name in found.filter(pc.invert(known))["id"].to_pylist())
