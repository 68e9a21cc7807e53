"""Pairs of Sentinel-1 and Sentinel-2 patches, from published metadata and tables, and their matching by name.

A table may name Sentinel-2 patches by version 1 while the trees or tiles have version 2, or the other way round. Names
of one version must be the same. Otherwise patches are matched by satellite, day, indices and MGRS tile, which together
are unique among all 549,488 published pairs. Names of version 1 do not contain the tile; there, a partner is the patch
at the same position. Times of day are never compared: they differ by seconds between the versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import ConvertOptions, read_csv

from reben_dask.errors import InputError, missing
from reben_dask.formats.columns import PATCH_ID, S1_NAME, S2V1_NAME
from reben_dask.sources.published.metadata import metadata_files, read_metadata

S2_NAME = "s2_name"
S2_COLUMNS = (str(S2V1_NAME), S2_NAME, str(PATCH_ID))
"""Columns of a table of pairs that may hold the name of the Sentinel-2 patch, of version 1 or 2."""

_S1 = r"^$|^S1[A-D]_.*_\d{2}[A-Z]{3}_\d+_\d+$"
_V2 = r"_N\d{4}_R\d{3}_T\w{5}_"
_S2 = (
    r"^(?P<scene>(?P<satellite>S2[A-D])_MSIL(?:1C|2A)_(?P<date>\d{8})T\d+(?:_N\d{4}_R\d{3}_T(?P<mgrs>\w{5}))?)"
    r"_(?P<x>\d+)_(?P<y>\d+)$"
)
_SAME_NAME = ["scene", "x", "y"]
_SAME_DAY = ["satellite", "date", "x", "y"]


@dataclass(frozen=True)
class Pairs:
    """Published pairs of patches."""

    files: tuple[Path, ...]
    """Files that they were read from."""
    table: pd.DataFrame
    """Columns ``s1_name`` and ``s2_name``; a pair may occur under both names of its Sentinel-2 patch."""


def open_pairs(paths: Sequence[Path]) -> Pairs:
    """Read pairs from metadata (``.parquet``), folders with metadata, or CSV tables of pairs.

    Raises
    ------
    InputError
        If one of them cannot be used.
    """
    return Pairs(tuple(paths), pd.concat([_open(path) for path in paths], ignore_index=True))


def require_pairs(path: Path) -> int:
    """Check that a file is a table of pairs; return the number of its rows. Errors are those of :func:`read_pairs`."""
    return len(read_pairs(path))


def read_pairs(path: Path) -> pd.DataFrame:
    """Read a whole table of pairs.

    Parameters
    ----------
    path : Path
        CSV with a header and the columns ``s1_name`` and one of :data:`S2_COLUMNS`.

    Returns
    -------
    DataFrame
        Columns ``s1_name``, empty for patches without a partner, and ``s2_name``, of version 1 or 2.

    Raises
    ------
    InputError
        If the file is not such a table, or a name cannot be parsed.
    """
    table, column = _read(path)
    for name, pattern, kind in ((column, _S2, "Sentinel-2"), (S1_NAME, _S1, "Sentinel-1")):
        wrong = table[name].filter(pc.invert(pc.fill_null(pc.match_substring_regex(table[name], pattern), False)))
        if len(wrong):
            raise InputError(f"The table of pairs {path} has {wrong[0].as_py()!r}, which is not a {kind} patch name.")
    return pd.DataFrame({S1_NAME: table[S1_NAME].to_pandas(), S2_NAME: table[column].to_pandas()})


def split_s2_names(names: pd.Series) -> pd.DataFrame:
    """Parse names of Sentinel-2 patches, of version 1 or 2, padded or not.

    Returns
    -------
    DataFrame
        Same index as ``names``; ``scene`` (the text before the indices), ``satellite``, ``date``, ``mgrs`` (empty for
        version 1), ``x`` and ``y``. Null where a name cannot be parsed.
    """
    parts = pc.extract_regex(pa.array(names, pa.string()), _S2)
    columns = dict(zip((field.name for field in parts.type), parts.flatten(), strict=True))
    split = pd.DataFrame({name: values.to_pandas() for name, values in columns.items()})
    return split.astype({"x": "Int64", "y": "Int64"}).set_axis(names.index)


def has_v1_names(path: Path) -> bool:
    """Check whether the Sentinel-2 patches of a table of pairs have names of version 1."""
    table, column = _read(path)
    return not pc.any(pc.match_substring_regex(table[column], _V2)).as_py()


def pairs_of_tile(path: Path, tile: str, mgrs: str) -> pd.DataFrame:
    """Read the pairs of one tile.

    Parameters
    ----------
    path : Path
        Table of pairs, see :func:`read_pairs`.
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
        If the file is not such a table, or has a Sentinel-2 patch of the tile twice.
    """
    table, column = _read(path)
    near = table.filter(pc.match_substring(table[S1_NAME], f"_{mgrs}_"))
    names = near[column].to_pandas()
    parts = split_s2_names(names)
    is_v1 = parts["mgrs"] == ""
    pairs = pd.DataFrame(
        {"x": parts["x"], "y": parts["y"], S1_NAME: near[S1_NAME].to_pandas(), S2V1_NAME: names.where(is_v1)}
    )
    satellite, _, time = tile.split("_")[:3]
    here = (parts["satellite"] == satellite) & (parts["date"] == time[:8]) & (is_v1 | (parts["scene"] == tile))
    pairs_here: pd.DataFrame = pairs[here.to_numpy(bool)].set_index(["x", "y"])
    if pairs_here.index.has_duplicates:
        x_twice, y_twice = pairs_here.index[pairs_here.index.duplicated()][0]
        raise InputError(f"The table of pairs {path} has patch {x_twice}, {y_twice} of the tile {tile} more than once.")
    return pairs_here


def match_names(names: Sequence[str], s1_names: Sequence[str], pairs: pd.DataFrame) -> pd.DataFrame:
    """Match patches with Sentinel-1 patches by their names.

    Parameters
    ----------
    names : sequence of str
        Patches of Sentinel-2, of version 1 or 2.
    s1_names : sequence of str
        Patches of Sentinel-1, unique.
    pairs : DataFrame
        Table of :class:`Pairs`.

    Returns
    -------
    DataFrame
        Candidates: positions ``patch`` in ``names`` and ``s1`` in ``s1_names``, and ``is_sure``; those that are not
        are partners only if they lie at the same position.
    """
    positions = pd.Series(range(len(s1_names)), pd.Index(s1_names))
    named = pairs.assign(s1=pairs[S1_NAME].map(positions)).dropna(subset="s1").astype({"s1": "int64"})
    patches = split_s2_names(pd.Series(names, dtype="str")).rename_axis("patch").dropna().reset_index()
    s1_mgrs = named[S1_NAME].str.rsplit("_", n=3).str[-3]
    parts = split_s2_names(named[S2_NAME]).assign(s1=named["s1"], s1_mgrs=s1_mgrs).dropna()
    same = patches.merge(parts[[*_SAME_NAME, "s1"]], on=_SAME_NAME).assign(is_sure=True)
    others = patches[~patches["patch"].isin(same["patch"])].merge(parts, on=_SAME_DAY, suffixes=("", "_pair"))
    # One of version 1 and one of version 2. If the table has version 1, its Sentinel-1 name has the tile.
    is_v1, is_pair_v1 = others["mgrs"] == "", others["mgrs_pair"] == ""
    others = others[(is_v1 & ~is_pair_v1) | (is_pair_v1 & (others["mgrs"] == others["s1_mgrs"]))]
    found = pd.concat([same, others.assign(is_sure=others["mgrs"] != "")])
    return found[["patch", "s1", "is_sure"]].drop_duplicates(["patch", "s1"])


def _open(path: Path) -> pd.DataFrame:
    if not path.is_dir() and path.suffix != ".parquet":
        return read_pairs(path)
    versions = (PATCH_ID, S2V1_NAME)
    rows = read_metadata(metadata_files(path), (S1_NAME, *versions))
    both = pd.concat([rows[[S1_NAME, name]].set_axis([S1_NAME, S2_NAME], axis=1) for name in versions])
    return both.dropna().astype("str")


def _read(path: Path) -> tuple[pa.Table, str]:
    """Read the columns of a table of pairs, and find that of the Sentinel-2 patch."""
    if not path.exists():
        raise InputError(missing("The table of pairs", path))
    try:
        options = ConvertOptions(column_types=dict.fromkeys((str(S1_NAME), *S2_COLUMNS), pa.string()))
        table = read_csv(path, convert_options=options)
        columns = table.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"The table of pairs {path} cannot be read ({error}).") from None
    column = next((name for name in S2_COLUMNS if name in columns), None)
    if column is None or S1_NAME not in columns:
        raise InputError(
            f"{path} has the columns {', '.join(columns)}; a table of pairs has s1_name and one of "
            f"{', '.join(S2_COLUMNS)}."
        )
    return table, column
