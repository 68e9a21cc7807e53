"""Patches, labels and classes of a metadata file, as training needs them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.formats.columns import LABELS, PATCH_ID, S1_NAME, SPLIT, decode_classes
from reben_dask.formats.dataset import RECORD, RunRecord
from reben_dask.formats.names import NameTemplate
from reben_dask.nomenclature import load_nomenclature, order_by_code, shipped_nomenclatures, shipped_with_classes
from reben_dask.sources.published.metadata import metadata_files, read_metadata

ClassOrder = Literal["alphabetical", "paper"]
"""Order of the classes in labels: that of ConfigILM and of our lists, or that of the papers and TorchGeo, by code."""

IGNORED = -100
"""Class index of ignored pixels, as PyTorch's losses expect it."""


@dataclass(frozen=True)
class TrainingTable:
    """Patches in the order of a metadata file."""

    classes: tuple[str, ...]
    patch_ids: npt.NDArray[np.object_]
    s1_names: npt.NDArray[np.object_]
    """Names of the Sentinel-1 partners, or ``None``."""
    labels: npt.NDArray[np.bool_]
    """Presence of each class, shape ``(patch, class)``."""


def read_training_table(path: Path, split: str | None, classes: Sequence[str] | ClassOrder) -> TrainingTable:
    """Read the clear patches of a dataset, or of its metadata file; ``classes`` as of :func:`find_classes`.

    :class:`InputError` if there is no metadata, no patch of the split, or no class list.
    """
    (file,) = metadata_files(path, clear_only=True)
    rows = read_metadata([file], [PATCH_ID, LABELS, SPLIT, S1_NAME])
    rows[LABELS] = [[] if labels is None else list(labels) for labels in rows[LABELS]]
    # Of all splits: a class that one of them lacks must not move the others.
    found = {label for labels in rows[LABELS] for label in labels}
    given = None if isinstance(classes, str) else classes
    names = find_classes(file, found, rows[PATCH_ID], given)
    if isinstance(classes, str):
        names = _in_order(file.parent, names, classes)
    if split is not None:
        splits = sorted(rows[SPLIT].dropna().unique())
        rows = rows[rows[SPLIT] == split].reset_index(drop=True)
        if rows.empty:
            raise InputError(f"No patch of {file} is in the split {split!r}; available: {', '.join(splits) or 'none'}.")
    place = {name: number for number, name in enumerate(names)}
    lengths = rows[LABELS].map(len).to_numpy(np.int64)
    codes = np.array([place[label] for labels in rows[LABELS] for label in labels], np.int64)
    presence = np.zeros((len(rows), len(names)), bool)
    presence[np.repeat(np.arange(len(rows)), lengths), codes] = True
    s1_names = rows[S1_NAME].astype(object).where(rows[S1_NAME].notna(), None)
    return TrainingTable(names, rows[PATCH_ID].to_numpy(object), s1_names.to_numpy(object), presence)


def class_lookup(folder: Path, classes: Sequence[str], ignored: int = IGNORED) -> npt.NDArray[np.int64]:
    """Return the table from CLC code to position in ``classes``; ``ignored`` for codes without a label.

    Shape ``(65536,)``. The codes are those of the run record in the folder of the metadata, else those of the shipped
    nomenclature with these classes; :class:`InputError` if there is neither.
    """
    table = np.full(np.iinfo(np.uint16).max + 1, ignored, np.int64)
    place = {name: number for number, name in enumerate(classes)}
    for code, name in _class_of_code(folder, classes).items():
        if name is not None:
            table[code] = place[name]
    return table


def _class_of_code(folder: Path, classes: Collection[str]) -> Mapping[int, str | None]:
    if (folder / RECORD).is_file():
        return RunRecord.read(folder).class_of_code
    nomenclature = shipped_with_classes(classes)
    if nomenclature is None:
        raise InputError(f"{folder} has no run record, so the codes of its classes are not known; give classes=.")
    return nomenclature.class_of


def _in_order(folder: Path, classes: Sequence[str], order: str) -> tuple[str, ...]:
    if order == "alphabetical":
        return tuple(sorted(classes))
    if order != "paper":
        raise InputError(f"There is no class order {order!r}; use alphabetical, paper, or a list of all class names.")
    return order_by_code(_class_of_code(folder, classes))


def find_classes(
    file: Path, labels: Collection[str], patch_ids: pd.Series[Any], given: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Find the class list of a metadata file, independent of the part in use.

    Parameters
    ----------
    file : Path
        Metadata file.
    labels : collection of str
        Labels of all its patches.
    patch_ids : Series
        Names of its patches.
    given : sequence of str, optional
        Class list of the user, in this order.

    Returns
    -------
    tuple of str
        The given list, else the one stored in the file, else the shipped nomenclature that holds all labels; if several
        do, that of the recipe that the patch names match.

    Raises
    ------
    InputError
        If a label is not in the list, or no nomenclature is left.
    """
    if given is not None and (twice := sorted({name for name in given if list(given).count(name) > 1})):
        raise InputError(f"The classes have {twice[0]!r} more than once.")
    classes, source = given, "the given classes"
    if classes is None:
        classes, source = _stored_classes(file), "its own class list"
    if classes is None:
        return _shipped_classes(file, labels, patch_ids)
    if unknown := sorted(set(labels) - set(classes)):
        raise InputError(
            f"{file} has the label {unknown[0]!r}, which is not in {source}; give classes= with all labels."
        )
    return tuple(classes)


def _stored_classes(file: Path) -> tuple[str, ...] | None:
    try:
        return decode_classes(pq.read_schema(file).metadata)
    except ValueError:
        raise InputError(f"The class list in {file} is damaged; give classes=.") from None


def _shipped_classes(file: Path, labels: Collection[str], patch_ids: pd.Series[Any]) -> tuple[str, ...]:
    from reben_dask.recipes import load_recipe, shipped_recipes  # noqa: PLC0415 - takes seconds, in each worker

    every = {name: load_nomenclature(name).classes for name in shipped_nomenclatures()}
    holding = {name: classes for name, classes in every.items() if set(labels) <= set(classes)}
    if len(holding) > 1:
        recipes = [load_recipe(name) for name in shipped_recipes()]
        named = {recipe.nomenclature for recipe in recipes if _are_named(patch_ids, recipe.patch_name)}
        holding = {name: classes for name, classes in holding.items() if name in named}
    if len(holding) != 1:
        raise InputError(
            f"{file} has no class list, and its labels are not those of exactly one nomenclature "
            f"({', '.join(holding or every)}); give classes= with the names of all classes."
        )
    return next(iter(holding.values()))


def _are_named(patch_ids: pd.Series[Any], template: str) -> bool:
    names = NameTemplate(template)
    return len(patch_ids) > 0 and all(names.parse(name) is not None for name in patch_ids)
