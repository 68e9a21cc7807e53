"""Output on the terminal: the plan before the job, the result after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from dask.utils import format_bytes
from rich.console import Console

from reben_dask.analysis.counts import TOTAL, with_unassigned
from reben_dask.formats.columns import KEPT, OVERLAP_PX, SPLIT, SPLITS
from reben_dask.formats.dataset import (
    CARD,
    CARD_BESIDE,
    CATALOGUE,
    CROISSANT,
    CUBES,
    FLAGGED_METADATA_FILE,
    LMDB,
    METADATA_FILE,
    PERFORMANCE_FILE,
    RUN,
    STATISTICS,
    TABLE,
    FailedTile,
)
from reben_dask.job.plan import BASE_WORKER_BYTES, Plan
from reben_dask.job.record import gap_notes, split_notes, sum_counts
from reben_dask.patches.decision import (
    DUPLICATE_ACQUISITION,
    DUPLICATE_GROUND,
    NO_SCENE_CLASSIFICATION,
    NO_SEASON,
    NO_SENTINEL1,
    NOT_CHOSEN,
    NOT_PUBLISHED,
    REASONS,
    SNOW_OR_CLOUD,
    SPLIT_CONFLICT,
)
from reben_dask.patches.overlaps import CONFLICT, conflict_note
from reben_dask.tables import Table
from reben_dask.wording import counted
from reben_dask.workspace import Output

_TILES_SHOWN = 12
_MADE = {
    CUBES: "pixels and reference maps, one group per tile",
    TABLE: "every candidate patch with its status and reason",
    METADATA_FILE: "the dataset: labels and split of every clear patch",
    FLAGGED_METADATA_FILE: "the same for flagged patches (snow, cloud or shadow)",
    CATALOGUE: "STAC items of kept patches and tiles, for pystac, rustac and DuckDB",
    LMDB: "bands and reference maps of both, for training",
    STATISTICS: "statistics of each band and split, and frequency of classes",
    CARD: "contents, provenance and terms of the dataset",
    CROISSANT: "the same for search engines and loaders",
    RUN: "record of this run: recipe, inputs, versions, counts and times",
}


def show_plan(console: Console, plan: Plan, output: Output, workers: str) -> None:
    """Print inputs, size and resources of a job."""
    console.print(f"Plan: {plan.recipe.title}", style="bold")
    for label, value in _plan_lines(plan, output, workers):
        console.print(f"  {label:<12}{value}", highlight=False, soft_wrap=True)
    for warning in plan.warnings:
        show_note(console, warning)


def show_note(console: Console, text: str) -> None:
    """Print a note."""
    console.print(f"Note: {text}", style="yellow", highlight=False, soft_wrap=True)


def _plan_lines(plan: Plan, output: Output, workers: str) -> Iterator[tuple[str, str]]:
    left_out = len(plan.tiles) - len(plan.usable)
    yield "Tiles", f"{len(plan.tiles):,}" + f", {left_out} of them rejected" * bool(left_out)
    for tile in plan.tiles[:_TILES_SHOWN]:
        grids = " + ".join(f"{grid.shape_yx.x} x {grid.shape_yx.y}" for grid in plan.grids(tile))
        yield "", f"{tile.name}  {grids} patches"
    if len(plan.tiles) > _TILES_SHOWN:
        yield "", f"… and {len(plan.tiles) - _TILES_SHOWN:,} more"
    yield "Patches", f"{counted(plan.candidates, 'candidate')} of {plan.recipe.patch_size_m:,} m"
    landcover = plan.landcover
    yield "Land cover", f"{landcover.path} ({counted(landcover.polygons, 'polygon')}, {landcover.crs})"
    yield "", f"layer {landcover.layer}, codes in {landcover.code_column}"
    yield "Labels", f"{plan.recipe.nomenclature}, {len(plan.nomenclature.classes)} classes"
    yield "Sentinel-1", _sentinel1(plan)
    if plan.published.metadata:
        yield "Published", ", ".join(str(path) for path in plan.published.metadata)
    yield "Countries", _countries(plan)
    yield "Tasks", f"about {plan.tasks:,}"
    sizes = {"cubes": plan.cube_bytes, "LMDB at most": plan.lmdb_bytes, "tables": plan.table_bytes}
    if plan.exports:
        sizes["exports at most"] = plan.export_bytes
    yield "Disk", ", ".join(f"{name} {format_bytes(size)}" for name, size in sizes.items())
    base, task = (format_bytes(size) for size in (BASE_WORKER_BYTES, plan.task_bytes))
    yield "Memory", f"{base} for each worker, and up to {task} for each of its threads"
    yield "Workers", workers
    yield "Output", str(output.root)


def _countries(plan: Plan) -> str:
    if plan.countries is None:
        return "not given (--countries), the column stays empty"
    layer, listed = plan.countries, len(plan.recipe.countries or ())
    count = counted(len(layer.found), "country")
    which = f"the {count} of the recipe that it has" if layer.names else f"all {count} of the file"
    not_only = f", not only the {listed} of the recipe" * bool(listed and not layer.names)
    return f"{layer.path} (layer {layer.layer}, names in {layer.column}): {which}{not_only}"


def _sentinel1(plan: Plan) -> str:
    if plan.partners is None:
        return "not given (--s1, --s1-scenes)"
    return f"{plan.partners.describe()}; patches without a partner are {'rejected' if plan.pairs_only else 'kept'}"


def show_result(console: Console, plan: Plan, output: Output, counts: pd.DataFrame, seconds: float) -> None:
    """Print the counts of patches and the artefacts."""
    _without_zeros(funnel_table(plan, counts)).show(console)
    if sum_counts(counts, "status").get(KEPT):
        _class_table(counts).show(console)
    else:
        reasons = f"the reasons are above, and for each candidate in {TABLE}"
        console.print(f"No patch was kept; {reasons}.", style="red", highlight=False)
    if overlap_px := sum(sum_counts(counts, OVERLAP_PX).values()):
        tiles = counts[counts["measure"] == OVERLAP_PX]["tile"].nunique()
        show_note(
            console,
            f"Several polygons of the map cover {counted(overlap_px, 'pixel')} of {counted(tiles, 'tile')}; "
            "the last polygon in the file is used.",
        )
    for note in (*gap_notes(counts), *split_notes(plan, counts)):
        show_note(console, note)
    _show_conflicts(console, plan, counts)
    if output.card == CARD_BESIDE:
        show_note(console, f"{CARD} was not written by reben_dask and is unchanged; the card is {CARD_BESIDE}.")
    console.print(f"Done in {seconds:,.0f} s. Written to {output.root}:", highlight=False, soft_wrap=True)
    others = dict.fromkeys(output.exports, f"GeoTIFFs of the tree {plan.recipe.tree}")
    others |= dict.fromkeys(plan.layout.tables if plan.tree_exports else (), f"table of the tree {plan.recipe.tree}")
    others |= {form.name: form.description for form in plan.shard_forms}
    if (output.root / RUN / PERFORMANCE_FILE).exists():
        others[f"{RUN}/{PERFORMANCE_FILE}"] = "Dask's performance report, for a browser"
    for made, what in {**_MADE, **others}.items():
        name = output.card if made == CARD else made
        console.print(f"  {name:<{max(map(len, _MADE))}}  {what}", highlight=False, soft_wrap=True)


def _show_conflicts(console: Console, plan: Plan, counts: pd.DataFrame) -> None:
    """Print the share of conflicting patches, as a note if there are any."""
    measures = {str(measure): sum_counts(counts, measure) for measure in (SPLIT, CONFLICT)}
    sentence = conflict_note(measures)
    if sentence is None:
        return
    if not any(measures[CONFLICT].values()):
        console.print(sentence, highlight=False, soft_wrap=True)
        return
    advice = " Set overlaps: drop in the recipe to reject them between MGRS tiles." * (plan.recipe.overlaps != "drop")
    show_note(console, f"{sentence}{advice}")


def show_failures(console: Console, failures: Sequence[FailedTile], tiles: int) -> None:
    """Print the failed tiles and their errors."""
    for failure in failures[:_TILES_SHOWN]:
        console.print(f"Failed: {failure.tile}: {failure.error}", style="red", highlight=False)
    if failures:
        text = f"{len(failures):,} of {tiles:,} tiles could not be built, and are not in the dataset (run/record.json)."
        advice = "The other tiles are complete. Fix these and rerun the same command to retry them."
        console.print(f"{text} {advice}", style="red", highlight=False)


def show_differences(console: Console, by_tile: pd.DataFrame, by_class: pd.DataFrame, file: Path) -> None:
    """Print differences from published metadata by tile and class."""
    tiles = by_tile.set_index("tile")
    shown = Table.from_frame("Compared with the published metadata", tiles.head(_TILES_SHOWN))
    name = "all" if len(tiles) <= _TILES_SHOWN else f"all {len(tiles):,} tiles"
    replace(shown, rows=[*shown.rows, [name, *tiles.sum()]], has_total=True).show(console)
    if len(by_class):
        Table.from_frame("Labels that differ", by_class, index="class").show(console)
    console.print(f"Each difference is a row of {file}.", highlight=False)


def funnel_table(plan: Plan, counts: pd.DataFrame) -> Table:
    """Count the candidates by status, reason and split."""
    status, reasons, flagged, splits = (
        sum_counts(counts, measure) for measure in ("status", "reason", "apart", "split")
    )
    of_images = (NO_SEASON, NO_SCENE_CLASSIFICATION, SNOW_OR_CLOUD, NOT_CHOSEN)
    applies = {
        **dict.fromkeys(of_images, plan.recipe.images is not None),
        NOT_PUBLISHED: bool(plan.published.metadata),
        NO_SENTINEL1: plan.pairs_only,
        DUPLICATE_ACQUISITION: any(map(plan.earlier_strips, plan.usable)),
        DUPLICATE_GROUND: plan.recipe.overlaps == "first",
        SPLIT_CONFLICT: plan.recipe.overlaps == "drop",
    }
    kept, published = status.get(KEPT, 0), plan.published
    rows: list[tuple[str, int]] = [
        ("Candidates", plan.candidates),
        *(
            (f"  rejected: {meaning}", reasons.get(reason, 0))
            for reason, meaning in REASONS.items()
            if applies.get(reason, True)
        ),
        ("Kept", kept),
        *((f"  {split}", splits.get(split, 0)) for split in SPLITS),
    ]
    if plan.recipe.split_of_all_tiles:
        rows.append(("  in no split: the patch spans blocks of several splits", kept - sum(splits.values())))
    if plan.recipe.sky.flag_from is not None or published.metadata or published.snow_list or published.cloud_list:
        rows.append(("  flagged (listed separately): all snow", flagged.get("snow", 0)))
        rows.append(("  flagged (listed separately): all cloud or shadow", flagged.get("cloud_or_shadow", 0)))
    return Table("Patches", ("", "patches"), rows)


def _without_zeros(funnel: Table) -> Table:
    """Drop rules that reject and flag no patch."""
    counts = ("Candidates", "Kept", *(f"  {split}" for split in SPLITS))
    return replace(funnel, rows=[row for row in funnel.rows if row[0] in counts or row[1]])


def _class_table(counts: pd.DataFrame) -> Table:
    chosen = counts[counts["measure"] == "class"]
    by_split = chosen.pivot_table(index="key", columns="split", values="patches", aggfunc="sum", fill_value=0)
    totals = by_split.reindex(columns=list(SPLITS), fill_value=0).assign(**{TOTAL: by_split.sum(axis=1)})
    return Table.from_frame("Classes of kept patches", with_unassigned(totals), index="class")
