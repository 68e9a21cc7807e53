"""What a layout of folders is made of: trees of patches, and tables about all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from reben_dask.nomenclature import Nomenclature
from reben_dask.stores.geotiff import Compression
from reben_dask.stores.patch_reader import PatchReader

Row = Mapping[str, Any]
"""A patch: its row of the patch table."""

Images = Mapping[str, npt.NDArray[Any]]
"""Images of a patch, shape ``(y, x)`` or ``(band, y, x)``, by the end of their file's name."""

CODES, NUMBERS = "reference_map", "class_numbers"
"""What an image made from a reference map holds instead of a band: its codes (uint16), or class numbers (uint8)."""

RADAR_FILES = {"VH": ("VH",), "VV": ("VV",)}
"""Bands of each image of Sentinel-1, by the end of its file's name."""

IN_CUBE = ("grid", "x", "y")
"""The order in which each chunk of a cube is decoded once."""


@dataclass(frozen=True)
class Contents:
    """What a layout has to know of the dataset.

    Parameters
    ----------
    nomenclature : Nomenclature
        Classes of the labels.
    bands : tuple of str
        Bands of Sentinel-2 in the cubes.
    seasons : tuple of str
        Every season that a patch may have.
    labels : tuple of str
        Columns of labels: ``labels``, and ``labels_<name>`` for further thresholds of region size.
    attributes : mapping of str to str
        What further columns of the patch table are called in the layer that they come from.
    has_sentinel1 : bool
        Whether the cubes have Sentinel-1.
    """

    nomenclature: Nomenclature
    bands: tuple[str, ...]
    seasons: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("labels",)
    attributes: Mapping[str, str] = field(default_factory=dict)
    has_sentinel1: bool = False


def no_documents(_: Row, __: Mapping[str, Any]) -> Mapping[str, bytes]:
    """A patch has no files but its images."""
    return {}


@dataclass(frozen=True)
class Tree:
    """A folder of patch folders: which patches are in it, where, and how their files come about.

    Parameters
    ----------
    name : str
        Name of the folder, and of its archive.
    images : callable
        From what reads a patch's group, and the patch's ``x`` and ``y``, to its images; none where it has no pixels of
        that kind, and then no folder.
    place : callable
        From a patch to the folder of the tree that holds the patch's; empty where patches lie side by side.
    run : callable
        From a patch to the name of a run of patches that stand together in an archive. Runs follow each other in the
        order of these names.
    order : tuple of str
        Columns by which the patches of a tile are ordered. Those of a run must follow each other.
    name_column : str
        Column with the names that patches have in this tree; those without a name are not in it.
    only : mapping of str to str
        Values of columns that a patch must have to be in it.
    columns : tuple of str
        Further columns that its files are made from.
    files : mapping of str to tuple of str
        What ``images`` gives, for those who read the tree: the bands of each image in their order, by the end of its
        file's name; :data:`CODES` and :data:`NUMBERS` are those of a reference map.
    documents : callable
        From a patch and the attributes of its tile to files besides images, by the end of their names.
    document_names : tuple of str
        These ends.
    nodata : int or None
        Value of the images' tag for NODATA; without it, there is no such tag.
    compress : {"deflate"} or None
        Compression of the images.
    is_shared : bool
        Whether patches of several tiles may have files of one name. The first tile in name order has them then.
    """

    name: str
    images: Callable[[PatchReader, int, int], Images]
    place: Callable[[Row], str]
    run: Callable[[Row], str]
    order: tuple[str, ...] = IN_CUBE
    name_column: str = "patch_id"
    only: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    documents: Callable[[Row, Mapping[str, Any]], Mapping[str, bytes]] = no_documents
    document_names: tuple[str, ...] = ()
    nodata: int | None = None
    compress: Compression | None = None
    is_shared: bool = False


@dataclass(frozen=True)
class TreeLayout:
    """The folders and files of an exported dataset.

    Parameters
    ----------
    trees : tuple of Tree
        Folders of patch folders.
    tables : tuple of str
        Names of files or folders about all patches.
    write_tables : callable
        Writes them: from the part files of the patch table, in their order, and the folder of the dataset.
    """

    trees: tuple[Tree, ...]
    tables: tuple[str, ...] = ()
    write_tables: Callable[[Sequence[Path], Path], None] = lambda *_: None

    @property
    def folders_per_patch(self) -> int:
        """Folders of a patch in all trees; of trees that ask for values of columns, it is in one."""
        return sum(not tree.only for tree in self.trees) + any(tree.only for tree in self.trees)

    @property
    def is_by_season(self) -> bool:
        """Whether patches without a season have no place."""
        return any("season" in tree.only for tree in self.trees)

    @property
    def has_sentinel1(self) -> bool:
        """Whether a tree has Sentinel-1."""
        return any(tree.name_column == "s1_name" for tree in self.trees)


def tile_of(row: Row) -> str:
    """The tile of a patch."""
    return str(row["tile"])


def side_by_side(_: Row) -> str:
    """Where patches lie in the tree itself."""
    return ""


def one_each(bands: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Files of one band each, named after it."""
    return {band: (band,) for band in bands}


def reference_map(reader: PatchReader, x: int, y: int) -> Images:
    """The reference map of a patch as its only image."""
    return {"reference_map": reader.reference_map(x, y)}


def radar_scene(row: Row) -> str:
    """The Sentinel-1 scene of a patch, as far as the patch's name has it: ``S1A_IW_GRDH_1SDV_20170613T165043``."""
    return str(row["s1_name"].rsplit("_", 3)[0])


def radar_scene_and_place(row: Row) -> str:
    """The same with the MGRS tile: in the order of names, patches that have it in common follow each other."""
    return str(row["s1_name"].rsplit("_", 2)[0])
