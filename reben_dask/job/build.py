"""Jobs from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from distributed import Client, get_client

from reben_dask.job.run import run_job
from reben_dask.options import ClusterOptions, JobOptions, Sen2CorOptions

AnyPath = str | PathLike[str]


class Inputs(TypedDict, total=False):
    """Optional inputs and choices of :func:`build`; fields of :class:`~reben_dask.options.JobOptions`."""

    s2_stac: AnyPath | Sequence[AnyPath]
    l1c: AnyPath | Sequence[AnyPath]
    l2a: AnyPath | None
    title: str | None
    recipe: AnyPath
    countries: AnyPath | None
    layers: Mapping[str, AnyPath]
    s1: AnyPath | None
    s1_pairs: AnyPath | None
    s1_scenes: AnyPath | None
    published: AnyPath | Sequence[AnyPath]
    snow_list: AnyPath | None
    cloud_list: AnyPath | None
    code_column: str | None
    lmdb_shards: int | None
    exports: Sequence[Literal["geotiff", "geotiff-archives", "webdataset", "parquet"]]
    keep_reprocessed: bool


def plan(
    out: AnyPath,
    *,
    s2: AnyPath | Sequence[AnyPath] = (),
    landcover: AnyPath,
    client: Client | None = None,
    cluster: ClusterOptions | None = None,
    correction: Sen2CorOptions | None = None,
    **inputs: Unpack[Inputs],
) -> None:
    """Print the plan of :func:`build`, with its arguments and errors; compute and write nothing."""
    job = JobOptions.of(out=out, s2=s2, landcover=landcover, **inputs)
    run_job(job, _cluster(client, cluster), correction, dry_run=True)


def build(  # noqa: PLR0913 - the options of a command
    out: AnyPath,
    *,
    s2: AnyPath | Sequence[AnyPath] = (),
    landcover: AnyPath,
    client: Client | None = None,
    cluster: ClusterOptions | None = None,
    correction: Sen2CorOptions | None = None,
    overwrite: bool = False,
    restart: bool = False,
    **inputs: Unpack[Inputs],
) -> Path:
    """Build a dataset as ``reben run`` does, and print its plan, progress and counts.

    A second call resumes an interrupted job, and does nothing for a complete one.

    Parameters
    ----------
    out : path
        Folder for the dataset.
    s2 : path, or sequence of paths, optional
        Sentinel-2 products in any form, or folders of products; others are given as ``s2_stac``.
    landcover : path
        Vector map with class codes.
    client : Client, optional
        Client of the cluster that computes; by default the active one, if there is any.
    cluster : ClusterOptions, optional
        Cluster to connect to, or to start for this job; by default, without an active client, one as large as this
        machine.
    correction : Sen2CorOptions, optional
        Program and settings for ``l1c``.
    overwrite, restart : bool
        Replace the dataset in ``out`` once the new one is complete; discard an unfinished job.
    **inputs
        Options of ``reben run``, with underscores: ``s2_stac``, ``l1c`` (L1C products, which sen2cor corrects first,
        to the folder ``l2a``), ``title``, ``recipe`` (default ``"reben"``), ``countries``, ``s1``, ``s1_pairs``,
        ``s1_scenes``, ``published``, ``snow_list``, ``cloud_list``, ``keep_reprocessed``, ``code_column``,
        ``lmdb_shards``, ``layers`` (mapping of ``--join``), ``exports`` (list of ``--export``). Settings of the command
        line in Dask's configuration are not read.

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
    >>> import reben_dask as rb
    >>> region = rb.open_demo_region("demo-data")  # doctest: +SKIP
    >>> rb.build("dataset", s2=region.s2, landcover=region.landcover, lmdb_shards=4)  # doctest: +SKIP
    """
    run_job(
        JobOptions.of(out=out, s2=s2, landcover=landcover, **inputs),
        _cluster(client, cluster),
        correction,
        overwrite=overwrite,
        restart=restart,
    )
    return Path(out)


def _cluster(client: Client | None, cluster: ClusterOptions | None) -> ClusterOptions | Client:
    if given := client or cluster:
        return given
    try:
        return get_client()
    except ValueError:
        return ClusterOptions()
