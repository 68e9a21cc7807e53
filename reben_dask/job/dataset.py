"""Jobs from Python, with the options of the command line as arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from reben_dask.cluster import ClusterOptions
from reben_dask.errors import InputError
from reben_dask.job.run import run_job

_Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
EMBEDDED = ClusterOptions()
"""An embedded cluster as large as this machine."""


def _several(paths: _Paths) -> Sequence[str | PathLike[str]]:
    return [paths] if isinstance(paths, (str, PathLike)) else paths


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("recipe", "countries", "s1", "s1_scenes"), fspath),
    **dict.fromkeys(("s1_pairs", "snow_list", "cloud_list"), Path),
    "published": lambda paths: [Path(path) for path in _several(paths)],
    "layers": lambda files: [f"{name}={fspath(path)}" for name, path in files.items()],
    "code_column": str,
    "lmdb_shards": int,
    "exports": list,
}


def plan_dataset(
    out: str | PathLike[str],
    *,
    s2: _Paths,
    landcover: str | PathLike[str],
    cluster: ClusterOptions = EMBEDDED,
    **options: Any,
) -> None:
    """Print the plan of :func:`make_dataset`, with its arguments and errors; compute and write nothing."""
    run_job(_inputs(out, s2, landcover, options), asdict(cluster), dry_run=True)


def make_dataset(
    out: str | PathLike[str],
    *,
    s2: _Paths,
    landcover: str | PathLike[str],
    cluster: ClusterOptions = EMBEDDED,
    **options: Any,
) -> Path:
    """Build a dataset as ``reben run`` does, and print its plan, progress and counts.

    A second call resumes an interrupted job, and does nothing for a complete one.

    Parameters
    ----------
    out : path
        Folder for the dataset.
    s2 : path, or sequence of paths
        Sentinel-2 L2A products, or folders of products.
    landcover : path
        Vector map with CORINE codes.
    cluster : ClusterOptions
        By default an embedded cluster as large as this machine.
    **options
        Options of ``reben run`` with underscores: ``recipe`` (default ``"reben"``), ``countries``, ``s1``,
        ``s1_pairs``, ``s1_scenes``, ``published``, ``snow_list``, ``cloud_list``, ``code_column``, ``lmdb_shards``,
        ``layers`` (mapping of ``--join``), ``exports`` (list of ``--export``). Settings of the command line in Dask's
        configuration are not read.

    Returns
    -------
    Path
        The dataset, without tiles that could not be built; these are printed.

    Raises
    ------
    RebenError
        If the user has to fix something; nothing is published then, and finished tiles are kept.

    Examples
    --------
    >>> make_dataset("dataset", s2="tiles", landcover="map.gpkg", lmdb_shards=4)  # doctest: +SKIP
    """
    run_job(_inputs(out, s2, landcover, options), asdict(cluster))
    return Path(out)


def _inputs(
    out: str | PathLike[str], s2: _Paths, landcover: str | PathLike[str], options: dict[str, Any]
) -> dict[str, Any]:
    if unknown := [name for name in options if name not in _OPTIONS]:
        near = get_close_matches(unknown[0], _OPTIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_OPTIONS)}."
        raise InputError(f"There is no option {unknown[0]}; {hint}")
    given = {name: _OPTIONS[name](value) for name, value in options.items() if value is not None}
    s2_paths = [fspath(path) for path in _several(s2)]
    return {"recipe": "reben", **given, "out": Path(out), "s2": s2_paths, "landcover": fspath(landcover)}
