"""What data are that carry no run record: which of the published datasets they are like, by their names and classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.formats.columns import CLASSES_KEY
from reben_dask.stores.lmdb_environment import open_environment
from reben_dask.stores.lmdb_merge import find_environments
from reben_dask.verify.expected import Expected, Kind, every_published, published
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.lmdb_entries import kind_of, readable

_LOOKED_AT = 64
"""Names of patches that are looked at; some of them may be damaged."""


def like_names(names: Iterable[str], default: Expected) -> Expected | None:
    """The published dataset whose patches are named so; ``default`` for no names, ``None`` for unknown ones."""
    some = list(islice(names, _LOOKED_AT))
    # The first names are those of other versions, too, and so come last.
    for expected in [*every_published()[1:], published()]:
        if any(expected.names.read(name) for name in some):
            return expected
    return None if some else default


def with_classes(expected: Expected, files: Sequence[Path]) -> Expected:
    """The same with the published nomenclature that metadata files carry the class list of, if they carry one."""
    for file in files:
        with collect(Check("read again with the metadata")):
            carried = (pq.read_schema(file).metadata or {}).get(CLASSES_KEY)
            classes = None if carried is None else tuple(json.loads(carried))
            for other in every_published():
                if classes == other.nomenclature.classes:
                    return replace(expected, nomenclature=other.nomenclature)
    return expected


def names_in_metadata(files: Sequence[Path]) -> list[str]:
    """Some names of patches."""
    names: list[str] = []
    for file in files:
        with collect(Check("read again with the metadata")), pq.ParquetFile(file) as table:
            batch = next(table.iter_batches(_LOOKED_AT, columns=["patch_id"]), None)
            names += [] if batch is None else [name for name in batch["patch_id"].to_pylist() if name]
    return names


def names_in_lmdb(path: Path) -> list[str]:
    """Names of some Sentinel-2 patches; none of an LMDB that cannot be read: the check of it tells of that."""
    names: list[str] = []
    with collect(Check("read again with the LMDB")):
        for folder in find_environments([path])[:1]:
            with open_environment(folder) as environment, environment.begin() as transaction:
                keys = (bytes(key) for key in transaction.cursor().iternext(values=False))
                names = [readable(key) for key in islice(keys, _LOOKED_AT) if kind_of(key) is Kind.S2]
    return names


def require_known_names(path: Path, names: Sequence[str], expected: Expected | None) -> Expected:
    """The dataset that was recognised.

    Raises
    ------
    InputError
        If none was.
    """
    if expected is None:
        raise InputError(
            f"{path} has patches such as {names[0]!r}, and how they are named is known from the run record alone; put "
            "the folder run of their dataset beside it, or give its --metadata."
        )
    return expected
