"""What was published about the patches of a tile: which exist, what they are called, which are apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reben_dask.errors import InputError
from reben_dask.formats.names import V2, TileName
from reben_dask.grid import PatchGrid
from reben_dask.sources.published.lists import read_names
from reben_dask.sources.published.metadata import read_metadata, require_metadata
from reben_dask.sources.published.pairs import has_v1_names, pairs_of_tile, require_pairs

SNOW, CLOUD = "contains_seasonal_snow", "contains_cloud_or_shadow"


@dataclass(frozen=True)
class Published:
    """Files that say something about patches.

    Parameters
    ----------
    metadata : tuple of Path
        Published metadata; if given, only the patches in it are kept.
    pairs : Path or None
        Table of Sentinel-1 and Sentinel-2 patches.
    snow_list, cloud_list : Path or None
        Names (version 1) of patches with seasonal snow, and with cloud or shadow.
    """

    metadata: tuple[Path, ...] = ()
    pairs: Path | None = None
    snow_list: Path | None = None
    cloud_list: Path | None = None

    def __bool__(self) -> bool:
        return any((self.metadata, self.pairs, self.snow_list, self.cloud_list))


def require_published(published: Published) -> Published:
    """Make sure that the files can be used; gives them back.

    Raises
    ------
    InputError
        If one of them cannot be read, or a list of names cannot be matched.
    """
    require_metadata(published.metadata)
    if published.pairs is not None:
        require_pairs(published.pairs)
    knows_v1 = bool(published.metadata) or (published.pairs is not None and has_v1_names(published.pairs))
    for names in filter(None, (published.snow_list, published.cloud_list)):
        read_names(names)
        if not knows_v1:
            raise InputError(
                f"The list {names} has names of BigEarthNet v1, and nothing says which patches they are; "
                "add --published or --s1-pairs (with names of v1)."
            )
    return published


def published_columns(published: Published, tile: str, mgrs: str, grid: PatchGrid) -> pd.DataFrame:
    """Columns of a tile's patches that were published.

    Parameters
    ----------
    published : Published
        The files.
    tile : str
        Name of the tile.
    mgrs : str
        Its MGRS tile.
    grid : PatchGrid
        Its patches; of a grid that is shifted, none were published.

    Returns
    -------
    DataFrame
        One row per patch in name order: ``s1_name`` and ``s2v1_name``; ``is_published`` where there is metadata; the
        flags ``contains_seasonal_snow`` and ``contains_cloud_or_shadow`` where there is metadata or a list.
    """
    columns = _from_metadata(published, tile, grid) if published.metadata else _from_pairs(published, tile, mgrs, grid)
    for flag, names in ((SNOW, published.snow_list), (CLOUD, published.cloud_list)):
        if names is not None:
            columns[flag] = columns["s2v1_name"].isin(read_names(names))
    return columns


def _from_metadata(published: Published, tile: str, grid: PatchGrid) -> pd.DataFrame:
    names = ["patch_id", "s1_name", "s2v1_name", SNOW, CLOUD]
    rows = read_metadata(published.metadata, names, tile).drop_duplicates("patch_id").set_index("patch_id")
    names_here = V2.names(TileName(tile, ""), grid)
    found = rows.reindex(names_here if not grid.offset_m else [None] * grid.size)
    columns = {name: found[name].astype("str") for name in ("s1_name", "s2v1_name")}
    flags = {flag: found[flag].eq(True) for flag in (SNOW, CLOUD)}
    return pd.DataFrame({**columns, "is_published": found.index.isin(rows.index), **flags}).reset_index(drop=True)


def _from_pairs(published: Published, tile: str, mgrs: str, grid: PatchGrid) -> pd.DataFrame:
    if published.pairs is None or not grid.size or grid.offset_m:
        nothing = pd.Series(np.full(grid.size, None, object), dtype="str")
        return pd.DataFrame({"s1_name": nothing, "s2v1_name": nothing})
    pairs = pairs_of_tile(published.pairs, tile, mgrs)
    return pairs.reindex(pd.MultiIndex.from_arrays(grid.indices_xy())).reset_index(drop=True).astype("str")
