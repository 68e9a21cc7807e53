"""The official legend of CORINE Land Cover: the colour of each class of level 3, for maps that a person looks at."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.nomenclature import UNLABELED_CODE

_NOTHING = "no polygon of the map"
_UNKNOWN_COLOUR = "#7f7f7f"
_COLOUR_OF_NOTHING = "#ffffff"


class LegendEntry(NamedTuple):
    """What a code of a reference map is called, and its colour as ``#rrggbb``."""

    name: str
    colour: str


@cache
def corine_legend() -> dict[int, LegendEntry]:
    """Name and colour of each code of level 3, and of pixels that no polygon covers.

    Notes
    -----
    Colours are those of the legend that comes with the CORINE Land Cover data (European Environment Agency).
    """
    table = resources.files("reben_dask") / "nomenclatures" / "clc44.csv"
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    entries = {int(row["code"]): LegendEntry(row["class"], row["color"]) for row in rows}
    return {**entries, UNLABELED_CODE: LegendEntry(_NOTHING, _COLOUR_OF_NOTHING)}


def legend_entry(code: int) -> LegendEntry:
    """Name and colour of a code; one that CORINE does not know is grey and called by its number."""
    return corine_legend().get(code, LegendEntry(f"code {code}", _UNKNOWN_COLOUR))


def coloured(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Colour a reference map.

    Parameters
    ----------
    codes : ndarray of uint16, shape (y, x)
        Codes of level 3.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)
        Red, green and blue.
    """
    known, places = np.unique(codes, return_inverse=True)
    colours = [bytes.fromhex(legend_entry(code).colour.removeprefix("#")) for code in known.tolist()]
    palette = np.array([list(colour) for colour in colours], np.uint8)
    return palette[places.reshape(codes.shape)]
