"""Tables that say which Sentinel-1 patch goes with which Sentinel-2 patch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import ConvertOptions, read_csv

from reben_dask.errors import InputError, missing

S2_COLUMNS = ("s2v1_name", "s2_name", "patch_id")
"""Columns under which tables of pairs keep the Sentinel-2 patch, by its name of version 1 or 2."""

_S1 = r"^$|^S1[A-D]_.*_\d{2}[A-Z]{3}_\d+_\d+$"
_V2 = r"_N\d{4}_R\d{3}_T\w{5}_"
_S2 = (
    r"^(?P<scene>(?P<satellite>S2[A-D])_MSIL(?:1C|2A)_(?P<date>\d{8})T\d+(?:_N\d{4}_R\d{3}_T(?P<mgrs>\w{5}))?)"
    r"_(?P<x>\d+)_(?P<y>\d+)$"
)


def require_pairs(path: Path) -> int:
    """Make sure that a file is a table of pairs; gives the number of its rows.

    Raises
    ------
    InputError
        As :func:`pairs_of_tile`, and if a name cannot be taken apart. An empty ``s1_name`` means that there is none.
    """
    return len(read_pairs(path))


def read_pairs(path: Path) -> pd.DataFrame:
    """Read a whole table of pairs.

    Returns
    -------
    DataFrame
        Columns ``s1_name``, empty where there is none, and ``s2_name``, of version 1 or 2.

    Raises
    ------
    InputError
        As :func:`require_pairs`.
    """
    table, column = _read(path)
    for name, pattern, kind in ((column, _S2, "Sentinel-2"), ("s1_name", _S1, "Sentinel-1")):
        wrong = table[name].filter(pc.invert(pc.fill_null(pc.match_substring_regex(table[name], pattern), False)))
        if len(wrong):
            raise InputError(f"The table of pairs {path} has {wrong[0].as_py()!r}, which is no name of a {kind} patch.")
    return pd.DataFrame({"s1_name": table["s1_name"].to_pandas(), "s2_name": table[column].to_pandas()})


def split_s2_names(names: pd.Series) -> pd.DataFrame:
    """Take names of Sentinel-2 patches apart, of version 1 or 2, with padded indices or not.

    Parameters
    ----------
    names : Series of str
        The names.

    Returns
    -------
    DataFrame
        Same index; ``scene`` (what stands before the indices), ``satellite``, ``date``, ``mgrs`` (empty for version 1,
        which does not say it), ``x`` and ``y``. Null where a name cannot be taken apart.
    """
    parts = pc.extract_regex(pa.array(names, pa.string()), _S2)
    columns = dict(zip((field.name for field in parts.type), parts.flatten(), strict=True))
    split = pd.DataFrame({name: values.to_pandas() for name, values in columns.items()})
    return split.astype({"x": "Int64", "y": "Int64"}).set_axis(names.index)


def has_v1_names(path: Path) -> bool:
    """Whether the Sentinel-2 patches of a table of pairs have names of version 1."""
    table, column = _read(path)
    return not pc.any(pc.match_substring_regex(table[column], _V2)).as_py()


def pairs_of_tile(path: Path, tile: str, mgrs: str) -> pd.DataFrame:
    """Pairs of one tile.

    Names of version 1 do not say which tile a patch lies in, and their times differ by seconds from those of version 2.
    What both share is the satellite, the day, the tile (from the Sentinel-1 name) and the indices: together they tell
    all 549,488 published pairs apart.

    Parameters
    ----------
    path : Path
        CSV with a header, columns ``s1_name`` and one of :data:`S2_COLUMNS`.
    tile : str
        Name of the tile, such as ``S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP``.
    mgrs : str
        Its MGRS tile, such as ``33UUP``.

    Returns
    -------
    DataFrame
        Index ``x`` and ``y``; ``s1_name`` and ``s2v1_name`` (null where the table has names of version 2).

    Raises
    ------
    InputError
        If the file is no such table, or has a Sentinel-2 patch of the tile twice.
    """
    table, column = _read(path)
    near = table.filter(pc.match_substring(table["s1_name"], f"_{mgrs}_"))
    names = near[column].to_pandas()
    parts = split_s2_names(names)
    is_v1 = parts["mgrs"] == ""
    pairs = pd.DataFrame(
        {"x": parts["x"], "y": parts["y"], "s1_name": near["s1_name"].to_pandas(), "s2v1_name": names.where(is_v1)}
    )
    satellite, _, time = tile.split("_")[:3]
    here = (parts["satellite"] == satellite) & (parts["date"] == time[:8]) & (is_v1 | (parts["scene"] == tile))
    pairs_here: pd.DataFrame = pairs[here.to_numpy(bool)].set_index(["x", "y"])
    if pairs_here.index.has_duplicates:
        x_twice, y_twice = pairs_here.index[pairs_here.index.duplicated()][0]
        raise InputError(f"The table of pairs {path} has patch {x_twice}, {y_twice} of the tile {tile} more than once.")
    return pairs_here


def _read(path: Path) -> tuple[pa.Table, str]:
    if not path.exists():
        raise InputError(missing("The table of pairs", path))
    try:
        options = ConvertOptions(column_types=dict.fromkeys(("s1_name", *S2_COLUMNS), pa.string()))
        table = read_csv(path, convert_options=options)
        columns = table.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"The table of pairs {path} cannot be read ({error}).") from None
    column = next((name for name in S2_COLUMNS if name in columns), None)
    if column is None or "s1_name" not in columns:
        raise InputError(
            f"{path} has the columns {', '.join(columns)}; a table of pairs has s1_name and one of "
            f"{', '.join(S2_COLUMNS)}."
        )
    return table, column
