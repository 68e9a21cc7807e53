"""The Zarr store of a dataset: sound arrays, and patches and pixels as the patch table says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from reben_dask.formats.columns import KEPT
from reben_dask.formats.cube import Node, shard_patches
from reben_dask.verify.context import Context
from reben_dask.verify.cubes_group import kind_of
from reben_dask.verify.cubes_tile import Column, CubeStore, TileCube, sample
from reben_dask.verify.expected import Kind
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.part import Part, readable_parts
from reben_dask.wording import counted

STAGE = "verify-cubes"


def verify_cubes(path: Path, files: Sequence[Path], context: Context) -> Iterator[Check]:
    """Check the Zarr store of a dataset.

    A chunk that is not there reads as NODATA, or as a map without polygons, and no reader complains. So each chunk must
    be there of which the patch table knows that it holds something. Of the pixels a sample is read, in which there is a
    kept patch of each shard, or all of them. Reading makes Zarr verify the checksums of the shards' indices.

    Parameters
    ----------
    path : Path
        The Zarr store.
    files : sequence of Path
        Part files of the patch table.
    context : Context
        Bands, side of a patch, classes.

    Yields
    ------
    Check
        For the arrays, for their shards, and for their pixels.
    """
    expected, full = context.expected, context.settings.full
    store = CubeStore(path, expected, frozenset({Kind.S2, Kind.MAP}))
    shards, pixels = Check("Zarr shards"), Check("Zarr pixels as in the patch table")
    groups, unread, patches = set[str](), set[str](), 0
    advance = context.settings.begin(STAGE, len(files))
    for file in files:
        parts = readable_parts(file, expected)
        groups |= {part.group for part in parts if part.is_observed}
        if not parts:
            unread.add(file.stem)
        for part in (part for part in parts if part.is_observed):
            with collect(store.sound, part.group):
                cube = store.cube(part.group, part.grid())
                shards.add(_lost_chunks(cube, part) if cube else ())
                chosen = range(part.grid().shape_yx.x) if full else sample(part.kept_places())
                for column in cube.columns(chosen, pixels) if cube else ():
                    pixels.add(_column_faults(column, part))
                    patches += column.grid.size
        advance(1)
    # Of what cannot be read of the patch table, nobody knows the groups.
    strays = (group for group in store.groups if group not in groups and group.split("/")[0] not in unread)
    store.sound.add(f"{group} is a group of no tile" for group in strays)
    tiles = unread | {group.split("/")[0] for group in groups}
    store.sound.summary = counted(len(tiles), "tile")
    pixels.summary = counted(patches, "patch") + ("" if full else ", a sample")
    yield from (store.sound, shards, pixels)


def _lost_chunks(cube: TileCube, part: Part) -> Iterator[str]:
    """Chunks that must be there and are not, by shard."""
    holding = {
        Kind.S2: ~part.where(part.table["nodata"], cube.grid),
        Kind.MAP: part.where(pc.greater(part.table["labeled_fraction"], 0), cube.grid),
        Kind.S1: part.where(part.table["s1_name"].is_valid(), cube.grid),
    }
    side = shard_patches(cube.grid)
    for node in cube.nodes:
        lost = np.argwhere(holding[kind_of(node.name)] & ~cube.held(node)).tolist()
        for place, chunks in Counter((image, y // side, x // side) for image, y, x in lost).items():
            yield _shard_fault(cube, node, place, chunks)


def _shard_fault(cube: TileCube, node: Node, place: tuple[int, int, int], chunks: int) -> str:
    # The map has no axis for its one image.
    key = "/".join(map(str, ("c", *place[-len(node.encoding["chunks"]) :])))
    what = f"lacks {counted(chunks, 'patch')}" if (cube.path(node) / key).is_file() else "is missing"
    return f"{cube.group}/{node.name}/{node.variable}/{key} {what}"


def _column_faults(column: Column, part: Part) -> Iterator[str]:
    expected = part.expected
    empty, unknown = column.bands_with_nodata(), column.unknown_codes(expected.nomenclature)
    read = column.labels(expected)
    fractions = read["labeled_fraction"].tolist()
    labels = {name: read[name].tolist() for name in expected.label_columns}
    for y, row in part.column(column.x).items():
        faults = [_nodata_fault(row, empty[y])]
        if unknown[y] is not None:
            faults.append(f"holds the unknown code {unknown[y]} in its map")
        elif other := [name for name in labels if labels[name][y] != (row[name] or [])]:
            named = (", ".join(names or []) or "none" for names in (labels[other[0]][y], row[other[0]]))
            faults.append("has the {} {} in its map, but {}".format(other[0], *named))
        elif fractions[y] != (row["labeled_fraction"] or 0):
            faults.append(f"is labelled to {fractions[y]:.4f} in its map, but {row['labeled_fraction']}")
        yield from (f"{row['patch_id']} {fault}" for fault in faults if fault)


def _nodata_fault(row: Mapping[str, Any], empty: Sequence[str]) -> str | None:
    if bool(row["nodata"]) != bool(empty):
        return f"has NODATA in {', '.join(empty)}" if empty else "has no NODATA"
    return f"is kept, but has NODATA in {', '.join(empty)}" if empty and row["status"] == KEPT else None
