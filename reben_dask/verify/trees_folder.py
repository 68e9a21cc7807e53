"""One patch folder of a GeoTIFF tree: the files that it must hold, each as it must be, all of the same square."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from reben_dask.sources.published.image import Image, decode_image
from reben_dask.sources.published.tiff import PLAIN_FILE_BYTES
from reben_dask.stores.trees.bigearthnet_v2 import MAP_TREE, S1_TREE, S2_TREE
from reben_dask.verify.expected import Kind, Layer
from reben_dask.verify.findings import one_sentence

TREES = {Kind.S2: S2_TREE, Kind.S1: S1_TREE, Kind.MAP: MAP_TREE}
NODATA_TAG = {Kind.S2: 0, Kind.S1: None, Kind.MAP: 0}
SUFFIX = ".tif"
_MAP_NAME = {"Data": "reference_map"}
_BELOW = {Kind.S2: "(_[^_]*){2}$", Kind.S1: "(_[^_]*){3}$", Kind.MAP: "(_[^_]*){2}$"}
"""What the name of a patch has beyond that of the folder above it: its indices, for Sentinel-1 also its tile."""

_PLAIN_BYTES_PER_PIXEL = 16


@dataclass(frozen=True)
class PatchFolder:
    """A folder that may be that of a patch.

    Parameters
    ----------
    above : str
        Name of the folder that it is in.
    name : str
        Its own name.
    files : dict of str to (bytes or str)
        Content of each TIFF file by its name; or a phrase that says why it was not read.
    """

    above: str
    name: str
    files: Mapping[str, bytes | str]


def upper_folder(name: str, kind: Kind) -> str:
    """Folder of a tree in which a patch folder stands: the tile, or the Sentinel-1 scene."""
    return re.sub(_BELOW[kind], "", name)


def is_tiff(name: str) -> bool:
    """Whether readers may take a file for an image; other files, and hidden ones, are nobody's business."""
    return name.lower().endswith((SUFFIX, ".tiff"))


def most_bytes(layers: Mapping[str, Layer]) -> int:
    """Larger files are not read: no image of a patch is so large, however it is stored."""
    return max(PLAIN_FILE_BYTES, *(_PLAIN_BYTES_PER_PIXEL * layer.side_px**2 for layer in layers.values()))


def read_folder(
    folder: PatchFolder, kind: Kind, layers: Mapping[str, Layer]
) -> tuple[list[str], dict[str, npt.NDArray[Any]]]:
    """Look at the files of one patch.

    Parameters
    ----------
    folder : PatchFolder
        Its files.
    kind : Kind
        Of what.
    layers : mapping of str to Layer
        Images that it must hold.

    Returns
    -------
    faults : list of str
        Phrases.
    images : dict of str to ndarray, shape (y, x)
        Pixels of the images that have the right type.
    """
    names = {f"{folder.name}_{_MAP_NAME.get(name, name)}{SUFFIX}": name for name in layers}
    faults = [f"has no {file}" for file in names if file not in folder.files]
    faults += [f"also holds {file}" for file in sorted(folder.files.keys() - names.keys())]
    images: dict[str, Image] = {}
    for file, name in names.items():
        content = folder.files.get(file)
        if isinstance(content, str):
            faults.append(f"{file} {content}")
        elif content is not None:
            try:
                images[file] = decode_image(content)
            except Exception as error:  # noqa: BLE001 - damaged files make GDAL's layers raise anything
                faults.append(f"{file} {one_sentence(error)}")
            else:
                faults += [f"{file} {fault}" for fault in _faults(images[file], kind, layers[name])]
    places = {file: (image.epsg, image.bounds) for file, image in images.items()}
    first = next(iter(places.values()), None)
    faults += [f"{file} does not cover the square of the others" for file, place in places.items() if place != first]
    typed = {names[file]: image.pixels for file, image in images.items()}
    return faults, {name: pixels for name, pixels in typed.items() if pixels.dtype == layers[name].dtype}


def _faults(image: Image, kind: Kind, layer: Layer) -> Iterator[str]:
    if image.count != 1:
        yield f"has {image.count} bands"
    if image.pixels.dtype != layer.dtype:
        yield f"is {image.pixels.dtype}, not {layer.dtype}"
    if image.pixels.shape != layer.shape_yx:
        yield f"has the shape {image.pixels.shape}, not {layer.shape_yx}"
    if image.nodata != NODATA_TAG[kind]:
        yield f"has the nodata tag {image.nodata}, not {NODATA_TAG[kind]}"
    if image.epsg is None:
        yield "has no coordinate reference system"
    width, rotation_x, _, rotation_y, height, _ = image.transform
    size = layer.resolution_m
    if (width, rotation_x, rotation_y, height) != (size, 0, 0, -size):
        yield f"has pixels of {width:g} x {-height:g} m, not {size} x {size} m"
