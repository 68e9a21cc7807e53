"""The published GeoTIFF trees: every patch folder that the rows ask for, each file as it must be, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from reben_dask.stores.batches import batched
from reben_dask.stores.trees.bigearthnet_v2 import MAP_TREE, S1_TREE, S2_TREE
from reben_dask.verify.expected import Expected, Kind
from reben_dask.verify.findings import Check, Report, counted, one_sentence
from reben_dask.verify.labels import LabelReader
from reben_dask.verify.matching import match
from reben_dask.verify.patch_folder import FolderContent, read_folder
from reben_dask.verify.rows import Rows, upper_folder
from reben_dask.verify.settings import Settings

STAGE = "verify-tree"
ROOTS = {Kind.S2: S2_TREE, Kind.S1: S1_TREE, Kind.MAP: MAP_TREE}
THREADS = 4
_AT_ONCE = 256


def tree_roots(path: Path) -> dict[Kind, Path]:
    """The trees in a folder; or the one that it is."""
    named = {kind: path for kind, name in ROOTS.items() if path.name == name}
    return named or {kind: path / name for kind, name in ROOTS.items() if (path / name).is_dir()}


def verify_tree(
    path: Path, rows: Rows | None, expected: Expected, settings: Settings, report: Report
) -> Iterator[Check]:
    """Check GeoTIFF trees.

    Of each file the header is read, of reference maps also the pixels, for their labels; with ``settings.full`` all
    pixels, and those of Sentinel-2 must not be NODATA.

    Parameters
    ----------
    path : Path
        Folder that holds the trees, or one of them.
    rows : Rows or None
        What the metadata ask for; without them, folders are checked by themselves.
    expected : Expected
        What the images must be.
    settings : Settings
        How deep.
    report : Report
        Told which trees there are not, and the number of patches where there is no metadata.

    Yields
    ------
    Check
        One for each tree when it was walked, then those over all trees.
    """
    shared = _Shared(rows, expected, settings)
    roots = {kind: root for kind, root in tree_roots(path).items() if kind in settings.required or not _is_bare(root)}
    settings.progress.begin(STAGE, _folders_to_come(rows, roots))
    for kind in Kind:
        if kind in roots:
            yield shared.walk(kind, roots[kind])
        else:
            report.without.append(kind.value)
    if rows is None:
        report.patches = shared.patches
    yield from shared.checks()


@dataclass
class _Shared:
    """What the walks over all trees have in common."""

    rows: Rows | None
    expected: Expected
    settings: Settings
    patches: int = 0
    has_maps: bool = False
    left_over: Check = field(default_factory=lambda: Check("Nothing left over"))
    agree: Check = field(default_factory=lambda: Check("Labels as in the reference maps"))
    nodata: Check = field(default_factory=lambda: Check("No NODATA in Sentinel-2"))

    def walk(self, kind: Kind, root: Path) -> Check:
        check = Check(root.name)
        folders = 0
        reader = LabelReader(self.expected.nomenclature)
        layers = self.expected.layers[kind]
        with ThreadPoolExecutor(THREADS) as pool:
            for batch in batched(self._present(kind, root, check), _AT_ONCE):
                contents = pool.map(
                    lambda item: read_folder(item[0], kind, layers, full=self.settings.full),
                    batch,
                )
                for (folder, labels), content in zip(batch, contents, strict=True):
                    self._judge(check, folder, content, labels, reader)
                folders += len(batch)
                self.settings.progress.advance(STAGE, len(batch))
        check.summary = counted(folders, "patch folder")
        self.patches = max(self.patches, folders)
        self.has_maps |= kind is Kind.MAP and folders > 0
        return check

    def checks(self) -> Iterator[Check]:
        yield self.left_over
        if self.rows is not None and self.has_maps:
            yield self.agree
        if self.settings.full:
            yield self.nodata

    def _present(self, kind: Kind, root: Path, check: Check) -> Iterator[tuple[Path, tuple[str, ...] | None]]:
        """Patch folders that are there, with the labels of their rows."""
        found = self._found(kind, root, check)
        if self.rows is None:
            yield from ((folder, None) for _, folder in found)
            return
        for (_, name), wanted, folder in match(self.rows.wanted_folders(kind), found):
            if folder is None:
                check.problem(f"{name} is missing")
            elif wanted is None:
                self.left_over.problem(f"{root.name}/{folder.parent.name}/{folder.name}")
            else:
                yield folder, self.rows.labels(wanted.row)

    def _found(self, kind: Kind, root: Path, check: Check) -> Iterator[tuple[tuple[str, str], Path]]:
        for above in self._folders(root, check):
            for folder in self._folders(above, check):
                if upper_folder(folder.name, kind) == above.name:
                    yield (above.name, folder.name), folder
                else:
                    self.left_over.problem(f"{root.name}/{above.name}/{folder.name}, which belongs elsewhere")

    def _folders(self, folder: Path, check: Check) -> list[Path]:
        """Folders in a folder, in the order of their names. Hidden files are nobody's business."""
        try:
            entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            check.problem(f"{folder.name}: {one_sentence(error)}")
            return []
        folders = [path for path in entries if path.is_dir()]
        if len(folders) < len(entries):
            self.left_over.add(f"{folder.name}/{path.name}" for path in entries if not path.is_dir())
        return folders

    def _judge(
        self, check: Check, folder: Path, content: FolderContent, labels: Sequence[str] | None, reader: LabelReader
    ) -> None:
        check.add(f"{folder.name} {fault}" for fault in content.faults)
        if content.codes is not None and labels is not None:
            fault = reader.compare(content.codes, labels)
            self.agree.add([f"{folder.name}: {fault}"] if fault else [])
        if content.nodata:
            self.nodata.problem(f"{folder.name} in {', '.join(content.nodata)}")


def _is_bare(root: Path) -> bool:
    """Whether there is nothing in a tree: this program makes its folder, even if it has no patch to put there."""
    return not any(root.iterdir())


def _folders_to_come(rows: Rows | None, roots: dict[Kind, Path]) -> int:
    """How many folders the rows ask for; how many there are is not known before they were listed."""
    if rows is None:
        return 0
    counts = {Kind.S1: len(rows) - rows.table["s1_name"].null_count}
    return sum(counts.get(kind, len(rows)) for kind in roots)
