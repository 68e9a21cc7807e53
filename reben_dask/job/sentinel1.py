"""Sentinel-1 partners of a tile's patches: found strip by strip, and written to its cube."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from rasterio.warp import transform_bounds

from reben_dask.errors import InputError
from reben_dask.formats.bands import POLARISATIONS, S1_RESOLUTION_M
from reben_dask.formats.columns import S1_NAME
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid
from reben_dask.job.published import Published, published_columns
from reben_dask.sources.sentinel1 import PatchTree, S1Scene, find_scenes, open_patch_tree, warp_scene
from reben_dask.sources.sentinel2 import Tile
from reben_dask.sources.vector_files import is_input
from reben_dask.stores.cubes import create_cube, s1_strips, write_s1_strip
from reben_dask.wording import counted

Names = npt.NDArray[np.object_]
Strip = tuple[npt.NDArray[np.float32], Names]
"""Backscatter, shape ``(polarisation, y, x)``, and partner names, shape ``(patch_y, patch_x)``."""


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

    def describe(self) -> str:
        """Describe the source in a phrase."""
        return f"published patches in {self.tree.root}"

    def identity(self) -> str:
        """Return a text that distinguishes the tree; its pairs have identities of their own."""
        names = sorted(path.name for path in self.tree.root.iterdir() if is_input(Path(path.name)))
        return f"published patches of {', '.join(names)}"

    @property
    def scene_names(self) -> list[str]:
        """No names, as those of patches hold only a part of their scene's."""
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
        """Yield backscatter and names of each run of patch rows; NaN and ``None`` without a partner."""
        names, side = self.names(tile, grid), grid.patch_px(S1_RESOLUTION_M)
        for run in rows:
            db = _empty(len(run) * side, grid.shape_yx.x * side)
            here = names[run.start : run.stop]
            for row, column in np.argwhere(here != None).tolist():  # noqa: E711 - asked of each element
                patch = self.tree.read(here[row, column], side)
                if patch is None:
                    here[row, column] = None
                else:
                    db[:, row * side : (row + 1) * side, column * side : (column + 1) * side] = patch
            yield db, here


@dataclass(frozen=True)
class ScenePartners:
    """Terrain-corrected scenes in order of preference; a patch takes the closest in time that covers all of it."""

    scenes: tuple[S1Scene, ...]
    max_days: float
    """Maximum time between the acquisitions in days."""

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
        return ScenePartners(tuple(closest_first), self.max_days)

    def strips(self, tile: Tile, grid: PatchGrid, rows: list[range]) -> Iterator[Strip]:
        """Yield backscatter and names of each run of patch rows; NaN and ``None`` without a partner."""
        side = grid.patch_px(S1_RESOLUTION_M)
        left, _, _, top = grid.covered_bounds()
        for run in rows:
            shape = len(run) * side, grid.shape_yx.x * side
            db, names = _empty(*shape), np.full((len(run), grid.shape_yx.x), None, object)
            for scene in self.scenes:
                if (names != None).all():  # noqa: E711 - asked of each element
                    break
                warped = warp_scene(scene, grid.epsg, left, top - run.start * grid.patch_m, shape)
                _fill(db, names, warped, side, f"{scene.short_name}_{_place(tile, grid)}", run.start)
            yield db, names


Partners = PublishedPartners | ScenePartners


def open_partners(inputs: Sentinel1Inputs, published: Published, max_days: float) -> Partners | None:
    """Check Sentinel-1 inputs by their headers; ``None`` without any, :class:`InputError` if pairs cannot be known."""
    if inputs.patches and inputs.scenes:
        raise InputError("Give Sentinel-1 patches (--s1) or scenes (--s1-scenes), not both.")
    if inputs.scenes:
        return ScenePartners(find_scenes(inputs.scenes), max_days)
    if not inputs.patches:
        return None
    if not published.metadata and published.pairs is None:
        raise InputError(
            f"The Sentinel-1 patches of {inputs.patches} cannot be matched with Sentinel-2 patches; "
            "add --published or --s1-pairs."
        )
    # Of both, the table is the one that the user wrote.
    names = Published(published.metadata) if published.pairs is None else Published(pairs=published.pairs)
    return PublishedPartners(open_patch_tree(inputs.patches), names)


def pair_tile(tile: Tile, store: Path, layouts: Sequence[CubeLayout], partners: Partners) -> pd.DataFrame:
    """Write the partners of a tile's patches to its cubes; return ``s1_name`` of each patch, grid after grid."""
    create_cube(store, *layouts)
    return pd.concat([_pair_grid(tile, store, layout, partners) for layout in layouts], ignore_index=True)


def _pair_grid(tile: Tile, store: Path, layout: CubeLayout, partners: Partners) -> pd.DataFrame:
    grid, rows = layout.grid, s1_strips(layout.grid)
    found = []
    for run, (db, names) in zip(rows, partners.strips(tile, grid, rows), strict=True):
        write_s1_strip(store, layout, run, db)
        found.append(names)
    return pd.DataFrame({S1_NAME: pd.Series(grid.in_name_order(np.concatenate(found)), dtype="str")})


def _place(tile: Tile, grid: PatchGrid) -> str:
    """Part of a patch name between scene and indices; unique to a shifted grid."""
    return f"{grid.offset_m}M_{tile.mgrs}" if grid.offset_m else tile.mgrs


def _fill(
    db: npt.NDArray[np.float32], names: Names, warped: npt.NDArray[np.float32], side: int, prefix: str, first_row: int
) -> None:
    blocks = warped.reshape(len(POLARISATIONS), names.shape[0], side, names.shape[1], side)
    complete = np.isfinite(blocks).all(axis=(0, 2, 4)) & (names == None)  # noqa: E711 - asked of each element
    for row, column in np.argwhere(complete).tolist():
        place = np.s_[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        db[place] = warped[place]
        names[row, column] = f"{prefix}_{column}_{first_row + row}"


def _empty(height: int, width: int) -> npt.NDArray[np.float32]:
    return np.full((len(POLARISATIONS), height, width), np.nan, np.float32)
