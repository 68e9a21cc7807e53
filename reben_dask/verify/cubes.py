"""The Zarr store: sound arrays and documents, and patches and pixels as in the patch table, if there is one.

A missing chunk reads as NODATA, or as a map without polygons, without an error. Therefore every chunk that has pixels
by the patch table must exist; without a table, a patch has all images of a kind or none. In each shard, the columns
with a kept patch are read, or all. Readers may take an array's own document or its copy in a group above; both must be
the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr

from reben_dask.errors import InputError
from reben_dask.formats.bands import (
    BANDS,
    MAP_RESOLUTION_M,
    POLARISATIONS,
    REFERENCE_MAP,
    S1_RESOLUTION_M,
    ImageKind,
    lacks_backscatter,
)
from reben_dask.formats.columns import KEPT, LABELED_FRACTION, NODATA, PATCH_ID, S1_NAME, STATUS
from reben_dask.formats.cube import DOCUMENT, GRID_GROUPS, MAP_NODE, S1_NODE, Node, empty_nodes, shard_patches
from reben_dask.formats.names import PatchName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import nodata_pixels
from reben_dask.patches.labels import label_columns
from reben_dask.stores.cube_reader import CubeGroup
from reben_dask.stores.cubes import held_chunks, open_array
from reben_dask.verify.dataset import Part, sample_columns
from reben_dask.verify.engine import Context, gap_note
from reben_dask.verify.findings import Check, collect, differences, one_sentence, parse_crs
from reben_dask.wording import counted

_CONSOLIDATED = "consolidated_metadata"
_KINDS = {MAP_NODE: ImageKind.MAP, S1_NODE: ImageKind.S1}
_ATTRIBUTES = ("band_names", "proj:code", "spatial:transform", "spatial:shape")

Document = Mapping[str, Any]


def verify_cubes(path: Path, context: Context) -> Iterator[Check]:
    """Check a Zarr store with the rows of its patch table, or by itself."""
    walk = _Walk(path, context)
    for group, grid, part in walk.groups():
        with collect(walk.sound, group):
            cube = walk.open(group, grid or _find_grid(path, group, context.expected.recipe.patch_size_m), part)
            for column in cube.columns(walk.check_patches(cube), walk.pixels) if cube else ():
                walk.pixels.add(walk.column_faults(cube, *column) if cube else ())
    yield from walk.checks()


def kinds_in(store: Path) -> frozenset[ImageKind]:
    """Kinds of images in any tile of a store."""
    nodes = (document.parent for depth in ("*", f"*/{GRID_GROUPS}") for document in store.glob(f"{depth}/*/{DOCUMENT}"))
    return frozenset(_kind_of(node.name) for node in nodes if not node.match(GRID_GROUPS))


def _bands_in(store: Path) -> list[str]:
    """Bands of the first tile of a store; none if they are unreadable, which the check of the store reports."""
    bands: list[str] = []
    with collect(Check("read again with the tiles")):
        tile = min(path for path in store.iterdir() if path.is_dir())
        bands = [name for array in CubeGroup(tile).arrays if array.kind is ImageKind.S2 for name in array.names]
    return bands  # noqa: RET504 - mypy does not know that collect() may end the block


def _kind_of(node: str) -> ImageKind:
    return _KINDS.get(node, ImageKind.S2)


def _images_of(node: Node) -> list[str]:
    axis = node.dataset[node.variable].dims[0]
    return [REFERENCE_MAP.name] if axis == "y" else [str(name) for name in node.dataset[axis].to_numpy()]


@dataclass(frozen=True)
class _Cube:
    """Sound arrays of a tile, cut along one grid; ``part`` has the rows of its patches, if known."""

    folder: Path
    group: str
    grid: PatchGrid
    nodes: Sequence[Node]
    part: Part | None

    def path(self, node: Node) -> Path:
        return self.folder / node.name / node.variable

    def name(self, x: int, y: int) -> str:
        return str(PatchName(self.group, x, y, self.grid.digits))

    def held(self, node: Node) -> npt.NDArray[np.bool_]:
        """Patches in the shards of an array, shape ``(image, row, column)``."""
        held = held_chunks(self.path(node)).reshape(-1, *self.grid.shape_yx)
        # Zarr does not write a chunk of fill values alone, which are valid pixels of a band without nodata.
        is_optional = np.array([name in BANDS and BANDS[name].nodata is None for name in _images_of(node)])
        held[is_optional] |= held[~is_optional].any(axis=0)
        return held

    def columns(self, chosen: Iterable[int], check: Check) -> Iterator[tuple[int, PatchGrid, Mapping[str, Any]]]:
        """Columns of patches and their images, shape ``(y, x)``, each chunk read once; unreadable ones are problems."""
        arrays, side_m = [(node, open_array(self.path(node), "r")) for node in self.nodes], self.grid.patch_m
        tile_m = ShapeYX(self.grid.shape_yx.y * side_m, side_m)
        for x in sorted(chosen):
            images: dict[str, npt.NDArray[Any]] = {}
            for node, array in arrays:
                side = node.encoding["chunks"][-1]
                try:
                    pixels = np.asarray(array[..., x * side : (x + 1) * side])
                except Exception as error:  # noqa: BLE001 - damaged shards make codecs raise anything
                    fault = f"cannot be read from {node.name} ({one_sentence(error)})"
                    check.problem(f"{self.group}, column {x}, {fault}")
                    break
                images |= zip(_images_of(node), pixels if pixels.ndim == 3 else [pixels], strict=True)
            else:
                yield x, PatchGrid(self.grid.epsg, self.grid.ulx + x * side_m, self.grid.uly, tile_m, side_m), images


class _Walk:
    """Walk over a store; without rows, only a conversion must be free of NODATA, as jobs have it at tile edges."""

    def __init__(self, path: Path, context: Context) -> None:
        self.path, self.expected, self._context = path, context.expected, context
        self.sound, self.patches, self._bands = Check("Zarr cubes", "tile"), Check("Zarr patches"), _bands_in(path)
        self._kinds = kinds_in(path) | ({ImageKind.S2, ImageKind.MAP} if context.dataset else set())
        self.pixels = Check("Zarr pixels" + (" as in the patch table" if context.dataset else ""))
        self._found, self._number, self._whole = Counter[ImageKind](), 0, np.zeros((0, 0), bool)
        self._document: Document = {}
        with collect(self.sound):
            self._document = _read_document(path / DOCUMENT)
        self._gaps = 0
        self._is_of_job = "recipe" in self._document.get("attributes", {})

    def groups(self) -> Iterator[tuple[str, PatchGrid | None, Part | None]]:
        tiles = sorted(folder for folder in self.path.glob("*") if folder.is_dir())
        there = [folder.relative_to(self.path).as_posix() for tile in tiles for folder in (tile, *_grids_below(tile))]
        known, unread, dataset = set[str](), set[str](), self._context.dataset
        sources = dataset.parts if dataset else there
        advance = self._context.settings.begin("verify-cubes", len(sources))
        for source in sources:
            if dataset is None:
                known.add(str(source))
                yield str(source), None, None
            elif (tile := dataset.read_sound(Path(source))) is None:
                unread.add(Path(source).stem)
            elif tile.is_observed:
                known |= {part.group for part in tile.parts}
                yield from ((part.group, part.grid, part) for part in tile.parts)
            advance(1)
        # The groups of a part that cannot be read are unknown.
        strays = (group for group in there if group not in known and group.split("/")[0] not in unread)
        self.sound.add(f"{group} is not the group of a tile" for group in strays)
        self.sound.add([] if there or dataset else [f"{self.path.name} has no tile"])
        self.sound.count = len(unread | {group.split("/")[0] for group in known})

    def open(self, group: str, grid: PatchGrid, part: Part | None) -> _Cube | None:
        """Check arrays and documents of a group; ``None`` unless sound."""
        before, folder, is_tile = self.sound.problems, self.path / group, "/" not in group
        if not folder.is_dir():
            self.sound.problem(f"{group} is missing")
            return None
        every = empty_nodes(self.expected.cube_layout(group, grid, self._bands))
        nodes = [node for node in every if _kind_of(node.name) in self._kinds]
        with collect(self.sound, group):
            self.sound.add(_document_faults(self.path, group, self._document) if is_tile else ())
        for node in nodes:
            with collect(self.sound, f"{group}/{node.name}"):
                self.sound.add(_node_faults(self.path, group, node), f"{group}/{node.name}")
        foreign = {path for path in folder.iterdir() if path.is_dir()} - {folder / node.name for node in nodes}
        foreign -= set(_grids_below(folder) if is_tile else ())
        self.sound.add(f"{group}/{path.name} is not a node of a tile" for path in sorted(foreign))
        return _Cube(folder, group, grid, nodes, part) if self.sound.problems == before else None

    def check_patches(self, cube: _Cube) -> set[int]:
        """Report patches missing in shards; return the columns to read."""
        held = {node.name: cube.held(node) for node in cube.nodes}
        anything = whole = np.zeros(cube.grid.shape_yx, bool)
        for kind in {_kind_of(name) for name in held}:
            images = np.concatenate([held[name] for name in held if _kind_of(name) is kind])
            some, every = np.logical_or.reduce(images), np.logical_and.reduce(images)
            anything, whole = anything | some, whole | every
            self._whole = every if kind is ImageKind.S2 else self._whole
            self._found[kind] += int(every.sum())
            needed = cube.part.needed(kind) if cube.part else some & (not self._is_of_job)
            for node in (node for node in cube.nodes if _kind_of(node.name) is kind):
                self.patches.add(_shard_faults(cube, node, needed & ~held[node.name]))
        self._number += int(anything.sum())
        places = cube.part.kept_xy if cube.part else [(x, y) for y, x in np.argwhere(whole).tolist()]
        chosen = set(range(cube.grid.shape_yx.x)) if self._context.settings.full else sample_columns(places)
        self.pixels.count += int((np.ones_like(whole) if cube.part else whole)[:, sorted(chosen)].sum())
        return chosen

    def column_faults(self, cube: _Cube, x: int, grid: PatchGrid, images: Mapping[str, Any]) -> Iterator[str]:
        nomenclature, codes = self.expected.nomenclature, images.get(REFERENCE_MAP.name)
        rows = cube.part.column(x) if cube.part else {y: {} for y in range(grid.size)}
        empty = {name: nodata_pixels(dn, grid, BANDS[name]) for name, dn in images.items() if name in BANDS}
        gaps_px = _gaps_px(images, grid)
        if codes is not None:
            blocks = grid.blocks(codes, MAP_RESOLUTION_M)[:, 0]
            is_known = np.isin(blocks, sorted(nomenclature.known_values))
            thresholds_px = self.expected.recipe.region_thresholds_px
            read = label_columns(codes, grid, nomenclature, thresholds_px).to_dict("list") if cube.part else {}
        for y, row in rows.items():
            name, bands = row.get(PATCH_ID) or cube.name(x, y), ", ".join(band for band in empty if empty[band][y])
            if bands and (not row[NODATA] if row else self._whole[y, x] and not self._is_of_job):
                yield f"{name} has NODATA in {bands}"
            elif row and row[NODATA] and not bands:
                yield f"{name} has no NODATA"
            elif row and bands and row[STATUS] == KEPT:
                yield f"{name} is kept, but has NODATA in {bands}"
            # Without a row, a patch that is NaN all over has no partner.
            is_partner = (
                row[STATUS] == KEPT and row[S1_NAME] is not None
                if row
                else gaps_px[y] < grid.patch_px(S1_RESOLUTION_M) ** 2
            )
            if gaps_px[y] and is_partner:
                self._gaps += self._context.as_published
                if not self._context.as_published:
                    yield f"{name} has {counted(gaps_px[y], 'pixel')} without backscatter"
            if codes is not None and not is_known[y].all():
                yield f"{name} has the unknown code {blocks[y][~is_known[y]][0]} in its map"
            elif row:
                wanted: dict[str, Any] = {column: row[column] or [] for column in self.expected.label_columns}
                wanted[LABELED_FRACTION] = row[LABELED_FRACTION] or 0.0
                faults = differences({key: read[key][y] for key in wanted}, wanted)
                yield from (f"{name}: its map {fault}" for fault in faults)

    def checks(self) -> Iterator[Check]:
        kinds, report = [kind for kind in ImageKind if kind in self._kinds], self._context.report
        self.patches.summary = ", ".join(f"{self._found[kind]:,} of {kind.value}" for kind in kinds)
        sample = "" if self._context.settings.full else ", a sample"
        self.pixels.notes += [gap_note(self._gaps)] if self._gaps else []
        self.pixels.summary = counted(self.pixels.count, "patch") + sample
        if self._context.dataset is None:
            report.patches = self._number
            report.without += [kind.value for kind in ImageKind if kind not in kinds]
        yield from (self.sound, self.patches, self.pixels)


def _gaps_px(images: Mapping[str, Any], grid: PatchGrid) -> list[int]:
    """Count the pixels without backscatter of each patch of a column."""
    db = [grid.blocks(images[name], S1_RESOLUTION_M)[:, 0] for name in POLARISATIONS if name in images]
    gaps_px: list[int] = lacks_backscatter(np.stack(db)).sum(axis=(1, 2)).tolist() if db else [0] * grid.size
    return gaps_px


def _shard_faults(cube: _Cube, node: Node, lost: npt.NDArray[np.bool_]) -> Iterator[str]:
    """Shards that lack patches; ``lost`` has the shape ``(image, row, column)``."""
    side, names, shards = shard_patches(cube.grid), _images_of(node), dict[tuple[int, ...], list[str]]()
    for image, y, x in np.argwhere(lost).tolist():
        # The map has no axis for its one image.
        place = (image, y // side, x // side)[-len(node.encoding["chunks"]) :]
        shards.setdefault(place, []).append(f"{cube.name(x, y)} has no {names[image]}")
    for place, patches in shards.items():
        key = "/".join(map(str, ("c", *place)))
        is_there = (cube.path(node) / key).is_file()
        what = f"lacks {counted(len(patches), 'patch')}: {patches[0]}" if is_there else "is missing"
        yield f"{cube.group}/{node.name}/{node.variable}/{key} {what}"


def _grids_below(tile: Path) -> list[Path]:
    return sorted(folder for folder in tile.glob(GRID_GROUPS) if folder.is_dir())


def _find_grid(store: Path, group: str, patch_m: int) -> PatchGrid:
    nodes = {document.parent for document in (store / group).glob(f"*/{DOCUMENT}")} - {*_grids_below(store / group)}
    if not nodes:
        raise InputError("has no node")
    node = min(nodes).name
    with xr.open_zarr(store, group=f"{group}/{node}", chunks=None) as dataset:
        (left, bottom, right, top), crs = dataset.rio.bounds(), dataset.rio.crs
    sides = (top - bottom, right - left)
    if crs is None or any(side <= 0 or side % patch_m for side in sides) or left % 1 or top % 1:
        raise InputError(f"is not on a patch grid: {node} starts at {(left, top)} and has {sides} m")
    return PatchGrid(crs.to_epsg(), int(left), int(top), ShapeYX(*map(int, sides)), patch_m)


def _read_document(path: Path) -> Document:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        document = one_sentence(error)
    if not isinstance(document, dict):
        raise InputError(f"{path.parent.name}/{path.name}: {document}")
    return document


def _document_faults(store: Path, tile: str, root: Document) -> Iterator[str]:
    documents = {
        path.parent.relative_to(store).as_posix(): _read_document(path)
        for depth in ("", "*/", "*/*/", f"{GRID_GROUPS}/*/*/")
        for path in sorted((store / tile).glob(f"{depth}{DOCUMENT}"))
    }
    for place, document in {"": root, **documents}.items():
        if document.get(_CONSOLIDATED) is None:
            continue
        below = f"{place}/" if place else ""
        copies = {f"{below}{member}": _own(copy) for member, copy in document[_CONSOLIDATED]["metadata"].items()}
        here = {member for member in copies if f"{member}/".startswith(f"{tile}/")}
        for member in sorted(here | {path for path in documents if path.startswith(below) and path != place}):
            if member not in documents or copies.get(member) != _own(documents[member]):
                yield f"{member}/{DOCUMENT} differs from its copy in {place or store.name}/{DOCUMENT}"


def _own(document: Document) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != _CONSOLIDATED}


def _node_faults(store: Path, group: str, node: Node) -> Iterator[str]:
    with xr.open_zarr(store, group=f"{group}/{node.name}", chunks=None, mask_and_scale=False) as found:
        yield from differences(_properties(found, node, None), _properties(node.dataset, node, node.encoding))
        for axis in node.dataset[node.variable].dims:
            if not np.array_equal(found[axis].to_numpy().astype(object), node.dataset[axis].to_numpy().astype(object)):
                yield f"has other {axis} coordinates than its tile"


def _properties(dataset: xr.Dataset, node: Node, encoding: Mapping[str, Any] | None) -> dict[str, Any]:
    image, place = dataset[node.variable], dataset["spatial_ref"].attrs
    stored = image.encoding if encoding is None else encoding
    return {
        "dimensions": image.dims,
        "shape": image.shape,
        "type": image.dtype,
        **{name.replace("_", " "): stored.get(name) for name in ("chunks", "shards", "fill_value")},
        **{name.replace("_", " "): parse_crs(place[name]) for name in ("crs_wkt", "spatial_ref")},
        "GeoTransform": place["GeoTransform"],
        **{name: image.attrs.get(name) for name in _ATTRIBUTES},
    }
