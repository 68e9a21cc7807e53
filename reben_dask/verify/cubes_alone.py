"""A Zarr store by itself, without a patch table that says what must be in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reben_dask.nomenclature import Nomenclature
from reben_dask.verify.context import Context
from reben_dask.verify.cubes_group import find_grid, images_of, kind_of
from reben_dask.verify.cubes_tile import Column, CubeStore, TileCube, sample
from reben_dask.verify.expected import Kind
from reben_dask.verify.findings import Check, collect
from reben_dask.wording import counted

STAGE = "verify-cubes"

Places = npt.NDArray[np.bool_]
"""Of each patch of a tile, shape ``(row, column)``."""


def verify_store(path: Path, context: Context) -> Iterator[Check]:
    """Check a Zarr store by itself.

    All tiles must have the same nodes, and those of a tile must lie on one grid. Pixels are read of a sample, in which
    there is a patch of each shard, or of all patches. In a store that was made from published patches, each has all of
    its images of a kind or none, and no NODATA. Tiles that a job takes in have NODATA at their edges, and only its
    patch table knows where.

    Parameters
    ----------
    path : Path
        The Zarr store.
    context : Context
        Bands, side of a patch, classes; its report is told the number of patches, and what the store does not have.

    Yields
    ------
    Check
        For the arrays, for the patches, and for their pixels.
    """
    settings, report = context.settings, context.report
    store = CubeStore(path, context.expected)
    patches, pixels = _Patches(has_whole_tiles="recipe" in store.document.get("attributes", {})), Check("Zarr pixels")
    advance, read = settings.begin(STAGE, len(store.groups)), 0
    for group in store.groups:
        with collect(store.sound, group):
            cube = store.cube(group, find_grid(path, group, context.expected.patch_m))
            if cube:
                whole = patches.add(cube)
                there = [(x, y) for y, x in np.argwhere(np.logical_or.reduce(list(whole.values()))).tolist()]
                chosen = {x for x, _ in there} if settings.full else set(sample(there))
                read += sum(x in chosen for x, _ in there)
                for column in cube.columns(sorted(chosen), pixels):
                    pixels.add(patches.faults(cube, column, whole, context.expected.nomenclature))
        advance(1)
    if not store.tiles:
        store.sound.problem(f"{path.name} has no tile")
    report.patches = patches.total
    report.without += [kind.value for kind in Kind if kind not in store.kinds]
    store.sound.summary = counted(len(store.tiles), "tile")
    patches.check.summary = ", ".join(
        f"{patches.found[kind]:,} of {kind.value}" for kind in Kind if kind in store.kinds
    )
    pixels.summary = counted(read, "patch") + ("" if settings.full else ", a sample")
    yield from (store.sound, patches.check, pixels)


class _Patches:
    """Which patches there are, tile by tile; ``has_whole_tiles`` says that a job has made the store."""

    def __init__(self, *, has_whole_tiles: bool) -> None:
        self.check, self.found, self.total = Check("Zarr patches"), Counter[Kind](), 0
        self._has_whole_tiles = has_whole_tiles

    def add(self, cube: TileCube) -> dict[Kind, Places]:
        """Count the patches of a tile, and name those that are there in part; gives where all images of a kind are."""
        anything = np.zeros(cube.grid.shape_yx, bool)
        whole: dict[Kind, Places] = {}
        for kind in {kind_of(node.name) for node in cube.nodes}:
            nodes = [node for node in cube.nodes if kind_of(node.name) is kind]
            names = np.array([name for node in nodes for name in images_of(node)])
            held = np.concatenate([cube.held(node) for node in nodes])
            some, whole[kind] = np.any(held, axis=0), np.all(held, axis=0)
            self.found[kind] += int(np.count_nonzero(whole[kind]))
            anything |= some
            for y, x in () if self._has_whole_tiles else np.argwhere(some & ~whole[kind]).tolist():
                self.check.problem(f"{cube.name(x, y)} has no {', '.join(names[~held[:, y, x]])}")
        self.total += int(np.count_nonzero(anything))
        return whole

    def faults(
        self, cube: TileCube, column: Column, whole: dict[Kind, Places], nomenclature: Nomenclature
    ) -> Iterator[str]:
        """What is wrong with the pixels of a column; phrases that begin with the patch."""
        unknown = column.unknown_codes(nomenclature)
        for y, empty in enumerate(column.bands_with_nodata()):
            if empty and whole[Kind.S2][y, column.x] and not self._has_whole_tiles:
                yield f"{cube.name(column.x, y)} has NODATA in {', '.join(empty)}"
            if unknown[y] is not None:
                yield f"{cube.name(column.x, y)} holds the unknown code {unknown[y]} in its map"
