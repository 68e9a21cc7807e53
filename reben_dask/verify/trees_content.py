"""What one patch folder of a tree holds, beside what tables and the Zarr store say of its patch."""

from __future__ import annotations

from collections.abc import Iterator

from reben_dask.errors import InputError
from reben_dask.verify.context import Context
from reben_dask.verify.documents import differences, labels_in, place_faults, read_document
from reben_dask.verify.inventory import Inventory, Met
from reben_dask.verify.patch_rows import PatchRow
from reben_dask.verify.trees_folder import Content, FolderFormat, PatchFolder, Square, read_folder

_PARTNER = "corresponding_s2_patch"


def look_at(
    folder: PatchFolder, wanted: FolderFormat, met: Met, inventory: Inventory, context: Context
) -> Iterator[str]:
    """Look at a patch folder, and show its pixels to the inventory.

    Yields
    ------
    str
        Faults of its files, as phrases.
    """
    content = read_folder(folder, wanted)
    yield from content.faults
    row = context.row_of(inventory.patch_of(met))
    square = None if row is None else _square(row)
    if square and content.square and content.square != square:
        yield f"lies at {content.square}, not at {square} as in the patch table"
    yield from _document_faults(content, wanted, met, inventory, context)
    for kind, images in content.images.items():
        inventory.look_at(met._replace(kind=kind), images)


def _document_faults(
    content: Content, wanted: FolderFormat, met: Met, inventory: Inventory, context: Context
) -> Iterator[str]:
    tree, row = wanted.tree, context.row_of(inventory.patch_of(met))
    must = {}
    if content.documents and row is not None and context.attributes_of is not None:
        must = dict(tree.documents(row, context.attributes_of(row["tile"])))
    for name, found in content.documents.items():
        file = f"{met.name}_{name}"
        try:
            if name in must:
                yield from (f"{file} {fault}" for fault in differences(found, must[name]))
            else:
                yield from (f"{file} {fault}" for fault in _own_faults(found, content, met, inventory, context))
        except InputError as error:
            yield f"{file} {error}"


def _own_faults(found: bytes, content: Content, met: Met, inventory: Inventory, context: Context) -> Iterator[str]:
    """What is wrong with a document beside which there is no patch table."""
    document = read_document(found)
    if content.square:
        yield from place_faults(document, content.square)
    partner, patch_id = document.get(_PARTNER), inventory.patch_of(met)
    if partner is not None and patch_id not in {met.name, partner}:
        yield f"has the {_PARTNER} {partner}, not {patch_id}"
    if fault := inventory.tell_labels(met, labels_in(document, context.expected)):
        yield fault


def _square(row: PatchRow) -> Square | None:
    return (row["epsg"], (row["minx"], row["miny"], row["maxx"], row["maxy"])) if "epsg" in row else None
