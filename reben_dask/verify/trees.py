"""The published GeoTIFF trees, loose or as archives: every patch that the rows ask for, each file as it must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reben_dask.stores.geotiff_archive import ARCHIVE_SUFFIX
from reben_dask.verify.context import Context
from reben_dask.verify.digest import file_digest, folder_digest
from reben_dask.verify.expected import Kind, Layer
from reben_dask.verify.findings import Check, counted
from reben_dask.verify.inventory import Inventory
from reben_dask.verify.trees_archived import archived_folders
from reben_dask.verify.trees_folder import SUFFIX, TREES, PatchFolder, most_bytes, read_folder, upper_folder
from reben_dask.verify.trees_loose import is_bare, loose_folders


@dataclass(frozen=True)
class Form:
    """A form in which trees are published.

    Parameters
    ----------
    place : str
        Where patches are, for titles.
    stage : str
        The walk over all of them.
    suffix : str
        What follows the name of a tree.
    folders : callable
        Gives the patch folders of a tree; see :func:`~reben_dask.verify.trees_loose.loose_folders`.
    is_bare : callable
        Whether a tree in which no patch was found may be one that was left empty: this program makes it even if it has
        nothing to put there.
    digest : callable
        Digest of the content of a tree.
    """

    place: str
    stage: str
    suffix: str
    folders: Callable[[Path, int, Check, Check], Iterator[PatchFolder]]
    is_bare: Callable[[Path], bool]
    digest: Callable[[Path], str]

    def roots(self, path: Path) -> dict[Kind, Path]:
        """The trees in a folder; or the one that it is."""
        names = {kind: f"{name}{self.suffix}" for kind, name in TREES.items()}
        named = {kind: path for kind, name in names.items() if path.name == name}
        return named or {kind: path / name for kind, name in names.items() if (path / name).exists()}


LOOSE = Form("the trees", "verify-trees", "", loose_folders, is_bare, lambda root: folder_digest(root, SUFFIX))
ARCHIVES = Form("the archives", "verify-archives", ARCHIVE_SUFFIX, archived_folders, lambda _: True, file_digest)


def forms_of(path: Path) -> list[Form]:
    """In which forms a folder holds trees; or the form of the one that it is."""
    return [form for form in (LOOSE, ARCHIVES) if form.roots(path)]


def verify_trees(form: Form, path: Path, context: Context) -> Iterator[Check]:
    """Check the GeoTIFF trees of one form in a folder, or the one that it is; all files are read in full.

    Yields
    ------
    Check
        One for each tree when it was walked, then those over all trees.
    """
    inventory = Inventory(form.place, context)
    roots = form.roots(path)
    advance = context.settings.begin(form.stage, sum(inventory.asked_for(kind) for kind in roots))
    for kind in Kind:
        check = Check(f"{TREES[kind]}{form.suffix}")
        if kind in roots:
            layers = context.expected.layers[kind]
            for folder in form.folders(roots[kind], most_bytes(layers), check, inventory.left_over):
                _look_at(folder, kind, layers, inventory, check)
                advance(1)
            check.summary = counted(inventory.found[kind], "patch folder")
        elif kind in context.required:
            check.problem("is missing")
        is_there = kind in roots and (inventory.found[kind] or check.problems or not form.is_bare(roots[kind]))
        if is_there or kind in context.required:
            check.add(f"{name} is missing" for name in inventory.missing(kind) if kind in roots)
            yield check
        else:
            context.report.without.append(kind.value)
    yield from inventory.checks()


def _look_at(folder: PatchFolder, kind: Kind, layers: Mapping[str, Layer], inventory: Inventory, check: Check) -> None:
    place = f"{TREES[kind]}/{folder.above}/{folder.name}"
    if upper_folder(folder.name, kind) != folder.above:
        inventory.left_over.problem(f"{place}, which belongs elsewhere")
        return
    met = inventory.meet(kind, folder.name, place)
    if met is not None:
        faults, images = read_folder(folder, kind, layers)
        check.add(f"{folder.name} {fault}" for fault in faults)
        inventory.look_at(met, images)
