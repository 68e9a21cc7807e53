"""The ``convert`` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reben_dask.cli.base import Command
from reben_dask.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from reben_dask.job.convert import Run
    from reben_dask.job.convert_cubes import CubePlan
    from reben_dask.sources.published.pairs import Pairs
    from reben_dask.sources.published.trees import PublishedTree

EPILOG = """
\b
Examples:
  reben convert --s2 BigEarthNet-S2 --s1 BigEarthNet-S1 \\
                --maps Reference_Maps Encoded-BigEarthNet
  reben convert --s2 BigEarthNet-S2 --s1 BigEarthNet-S1 \\
                --maps Reference_Maps --pairs metadata.parquet --zarr cubes.zarr
"""

_FOLDER = click.Path(path_type=Path)


@click.command("convert", cls=Command, epilog=EPILOG)
@click.option("--s2", "--bigearthnet-s2-dir", "s2", metavar="DIR", type=_FOLDER, help="Tree of Sentinel-2 patches.")
@click.option("--s1", "--bigearthnet-s1-dir", "s1", metavar="DIR", type=_FOLDER, help="Tree of Sentinel-1 patches.")
@click.option(
    "--maps", "--bigearthnet-reference-maps-dir", "maps", metavar="DIR", type=_FOLDER, help="Tree of reference maps."
)
@click.option("--zarr", "to_zarr", is_flag=True, help="Write a Zarr store, one group per tile.")
@click.option(
    "--pairs",
    multiple=True,
    metavar="FILE",
    type=_FOLDER,
    help="Partners of the Sentinel-1 patches in the Zarr store: metadata.parquet, the folder that holds it, or a CSV "
    "with the columns s2v1_name and s1_name; repeat the option for each file.",
)
@click.option(
    "--workers",
    "--num-workers",
    "workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that read and write; by default one for each core.",
)
@click.option("--target-dir", metavar="OUT", type=_FOLDER, help="Alias of OUT.")
@click.argument("out", metavar="OUT", required=False, type=_FOLDER)
def convert(**options: Any) -> None:
    """Convert published GeoTIFFs to LMDB or Zarr.

    The GeoTIFF trees are those of BigEarthNet, version 1 or 2.

    Pixels are not changed. The LMDB has the same keys and values as one of rico-hdl, byte for byte; the options of
    rico-hdl are accepted.

    In the Zarr store, each tile of a Sentinel-2 product has a group with a node for each resolution, for the reference
    map and for Sentinel-1, as far as given. Patches that are not in the trees have the fill value: 0, 999 in the
    reference map, NaN in Sentinel-1. Sentinel-1 patches are placed beside their partners by --pairs; those without
    a partner are left out. Without --s2 and --maps, each tile of a Sentinel-1 scene has a group.

    OUT must be new, for an LMDB on a local disk. It appears when it is complete. Run the same command again to resume
    a conversion that was interrupted; its hidden folder is beside OUT.
    """
    out = _destination(options["out"], options["target_dir"]).absolute()
    _require_trees(options)
    from reben_dask.job.convert import task_runner  # noqa: PLC0415
    from reben_dask.progress import console  # noqa: PLC0415
    from reben_dask.workspace import explaining_full_disk, require_new  # noqa: PLC0415

    output = console()
    require_new(out)
    pairs = _open_pairs(options["pairs"])
    trees = _find(output, {name: options[name] for name in ("s2", "s1", "maps") if options[name]})
    patches = sum(len(tree.patches) for tree in trees)
    with task_runner(patches, options["workers"]) as run, explaining_full_disk(out):
        if options["to_zarr"]:
            _to_zarr(output, _plan(output, trees, run, pairs), out, run)
        else:
            _to_lmdb(output, trees, out, run)


def _find(output: Console, roots: dict[str, Path]) -> list[PublishedTree]:
    from reben_dask.formats.bands import ImageKind  # noqa: PLC0415
    from reben_dask.sources.published.trees import find_patches  # noqa: PLC0415

    kinds = {"s2": ImageKind.S2, "s1": ImageKind.S1, "maps": ImageKind.MAP}
    trees = []
    for name, root in roots.items():
        with output.status(f"Looking for patches in {root}"):
            trees.append(find_patches(root, kinds[name]))
        output.print(f"{root}: {counted(len(trees[-1].patches), 'patch')} ({kinds[name].value})", highlight=False)
    return trees


def _open_pairs(paths: tuple[Path, ...]) -> Pairs | None:
    from reben_dask.sources.published.pairs import open_pairs  # noqa: PLC0415

    return open_pairs(paths) if paths else None


def _to_lmdb(output: Console, trees: list[PublishedTree], out: Path, run: Run) -> None:
    from reben_dask.job.convert import convert_to_lmdb, lmdb_bytes  # noqa: PLC0415
    from reben_dask.progress import StageProgress  # noqa: PLC0415
    from reben_dask.workspace import Workspace, free_bytes  # noqa: PLC0415

    needed, free = lmdb_bytes(trees), free_bytes(out)
    if needed > free and not Workspace(out).building.exists():
        _note(output, f"{out.parent} has {free / 1e9:,.1f} GB free, and the LMDB will need {needed / 1e9:,.1f} GB.")
    entries = sum(len(tree.patches) for tree in trees)
    with StageProgress(output, {"lmdb": entries}) as progress:
        convert_to_lmdb(trees, out, run, lambda more: progress.advance("lmdb", more))
    output.print(f"{out}: {counted(entries, 'entry')}", highlight=False)


def _plan(output: Console, trees: list[PublishedTree], run: Run, pairs: Pairs | None) -> CubePlan:
    from reben_dask.formats.bands import ImageKind  # noqa: PLC0415
    from reben_dask.job.convert_cubes import plan_cubes  # noqa: PLC0415

    with output.status("Reading the positions of the patches"):
        plan = plan_cubes(trees, run, pairs)
    sentinel1 = sum(len(tree.patches) for tree in trees if tree.kind is ImageKind.S1)
    for names, total, what in (
        (plan.left_out.unnamed, sentinel1, "Sentinel-1 patches are left out, as they are in no pair"),
        (plan.left_out.alone, sentinel1, "Sentinel-1 patches are left out, as their partners are not in the trees"),
        (plan.left_out.unpaired, plan.patches, "patches have no Sentinel-1 partner, and are NaN there"),
    ):
        if names:
            _note(output, f"{len(names):,} of {total:,} {what}; such as {names[0]}.")
    return plan


def _to_zarr(output: Console, plan: CubePlan, out: Path, run: Run) -> None:
    from reben_dask.job.convert_cubes import convert_to_cubes  # noqa: PLC0415
    from reben_dask.progress import StageProgress  # noqa: PLC0415

    with StageProgress(output, {"bands": plan.patches}) as progress:
        tiles = convert_to_cubes(plan, out, run, lambda more: progress.advance("bands", more))
    output.print(f"{out}: {counted(tiles, 'tile')}", highlight=False)


def _note(output: Console, text: str) -> None:
    output.print(f"Note: {text}", style="yellow", highlight=False)


def _destination(argument: Path | None, option: Path | None) -> Path:
    if argument and option:
        raise click.UsageError("Give OUT once: as the last argument, or after --target-dir.")
    if found := argument or option:
        return found
    raise click.UsageError("Missing argument 'OUT'.")


def _require_trees(options: dict[str, Any]) -> None:
    if not (options["s2"] or options["s1"] or options["maps"]):
        raise click.UsageError("Give at least one tree: --s2, --s1 or --maps.")
    needs_pairs = bool(options["to_zarr"] and options["s1"] and (options["s2"] or options["maps"]))
    if needs_pairs and not options["pairs"]:
        raise click.UsageError(
            "The Zarr store needs the partners of the Sentinel-1 patches; add --pairs, with metadata.parquet or a "
            "table of pairs."
        )
    if options["pairs"] and not needs_pairs:
        raise click.UsageError(
            "--pairs needs --zarr, --s1, and --s2 or --maps; elsewhere, Sentinel-1 patches go by their own names."
        )
