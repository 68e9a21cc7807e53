"""The ``convert`` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reben_dask.commands.base import Command

if TYPE_CHECKING:
    from rich.console import Console

    from reben_dask.sources.published.trees import PublishedTree

EPILOG = """
\b
Examples:
  reben convert --s2 BigEarthNet-S2 --s1 BigEarthNet-S1 \\
                --maps Reference_Maps Encoded-BigEarthNet
  reben convert --s2 BigEarthNet-S2 --maps Reference_Maps --zarr cubes.zarr
"""

_FOLDER = click.Path(path_type=Path)


@click.command("convert", cls=Command, epilog=EPILOG)
@click.option("--s2", "--bigearthnet-s2-dir", "s2", metavar="DIR", type=_FOLDER, help="Tree of Sentinel-2 patches.")
@click.option("--s1", "--bigearthnet-s1-dir", "s1", metavar="DIR", type=_FOLDER, help="Tree of Sentinel-1 patches.")
@click.option(
    "--maps", "--bigearthnet-reference-maps-dir", "maps", metavar="DIR", type=_FOLDER, help="Tree of reference maps."
)
@click.option(
    "--zarr", "to_zarr", is_flag=True, help="Write a Zarr store, one group per tile; so far without Sentinel-1."
)
@click.option(
    "--workers",
    "--num-workers",
    "workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that read and encode; by default one for each core.",
)
@click.option("--target-dir", metavar="OUT", type=_FOLDER, help="Another way to give OUT.")
@click.argument("out", metavar="OUT", required=False, type=_FOLDER)
def convert(**options: Any) -> None:
    """Convert the published GeoTIFF trees of BigEarthNet, version 1 or 2, to an LMDB or a Zarr store.

    Pixels are not changed. The LMDB has the keys and values that rico-hdl gives it, to the byte, and rico-hdl's options
    are understood. In the Zarr store, patches that are not in the trees have the fill value (0; 999 in the reference
    map).

    OUT must be new, for an LMDB on a local disk. It appears when it is complete. The same command goes on with a
    conversion that was interrupted; what there is of it stands in a hidden folder beside OUT.
    """
    out = _destination(options["out"], options["target_dir"]).absolute()
    _require_trees(options)
    from reben_dask.conversion.processes import available_cores  # noqa: PLC0415
    from reben_dask.progress import console  # noqa: PLC0415
    from reben_dask.stores.building import require_new  # noqa: PLC0415

    output = console()
    require_new(out)
    trees = _find(output, {name: options[name] for name in ("s2", "s1", "maps") if options[name]})
    workers = options["workers"] or available_cores()
    if options["to_zarr"]:
        _to_zarr(output, trees, out, workers)
    else:
        _to_lmdb(output, trees, out, workers)


def _find(output: Console, roots: dict[str, Path]) -> list[PublishedTree]:
    from reben_dask.sources.published.trees import MAPS, S1, S2, find_patches  # noqa: PLC0415

    kinds = {"s2": S2, "s1": S1, "maps": MAPS}
    trees = []
    for name, root in roots.items():
        with output.status(f"Looking for patches in {root}"):
            trees.append(find_patches(root, kinds[name]))
        output.print(f"{root}: {len(trees[-1].patches):,} patches ({kinds[name].title})", highlight=False)
    return trees


def _to_lmdb(output: Console, trees: list[PublishedTree], out: Path, workers: int) -> None:
    from reben_dask.conversion.lmdb import convert_to_lmdb, lmdb_bytes  # noqa: PLC0415
    from reben_dask.progress import StageProgress  # noqa: PLC0415
    from reben_dask.stores.building import building_folder, free_bytes  # noqa: PLC0415

    needed, free = lmdb_bytes(trees), free_bytes(out)
    if needed > free and not building_folder(out).exists():
        output.print(
            f"Note: {out.parent} has {free / 1e9:,.1f} GB free, and the LMDB will need {needed / 1e9:,.1f} GB.",
            style="yellow",
        )
    entries = sum(len(tree.patches) for tree in trees)
    with StageProgress(output, {"lmdb": entries}) as progress:
        convert_to_lmdb(trees, out, workers, lambda more: progress.advance("lmdb", more))
    output.print(f"{out}: {entries:,} entries", highlight=False)


def _to_zarr(output: Console, trees: list[PublishedTree], out: Path, workers: int) -> None:
    from reben_dask.conversion.cubes import convert_to_cubes  # noqa: PLC0415
    from reben_dask.progress import StageProgress  # noqa: PLC0415

    with StageProgress(output, {"bands": 0}) as progress:
        tiles = convert_to_cubes(
            trees,
            out,
            workers,
            begin=lambda patches: progress.begin("bands", patches),
            advance=lambda more: progress.advance("bands", more),
        )
    output.print(f"{out}: {tiles:,} tiles", highlight=False)


def _destination(argument: Path | None, option: Path | None) -> Path:
    if argument and option:
        raise click.UsageError("Give OUT once: as the last argument, or after --target-dir.")
    if found := argument or option:
        return found
    raise click.UsageError("Missing argument 'OUT'.")


def _require_trees(options: dict[str, Any]) -> None:
    if not (options["s2"] or options["s1"] or options["maps"]):
        raise click.UsageError("Give at least one tree: --s2, --s1 or --maps.")
    if options["to_zarr"] and options["s1"]:
        raise click.UsageError("--zarr does not write Sentinel-1 yet; leave --s1 out.")
