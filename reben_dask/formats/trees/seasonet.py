"""The trees of SeasoNet: a folder for each season and grid, images of several bands, and maps of class numbers.

``spring/grid1/<patch>/<patch>_10m_RGB.tif`` with ``10m_IR``, ``20m``, ``60m`` and ``labels``, ``meta.csv``, and
``splits/{train,val,test}.csv``. Sentinel-1 has no place in it.
"""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import numpy.typing as npt

from reben_dask.errors import RecipeError
from reben_dask.formats.trees.classes import class_numbers, number_of_code
from reben_dask.formats.trees.layout import NUMBERS, Contents, Images, Row, Tree, TreeLayout
from reben_dask.formats.trees.seasonet_tables import META, SPLITS_FOLDER, write_tables
from reben_dask.stores.patch_reader import PatchReader

BANDS = {
    "10m_RGB": ("B04", "B03", "B02"),
    "10m_IR": ("B08",),
    "20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "60m": ("B01", "B09"),
}
"""Bands of each image, in their order."""

MOST_CLASSES = np.iinfo(np.uint8).max
_FOLDER = re.compile(r"[a-z0-9][a-z0-9_-]*")


def seasonet(contents: Contents) -> TreeLayout:
    """The layout, with a tree for each season.

    Raises
    ------
    RecipeError
        If the dataset lacks a band, has more classes than a map of bytes can tell apart, or a season whose name cannot
        be that of a folder.
    """
    _require_bands(contents.bands)
    _require_seasons(contents.seasons)
    classes = len(class_numbers(contents.nomenclature))
    if classes > MOST_CLASSES:
        raise RecipeError(
            f"The tree seasonet has maps of bytes, which can tell {MOST_CLASSES} classes apart, but the nomenclature "
            f"{contents.nomenclature.name} has {classes}; choose another tree."
        )
    images = partial(_images, number_of_code(contents.nomenclature))
    files = {**BANDS, "labels": (NUMBERS,)}
    trees = [Tree(season, images, _grid, _grid, only={"season": season}, files=files) for season in contents.seasons]
    return TreeLayout(tuple(trees), (META, SPLITS_FOLDER), partial(write_tables, contents))


def _images(numbers: npt.NDArray[np.uint8], reader: PatchReader, x: int, y: int) -> Images:
    bands = reader.bands(x, y)
    stacks = {name: np.stack([bands[band] for band in stacked]) for name, stacked in BANDS.items()}
    return {**stacks, "labels": numbers[reader.reference_map(x, y)]}


def _grid(row: Row) -> str:
    return f"grid{row['grid']}"


def _require_bands(bands: tuple[str, ...]) -> None:
    needed = [band for stacked in BANDS.values() for band in stacked]
    if missing := [band for band in needed if band not in bands]:
        raise RecipeError(
            f"The tree seasonet needs all bands, but the recipe has no {', '.join(missing)}; "
            "add them to bands, or choose another tree."
        )


def _require_seasons(seasons: tuple[str, ...]) -> None:
    for season in seasons:
        if season == SPLITS_FOLDER or not _FOLDER.fullmatch(season):
            raise RecipeError(
                f"The tree seasonet has a folder for each season, and {season!r} cannot be one; "
                f"use small letters, digits, - and _, and not {SPLITS_FOLDER!r}."
            )
