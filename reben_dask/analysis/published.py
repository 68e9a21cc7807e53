"""Comparison of a patch table with published metadata, patch by patch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reben_dask.formats import columns
from reben_dask.stores.patch_table import read_rows

MISSING_HERE, MISSING_THERE = "missing here", "missing there"
COMPARED = (columns.LABELS, columns.SPLIT, columns.COUNTRY, *columns.FLAGS)
"""Columns compared where both sides have the patch."""

SEPARATOR = "; "
SCHEMA = pa.schema([(name, pa.string()) for name in (columns.PATCH_ID, columns.TILE, "what", "here", "there")])


def write_comparison(
    parts: Sequence[Path], published: Callable[[str], pd.DataFrame], destination: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare a patch table with published metadata tile by tile, and write a row per difference to ``destination``.

    ``published`` returns the published patches of a tile, by its name. Returns a table by tile (``tile``, numbers of
    ``published`` and ``kept`` patches and of differences of each kind) and one by class (:func:`class_differences`).
    """
    by_tile, by_class = [], []
    with pq.ParquetWriter(destination, SCHEMA, compression="zstd") as writer:
        for part in parts:
            here = read_rows(part, [columns.PATCH_ID, columns.STATUS, columns.REASON, *COMPARED]).to_pandas()
            there = published(part.stem)
            differences = compare_patches(part.stem, here, there)
            writer.write_table(pa.Table.from_pandas(differences, SCHEMA, preserve_index=False))
            counts = differences["what"].value_counts().to_dict()
            kept = int(here[columns.REASON].isna().sum())
            by_tile.append({"tile": part.stem, "published": len(there), "kept": kept, **counts})
            by_class.append(class_differences(differences))
    classes = pd.concat(by_class).groupby(level=0).sum() if by_class else pd.DataFrame()
    return pd.DataFrame(by_tile).fillna(0), classes


def compare_patches(tile: str, here: pd.DataFrame, there: pd.DataFrame) -> pd.DataFrame:
    """List the differences between all candidates of a tile and its published patches, as rows of :data:`SCHEMA`.

    ``what`` is :data:`MISSING_HERE`, :data:`MISSING_THERE` or one of :data:`COMPARED`; ``here`` and ``there`` are
    values as text. For a missing patch, ``here`` is the reason of its rejection. Columns that are all null here are not
    compared.
    """
    ours, theirs = here.set_index(columns.PATCH_ID), there.set_index(columns.PATCH_ID)
    kept = ours[ours[columns.REASON].isna()]
    reasons = ours[columns.REASON].fillna("").reindex(theirs.index.difference(kept.index), fill_value="no such patch")
    rows = [(name, MISSING_HERE, reason, "") for name, reason in reasons.items()]
    rows += [(name, MISSING_THERE, "", "") for name in kept.index.difference(theirs.index)]
    both = kept.index.intersection(theirs.index)
    for column in COMPARED:
        if kept[column].notna().any():
            rows += _different(column, kept.loc[both, column], theirs.loc[both, column])
    table = pd.DataFrame(rows, columns=[name for name in SCHEMA.names if name != columns.TILE])
    table.insert(1, str(columns.TILE), tile)
    return table.astype("str").sort_values([columns.PATCH_ID, "what"], ignore_index=True)


def class_differences(differences: pd.DataFrame) -> pd.DataFrame:
    """Count the patches with each class ``here only`` and ``there only``, from rows of :data:`SCHEMA`."""
    rows = differences[differences["what"] == columns.LABELS]
    here, there = ([set(text.split(SEPARATOR)) - {""} for text in rows[side]] for side in ("here", "there"))
    only = {
        "here only": [name for one, other in zip(here, there, strict=True) for name in one - other],
        "there only": [name for one, other in zip(here, there, strict=True) for name in other - one],
    }
    counts = pd.DataFrame({side: pd.Series(names, dtype="str").value_counts() for side, names in only.items()})
    return counts.fillna(0).astype("int64").sort_index().rename_axis("class")


def _different(what: str, here: pd.Series[Any], there: pd.Series[Any]) -> Iterator[tuple[str, str, str, str]]:
    texts = here.map(_text), there.map(_text)
    differs = np.asarray(texts[0] != texts[1])
    for name, one, other in zip(here.index[differs], texts[0][differs], texts[1][differs], strict=True):
        yield name, what, one, other


def _text(value: Any) -> str:
    if isinstance(value, (list, np.ndarray)):
        return SEPARATOR.join(sorted(map(str, value)))
    return "" if pd.isna(value) else str(value)
