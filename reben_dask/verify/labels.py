"""Labels of one patch, read off its reference map and compared with its row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reben_dask.patches.nomenclature import Nomenclature


class LabelReader:
    """Reads the labels of patches, one map at a time.

    Parameters
    ----------
    nomenclature : Nomenclature
        Class of each code. A code that it does not know at all is a problem, and not the same as one without class.
    """

    def __init__(self, nomenclature: Nomenclature) -> None:
        self._classes = nomenclature.classes
        self._unknown = 1 + len(self._classes)
        table = np.full(np.iinfo(np.uint16).max + 1, self._unknown, np.uint16)
        known = sorted(nomenclature.codes)
        table[known] = nomenclature.class_index()[known]
        self._table = table

    def read(self, codes: npt.NDArray[np.uint16]) -> tuple[tuple[str, ...], float]:
        """Labels and labelled fraction of one patch.

        Parameters
        ----------
        codes : ndarray of uint16, shape (y, x)
            Its reference map.

        Returns
        -------
        labels : tuple of str
            Names of the classes that occur, sorted.
        fraction : float
            Share of the pixels whose code carries a label.

        Raises
        ------
        ValueError
            If the map holds a code that the nomenclature does not know.
        """
        if not codes.size:
            raise ValueError("its map is empty")
        indices = self._table[codes]
        counts = np.bincount(indices.ravel(), minlength=self._unknown + 1)
        if counts[self._unknown]:
            raise ValueError(f"its map holds the unknown code {int(codes[indices == self._unknown][0])}")
        labels = tuple(self._classes[index] for index in np.flatnonzero(counts[1:]).tolist())
        return labels, float(counts[1:].sum() / codes.size)

    def compare(self, codes: npt.NDArray[np.uint16], labels: Sequence[str]) -> str | None:
        """A phrase that says how the labels of a row differ from its map; ``None`` where they do not.

        Parameters
        ----------
        codes : ndarray of uint16, shape (y, x)
            Reference map of the patch.
        labels : sequence of str
            Labels of its row.
        """
        try:
            read, _ = self.read(codes)
        except ValueError as error:
            return str(error)
        if set(read) == set(labels):
            return None
        only_map, only_row = sorted(set(read) - set(labels)), sorted(set(labels) - set(read))
        found = [
            f"{where} {', '.join(names)}"
            for where, names in (("only the map has", only_map), ("only the metadata have", only_row))
            if names
        ]
        return ", ".join(found)
