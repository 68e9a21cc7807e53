"""The walk over the patch folders of a tree: where they are, in which order, and which belong where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from reben_dask.formats.columns import IN_GRID
from reben_dask.verify.patch_rows import RowOf
from reben_dask.verify.trees_folder import FolderFormat

Rank = Callable[[str], tuple[Any, ...]]
"""Where a patch stands among those of its folder, by its name."""


class Walk:
    """The walk over one tree.

    What is not known of a patch is read off its name: the tile or scene that it begins with, and its place.

    Parameters
    ----------
    wanted : FolderFormat
        The tree, and what its folders hold.
    row_of : callable
        Gives the rows of patches by the names that they have in the tree, as far as they are known.
    rank : callable
        The order in which loose folders are best read.
    """

    def __init__(self, wanted: FolderFormat, row_of: RowOf, rank: Rank) -> None:
        self.rank, self.is_read, self.most_bytes = rank, wanted.is_read, wanted.most_bytes
        self._tree, self._expected, self._row_of = wanted.tree, wanted.expected, row_of

    @cached_property
    def depth(self) -> int:
        """How far below the tree a patch folder is: 1 if all are side by side."""
        return 2 if any(self._tree.place(row) for row in self._guesses("a_b_c_d")) else 1

    def places(self, name: str) -> set[str]:
        """Folders of the tree that a patch may be in; none if it does not belong into the tree."""
        row = self._row_of(name)
        if row is None:
            return {self._tree.place(guess) for guess in self._guesses(name)}
        is_here = all(row[column] == value for column, value in self._tree.only.items())
        return {self._tree.place(row)} if is_here else set()

    def run(self, above: str, name: str) -> str:
        """What a patch has in common with those beside it in an archive."""
        row = self._row_of(name)
        if row is not None:
            return self._tree.run(row)
        guesses = self._guesses(name)
        return self._tree.run(next((guess for guess in guesses if self._tree.place(guess) == above), guesses[0]))

    def place(self, name: str) -> tuple[int, ...] | None:
        """Where a patch stands within its run, if that can be told."""
        told = None if self._tree.is_shared else self._expected.names.read(name)
        is_in_cube = self._tree.order == IN_GRID and len(self._expected.grid_offsets_m) == 1
        return told.place if told and is_in_cube else None

    def _guesses(self, name: str) -> list[Mapping[str, Any]]:
        """What the row of a patch may be, for each grid."""
        row = {"patch_id": name, "s1_name": name, "tile": name.rsplit("_", 2)[0]}
        return [{**row, "grid": grid} for grid in range(1, len(self._expected.grid_offsets_m) + 1)]
