"""Names and colours of the codes of a reference map: the official legend of CORINE Land Cover."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.nomenclature import UNLABELED_CODE


class LegendEntry(NamedTuple):
    """Name of a code, and its colour as ``#rrggbb``."""

    name: str
    colour: str


@cache
def corine_legend() -> dict[int, LegendEntry]:
    """Return the entries of all codes of level 3, and of pixels that no polygon covers.

    Colours are those of the legend shipped with the CORINE Land Cover data (European Environment Agency).
    """
    table = resources.files("reben_dask") / "nomenclatures" / "clc44.csv"
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    entries = {int(row["code"]): LegendEntry(row["class"], row["color"]) for row in rows}
    return {**entries, UNLABELED_CODE: LegendEntry("no polygon of the map", "#ffffff")}


def legend_entry(code: int) -> LegendEntry:
    """Look up a code; unknown codes are grey and named by their number."""
    return corine_legend().get(code, LegendEntry(f"code {code}", "#7f7f7f"))


def map_colours(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Colour a reference map of codes, shape ``(y, x)``, as RGB, shape ``(y, x, 3)``."""
    known, places = np.unique(codes, return_inverse=True)
    palette = [list(bytes.fromhex(legend_entry(code).colour.removeprefix("#"))) for code in known.tolist()]
    return np.array(palette, np.uint8).reshape(-1, 3)[places.reshape(codes.shape)]
