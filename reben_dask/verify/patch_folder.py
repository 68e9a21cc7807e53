"""One patch folder of a GeoTIFF tree: the files that it must hold, each as it must be, all of the same square."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.patches.validity import NODATA_DN
from reben_dask.verify.expected import Kind, Layer
from reben_dask.verify.findings import one_sentence
from reben_dask.verify.images import Image, read_image

NODATA_TAG = {Kind.S2: 0, Kind.S1: None, Kind.MAP: 0}
SUFFIX = ".tif"
_TIFF = (".tif", ".tiff")
_MAP_NAME = {"Data": "reference_map"}


@dataclass
class FolderContent:
    """What was found in a patch folder: faults of its files, its map, and bands with NODATA."""

    faults: list[str] = field(default_factory=list)
    codes: npt.NDArray[Any] | None = None
    nodata: list[str] = field(default_factory=list)


def read_folder(folder: Path, kind: Kind, layers: Mapping[str, Layer], *, full: bool) -> FolderContent:
    """Look at the files of one patch.

    Parameters
    ----------
    folder : Path
        Its folder, whose name is that of the patch.
    kind : Kind
        Of what.
    layers : mapping of str to Layer
        Images that it must hold.
    full : bool
        Read the pixels of Sentinel-1 and -2, too; maps are read in any case.
    """
    content = FolderContent()
    names = {f"{folder.name}_{_MAP_NAME.get(name, name)}{SUFFIX}": name for name in layers}
    try:
        found = {entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(_TIFF)}
    except OSError as error:
        content.faults.append(one_sentence(error))
        return content
    content.faults += [f"has no {file}" for file in names if file not in found]
    content.faults += [f"also holds {file}" for file in sorted(found - set(names))]
    first: Image | None = None
    for file, name in names.items():
        if file in found:
            image = _read(folder / file, kind, layers[name], full or kind is Kind.MAP, content)
            if image is not None:
                first = first or image
                _compare_places(file, image, first, content)
                _keep_pixels(name, image, kind, content)
    return content


def _read(path: Path, kind: Kind, layer: Layer, pixels: bool, content: FolderContent) -> Image | None:  # noqa: FBT001
    try:
        image = read_image(path, pixels=pixels)
    except Exception as error:  # noqa: BLE001 - damaged files make GDAL's layers raise anything
        content.faults.append(f"{path.name}: {one_sentence(error)}")
        return None
    faults = list(_faults(image, kind, layer))
    content.faults += [f"{path.name} {fault}" for fault in faults]
    return image


def _faults(image: Image, kind: Kind, layer: Layer) -> Iterator[str]:
    if image.count != 1:
        yield f"has {image.count} bands"
    if image.dtype != layer.dtype:
        yield f"is {image.dtype}, not {layer.dtype}"
    if image.shape_yx != layer.shape_yx:
        yield f"has the shape {image.shape_yx}, not {layer.shape_yx}"
    if image.nodata != NODATA_TAG[kind]:
        yield f"has the nodata tag {image.nodata}, not {NODATA_TAG[kind]}"
    if image.epsg is None:
        yield "has no coordinate reference system"
    width, rotation_x, _, rotation_y, height, _ = image.transform
    size = layer.resolution_m
    if (width, rotation_x, rotation_y, height) != (size, 0, 0, -size):
        yield f"has pixels of {width:g} x {-height:g} m, not {size} x {size} m"


def _compare_places(file: str, image: Image, first: Image, content: FolderContent) -> None:
    if (image.epsg, image.bounds) != (first.epsg, first.bounds):
        content.faults.append(f"{file} does not cover the square of the others")


def _keep_pixels(name: str, image: Image, kind: Kind, content: FolderContent) -> None:
    if image.pixels is None:
        return
    if kind is Kind.MAP and image.dtype == "uint16":
        content.codes = image.pixels
    if kind is Kind.S2 and np.any(image.pixels == NODATA_DN):
        content.nodata.append(name)
