"""Nomenclatures: from level-3 CORINE codes to the class names of a dataset.

A nomenclature is a CSV file with the columns ``code`` and ``class``; an empty class is a known code without a label.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reben_dask.errors import RecipeError, missing

UNLABELED_CODE = 999
"""Code of a pixel that no polygon covers."""


@dataclass(frozen=True)
class Nomenclature:
    """Class of each code; ``None`` in ``class_of`` where a known code carries no label."""

    name: str
    class_of: dict[int, str | None]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted alphabetically."""
        return tuple(sorted({name for name in self.class_of.values() if name is not None}))

    @cached_property
    def codes(self) -> frozenset[int]:
        """Every code that a map may hold, labelled or not."""
        return frozenset(self.class_of) | {UNLABELED_CODE}

    def class_index(self) -> npt.NDArray[np.uint16]:
        """Look-up table from uint16 code to 1 + position in :attr:`classes`, shape ``(65536,)``; 0 means unlabelled."""
        table = np.zeros(np.iinfo(np.uint16).max + 1, np.uint16)
        for code, name in self.class_of.items():
            if name is not None:
                table[code] = 1 + self.classes.index(name)
        return table

    def __dask_tokenize__(self) -> tuple[str, tuple[tuple[int, str | None], ...]]:
        return (self.name, tuple(sorted(self.class_of.items())))


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


def shipped_nomenclatures() -> list[str]:
    """Names of the package's nomenclatures, sorted."""
    return sorted(path.stem for path in (Path(__file__).parent / "nomenclatures").glob("*.csv"))


def _parse(name: str, text: str) -> Nomenclature:
    rows = csv.DictReader(text.splitlines())
    if not {"code", "class"} <= set(rows.fieldnames or ()):
        raise RecipeError(f"The nomenclature {name} has the columns {rows.fieldnames}; it needs code and class.")
    try:
        pairs = [(int(row["code"]), row["class"] or None) for row in rows]
    except (TypeError, ValueError) as error:
        raise RecipeError(f"The nomenclature {name} has a code that is not a number: {error}.") from None
    class_of = dict(pairs)
    if len(class_of) < len(pairs):
        twice = next(code for code, count in Counter(code for code, _ in pairs).items() if count > 1)
        raise RecipeError(f"The nomenclature {name} has the code {twice} more than once.")
    if bad := [code for code in class_of if not 0 < code < UNLABELED_CODE]:
        raise RecipeError(f"The nomenclature {name} has the code {bad[0]}; codes are 1 to {UNLABELED_CODE - 1}.")
    return Nomenclature(name, class_of)
