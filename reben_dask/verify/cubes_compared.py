"""Patches of the Zarr store, to compare those of other artefacts with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.formats.columns import KEPT
from reben_dask.formats.cube import group_of
from reben_dask.formats.trees.layout import CLASS_NUMBERS, number_of_code
from reben_dask.nomenclature import Nomenclature
from reben_dask.stores.cube_reader import ColumnReader, CubeGroup
from reben_dask.stores.patch_table import read_rows
from reben_dask.verify.cubes_tile import sample
from reben_dask.verify.expected import MAP_TENSOR, Kind
from reben_dask.verify.findings import Check, collect

Images = Mapping[str, npt.NDArray[Any]]

Place = tuple[str, int, int]
"""The group of a patch in the Zarr store, its column and its row."""

_COLUMNS = ("patch_id", "tile", "grid", "x", "y")
_READERS = 4
"""Groups of which a column is in memory."""

_READ: dict[Kind, Callable[[ColumnReader, int, int], Images]] = {
    Kind.S2: lambda reader, x, y: reader.patch(x, y).s2,
    Kind.S1: lambda reader, x, y: reader.patch(x, y).s1,
    Kind.MAP: lambda reader, x, y: {MAP_TENSOR: np.asarray(reader.patch(x, y).reference_map)},
}


class StorePatches:
    """Patches of a Zarr store; best asked for in the order of their places, see :meth:`place`.

    Parameters
    ----------
    store : Path
        The Zarr store.
    parts : sequence of Path
        Part files of the patch table, which says where patches are.
    nomenclature : Nomenclature
        Classes of the codes of its maps.
    full : bool
        Compare all kept patches, not a sample.
    """

    def __init__(self, store: Path, parts: Sequence[Path], nomenclature: Nomenclature, *, full: bool) -> None:
        self._places: dict[str, Place] = {}
        self._nomenclature = nomenclature
        self._reader = lru_cache(_READERS)(lambda group: ColumnReader(CubeGroup(store / group)))
        for part in parts:
            with collect(Check("the patch table")):
                groups: dict[str, list[dict[str, Any]]] = {}
                for row in read_rows(part, _COLUMNS, status=KEPT).to_pylist():
                    groups.setdefault(group_of(row["tile"], row["grid"]), []).append(row)
                for group, kept in groups.items():
                    chosen = None if full else set(sample((row["x"], row["y"]) for row in kept))
                    for row in kept:
                        if chosen is None or row["x"] in chosen:
                            self._places[row["patch_id"]] = (group, row["x"], row["y"])

    def place(self, patch_id: str) -> Place | None:
        """Where a patch is that is to be compared. In the order of places each chunk is decoded once."""
        return self._places.get(patch_id)

    def is_compared(self, patch_id: str) -> bool:
        """Whether a patch is to be compared."""
        return patch_id in self._places

    def differing(self, kind: Kind, patch_id: str, images: Images) -> list[str]:
        """Names of the images of a patch, shape ``(y, x)``, that are not as in the store.

        What the store does not have, or cannot be read from it, is not compared: the check of the store tells of it.
        """
        group, x, y = self._places[patch_id]
        stored: Images = {}
        with collect(Check("the store")):
            stored = _READ[kind](self._reader(group), x, y)
            if CLASS_NUMBERS.name in images:
                stored = {**stored, CLASS_NUMBERS.name: self._numbers[stored[MAP_TENSOR]]}
        return sorted(image for image in images if image in stored and not _are_equal(images[image], stored[image]))

    @cached_property
    def _numbers(self) -> npt.NDArray[np.uint8]:
        return number_of_code(self._nomenclature)


def _are_equal(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f" and right.dtype.kind == "f")
