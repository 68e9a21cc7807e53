"""What the user reads: the plan before the job, the result after it."""

from __future__ import annotations

import pandas as pd
from dask.utils import format_bytes
from rich.console import Console
from rich.table import Table

from reben_dask.job.output import Output
from reben_dask.job.plan import Plan
from reben_dask.job.tally import total
from reben_dask.patches.decision import REASONS
from reben_dask.patches.splits import SPLITS

_TILES_SHOWN = 12


def show_plan(console: Console, plan: Plan, output: Output, workers: str) -> None:
    """Print what is going to be made, from what, and what it will take."""
    table = _table(f"Plan: {plan.recipe.title}", "", "")
    table.add_row("Tiles", f"{len(plan.tiles):,} ({len(plan.usable):,} usable)")
    for tile in plan.tiles[:_TILES_SHOWN]:
        size = plan.grid(tile).shape_yx
        table.add_row("", f"{tile.name}: {size.x} x {size.y} patches, {tile.sensing_time:%Y-%m-%d}")
    if len(plan.tiles) > _TILES_SHOWN:
        table.add_row("", f"… and {len(plan.tiles) - _TILES_SHOWN:,} more")
    table.add_row("Candidate patches", f"{plan.candidates:,}")
    table.add_row("Land cover", f"{plan.landcover.polygons:,} polygons, {plan.landcover.crs}: {plan.landcover.path}")
    table.add_row("Countries", plan.countries or "not given; the column stays empty")
    table.add_row("Labels", f"{plan.recipe.nomenclature}, {len(plan.nomenclature.classes)} classes")
    table.add_row("Dask tasks", f"{plan.tasks:,}")
    disk = f"cubes {format_bytes(plan.cube_bytes)}, LMDB up to {format_bytes(plan.lmdb_bytes)}"
    table.add_row("Disk", f"{disk}, tables {format_bytes(plan.table_bytes)}")
    table.add_row("Memory", f"up to {format_bytes(plan.task_bytes)} for each thread of a worker")
    table.add_row("Workers", workers)
    table.add_row("Output", str(output.root))
    console.print(table)
    for warning in plan.warnings:
        console.print(f"Note: {warning}", style="yellow", highlight=False)


def show_result(console: Console, plan: Plan, output: Output, tallies: pd.DataFrame, seconds: float) -> None:
    """Print what became of the candidates, and where everything is."""
    console.print(_funnel(plan, tallies))
    console.print(_classes(tallies))
    console.print(f"Done in {seconds:,.0f} s. Written to {output.root}:", highlight=False)
    for name, what in (
        ("cubes.zarr", "pixels and reference maps, one group per tile"),
        ("patches.parquet", "every candidate patch with its status and reason"),
        ("metadata.parquet", "the dataset: labels and splits of clear patches"),
        ("metadata_for_patches_with_snow_cloud_or_shadow.parquet", "the same for patches that are listed apart"),
        ("lmdb", "bands and reference maps for training"),
        ("run", "record of this run, with Dask's performance report"),
    ):
        console.print(f"  {name}  [dim]{what}[/dim]", highlight=False)


def _funnel(plan: Plan, tallies: pd.DataFrame) -> Table:
    status, reasons, apart = (total(tallies, measure) for measure in ("status", "reason", "apart"))
    splits = total(tallies, "split")
    table = _table("Patches", "", "patches")
    table.add_row("Candidates", f"{plan.candidates:,}")
    for reason, meaning in REASONS.items():
        table.add_row(f"  rejected: {meaning}", f"{reasons.get(reason, 0):,}")
    table.add_row("Kept", f"{status.get('kept', 0):,}", style="bold")
    for split in SPLITS:
        table.add_row(f"  {split}", f"{splits.get(split, 0):,}")
    table.add_row("  of these listed apart: all snow", f"{apart.get('snow', 0):,}")
    table.add_row("  of these listed apart: all cloud or shadow", f"{apart.get('cloud_or_shadow', 0):,}")
    return table


def _classes(tallies: pd.DataFrame) -> Table:
    chosen = tallies[tallies["measure"] == "class"]
    counts = chosen.pivot_table(index="key", columns="split", values="patches", aggfunc="sum", fill_value=0)
    counts = counts.reindex(columns=list(SPLITS), fill_value=0)
    table = _table("Classes of kept patches", "class", *SPLITS, "all")
    for name, row in counts.iterrows():
        table.add_row(str(name), *(f"{int(count):,}" for count in row), f"{int(row.sum()):,}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=any(columns), box=None, pad_edge=False)
    for number, column in enumerate(columns):
        is_text = number == 0 or not any(columns)
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    return table
