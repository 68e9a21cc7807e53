"""Names and colours of the values of reference maps: those of a nomenclature, or the legend of CORINE Land Cover."""

from __future__ import annotations

import colorsys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.formats.dataset import RunRecord
from reben_dask.nomenclature import UNLABELED_CODE, load_nomenclature
from reben_dask.stores.terms import is_corine

_GREY = "#7f7f7f"
_GOLDEN = 0.618
"""Step of the hue that keeps any number of hues apart."""


class LegendEntry(NamedTuple):
    """Name of a value, and its colour as ``#rrggbb``."""

    name: str
    colour: str


@dataclass(frozen=True)
class Legend:
    """Entries of the values of a dataset's reference maps."""

    entries: dict[int, LegendEntry]

    source: str
    """Origin of the colours, such as "the official colours of CORINE Land Cover"."""

    unlabelled: frozenset[int] = frozenset()
    """Values that carry no label."""

    def entry(self, value: int) -> LegendEntry:
        """Look up a value; unknown ones are grey and named by their number."""
        if value == UNLABELED_CODE:
            return LegendEntry("no polygon of the map (no label)", "#ffffff")
        name, colour = self.entries.get(value, LegendEntry(f"code {value}", _GREY))
        return LegendEntry(name + " (no label)" * (value in self.unlabelled), colour)

    def colours(self, values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        """Colour a reference map, shape ``(y, x)``, as RGB, shape ``(y, x, 3)``."""
        known, places = np.unique(values, return_inverse=True)
        palette = [list(bytes.fromhex(self.entry(value).colour.removeprefix("#"))) for value in known.tolist()]
        return np.array(palette, np.uint8).reshape(-1, 3)[places.reshape(values.shape)]


@cache
def corine_legend() -> Legend:
    """Return the legend shipped with the CORINE Land Cover data (European Environment Agency), codes of level 3."""
    level_3 = load_nomenclature("clc44")
    entries = {code: LegendEntry(f"{code} {name}", level_3.color_of[code]) for code, name in level_3.class_of.items()}
    return Legend(entries, "the official colours of CORINE Land Cover")


def legend_of(record: RunRecord | None) -> Legend:
    """Return the legend of a dataset; without a run record, that of CORINE Land Cover.

    Own nomenclatures keep their names, with the colours that they give; further classes get colours that are easy to
    tell apart. Where one without colours regroups a CORINE map, its codes of level 3 keep the names and colours of
    CORINE.
    """
    if record is None:
        return corine_legend()
    class_of, own = record.class_of_code, record.color_of_value
    unlabelled = frozenset(value for value, name in class_of.items() if name is None)
    nomenclature = str(record.recipe.get("nomenclature") or "")
    are_codes = all(code == str(value) for code, value in record.value_of_code.items())
    codes = defaultdict(list)
    for code, value in record.value_of_code.items():
        codes[value].append(code)
    colour_of = {name: _distinct_colour(place) for place, name in enumerate(record.classes)}
    entries = {}
    for value, name in class_of.items():
        code, colour = "/".join(codes[value]) or str(value), colour_of[name] if name else "#d0d0d0"
        title = f"code {code}" if name is None else name if name == code else f"{code} {name}"
        entries[value] = LegendEntry(title, own.get(value, colour))
    if not nomenclature.endswith(".csv") or (not own and are_codes and is_corine(record)):
        return Legend(entries | corine_legend().entries, corine_legend().source, unlabelled)
    source = "the colours of the nomenclature" if own else "colours assigned to the classes"
    return Legend(entries, source, unlabelled)


def map_colours(codes: npt.NDArray[np.uint16], legend: Legend | None = None) -> npt.NDArray[np.uint8]:
    """Colour a reference map, shape ``(y, x)``, as RGB, shape ``(y, x, 3)``; by default as CORINE Land Cover does.

    The ``legend`` of a dataset with other classes is ``reben_dask.open_dataset(out).legend``.
    """
    return (legend or corine_legend()).colours(codes)


def _distinct_colour(number: int) -> str:
    lightness = (0.45, 0.65, 0.3)[number % 3]
    red, green, blue = colorsys.hls_to_rgb(number * _GOLDEN % 1, lightness, 0.65)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
