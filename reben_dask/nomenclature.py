"""Nomenclatures: from the codes of a land-cover map to the class names of a dataset.

A nomenclature is a CSV file with the columns ``code`` (number or text) and ``class``; an empty class is a known code
without a label. Optional columns are ``value``, the number in reference maps (by default the code, or the number of the
row where the code is text), and ``color``, such as ``#e6004d``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.errors import InputError, RecipeError, missing

UNLABELED_CODE = 999
"""Value of a pixel that no polygon covers."""

_WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


def code_text(code: object) -> str:
    """Write a code as text: numbers without decimals, leading zeros or blanks, and any other text as it is."""
    text = str(code).strip()
    whole = _WHOLE.fullmatch(text)
    return str(int(whole[1])) if whole else text


@dataclass(frozen=True)
class Nomenclature:
    """Codes of a land-cover map, their values in reference maps, and their classes."""

    name: str

    class_of: dict[int, str | None]
    """Class of each value; ``None`` where a known code carries no label."""

    value_of: dict[str, int] = field(default_factory=dict)
    """Value of each code, written by :func:`code_text`; by default values are codes."""

    color_of: dict[int, str] = field(default_factory=dict)
    """Colours as ``#rrggbb`` of values that have one."""

    def __post_init__(self) -> None:
        if not self.value_of:
            object.__setattr__(self, "value_of", {str(value): value for value in self.class_of})

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted alphabetically."""
        return tuple(sorted({name for name in self.class_of.values() if name is not None}))

    @cached_property
    def known_values(self) -> frozenset[int]:
        """Every value that a reference map may hold, labelled or not."""
        return frozenset(self.class_of) | {UNLABELED_CODE}

    def class_index(self) -> npt.NDArray[np.uint16]:
        """Look-up table from uint16 value to 1 + position in :attr:`classes`, shape ``(65536,)``; 0: unlabelled."""
        table = np.zeros(np.iinfo(np.uint16).max + 1, np.uint16)
        for value, name in self.class_of.items():
            if name is not None:
                table[value] = 1 + self.classes.index(name)
        return table

    def unknown_codes(self, codes: Iterable[str]) -> list[str]:
        """Return the codes, written by :func:`code_text`, that the nomenclature does not have; numbers first."""
        unknown = set(codes) - self.value_of.keys() - {str(UNLABELED_CODE)}
        return sorted(unknown, key=code_order)

    def map_values(self, codes: pd.Series[Any]) -> npt.NDArray[np.uint16]:
        """Return the values of codes; raises InputError for a code that the nomenclature does not have."""
        places, found = pd.factorize(codes)
        texts = [code_text(code) for code in found]
        if unknown := self.unknown_codes(texts):
            raise InputError(f"The nomenclature {self.name} does not know the code {unknown[0]} of the land-cover map.")
        values = [self.value_of.get(text, UNLABELED_CODE) for text in texts]
        return np.array(values, np.uint16)[places]

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return (self.name, tuple(sorted(self.class_of.items())), tuple(sorted(self.value_of.items())))


def order_by_code(class_of: Mapping[int, str | None]) -> tuple[str, ...]:
    """Order the classes of a nomenclature by the first code of each."""
    return tuple(dict.fromkeys(name for name in class_of.values() if name is not None))


def code_order(code: str) -> tuple[bool, int, str]:
    """Sort key of codes: numbers by value, then texts."""
    is_number = _WHOLE.fullmatch(code) is not None
    return not is_number, int(code) if is_number else 0, code


def load_nomenclature(name: str) -> Nomenclature:
    """Load a nomenclature of the package (see :func:`shipped_nomenclatures`) or of a path that ends in ``.csv``.

    :class:`RecipeError` if it does not exist, or is not a table of codes and classes.
    """
    path = nomenclature_path(name)
    if name.endswith(".csv"):
        if not path.is_file():
            raise RecipeError(missing("The nomenclature file", name))
        try:
            return _parse(path.stem, path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            raise RecipeError(f"The nomenclature file {name} is not UTF-8 text; save it as UTF-8.") from None
    if not path.is_file():
        raise RecipeError(
            f"There is no nomenclature {name!r}; use one of {', '.join(shipped_nomenclatures())}, "
            "or the path of a CSV file with the columns code and class."
        )
    return _parse(name, path.read_text(encoding="utf-8"))


def nomenclature_path(name: str) -> Path:
    """Path of the file of a nomenclature, which need not exist."""
    return Path(name) if name.endswith(".csv") else Path(__file__).parent / "nomenclatures" / f"{name}.csv"


def shipped_with_classes(classes: Collection[str]) -> Nomenclature | None:
    """Return the shipped nomenclature that alone has exactly these classes, if there is one."""
    shipped = [load_nomenclature(name) for name in shipped_nomenclatures()]
    same = [nomenclature for nomenclature in shipped if set(nomenclature.classes) == set(classes)]
    return same[0] if len(same) == 1 else None


def shipped_nomenclatures() -> list[str]:
    """Names of the package's nomenclatures, sorted."""
    return sorted(path.stem for path in (Path(__file__).parent / "nomenclatures").glob("*.csv"))


class _Row(NamedTuple):
    code: str
    value: int
    label: str | None
    color: str | None


def _parse(name: str, text: str) -> Nomenclature:
    table = csv.DictReader(text.splitlines())
    if not {"code", "class"} <= set(table.fieldnames or ()):
        raise RecipeError(f"The nomenclature {name} has the columns {table.fieldnames}; it needs code and class.")
    rows: dict[str, _Row] = {}
    row_of_value: dict[int, _Row] = {}
    for row in _rows(name, table):
        if row.code in rows:
            raise RecipeError(f"The nomenclature {name} has the code {row.code} more than once.")
        same = row_of_value.setdefault(row.value, row)
        if (same.label, same.color) != (row.label, row.color):
            raise RecipeError(
                f"The nomenclature {name} gives the codes {same.code} and {row.code} the value {row.value}, but not "
                "one class and color; set another value."
            )
        rows[row.code] = row
    return Nomenclature(
        name,
        class_of={value: row.label for value, row in row_of_value.items()},
        value_of={code: row.value for code, row in rows.items()},
        color_of={value: row.color for value, row in row_of_value.items() if row.color},
    )


def _rows(name: str, table: Iterable[Mapping[str, str | None]]) -> Iterator[_Row]:
    for number, row in enumerate(table, 1):
        code, given = code_text(row["code"] or ""), (row.get("value") or "").strip()
        if not code:
            raise RecipeError(f"The nomenclature {name} has no code in row {number}.")
        value = code_text(given) if given else code
        is_number = _WHOLE.fullmatch(value) is not None
        if given and not is_number:
            raise RecipeError(f"The nomenclature {name} has the value {given!r}, which is not a whole number.")
        value_in_map = int(value) if is_number else number
        if not 0 < value_in_map < UNLABELED_CODE:
            what = f"value {value}" if given else f"code {code}"
            advice = "" if given else "; give such codes a value of their own in a column value"
            limits = f"values of reference maps are 1 to {UNLABELED_CODE - 1}"
            raise RecipeError(f"The nomenclature {name} has the {what}; {limits}{advice}.")
        color = (row.get("color") or "").strip().lower()
        if color and not _COLOR.fullmatch(color):
            raise RecipeError(f"The nomenclature {name} has the color {color!r} in row {number}; write it as #rrggbb.")
        yield _Row(code, value_in_map, (row["class"] or "").strip() or None, color or None)
