"""Published names and flags of the patches of a tile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reben_dask.errors import InputError
from reben_dask.formats.columns import CLOUD, FLAGS, IS_PUBLISHED, PATCH_ID, S1_NAME, S2V1_NAME, SNOW, Column
from reben_dask.formats.names import V2, TileName
from reben_dask.grid import PatchGrid
from reben_dask.sources.published.lists import read_names
from reben_dask.sources.published.metadata import read_metadata, require_metadata
from reben_dask.sources.published.pairs import has_v1_names, pairs_of_tile, require_pairs


@dataclass(frozen=True)
class Published:
    """Published files about patches."""

    metadata: tuple[Path, ...] = ()
    """Metadata files; only the patches in them are kept."""
    pairs: Path | None = None
    snow_list: Path | None = None
    """Names (v1) of patches with seasonal snow."""
    cloud_list: Path | None = None
    """Names (v1) of patches with cloud or shadow."""

    @property
    def columns(self) -> list[Column]:
        """Columns of :func:`published_columns`."""
        lists = ((SNOW, self.snow_list), (CLOUD, self.cloud_list))
        of_lists = [flag for flag, names in lists if names is not None or self.metadata]
        return [S1_NAME, S2V1_NAME, *([IS_PUBLISHED] if self.metadata else []), *of_lists]

    def __bool__(self) -> bool:
        return any((self.metadata, self.pairs, self.snow_list, self.cloud_list))


def require_published(published: Published) -> Published:
    """Return the files; :class:`InputError` if one cannot be read, or a list of names cannot be matched."""
    require_metadata(published.metadata)
    if published.pairs is not None:
        require_pairs(published.pairs)
    knows_v1 = bool(published.metadata) or (published.pairs is not None and has_v1_names(published.pairs))
    for names in filter(None, (published.snow_list, published.cloud_list)):
        read_names(names)
        if not knows_v1:
            raise InputError(
                f"The list {names} has names of BigEarthNet v1, which cannot be matched with patches by name; "
                "add --published or --s1-pairs (with names of v1)."
            )
    return published


def published_columns(published: Published, tile: str, mgrs: str, grid: PatchGrid) -> pd.DataFrame:
    """Look up the published columns of a tile's patches; shifted grids have none.

    Returns
    -------
    DataFrame
        One row per patch in name order: ``s1_name``, ``s2v1_name``; with metadata ``is_published``; with metadata or
        a list the flags ``contains_seasonal_snow`` and ``contains_cloud_or_shadow``.
    """
    columns = _from_metadata(published, tile, grid) if published.metadata else _from_pairs(published, tile, mgrs, grid)
    for flag, names in ((SNOW, published.snow_list), (CLOUD, published.cloud_list)):
        if names is not None:
            columns[flag] = columns[S2V1_NAME].isin(read_names(names))
    return columns


def _from_metadata(published: Published, tile: str, grid: PatchGrid) -> pd.DataFrame:
    names = [PATCH_ID, S1_NAME, S2V1_NAME, *FLAGS]
    rows = read_metadata(published.metadata, names, tile).drop_duplicates(PATCH_ID).set_index(PATCH_ID)
    names_here = V2.names(TileName(tile, ""), grid)
    found = rows.reindex(names_here if not grid.offset_m else [None] * grid.size)
    columns = pd.DataFrame({name: found[name].astype("str") for name in (S1_NAME, S2V1_NAME)})
    columns[IS_PUBLISHED] = found.index.isin(rows.index)
    for flag in FLAGS:
        columns[flag] = found[flag].eq(True)
    return columns.reset_index(drop=True)


def _from_pairs(published: Published, tile: str, mgrs: str, grid: PatchGrid) -> pd.DataFrame:
    if published.pairs is None or not grid.size or grid.offset_m:
        nothing = pd.Series(np.full(grid.size, None, object), dtype="str")
        return pd.DataFrame({S1_NAME: nothing, S2V1_NAME: nothing})
    pairs = pairs_of_tile(published.pairs, tile, mgrs)
    return pairs.reindex(pd.MultiIndex.from_arrays(grid.indices_xy())).reset_index(drop=True).astype("str")
