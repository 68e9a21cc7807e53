"""A group of a Zarr store: every array as readers see it, every document the same wherever it stands.

A group may carry the documents of everything below it, so that a reader opens one file. Readers that go to an array
directly read its own document; both must see the same thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rasterio.crs import CRS

from reben_dask.errors import InputError
from reben_dask.formats.cube import GRID_GROUPS, MAP_NODE, S1_NODE, Node
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.verify.expected import Kind
from reben_dask.verify.findings import Check, collect, one_sentence

DOCUMENT = "zarr.json"
_GATHERED = "consolidated_metadata"
_NOT_BANDS = {MAP_NODE: Kind.MAP, S1_NODE: Kind.S1}

Document = Mapping[str, Any]


def kind_of(node: str) -> Kind:
    """What the pixels of a node are, by its name."""
    return _NOT_BANDS.get(node, Kind.S2)


def images_of(node: Node) -> list[str]:
    """Names of the images of a node."""
    axis = node.dataset[node.variable].dims[0]
    return ["Data"] if axis == "y" else [str(name) for name in node.dataset[axis].to_numpy()]


def grids_below(group: Path) -> list[Path]:
    """Folders of a tile's further grids."""
    return sorted(folder for folder in group.glob(GRID_GROUPS) if folder.is_dir())


def find_grid(store: Path, group: str, patch_m: int) -> PatchGrid:
    """The grid of patches on which the first node of a group lies; raises :class:`InputError` if it lies on none."""
    nodes = {document.parent for document in (store / group).glob(f"*/{DOCUMENT}")} - {*grids_below(store / group)}
    if not nodes:
        raise InputError("has no node")
    node = min(nodes).name
    with xr.open_zarr(store, group=f"{group}/{node}", chunks=None) as dataset:
        x, y = (dataset[axis].to_numpy() for axis in "xy")
        crs = dataset.rio.crs
    pixel = float(x[1] - x[0])
    corner, sides = (x[0] - pixel / 2, y[0] + pixel / 2), (pixel * len(y), pixel * len(x))
    if crs is None or pixel <= 0 or any(side % patch_m for side in sides) or any(edge % 1 for edge in corner):
        raise InputError(f"does not lie on a grid of patches, as {node} begins at {corner} and has {sides} m")
    ulx, uly = map(int, corner)
    return PatchGrid(crs.to_epsg(), ulx, uly, ShapeYX(*map(int, sides)), patch_m)


def read_document(path: Path) -> Document:
    """Read a metadata document; raises :class:`InputError` if it is none, with a message that names it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        document = one_sentence(error)
    if not isinstance(document, dict):
        raise InputError(f"{path.parent.name}/{path.name}: {document}")
    return document


def check_group(store: Path, group: str, nodes: Sequence[Node], root: Document, check: Check) -> None:
    """Look at a group: that of a tile, with the documents of everything below, or that of a further grid.

    Parameters
    ----------
    store : Path
        The Zarr store.
    group : str
        Its path.
    nodes : sequence of Node
        What must be in it.
    root : mapping
        The document of the whole store.
    check : Check
        Gets the problems.
    """
    folder = store / group
    if not folder.is_dir():
        check.problem(f"{group} is missing")
        return
    is_tile = "/" not in group
    with collect(check, group):
        check.add(_document_faults(store, group, root) if is_tile else ())
    for node in nodes:
        with collect(check, f"{group}/{node.name}"):
            check.add(f"{group}/{node.name} {fault}" for fault in _node_faults(store, group, node))
    foreign = {path for path in folder.iterdir() if path.is_dir()} - {folder / node.name for node in nodes}
    foreign -= set(grids_below(folder) if is_tile else ())
    check.add(f"{group}/{path.name} is no node of a tile" for path in sorted(foreign))


def _document_faults(store: Path, tile: str, root: Document) -> Iterator[str]:
    documents = {
        path.parent.relative_to(store).as_posix(): read_document(path)
        for depth in ("", "*/", "*/*/", f"{GRID_GROUPS}/*/*/")
        for path in sorted((store / tile).glob(f"{depth}{DOCUMENT}"))
    }
    for place, document in {"": root, **documents}.items():
        if document.get(_GATHERED) is None:
            continue
        below = f"{place}/" if place else ""
        copies = {f"{below}{member}": _own(copy) for member, copy in document[_GATHERED]["metadata"].items()}
        here = {member for member in copies if f"{member}/".startswith(f"{tile}/")}
        for member in sorted(here | {path for path in documents if path.startswith(below) and path != place}):
            if member not in documents or copies.get(member) != _own(documents[member]):
                yield f"{member}/{DOCUMENT} is not as {place or store.name}/{DOCUMENT} says"


def _own(document: Document) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != _GATHERED}


def _node_faults(store: Path, group: str, node: Node) -> Iterator[str]:
    with xr.open_zarr(store, group=f"{group}/{node.name}", chunks=None, mask_and_scale=False) as found:
        image, wanted = found[node.variable], node.dataset[node.variable]
        there: dict[str, Any] = {"dimensions": image.dims, "shape": image.shape, "type": image.dtype}
        must: dict[str, Any] = {"dimensions": wanted.dims, "shape": wanted.shape, "type": wanted.dtype}
        for name in ("chunks", "shards", "fill_value"):
            there[name], must[name] = image.encoding.get(name), node.encoding[name]
        places = found["spatial_ref"].attrs, node.dataset["spatial_ref"].attrs
        for name in ("crs_wkt", "spatial_ref"):
            there[name], must[name] = (CRS.from_wkt(place[name]) for place in places)
        there["GeoTransform"], must["GeoTransform"] = (place["GeoTransform"] for place in places)
        for name, value in must.items():
            # As text: the fill value may be NaN, which equals nothing.
            if str(there[name]) != str(value):
                yield f"has the {name.replace('_', ' ')} {there[name]}, not {value}"
        for axis in wanted.dims:
            if not np.array_equal(found[axis].to_numpy().astype(object), node.dataset[axis].to_numpy().astype(object)):
                yield f"has other {axis} coordinates than its tile"
