"""The GeoTIFF trees of a layout, loose or as archives: every patch that is asked for, each file as it must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from reben_dask.formats.trees import Tree, TreeLayout
from reben_dask.stores.trees import ARCHIVE_SUFFIX
from reben_dask.verify.context import Context
from reben_dask.verify.digest import file_digest, folder_digest
from reben_dask.verify.expected import Kind
from reben_dask.verify.findings import Check
from reben_dask.verify.inventory import Inventory
from reben_dask.verify.trees_archived import archived_folders
from reben_dask.verify.trees_content import look_at
from reben_dask.verify.trees_folder import FolderFormat, PatchFolder
from reben_dask.verify.trees_loose import is_bare, loose_folders
from reben_dask.verify.trees_walk import Walk
from reben_dask.wording import counted


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
    folders: Callable[[Path, Walk, Check, Check], Iterator[PatchFolder]]
    is_bare: Callable[[Path], bool]
    digest: Callable[[Path], str]

    def roots(self, path: Path, layout: TreeLayout) -> dict[str, Path]:
        """The trees of a layout in a folder, by name; or the one that it is."""
        names = {tree.name: f"{tree.name}{self.suffix}" for tree in layout.trees}
        named = {tree: path for tree, name in names.items() if path.name == name}
        return named or {tree: path / name for tree, name in names.items() if (path / name).exists()}


LOOSE = Form("the trees", "verify-trees", "", loose_folders, is_bare, lambda root: folder_digest(root, ".tif"))
ARCHIVES = Form("the archives", "verify-archives", ARCHIVE_SUFFIX, archived_folders, lambda _: True, file_digest)


def forms_of(path: Path, layout: TreeLayout) -> list[Form]:
    """In which forms a folder holds trees of a layout; or the form of the one that it is."""
    return [form for form in (LOOSE, ARCHIVES) if form.roots(path, layout)]


def verify_trees(form: Form, path: Path, context: Context) -> Iterator[Check]:
    """Check the GeoTIFF trees of one form in a folder, or the one that it is; all files are read in full.

    Yields
    ------
    Check
        One for each tree when it was walked, then those over all trees.
    """
    walks = _Walks(form, path, context)
    trees = sorted(context.expected.tree_layout.trees, key=walks.rank)
    for _, together in groupby(trees, key=walks.rank):
        yield from walks.group(list(together))
    yield from walks.inventory.checks()


class _Walks:
    """The walks over all trees of one form."""

    def __init__(self, form: Form, path: Path, context: Context) -> None:
        layout = context.expected.tree_layout
        self.inventory, self._form, self._context = Inventory(form.place, context), form, context
        self._roots = form.roots(path, layout)
        self._formats = {tree.name: FolderFormat(tree, context.expected) for tree in layout.trees}
        self._there = {kind for name in self._roots for kind in self._formats[name].kinds[:1]}
        steps = sum(self.inventory.asked_for(kind) for kind in self._there)
        self._advance = context.settings.begin(form.stage, steps)

    def rank(self, tree: Tree) -> list[int]:
        """Trees with the same rank hold the same of different patches."""
        return [list(Kind).index(kind) for kind in self._formats[tree.name].kinds]

    def group(self, trees: Sequence[Tree]) -> Iterator[Check]:
        """Walk over the trees in which patches are divided among them, or over the only one."""
        kinds = self._formats[trees[0].name].kinds
        required, held = bool(set(kinds) & self._context.required), False
        checks = []
        walks = {tree.name: self._walk_of(tree) for tree in trees}
        for tree in trees:
            check, root = Check(f"{tree.name}{self._form.suffix}"), self._roots.get(tree.name)
            if root is not None:
                patches = self._walk(tree, walks[tree.name], root, check)
                held |= bool(patches or check.problems or not self._form.is_bare(root))
                check.summary = counted(patches, "patch folder")
                checks.append(check)
            elif required:
                check.problem("is missing")
                checks.append(check)
        if not held and not required:
            self._context.report.without += [kind.value for kind in kinds]
            return
        missing = checks[0] if len(trees) == 1 else Check(f"Every patch in {self._form.place}")
        for name in self.inventory.missing(kinds[0]):
            homes = [other for other, walk in walks.items() if walk.places(name)]
            if homes and all(home in self._roots for home in homes):
                missing.problem(f"{name} is missing")
        absent = [tree.name for tree in trees if tree.name not in self._roots]
        if absent and not required:
            self._context.report.without += absent
            self._context.report.patches = self.inventory.found[kinds[0]]
        yield from checks
        if len(trees) > 1:
            missing.summary = counted(self.inventory.found[kinds[0]], "patch folder")
            yield missing

    def _walk_of(self, tree: Tree) -> Walk:
        wanted = self._formats[tree.name]
        store = self._context.store
        row_of = partial(self.inventory.row_of, wanted.kinds[0])

        def rank(name: str) -> tuple[object, ...]:
            place = None if store is None or tree.is_shared else store.place(name)
            return (*(place or ("", 0, 0)), name)

        return Walk(wanted, row_of, rank)

    def _walk(self, tree: Tree, walk: Walk, root: Path, check: Check) -> int:
        """Walk over one tree; gives the number of its patches."""
        wanted, inventory = self._formats[tree.name], self.inventory
        before = inventory.found[wanted.kinds[0]]
        for folder in self._form.folders(root, walk, check, inventory.left_over):
            place = "/".join(filter(None, (tree.name, folder.above, folder.name)))
            if folder.above not in walk.places(folder.name):
                inventory.left_over.problem(f"{place}, which belongs elsewhere")
            elif met := inventory.meet(wanted.kinds[0], folder.name, place):
                check.add(f"{folder.name} {fault}" for fault in look_at(folder, wanted, met, inventory, self._context))
            self._advance(1)
        return inventory.found[wanted.kinds[0]] - before
