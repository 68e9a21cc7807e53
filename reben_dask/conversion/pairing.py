"""Which published Sentinel-1 patch is the partner of which other patch, by what was published about them.

A table may name Sentinel-2 patches by version 1 while the trees have version 2, or the other way round. Where names are
of one version they must be the same. Else what both share tells the patches apart: satellite, day, indices, and the
tile. Names of version 1 do not say the tile; there, a partner is the one that lies at the same place. Times of day are
never compared: they differ by seconds between the versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from reben_dask.conversion.reading import Entry, Source
from reben_dask.conversion.tiles import Place, Tile, find_places
from reben_dask.errors import InputError
from reben_dask.sources.published.metadata import metadata_files, read_metadata
from reben_dask.sources.published.pairs import read_pairs, split_s2_names

_SAME_NAME = ["scene", "x", "y"]
_SAME_DAY = ["satellite", "date", "x", "y"]


@dataclass(frozen=True)
class Pairs:
    """What was published about pairs.

    Parameters
    ----------
    files : tuple of Path
        Where it is from.
    table : DataFrame
        Columns ``s1_name`` and ``s2_name``; the same pair may be there by both names of its Sentinel-2 patch.
    """

    files: tuple[Path, ...]
    table: pd.DataFrame


@dataclass(frozen=True)
class LeftOut:
    """Names of patches that are left without their partners.

    Parameters
    ----------
    unnamed : tuple of str
        Sentinel-1 patches that no pair names.
    alone : tuple of str
        Sentinel-1 patches whose partners are not there.
    unpaired : tuple of str
        Other patches without a Sentinel-1 partner.
    """

    unnamed: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    unpaired: tuple[str, ...] = ()


def open_pairs(paths: Sequence[Path]) -> Pairs:
    """Read what was published about pairs.

    Parameters
    ----------
    paths : sequence of Path
        Metadata (``.parquet``), folders that hold them, or tables of pairs (CSV, with a column ``s1_name`` and one of
        :data:`~reben_dask.sources.published.pairs.S2_COLUMNS`).

    Raises
    ------
    InputError
        If one of them cannot be used.
    """
    return Pairs(tuple(paths), pd.concat([_read(path) for path in paths], ignore_index=True))


def add_partners(
    sources: Sequence[Source], tiles: Sequence[Tile], radar: Sequence[Entry], pairs: Pairs, workers: int
) -> tuple[list[Tile], LeftOut]:
    """Put Sentinel-1 patches where their partners are.

    Parameters
    ----------
    sources : sequence of Source
        Where all patches are read from.
    tiles : sequence of Tile
        Patches of Sentinel-2, reference maps, or both.
    radar : sequence of Entry
        Patches of Sentinel-1.
    pairs : Pairs
        Which belong together.
    workers : int
        Processes that look where patches lie, if there are many.

    Returns
    -------
    tiles : list of Tile
        The same, with those partners that there are.
    left_out : LeftOut
        Who has no partner.

    Raises
    ------
    InputError
        If a patch does not lie where its partner lies, cannot be placed, or has several partners.
    """
    cells = _Cells(tiles)
    numbers = pd.Series(range(len(radar)), [entry.patch.name for entry in radar])
    named = pairs.table.assign(radar=pairs.table["s1_name"].map(numbers)).dropna(subset="radar")
    matches = _match(cells.names, named)
    looked_at = matches["radar"].unique().tolist()
    places = dict(zip(looked_at, find_places(sources, [radar[one] for one in looked_at], workers), strict=True))
    partners = _choose(cells, radar, matches, places)
    left_out = _left_out(cells.names, radar, set(named["radar"]), partners)
    return cells.with_partners({cell: radar[one] for cell, one in partners.items()}), left_out


class _Cells:
    """The patches of some tiles, by number."""

    def __init__(self, tiles: Sequence[Tile]) -> None:
        self._tiles = tiles
        self._where = [(number, cell) for number, tile in enumerate(tiles) for cell in tile.patches]
        self.names = [tiles[number].patches[cell][0].patch.name for number, cell in self._where]

    def place(self, number: int) -> Place:
        tile, (x, y) = self._where[number]
        return self._tiles[tile].place.moved(x, y)

    def with_partners(self, partners: Mapping[int, Entry]) -> list[Tile]:
        patches = [dict(tile.patches) for tile in self._tiles]
        for number, partner in partners.items():
            tile, cell = self._where[number]
            patches[tile][cell] = (*patches[tile][cell], partner)
        return [replace(tile, patches=found) for tile, found in zip(self._tiles, patches, strict=True)]


def _read(path: Path) -> pd.DataFrame:
    if not path.is_dir() and path.suffix != ".parquet":
        return read_pairs(path)
    versions = ("patch_id", "s2v1_name")
    rows = read_metadata(metadata_files(path), ("s1_name", *versions))
    both = pd.concat([rows[["s1_name", name]].set_axis(["s1_name", "s2_name"], axis=1) for name in versions])
    return both.dropna().astype("str")


def _match(names: Sequence[str], named: pd.DataFrame) -> pd.DataFrame:
    """Partners by name.

    Returns
    -------
    DataFrame
        ``cell`` (position in ``names``), ``radar`` and ``is_sure``, without which only the place tells whether it is
        the partner.
    """
    cells = split_s2_names(pd.Series(names, dtype="str")).rename_axis("cell").dropna().reset_index()
    parts = split_s2_names(named["s2_name"])
    s1_mgrs = named["s1_name"].str.rsplit("_", n=3).str[-3]
    pairs = parts.assign(radar=named["radar"].astype("int64"), s1_mgrs=s1_mgrs).dropna()
    same = cells.merge(pairs[[*_SAME_NAME, "radar"]], on=_SAME_NAME).assign(is_sure=True)
    others = cells[~cells["cell"].isin(same["cell"])].merge(pairs, on=_SAME_DAY, suffixes=("", "_pair"))
    # One of version 1 and one of version 2; where it is the pair that has version 1, its Sentinel-1 name has the tile.
    is_v1, is_pair_v1 = others["mgrs"] == "", others["mgrs_pair"] == ""
    others = others[(is_v1 & ~is_pair_v1) | (is_pair_v1 & (others["mgrs"] == others["s1_mgrs"]))]
    found = pd.concat([same, others.assign(is_sure=others["mgrs"] != "")])
    return found[["cell", "radar", "is_sure"]].drop_duplicates(["cell", "radar"])


def _choose(
    cells: _Cells, radar: Sequence[Entry], matches: pd.DataFrame, places: Mapping[int, Place]
) -> dict[int, int]:
    """Number of the one Sentinel-1 patch for each cell that has one."""
    partners: dict[int, int] = {}
    for cell, one, is_sure in matches.itertuples(index=False):
        if places[one] != cells.place(cell):
            if is_sure:
                raise _apart(radar[one].patch.name, places[one], cells.names[cell], cells.place(cell))
            continue
        if partners.setdefault(cell, one) != one:
            two = " and ".join(radar[other].patch.name for other in (partners[cell], one))
            raise InputError(f"The pairs name two Sentinel-1 patches for {cells.names[cell]}, {two}; remove one.")
    return partners


def _apart(radar: str, radar_place: Place, name: str, place: Place) -> InputError:
    there, here = (f"({at.ulx}, {at.uly}) of EPSG:{at.epsg}" for at in (radar_place, place))
    return InputError(
        f"{radar} does not lie where its partner {name} lies: its upper-left corner is {there}, not {here}; "
        "the pairs are wrong, or the files are mixed up."
    )


def _left_out(names: Sequence[str], radar: Sequence[Entry], named: set[int], partners: Mapping[int, int]) -> LeftOut:
    paired = set(partners.values())
    return LeftOut(
        unnamed=tuple(entry.patch.name for number, entry in enumerate(radar) if number not in named),
        alone=tuple(entry.patch.name for number, entry in enumerate(radar) if number in named and number not in paired),
        unpaired=tuple(name for cell, name in enumerate(names) if cell not in partners),
    )
