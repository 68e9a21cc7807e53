"""Sentinel-1 partners of a tile's patches: found strip by strip, and written to its cube."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from rasterio.warp import transform_bounds

from reben_dask.errors import InputError
from reben_dask.formats.bands import POLARISATIONS, S1_RESOLUTION_M, BackscatterScale
from reben_dask.formats.columns import S1_GAPS, S1_NAME
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid
from reben_dask.job.published import Published, published_columns
from reben_dask.sources.sentinel1 import PatchTree, S1Scene, find_scenes, open_patch_tree, warp_scene
from reben_dask.sources.sentinel2 import Tile
from reben_dask.sources.vector_files import is_input
from reben_dask.stores.cubes import create_cube, s1_strips, write_s1_strip
from reben_dask.wording import counted

Names = npt.NDArray[np.object_]


class Strip(NamedTuple):
    """Partners of a run of patch rows."""

    db: npt.NDArray[np.float32]
    """Backscatter, shape ``(polarisation, y, x)``; NaN without a partner."""
    names: Names
    """Partners, shape ``(patch_y, patch_x)``; ``None`` without one."""
    gaps: npt.NDArray[np.bool_]
    """Partners that are kept despite pixels without valid backscatter, shape ``(patch_y, patch_x)``."""


@dataclass(frozen=True)
class Sentinel1Inputs:
    """Folder of published Sentinel-1 patches, or of scenes; at most one of them."""

    patches: str | None = None
    scenes: str | None = None


@dataclass(frozen=True)
class PublishedPartners:
    """Published Sentinel-1 patches, and the table or metadata that names them."""

    tree: PatchTree
    published: Published
    keep_gaps: bool = False
    """Keep partners despite pixels without valid backscatter, as a reproduction does."""

    def describe(self) -> str:
        """Describe the source in a phrase."""
        return f"published patches in {self.tree.root}"

    def identity(self) -> str:
        """Return a text that distinguishes the tree; its pairs have identities of their own."""
        names = sorted(path.name for path in self.tree.root.iterdir() if is_input(Path(path.name)))
        return f"published patches of {', '.join(names)}"

    @property
    def scene_names(self) -> list[str]:
        """No names: patch names contain only part of the scene name."""
        return []

    def near(self, tile: Tile, grid: PatchGrid) -> PublishedPartners:  # noqa: ARG002 - see ScenePartners
        """Return all of them: the tree is searched by name."""
        return self

    def names(self, tile: Tile, grid: PatchGrid) -> Names:
        """Return each patch's partner, shape ``(patch_y, patch_x)``; ``None`` without one."""
        column = published_columns(self.published, tile.name, tile.mgrs, grid)[S1_NAME]
        names = column.astype(object).where(column.notna(), None).to_numpy()
        return names.reshape(grid.shape_yx.x, grid.shape_yx.y).T.copy()

    def strips(self, tile: Tile, grid: PatchGrid, rows: list[range]) -> Iterator[Strip]:
        """Yield the partners of each run of patch rows."""
        names, side = self.names(tile, grid), grid.patch_px(S1_RESOLUTION_M)
        for run in rows:
            strip = _empty_strip(len(run), grid)
            here = names[run.start : run.stop]
            for row, column in np.argwhere(here != None).tolist():  # noqa: E711 - asked of each element
                patch = self.tree.read(here[row, column], side)
                has_gaps = patch is not None and bool(np.any(patch.mask))
                if patch is not None and (self.keep_gaps or not has_gaps):
                    strip.db[:, row * side : (row + 1) * side, column * side : (column + 1) * side] = patch.data
                    strip.names[row, column], strip.gaps[row, column] = here[row, column], has_gaps
            yield strip


@dataclass(frozen=True)
class ScenePartners:
    """Terrain-corrected scenes in order of preference; a patch takes the closest in time that covers all of it."""

    scenes: tuple[S1Scene, ...]
    max_days: float
    """Maximum time between the acquisitions in days."""
    scale: BackscatterScale = "db"

    def describe(self) -> str:
        """Describe the source in a phrase."""
        return f"{counted(len(self.scenes), 'scene')}, at most {self.max_days:g} days apart"

    def identity(self) -> str:
        """Return a text that distinguishes the scenes from others."""
        images = sorted((Path(image) for scene in self.scenes for image in scene.images.values()), key=str)
        return ", ".join(f"{image.name} ({image.stat().st_size})" for image in images)

    @property
    def scene_names(self) -> list[str]:
        """Full names of the scenes."""
        return [scene.name for scene in self.scenes]

    def near(self, tile: Tile, grid: PatchGrid) -> ScenePartners:
        """Restrict the scenes to those for a tile, on any of its grids, the closest in time first."""
        area = transform_bounds(grid.epsg, 4326, *grid.covered_bounds())
        days = {scene.name: abs(scene.time - tile.sensing_time) / timedelta(days=1) for scene in self.scenes}
        near = [scene for scene in self.scenes if days[scene.name] <= self.max_days and scene.intersects(area)]
        closest_first = sorted(near, key=lambda scene: (days[scene.name], scene.name))
        return replace(self, scenes=tuple(closest_first))

    def strips(self, tile: Tile, grid: PatchGrid, rows: list[range]) -> Iterator[Strip]:
        """Yield the partners of each run of patch rows."""
        left, _, _, top = grid.covered_bounds()
        for run in rows:
            strip = _empty_strip(len(run), grid)
            for scene in self.scenes:
                if (strip.names != None).all():  # noqa: E711 - asked of each element
                    break
                upper = top - run.start * grid.patch_m
                warped = warp_scene(scene, grid.epsg, left, upper, strip.db.shape[1:], self.scale)
                _fill(strip, warped, f"{scene.short_name}_{_place(tile, grid)}", run.start)
            yield strip


Partners = PublishedPartners | ScenePartners


def open_partners(
    inputs: Sentinel1Inputs, published: Published, max_days: float, scale: BackscatterScale = "db"
) -> Partners | None:
    """Check Sentinel-1 inputs by headers and a few pixels; ``None`` without any.

    :class:`InputError` if pairs cannot be known, or images are not in ``scale``.
    """
    if inputs.patches and inputs.scenes:
        raise InputError("Give Sentinel-1 patches (--s1) or scenes (--s1-scenes), not both.")
    if inputs.scenes:
        return ScenePartners(find_scenes(inputs.scenes, scale), max_days, scale)
    if not inputs.patches:
        return None
    if not published.metadata and published.pairs is None:
        raise InputError(
            f"The Sentinel-1 patches of {inputs.patches} cannot be matched with Sentinel-2 patches; "
            "add --published or --s1-pairs."
        )
    # Of both, the table is the one that the user wrote.
    names = Published(published.metadata) if published.pairs is None else Published(pairs=published.pairs)
    return PublishedPartners(open_patch_tree(inputs.patches, scale), names, keep_gaps=bool(published.metadata))


def pair_tile(tile: Tile, store: Path, layouts: Sequence[CubeLayout], partners: Partners) -> pd.DataFrame:
    """Write the partners of a tile's patches to its cubes; return ``s1_name`` and ``s1_gaps``."""
    create_cube(store, *layouts)
    return pd.concat([_pair_grid(tile, store, layout, partners) for layout in layouts], ignore_index=True)


def _pair_grid(tile: Tile, store: Path, layout: CubeLayout, partners: Partners) -> pd.DataFrame:
    grid, rows = layout.grid, s1_strips(layout.grid)
    found = []
    for run, strip in zip(rows, partners.strips(tile, grid, rows), strict=True):
        write_s1_strip(store, layout, run, strip.db)
        found.append(strip)
    names, gaps = (np.concatenate(parts) for parts in zip(*((strip.names, strip.gaps) for strip in found), strict=True))
    columns = {S1_NAME: pd.Series(grid.in_name_order(names), dtype="str"), S1_GAPS: grid.in_name_order(gaps)}
    return pd.DataFrame(columns)


def _place(tile: Tile, grid: PatchGrid) -> str:
    """Part of a patch name between scene and indices; unique to a shifted grid."""
    return f"{grid.offset_m}M_{tile.mgrs}" if grid.offset_m else tile.mgrs


def _fill(strip: Strip, warped: npt.NDArray[np.float32], prefix: str, first_row: int) -> None:
    rows, columns = strip.names.shape
    side = strip.db.shape[2] // columns
    blocks = warped.reshape(len(POLARISATIONS), rows, side, columns, side)
    complete = np.isfinite(blocks).all(axis=(0, 2, 4)) & (strip.names == None)  # noqa: E711 - asked of each element
    for row, column in np.argwhere(complete).tolist():
        place = np.s_[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        strip.db[place] = warped[place]
        strip.names[row, column] = f"{prefix}_{column}_{first_row + row}"


def _empty_strip(rows: int, grid: PatchGrid) -> Strip:
    side, shape = grid.patch_px(S1_RESOLUTION_M), (rows, grid.shape_yx.x)
    db = np.full((len(POLARISATIONS), rows * side, grid.shape_yx.x * side), np.nan, np.float32)
    return Strip(db, np.full(shape, None, object), np.zeros(shape, bool))
