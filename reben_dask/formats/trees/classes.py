"""Classes in the order of their CORINE codes, which the older datasets list and number them by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reben_dask.nomenclature import Nomenclature


def class_numbers(nomenclature: Nomenclature) -> dict[str, int]:
    """Number of each class, counted from 1 in the order of the codes; of a class of several codes the first decides."""
    named = (name for _, name in sorted(nomenclature.class_of.items()) if name is not None)
    return {name: number for number, name in enumerate(dict.fromkeys(named), start=1)}


def number_of_code(nomenclature: Nomenclature) -> npt.NDArray[np.uint8]:
    """Look-up table from code to :func:`class_numbers`; 0 where the code carries no label.

    Returns
    -------
    ndarray of uint8, shape (65536,)
        Indexed by any uint16 code.
    """
    numbers = class_numbers(nomenclature)
    table = np.zeros(np.iinfo(np.uint16).max + 1, np.uint8)
    for code, name in nomenclature.class_of.items():
        if name is not None:
            table[code] = numbers[name]
    return table
