"""Page of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import pandas as pd
from matplotlib.figure import Figure

from reben_dask.analysis.counts import with_unassigned
from reben_dask.analysis.legend import legend_of
from reben_dask.formats.bands import REFERENCE_MAP
from reben_dask.formats.columns import EPSG, MAXX, MAXY, MINX, PATCH_ID, SPLIT, STATUS, TILE
from reben_dask.formats.dataset import HISTOGRAMS_FILE, RUN, STATISTICS, TABLE, RunRecord, without_credentials
from reben_dask.formats.statistics import SPLIT_KEYS, Statistics
from reben_dask.patches.overlaps import conflict_note
from reben_dask.report.comparison import Comparison
from reben_dask.report.examples import WHITE, clear_examples, flagged_examples, natural_colour
from reben_dask.report.figures import (
    draw_classes,
    draw_dates,
    draw_examples,
    draw_funnel,
    draw_histograms,
    draw_label_numbers,
    draw_seconds,
    draw_splits,
)
from reben_dask.report.maps import draw_tiles, shows_countries
from reben_dask.report.origin import origin_tables, read_record, recipe_text
from reben_dask.report.page import Page
from reben_dask.report.strategies import TileSplits, describe_rules, recorded_strategies, tile_splits
from reben_dask.report.survey import PLACE, Survey, survey
from reben_dask.stores.patch_table import read_rows
from reben_dask.stores.statistics import band_table, class_table
from reben_dask.stores.terms import is_synthetic
from reben_dask.tables import COUNT, PERCENT, TEXT, Table, share

_STAGES = {
    "start": "start: plan and cluster",
    "landcover": "sort the land cover",
    "tiles": "bands, maps, labels and patch table",
    "choice": "image selection, splits and overlaps",
    "overlaps": "conflicts between tiles",
    "metadata": "metadata files",
    "lmdb": "LMDB",
    "statistics": "statistics",
    "geotiff": "GeoTIFF",
    "samples": "shards of samples",
    "report": "Dask's performance report",
}
_MOST_TILES = 200
_FOLDED_FROM = 12


def dataset_page(out: Path, countries: gpd.GeoSeries | None, comparison: Comparison | None = None) -> Page:
    """Compose the page of a dataset.

    ``countries`` are polygons for the map of tiles, if readable; ``comparison`` adds sections. Raises InputError if
    ``out`` is not a dataset of this program, or its patch table cannot be read.
    """
    found, (record, why_no_record) = survey(out), read_record(out)
    places, tile = _places(found.tiles), best_tile_splits(found, record)
    legend = legend_of(record)
    examples = {"examples": clear_examples(found), "sky": flagged_examples(found)}
    seconds = {_STAGES.get(name, name): value for name, value in record.seconds.items()} if record else {}
    statistics = _statistics(out)
    sections = dict(_sections(found, has_statistics=statistics is not None, has_seconds=bool(seconds)))
    drawn: dict[str, dict[str, Callable[..., Figure]]] = {
        "funnel": {"funnel": partial(draw_funnel, found.steps, found.kept)},
        "classes": {"classes": partial(draw_classes, found.tables["class"], found.splits)},
        "labels": {"labels": partial(draw_label_numbers, found.tables["labels"])},
        "tiles": {"tiles": partial(draw_tiles, places, countries)},
        "splits": {"splits": partial(draw_splits, tile)},
        "pixels": {"histograms": partial(draw_histograms, statistics.histograms)} if statistics else {},
        "dates": {"dates": partial(draw_dates, found.tables["date"])},
        "time": {"seconds": partial(draw_seconds, seconds)},
    }
    content = {
        "found": found,
        "record": record,
        "why_no_record": why_no_record,
        "tables": _tables(found, seconds) | (statistics.tables if statistics else {}),
        "statistics": statistics,
        "places": places,
        "country_layer": _describe_layer(places, countries, record),
        "tile": tile,
        "rules": describe_rules(tile, record),
        "conflicts": conflict_note(record.counts) if record else None,
        "examples": examples,
        "white": WHITE,
        "natural_colour": natural_colour,
        "legend": legend,
        "seconds": seconds,
        "origin_tables": list(origin_tables(record)) if record else [],
        "recipe_text": recipe_text(record) if record else "",
        "comparison": comparison,
    }
    recipe = without_credentials(str(record.recipe.get("title") or "")) if record else ""
    return Page(
        template="dataset.html.j2",
        kind="Synthetic dataset" if record and is_synthetic(record) else "Dataset",
        title=(record.title if record else "") or out.resolve().name,
        subtitle=f"Built with the recipe {recipe}" if recipe else "",
        facts=dict(_facts(found, record)),
        sections=sections | (comparison.sections if comparison else {}),
        source="reben report OUT",
        content=content,
        figures={name: draw for key in sections for name, draw in drawn.get(key, {}).items()}
        | (comparison.figures if comparison else {}),
        linked_figures={
            name: partial(draw_examples, shown, bright=name == "sky", legend=legend)
            for name, shown in examples.items()
            if shown
        },
    )


def best_tile_splits(found: Survey, record: RunRecord | None) -> TileSplits:
    """Split the tile with most kept patches under each strategy."""
    tile = found.tiles.sort_values(["kept", TILE], ascending=[False, True])[TILE].iloc[0]
    columns = {SPLIT, *recorded_strategies(record).values()}
    names = [PATCH_ID, STATUS, EPSG, MINX, MAXX, MAXY, *sorted(columns)]
    rows = read_rows(found.path / TABLE / f"{tile}.parquet", names).to_pandas()
    return tile_splits(tile, rows.assign(side=rows[MAXX] - rows[MINX]), record)


class _Statistics(NamedTuple):
    """Statistics of bands and classes in tables, and histograms of the bands."""

    tables: dict[str, Table]
    histograms: pd.DataFrame


def _statistics(out: Path) -> _Statistics | None:
    """Read the statistics of a dataset; ``None`` without any, or without pixels."""
    files = (out / STATISTICS, out / RUN / HISTOGRAMS_FILE)
    if not all(file.is_file() for file in files):
        return None
    found, histograms = Statistics.read(out), pd.read_parquet(files[1])
    shown = histograms[histograms["band"] != REFERENCE_MAP.name]
    bands = replace(band_table(found, SPLIT_KEYS), folded=True)
    return _Statistics({"bands": bands, "frequencies": class_table(found)}, shown) if len(shown) else None


def _sections(found: Survey, *, has_statistics: bool, has_seconds: bool) -> Iterator[tuple[str, str]]:
    """Key and title of each section; some need kept patches."""
    yield "funnel", "From candidates to patches"
    if found.kept:
        yield "classes", "Classes"
        yield "labels", "Labels of a patch"
    yield "tiles", "Tiles"
    if found.kept:
        yield "splits", "Split of one tile"
    if found.tiles["clear"].any():
        yield "examples", "Patches and their reference maps"
    if any(found.flagged.values()):
        yield "sky", "Snow, cloud and shadow"
    if has_statistics:
        yield "pixels", "Pixel values"
    if found.kept:
        yield "dates", "Dates"
    yield "origin", "Origin"
    if has_seconds:
        yield "time", "Time of the job"


def _facts(found: Survey, record: RunRecord | None) -> Iterator[tuple[str, str]]:
    left_out = len(record.inputs.tiles) - len(record.usable_tiles) if record else 0
    yield "Tiles", f"{len(found.tiles) - left_out:,}" + f", {left_out:,} rejected" * bool(left_out)
    yield "Candidates", f"{found.candidates:,}"
    yield "Kept patches", f"{found.kept:,}"
    if found.kept:
        for split, count in with_unassigned(pd.DataFrame([found.splits])).iloc[0, :-1].items():
            yield str(split).capitalize(), f"{count:,}"
        yield "Classes that occur", f"{len(found.tables['class']):,}"
        first, last = found.tables["date"].index[[0, -1]]
        yield "Sensed", first if first == last else f"{first} to {last}"


def _tables(found: Survey, seconds: dict[str, float]) -> dict[str, Table]:
    whole = found.candidates
    losses = [(f"rejected: {why}", lost) for why, lost in found.steps[1:]]
    flagged = {"flagged: snow": found.flagged["snow"], "flagged: cloud or shadow": found.flagged["cloud"]}
    counts = [("Candidates", whole), *losses, ("Kept", found.kept), *((k, n) for k, n in flagged.items() if n)]
    all_patches = pd.DataFrame([found.splits], index=["(all patches)"])
    tiles = found.tiles
    shown: list[Any] = list(tiles.head(_MOST_TILES).itertuples(index=False))
    rows = [
        (row.tile, f"{row.sensing_time:%Y-%m-%d}", row.candidates, row.kept, share(row.kept, row.candidates))
        for row in shown
    ]
    first = f" (the first {_MOST_TILES} of {len(tiles):,})" * (len(tiles) > _MOST_TILES)
    by = {name: partial(Table.from_frame, frame=with_unassigned(frame)) for name, frame in found.tables.items()}
    return {
        "funnel": Table(
            "Candidate patches by outcome",
            ["", "patches", "share"],
            [[name, count, share(count, whole)] for name, count in counts],
            [TEXT, COUNT, PERCENT],
        ),
        "classes": Table.from_frame(
            "Patches with each class, by split (Table I of the reBEN paper); a patch counts for each of its labels",
            with_unassigned(pd.concat([found.tables["class"], all_patches])),
            index="class",
            has_total=True,
        ),
        "labels": by["labels"]("Kept patches by number of labels and split", folded=True),
        "tiles": Table(
            f"Candidate and kept patches of each tile{first}",
            ["tile", "sensed", "candidates", "kept", "share"],
            rows,
            [TEXT, TEXT, COUNT, COUNT, PERCENT],
            folded=len(rows) > _FOLDED_FROM,
        ),
        "countries": by["country"]("Kept patches by country and split"),
        "seasons": by["season"]("Kept patches by season and split"),
        "dates": by["date"]("Kept patches by day of sensing and split", index="day (UTC)", folded=True),
        "seconds": Table("Wall time of each stage of the job", ["stage", "seconds"], list(seconds.items()), ",.1f")
        .with_total("total"),
    }  # fmt: skip


def _places(tiles: pd.DataFrame) -> pd.DataFrame:
    """Candidate and kept patches of all images of a location."""
    groups = tiles.groupby(list(PLACE), sort=True)
    places = groups.agg(
        candidates=("candidates", "sum"), kept=("kept", "sum"), images=(TILE, "size"), name=(TILE, "first")
    )
    return places.reset_index().assign(name=places["name"].str.rsplit("_", n=1).str[-1].to_numpy())


def _describe_layer(places: pd.DataFrame, countries: gpd.GeoSeries | None, record: RunRecord | None) -> str:
    if countries is not None and shows_countries(places, countries):
        return "Country borders are from the job's country layer."
    if countries is not None:
        return "No country of the job's country layer is in this area."
    if record and record.inputs.countries:
        return "The map has no countries: its country layer is no longer on this machine, or cannot be read."
    return "The map has no countries: no country layer was given to the job."
