"""The ``convert`` command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reben_dask.cli.base import Command
from reben_dask.environment import require_building
from reben_dask.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from reben_dask.job.convert import Run
    from reben_dask.job.convert_cubes import CubePlan
    from reben_dask.sources.published.pairs import Pairs
    from reben_dask.sources.published.tiles import Place
    from reben_dask.sources.published.trees import PublishedPatch, PublishedTree

Archives = dict[str, tuple[Path, ...]]
"""Archives by option."""

EPILOG = """
\b
Examples:
  reben convert --s2 BigEarthNet-S2 --s1 BigEarthNet-S1 \\
                --maps Reference_Maps Encoded-BigEarthNet
  reben convert --s2 BigEarthNet-S2.tar.zst --maps Reference_Maps.tar.zst Encoded
  reben convert --s2 BigEarthNet-S2 --s1 BigEarthNet-S1 \\
                --maps Reference_Maps --pairs metadata.parquet --zarr cubes.zarr
"""

KINDS = {"s2": "S2", "s1": "S1", "maps": "MAP"}
"""Kind of images (a name of :class:`~reben_dask.formats.bands.ImageKind`) by option."""

_FOLDER = click.Path(path_type=Path)
_TREE: dict[str, Any] = {"metavar": "PATH", "type": _FOLDER, "multiple": True}


@click.command("convert", cls=Command, epilog=EPILOG)
@click.option(
    "--s2",
    "--bigearthnet-s2-dir",
    "s2",
    **_TREE,
    help="Tree of Sentinel-2 patches, a folder or an archive; repeat the option for further archives.",
)
@click.option("--s1", "--bigearthnet-s1-dir", "s1", **_TREE, help="Tree of Sentinel-1 patches, as --s2.")
@click.option("--maps", "--bigearthnet-reference-maps-dir", "maps", **_TREE, help="Tree of reference maps, as --s2.")
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

    The GeoTIFF trees are those of BigEarthNet, version 1 or 2: folders, or archives as published (.tar, .tar.zst,
    .tar.gz). Archives are read from beginning to end and not unpacked: once for an LMDB, twice for a Zarr store, which
    needs the positions of all patches first.

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
    require_building()
    from reben_dask.job.convert import task_runner  # noqa: PLC0415
    from reben_dask.progress import console  # noqa: PLC0415
    from reben_dask.workspace import explaining_full_disk, require_new  # noqa: PLC0415

    output = console()
    require_new(out)
    pairs = _open_pairs(options["pairs"])
    archives = _archives(options)
    trees = _find(output, {name: options[name][0] for name in KINDS if options[name] and name not in archives})
    with task_runner(sum(len(tree.patches) for tree in trees), options["workers"]) as run, explaining_full_disk(out):
        if options["to_zarr"]:
            _to_zarr(output, trees, archives, out, run, pairs)
        else:
            _to_lmdb(output, trees, archives, out, run)


def _archives(options: dict[str, Any]) -> Archives:
    """Return the archives of the options that have some."""
    from reben_dask.sources.published.archives import is_archive  # noqa: PLC0415

    found = {}
    for name in KINDS:
        paths: tuple[Path, ...] = options[name]
        archives = tuple(path for path in paths if is_archive(path) and not path.is_dir())
        if len(paths) > 1 and len(archives) < len(paths):
            raise click.UsageError(f"Give --{name} one folder, or archives (.tar, .tar.zst, .tar.gz) only.")
        if archives:
            found[name] = archives
    return found


def _find(output: Console, roots: dict[str, Path]) -> list[PublishedTree]:
    from reben_dask.formats.bands import ImageKind  # noqa: PLC0415
    from reben_dask.sources.published.trees import find_patches  # noqa: PLC0415

    trees = []
    for name, root in roots.items():
        with output.status(f"Looking for patches in {root}"):
            trees.append(find_patches(root, ImageKind[KINDS[name]]))
        _tell(output, str(root), trees[-1])
    return trees


def _find_archived(output: Console, archives: Archives) -> Iterator[tuple[PublishedTree, dict[PublishedPatch, Place]]]:
    from reben_dask.formats.bands import ImageKind  # noqa: PLC0415
    from reben_dask.sources.published.archives import find_archived_patches  # noqa: PLC0415

    for name, paths in archives.items():
        with output.status(f"Looking for patches in {', '.join(map(str, paths))}"):
            tree, places = find_archived_patches(paths, ImageKind[KINDS[name]])
        _tell(output, tree.root, tree)
        yield tree, places


def _tell(output: Console, root: str, tree: PublishedTree) -> None:
    output.print(f"{root}: {counted(len(tree.patches), 'patch')} ({tree.kind.value})", highlight=False)


def _open_pairs(paths: tuple[Path, ...]) -> Pairs | None:
    from reben_dask.sources.published.pairs import open_pairs  # noqa: PLC0415

    return open_pairs(paths) if paths else None


def _to_lmdb(output: Console, trees: list[PublishedTree], archives: Archives, out: Path, run: Run) -> None:
    from reben_dask.formats.bands import ImageKind  # noqa: PLC0415
    from reben_dask.job.convert import PublishedArchive, convert_to_lmdb, lmdb_bytes  # noqa: PLC0415
    from reben_dask.progress import StageProgress  # noqa: PLC0415
    from reben_dask.workspace import Workspace, free_bytes  # noqa: PLC0415

    # Values are no smaller than compressed files.
    needed, free = lmdb_bytes(trees) + sum(_sizes(archives)), free_bytes(out)
    if needed > free and not Workspace(out).building.exists():
        _note(output, f"{out.parent} has {free / 1e9:,.1f} GB free, and the LMDB will need {needed / 1e9:,.1f} GB.")
    given = [PublishedArchive(ImageKind[KINDS[name]], path) for name, paths in archives.items() for path in paths]
    stages = {"lmdb": sum(len(tree.patches) for tree in trees)} if trees else {}
    with StageProgress(output, stages | _archive_stage(archives)) as progress:
        entries = convert_to_lmdb(
            trees,
            out,
            run,
            lambda more: progress.advance("lmdb", more) if trees else None,
            archives=given,
            advance_archives=lambda more: progress.advance("archives", more),
        )
    output.print(f"{out}: {counted(entries, 'entry')}", highlight=False)


def _archive_stage(archives: Archives) -> dict[str, int]:
    """Megabytes of all archives."""
    from reben_dask.sources.published.archives import MEGABYTE  # noqa: PLC0415

    return {"archives": sum(size // MEGABYTE for size in _sizes(archives))} if archives else {}


def _sizes(archives: Archives) -> list[int]:
    return [path.stat().st_size for paths in archives.values() for path in paths if path.is_file()]


def _to_zarr(
    output: Console, trees: list[PublishedTree], archives: Archives, out: Path, run: Run, pairs: Pairs | None
) -> None:
    from reben_dask.formats.bands import ImageKind  # noqa: PLC0415
    from reben_dask.job.convert_cubes import convert_to_cubes, plan_cubes  # noqa: PLC0415
    from reben_dask.progress import StageProgress  # noqa: PLC0415

    archived = list(_find_archived(output, archives))
    trees = [*trees, *(tree for tree, _ in archived)]
    known = {patch: place for _, places in archived for patch, place in places.items()}
    with output.status("Reading the positions of the patches"):
        plan = plan_cubes(trees, run, pairs, known)
    _tell_left_out(output, plan, sum(len(tree.patches) for tree in trees if tree.kind is ImageKind.S1))
    with StageProgress(output, {"bands": plan.steps} | _archive_stage(archives)) as progress:
        tiles = convert_to_cubes(
            plan,
            out,
            run,
            lambda more: progress.advance("bands", more),
            advance_archives=lambda more: progress.advance("archives", more),
        )
    output.print(f"{out}: {counted(tiles, 'tile')}", highlight=False)


def _tell_left_out(output: Console, plan: CubePlan, sentinel1: int) -> None:
    for names, total, what in (
        (plan.left_out.unnamed, sentinel1, "Sentinel-1 patches are left out, as they are in no pair"),
        (plan.left_out.alone, sentinel1, "Sentinel-1 patches are left out, as their partners are not in the trees"),
        (plan.left_out.unpaired, plan.patches, "patches have no Sentinel-1 partner, and are NaN there"),
    ):
        if names:
            _note(output, f"{len(names):,} of {total:,} {what}; such as {names[0]}.")


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
            "--pairs needs --zarr, --s1, and --s2 or --maps; otherwise, Sentinel-1 patches keep their own names."
        )
