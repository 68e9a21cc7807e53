"""One patch folder of a GeoTIFF tree: the files that it must hold, each as it must be, all of the same square."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy.typing as npt

from reben_dask.formats.bands import REFERENCE_MAP
from reben_dask.formats.trees import Tree
from reben_dask.sources.published.tiff import PLAIN_FILE_BYTES, Image, decode_image
from reben_dask.verify.expected import MAP_TENSOR, Expected, Kind, Layer
from reben_dask.verify.findings import one_sentence

SUFFIX = ".tif"

_PLAIN_BYTES_PER_PIXEL = 16

Square = tuple[int | None, tuple[float, float, float, float]]
"""Where an image lies: code of its system, and left, bottom, right and top."""


@dataclass(frozen=True)
class PatchFolder:
    """A folder that may be that of a patch.

    Parameters
    ----------
    above : str
        Name of the folder of the tree that it is in; empty for the tree itself.
    name : str
        Its own name.
    files : dict of str to (bytes or str)
        Content of each TIFF file and document by its name; or a phrase that says why it was not read.
    """

    above: str
    name: str
    files: Mapping[str, bytes | str]


@dataclass(frozen=True)
class FolderFormat:
    """What the patch folders of a tree must hold.

    Parameters
    ----------
    tree : Tree
        The tree.
    expected : Expected
        Type and size of each band.
    """

    tree: Tree
    expected: Expected

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """What each image must be, by the end of its file's name; all bands of one are alike."""
        return {name: self.expected.layer(bands[0])[1] for name, bands in self.tree.files.items()}

    @cached_property
    def kind_of(self) -> dict[str, Kind]:
        """Of what each band is."""
        return {band: self.expected.layer(band)[0] for bands in self.tree.files.values() for band in bands}

    @property
    def kinds(self) -> list[Kind]:
        """Of what there are images; the first is what its folders are counted as."""
        return [kind for kind in Kind if kind in self.kind_of.values()]

    @cached_property
    def most_bytes(self) -> int:
        """Larger files are not read: no image of a patch is so large, however it is stored."""
        sizes = (len(self.tree.files[name]) * layer.side_px**2 for name, layer in self.layers.items())
        return max(PLAIN_FILE_BYTES, *(_PLAIN_BYTES_PER_PIXEL * size for size in sizes))

    def is_read(self, name: str) -> bool:
        """Whether a file is an image for readers, or a document of its patch; other files are nobody's business."""
        return name.lower().endswith((SUFFIX, ".tiff")) or name.endswith(self.tree.document_names)


@dataclass
class Content:
    """What a patch folder holds.

    Parameters
    ----------
    faults : list of str
        Phrases.
    images : dict of Kind to dict of str to ndarray, shape (y, x)
        Bands of the images that have the right type, by name.
    square : Square or None
        Where the first image lies.
    documents : dict of str to bytes
        Documents by the ends of their names.
    """

    faults: list[str] = field(default_factory=list)
    images: dict[Kind, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)
    square: Square | None = None
    documents: dict[str, bytes] = field(default_factory=dict)


def read_folder(folder: PatchFolder, wanted: FolderFormat) -> Content:
    """Look at the files of one patch.

    Parameters
    ----------
    folder : PatchFolder
        Its files.
    wanted : FolderFormat
        Images and documents that it must hold.
    """
    tree, content = wanted.tree, Content()
    names = {f"{folder.name}_{name}{SUFFIX}": name for name in tree.files}
    documents = {f"{folder.name}_{name}": name for name in tree.document_names}
    faults = content.faults
    faults += [f"has no {file}" for file in (*names, *documents) if file not in folder.files]
    faults += [f"also holds {file}" for file in sorted(folder.files.keys() - {*names, *documents})]
    squares: dict[str, Square] = {}
    for file, found in ((file, folder.files.get(file)) for file in (*names, *documents)):
        if isinstance(found, str):
            faults.append(f"{file} {found}")
        elif found is not None and file in documents:
            content.documents[documents[file]] = found
        elif found is not None:
            try:
                image = decode_image(found)
            except Exception as error:  # noqa: BLE001 - damaged files make GDAL's layers raise anything
                faults.append(f"{file} {one_sentence(error)}")
            else:
                squares[file] = (image.epsg, image.bounds)
                faults += [f"{file} {fault}" for fault in _faults(image, wanted, names[file])]
                _take(image, wanted, names[file], content)
    content.square = next(iter(squares.values()), None)
    faults += [f"{file} does not cover the square of the others" for file in squares if squares[file] != content.square]
    return content


def _take(image: Image, wanted: FolderFormat, name: str, content: Content) -> None:
    """Add the bands of an image to a folder's, if it has all of them in the right type."""
    bands = wanted.tree.files[name]
    if image.count == len(bands) and image.bands.dtype == wanted.layers[name].dtype:
        for band, pixels in zip(bands, image.bands, strict=True):
            images = content.images.setdefault(wanted.kind_of[band], {})
            images[MAP_TENSOR if band == REFERENCE_MAP.name else band] = pixels


def _faults(image: Image, wanted: FolderFormat, name: str) -> Iterator[str]:
    layer, bands, nodata = wanted.layers[name], wanted.tree.files[name], wanted.tree.nodata
    if image.count != len(bands):
        yield f"has {image.count} bands" + (f", not {len(bands)}" if len(bands) > 1 else "")
    if image.pixels.dtype != layer.dtype:
        yield f"is {image.pixels.dtype}, not {layer.dtype}"
    if image.pixels.shape != layer.shape_yx:
        yield f"has the shape {image.pixels.shape}, not {layer.shape_yx}"
    if image.nodata != nodata:
        yield f"has the nodata tag {image.nodata}, not {nodata}"
    if image.epsg is None:
        yield "has no coordinate reference system"
    width, rotation_x, _, rotation_y, height, _ = image.transform
    size = layer.resolution_m
    if (width, rotation_x, rotation_y, height) != (size, 0, 0, -size):
        yield f"has pixels of {width:g} x {-height:g} m, not {size} x {size} m"
