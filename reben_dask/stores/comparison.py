"""The comparison with published metadata, as a file: one row per difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reben_dask.patches.comparison import COLUMNS, COMPARED, class_differences, compare_patches
from reben_dask.stores.patch_table import read_rows

COMPARISON = "comparison.parquet"
SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])


def write_comparison(
    parts: Sequence[Path], published: Callable[[str], pd.DataFrame], destination: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare a patch table with published metadata, tile after tile.

    Parameters
    ----------
    parts : sequence of Path
        Part files of the patch table.
    published : callable
        Gives the published patches of a tile, by its name.
    destination : Path
        The Parquet file to write.

    Returns
    -------
    by_tile : DataFrame
        ``tile``, ``published`` and ``kept`` patches, and differences of each kind.
    by_class : DataFrame
        See :func:`~reben_dask.patches.comparison.class_differences`.
    """
    by_tile, by_class = [], []
    with pq.ParquetWriter(destination, SCHEMA, compression="zstd") as writer:
        for part in parts:
            here = read_rows(part, ["patch_id", "status", "reason", *COMPARED]).to_pandas()
            there = published(part.stem)
            differences = compare_patches(part.stem, here, there)
            writer.write_table(pa.Table.from_pandas(differences, SCHEMA, preserve_index=False))
            counts = differences["what"].value_counts().to_dict()
            kept = int(here["reason"].isna().sum())
            by_tile.append({"tile": part.stem, "published": len(there), "kept": kept, **counts})
            by_class.append(class_differences(differences))
    classes = pd.concat(by_class).groupby(level=0).sum() if by_class else pd.DataFrame()
    return pd.DataFrame(by_tile).fillna(0), classes
