"""What the user reads: the plan before the job, the result after it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from dask.utils import format_bytes
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reben_dask.job.output import Output
from reben_dask.job.plan import BASE_WORKER_BYTES, Plan
from reben_dask.job.tally import total
from reben_dask.patches.decision import KEPT, REASONS
from reben_dask.patches.splits import SPLITS
from reben_dask.stores.metadata import METADATA, SNOW_CLOUD_METADATA

_TILES_SHOWN = 12
_MADE = {
    "cubes.zarr": "pixels and reference maps, one group per tile",
    "patches.parquet": "every candidate patch with its status and reason",
    METADATA: "the dataset: labels and split of every clear patch",
    SNOW_CLOUD_METADATA: "the same for patches listed apart",
    "lmdb": "bands and reference maps of both, for training",
    "run": "record of this run, with Dask's performance report",
}


def show_plan(console: Console, plan: Plan, output: Output, workers: str) -> None:
    """Print what is going to be made, from what, and what it will take."""
    console.print(f"Plan: {plan.recipe.title}", style="bold")
    for label, value in _plan_lines(plan, output, workers):
        console.print(f"  {label:<12}{value}", highlight=False, soft_wrap=True)
    for warning in plan.warnings:
        show_note(console, warning)


def show_note(console: Console, text: str) -> None:
    """Print one sentence that the user should know, but need not act on."""
    console.print(f"Note: {text}", style="yellow", highlight=False, soft_wrap=True)


def _plan_lines(plan: Plan, output: Output, workers: str) -> Iterator[tuple[str, str]]:
    left_out = len(plan.tiles) - len(plan.usable)
    yield "Tiles", f"{len(plan.tiles):,}" + f", {left_out} of them left out" * bool(left_out)
    for tile in plan.tiles[:_TILES_SHOWN]:
        size = plan.grid(tile).shape_yx
        yield "", f"{tile.name}  {size.x} x {size.y} patches"
    if len(plan.tiles) > _TILES_SHOWN:
        yield "", f"… and {len(plan.tiles) - _TILES_SHOWN:,} more"
    yield "Patches", f"{plan.candidates:,} candidates of {plan.recipe.patch_size_m:,} m"
    yield "Land cover", f"{plan.landcover.path} ({plan.landcover.polygons:,} polygons, {plan.landcover.crs})"
    yield "Labels", f"{plan.recipe.nomenclature}, {len(plan.nomenclature.classes)} classes"
    yield "Countries", plan.countries or "not given (--countries), the column stays empty"
    yield "Tasks", f"about {plan.tasks:,}"
    sizes = {"cubes": plan.cube_bytes, "LMDB at most": plan.lmdb_bytes, "tables": plan.table_bytes}
    yield "Disk", ", ".join(f"{name} {format_bytes(size)}" for name, size in sizes.items())
    base, task = (format_bytes(size) for size in (BASE_WORKER_BYTES, plan.task_bytes))
    yield "Memory", f"{base} for each worker, and up to {task} for each of its threads"
    yield "Workers", workers
    yield "Output", str(output.root)


def show_result(console: Console, plan: Plan, output: Output, tallies: pd.DataFrame, seconds: float) -> None:
    """Print what became of the candidates, and where everything is."""
    console.print(_funnel(plan, tallies))
    if total(tallies, "status").get(KEPT):
        console.print(_classes(tallies))
    else:
        console.print("No patch was kept; the reasons above say why.", style="yellow")
    console.print(f"Done in {seconds:,.0f} s. Written to {output.root}:", highlight=False, soft_wrap=True)
    for name, what in _MADE.items():
        console.print(f"  {name:<{max(map(len, _MADE))}}  {what}", highlight=False, soft_wrap=True)


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
        table.add_row(Text(str(name)), *(f"{int(count):,}" for count in row), f"{int(row.sum()):,}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table
