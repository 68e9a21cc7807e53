"""When the kept patches of a dataset were sensed, read from its patch table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from reben_dask.errors import InputError
from reben_dask.formats.columns import KEPT
from reben_dask.formats.dataset import TABLE
from reben_dask.stores.patch_table import part_files, read_rows

_COLUMNS = ("season", "sensing_time", "split")
_FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")


def read_acquisitions(out: Path, *, clear_only: bool = False) -> pd.DataFrame:
    """Read season, sensing time and split of the kept patches of a dataset.

    Parameters
    ----------
    out : Path
        Folder of the dataset.
    clear_only : bool
        Leave out patches that are listed apart for snow, cloud or shadow.

    Returns
    -------
    DataFrame
        Columns ``season``, ``sensing_time`` and ``split``.

    Raises
    ------
    InputError
        If there is no patch table, which alone has dates and seasons, or it cannot be read.
    """
    parts = part_files(out / TABLE)
    if not parts:
        raise InputError(
            f"{out} has no patch table ({TABLE}), and metadata files have no dates or seasons; "
            "give a dataset that reben run made."
        )
    patches = pd.concat([_read(part) for part in parts], ignore_index=True)
    apart = patches[list(_FLAGS)].eq(True).any(axis=1)
    return patches.loc[~apart if clear_only else slice(None), list(_COLUMNS)]


def _read(part: Path) -> pd.DataFrame:
    try:
        rows: pd.DataFrame = read_rows(part, [*_COLUMNS, *_FLAGS], status=KEPT).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"The part {part} of the patch table cannot be read ({error}).") from None
    return rows
