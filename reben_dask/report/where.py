"""Where a dataset lies: its tiles on a map, and one of them under each split strategy."""

from __future__ import annotations

from functools import partial
from typing import Any

import geopandas as gpd
import pandas as pd

from reben_dask.analysis.patch_set import SPLIT
from reben_dask.report.blocks import Block, Picture, Section, Table
from reben_dask.report.counted import share, split_table
from reben_dask.report.figures.splits import draw_splits
from reben_dask.report.figures.tiles import draw_tiles, shows_countries
from reben_dask.report.record import Record
from reben_dask.report.strategies import TileSplits, recorded_strategies, rule_of, tile_splits
from reben_dask.report.survey import NONE, PLACE, Survey
from reben_dask.stores.patch_table import read_rows
from reben_dask.wording import counted

_LOST_LAYER = "its country layer is no longer on this machine, or cannot be read"
_NO_LAYER = "no country layer was given to the job"
_MOST_TILES = 200
_FOLDED_FROM = 12
_MEANINGS = {
    "geographic": "concentric squares, training outside and test in the middle",
    "grid": "a fixed pattern in which neighbours are in different sets",
    "random": "each patch by lot",
    "stratified": "blocks of ground, with equal shares of each class",
}


def tiles_section(found: Survey, record: Record, countries: gpd.GeoSeries | None) -> Section:
    """Tiles on a map and in a table, and patches by country; ``countries`` are polygons to draw, if there are any."""
    places = _places(found)
    if countries is not None and shows_countries(places, countries):
        ground = "Country borders are those of the layer that was given to the job."
    elif countries is not None:
        ground = "None of the countries of the layer that was given to the job lies in this part of the world."
    else:
        why = _LOST_LAYER if record.text("inputs", "countries") else _NO_LAYER
        ground = f"The map has no countries: {why}."
    images = f" Where there are several images of a place, they count together ({len(found.tiles):,} in all)." * (
        len(found.tiles) > len(places)
    )
    caption = f"Tiles, coloured by the share of their candidate patches that is kept.{images} {ground}"
    shares = places["kept"] / places["candidates"]
    kept = f"{shares.min():.0%} to {shares.max():.0%} of their candidates are kept"
    alt = f"Map of {counted(len(places), 'place')}; {kept}."
    rows = [_tile_row(row) for row in found.tiles.itertuples(index=False)]
    title = "Candidate and kept patches of each tile" + f" (the first {_MOST_TILES} of {len(rows):,})" * (
        len(rows) > _MOST_TILES
    )
    columns = ["tile", "sensed", "candidates", "kept", "share"]
    blocks: list[Block] = [
        Picture("tiles", caption, alt, partial(draw_tiles, places, countries)),
        Table(title, columns, rows[:_MOST_TILES], words=2, folded=len(rows) > _FOLDED_FROM),
    ]
    if set(found.countries.index) - {NONE}:
        blocks.append(split_table("Kept patches by country and set", "country", found.countries))
    return Section("tiles", "Where", blocks)


def best_tile_splits(found: Survey, record: Record) -> TileSplits:
    """The tile with most kept patches under each strategy."""
    best = found.tiles.sort_values(["kept", "tile"], ascending=[False, True]).iloc[0]
    columns = [name for name in recorded_strategies(record).values() if name != SPLIT]
    names = ["patch_id", "status", "epsg", "minx", "maxx", "maxy", SPLIT, *columns]
    rows = read_rows(best["part"], names).to_pandas()
    return tile_splits(str(best["tile"]), rows.assign(side=rows["maxx"] - rows["minx"]), record)


def splits_section(found: Survey, record: Record) -> Section:
    """The tile with most kept patches under each strategy; at least one patch must be kept."""
    tile = best_tile_splits(found, record)
    caption = (
        f"The tile {tile.tile} under each strategy, as figure 3 of the reBEN paper shows it. "
        f"{_rules(tile, record)} Pale patches are rejected."
    )
    alt = "Maps of one tile, patch by patch: " + "; ".join(map(_described, tile.splits))
    return Section(
        "splits",
        "Split of one tile",
        [Picture("splits", caption, f"{alt}.", partial(draw_splits, tile), partial(draw_splits, tile, across=1))],
    )


def _tile_row(row: Any) -> list[str]:
    counts = [f"{row.candidates:,}", f"{row.kept:,}", share(row.kept, row.candidates)]
    return [row.tile, f"{row.sensing_time:%Y-%m-%d}", *counts]


def _places(found: Survey) -> pd.DataFrame:
    groups = found.tiles.groupby(list(PLACE), sort=True)
    places = groups.agg(
        candidates=("candidates", "sum"), kept=("kept", "sum"), images=("tile", "size"), name=("tile", "first")
    )
    return places.reset_index().assign(name=places["name"].str.rsplit("_", n=1).str[-1].to_numpy())


def _described(title: str) -> str:
    name = title.split(" ", maxsplit=1)[0]
    return f"{title}, {_MEANINGS[name]}" if name in _MEANINGS else title


def _rules(tile: TileSplits, record: Record) -> str:
    rules = ((title, rule_of(title.split(" ")[0], record)) for title in tile.splits)
    texts = [
        f"{title}: " + ", ".join(f"{key} {value:g}" for key, value in rule.model_dump(exclude={"strategy"}).items())
        for title, rule in rules
        if rule is not None
    ]
    return "; ".join(texts) + "."
