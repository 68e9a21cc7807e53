"""Pixels of the Zarr store: the same as in the LMDB, and as the patch table says."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from reben_dask.errors import InputError
from reben_dask.patches.decision import KEPT
from reben_dask.patches.validity import NODATA_DN
from reben_dask.stores.arrays import open_array
from reben_dask.stores.lmdb_values import reference_map_key
from reben_dask.verify.cubes import Node, has_radar, nodes_of, patches_of_shard
from reben_dask.verify.entries import Values
from reben_dask.verify.expected import Expected, Kind
from reben_dask.verify.findings import Check, collect, counted, one_sentence
from reben_dask.verify.labels import LabelReader
from reben_dask.verify.part import Part, is_true, readable_part
from reben_dask.verify.settings import Settings

STAGE = "verify-pixels"
LEAST_PATCHES = 8
"""Patches of a tile, at least, that a sample has."""

Images = dict[str, npt.NDArray[Any]]


class Candidate(NamedTuple):
    """A row of the patch table, as far as it can be seen in pixels."""

    patch_id: str
    x: int
    y: int
    is_kept: bool
    s1_name: str | None
    nodata: bool
    labels: tuple[str, ...]
    labeled_fraction: float


def verify_pixels(
    store: Path, parts: Sequence[Path], environments: Sequence[Path], expected: Expected, settings: Settings
) -> Iterator[Check]:
    """Compare the pixels of the Zarr store with the LMDB, and with the patch table.

    A sample of the kept patches is read, at least one of each shard; with ``settings.full`` all patches, also those
    that were rejected. Reading a patch makes Zarr verify the checksum of its shard's index.

    Parameters
    ----------
    store : Path
        The Zarr store.
    parts : sequence of Path
        Part files of the patch table.
    environments : sequence of Path
        LMDB environments; a value that is not there is not compared.
    expected : Expected
        Bands, side of a patch, classes.
    settings : Settings
        How deep, and whom to tell of progress.

    Yields
    ------
    Check
        For equality, and for NODATA and labels.
    """
    settings.progress.begin(STAGE, len(parts))
    with Values(environments) as values:
        comparison = _Comparison(values, expected)
        nodes = nodes_of(expected, radar=has_radar(store))
        for path in parts:
            part = readable_part(path, expected.patch_m)
            # A tile that is missing altogether was told of by the check of the cubes.
            if part is not None and part.is_observed and (store / part.tile).is_dir():
                with collect(comparison.equal, part.tile):
                    comparison.add(CubeReader(store, part, nodes), full=settings.full)
            settings.progress.advance(STAGE)
    what = "" if settings.full else ", a sample"
    comparison.equal.summary = counted(comparison.compared, "patch") + what
    comparison.seen.summary = counted(comparison.read, "patch") + what
    yield comparison.equal
    yield comparison.seen


class CubeReader:
    """Pixels of one tile, read in windows of patches.

    Parameters
    ----------
    store : Path
        The Zarr store.
    part : Part
        Patches of the tile.
    nodes : sequence of Node
        Arrays of the tile.
    """

    def __init__(self, store: Path, part: Part, nodes: Sequence[Node]) -> None:
        self.part = part
        self._arrays = {node: open_array(store / part.tile / node.path / node.name, "r") for node in nodes}
        self._side = {node: part.patch_m // node.resolution_m for node in self._arrays}

    def sample(self) -> Iterator[tuple[Candidate, Images | str]]:
        """One kept patch of each shard, and some more of a small tile, chosen by their names; as :meth:`all`."""
        of_shard = min(map(patches_of_shard, self._arrays.values()))
        kept = [row for row in self._candidates() if row.is_kept]
        shuffled = sorted(kept, key=lambda row: zlib.crc32(row.patch_id.encode()))
        of_each = {(row.x // of_shard, row.y // of_shard): row for row in reversed(shuffled)}
        chosen = {row.patch_id: row for row in (*of_each.values(), *shuffled[:LEAST_PATCHES])}
        return ((row, self._read_one(row)) for row in chosen.values())

    def all(self) -> Iterator[tuple[Candidate, Images | str]]:
        """Each patch with its images by name, the map as ``Data``; or a phrase that says why they cannot be read.

        A column of patches is read in one piece, so that a chunk is decoded once.
        """
        columns: dict[int, list[Candidate]] = {}
        for row in self._candidates():
            columns.setdefault(row.x, []).append(row)
        for x, column in columns.items():
            try:
                images = self._read(x, 0, 1 + max(row.y for row in column))
            except InputError:
                yield from ((row, self._read_one(row)) for row in column)
            else:
                yield from ((row, self._cut(images, row.y)) for row in column)

    def _candidates(self) -> list[Candidate]:
        table = self.part.table
        names = ("patch_id", "x", "y", "status", "s1_name", "labels", "labeled_fraction")
        nodata = is_true(table, "nodata").tolist()
        rows = zip(*(table[name].to_pylist() for name in names), nodata, strict=True)
        return [
            Candidate(patch_id, x, y, status == KEPT, s1_name, empty, tuple(labels or ()), fraction or 0.0)
            for patch_id, x, y, status, s1_name, labels, fraction, empty in rows
        ]

    def _read_one(self, row: Candidate) -> Images | str:
        try:
            return self._cut(self._read(row.x, row.y, row.y + 1), 0)
        except InputError as error:
            return str(error)

    def _read(self, x: int, start: int, stop: int) -> dict[Node, npt.NDArray[Any]]:
        images = {}
        for node, array in self._arrays.items():
            side = self._side[node]
            try:
                images[node] = np.asarray(array[..., start * side : stop * side, x * side : (x + 1) * side])
            except Exception as error:  # noqa: BLE001 - damaged shards make codecs raise anything
                raise InputError(f"cannot be read from {node.path} ({one_sentence(error)})") from None
        return images

    def _cut(self, images: dict[Node, npt.NDArray[Any]], y: int) -> Images:
        named: Images = {}
        for node, pixels in images.items():
            side = self._side[node]
            patch = pixels[..., y * side : (y + 1) * side, :]
            named |= dict(zip(node.images, patch[np.newaxis] if node.axis is None else patch, strict=True))
        return named


class _Comparison:
    """Pixels of patches beside the LMDB and the patch table."""

    def __init__(self, values: Values, expected: Expected) -> None:
        self.equal, self.seen = Check("Zarr pixels as in the LMDB"), Check("Zarr pixels as in the patch table")
        self.compared = self.read = 0
        self._values, self._labels = values, LabelReader(expected.nomenclature)
        self._bands = tuple(expected.layers[Kind.S2])

    def add(self, reader: CubeReader, *, full: bool) -> None:
        for row, images in reader.all() if full else reader.sample():
            if isinstance(images, str):
                self.seen.problem(f"{row.patch_id} {images}")
                continue
            self.read += 1
            self.seen.add(f"{row.patch_id} {fault}" for fault in self._faults(row, images))
            if row.is_kept:
                self._compare(row, images)

    def _faults(self, row: Candidate, images: Images) -> Iterator[str]:
        empty = [name for name in self._bands if np.any(images[name] == NODATA_DN)]
        if row.nodata != bool(empty):
            yield f"has NODATA in {', '.join(empty)}" if empty else "has no NODATA"
        elif row.is_kept and empty:
            yield f"is kept, but has NODATA in {', '.join(empty)}"
        try:
            labels, fraction = self._labels.read(images["Data"])
        except ValueError as error:
            yield str(error)
            return
        if labels != row.labels:
            yield f"has the labels {', '.join(labels) or 'none'} in its map, but {', '.join(row.labels) or 'none'}"
        elif fraction != row.labeled_fraction:
            yield f"is labelled to {fraction:.4f} in its map, but {row.labeled_fraction:.4f}"

    def _compare(self, row: Candidate, images: Images) -> None:
        with collect(self.equal, row.patch_id):
            found: Images = {}
            for key in (row.patch_id, reference_map_key(row.patch_id), row.s1_name):
                value = None if key is None else self._values.get(key)
                found |= {} if value is None else load(bytes(value))
            self.compared += bool(found)
            # What is not there at all was told of when the entries were read.
            other = [name for name in images if name in found and not _are_equal(images[name], found[name])]
            if other:
                named = ["its reference map" if name == "Data" else name for name in other]
                self.equal.problem(f"{row.patch_id} differs in {', '.join(named)}")


def _are_equal(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f" and right.dtype.kind == "f")
