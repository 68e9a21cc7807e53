"""Digests of the content of artefacts, by which two copies, or two runs, can be compared.

All are SHA-256, in hexadecimal, and defined so that other programs can compute them:

metadata files and archives
    of the bytes of the file (``sha256sum metadata.parquet``).
``patches.parquet``, ``stac``, ``parquet``, ``webdataset`` and each GeoTIFF tree
    of the list that ``sha256sum`` prints for their files in the order of their paths, below the folder itself:
    ``find * -name '*.tif' | LC_ALL=C sort | xargs sha256sum | sha256sum``, with ``*.parquet`` for the first three, and
    ``*.tar`` for ``webdataset``.
LMDB
    of all entries in the order of their keys as bytes, whatever environments they are in: for each, the lengths of key
    and value in decimal, each followed by a space, then the key, then the value.
``cubes.zarr``
    of all arrays with two or more axes, in the order of their paths: for each, one line of its path below the store,
    its dtype and its shape (``tile/r10m/dn uint16 4,960,960`` and a line feed), then its numbers in C order, little
    endian. How they are cut into chunks and compressed makes no difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from reben_dask.stores.cubes import open_array
from reben_dask.verify.findings import Check, Report, Settings, collect

Digest = Callable[[Path], str]

SLAB_BYTES = 64 * 2**20
"""Limit of the part of an array in memory, unless one row of patches is larger."""


def compute_digests(jobs: Mapping[Path, Digest], settings: Settings, report: Report) -> Iterator[Check]:
    """Add digests to the report, if asked for, before that of an LMDB, a by-product of its walk."""
    if not settings.digest:
        return
    check = Check("Digests")
    known, report.digests = report.digests, {}
    advance = settings.begin("verify-digest", len(jobs))
    for path, job in jobs.items():
        if path.exists():
            with collect(check, path.name):
                report.digests[path.name] = job(path)
        advance(1)
    report.digests |= known
    if check.problems:
        yield check


def file_digest(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path, suffix: str) -> str:
    """Digest of the files with a suffix in a folder, at any depth; hidden ones are left out."""
    digest = hashlib.sha256()
    for path in _files(folder):
        if path.name.endswith(suffix):
            digest.update(f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def cubes_digest(store: Path) -> str:
    """Digest of the images in a Zarr store."""
    digest = hashlib.sha256()
    for path in _images(store):
        array = open_array(path, "r")
        shape = ",".join(map(str, array.shape))
        digest.update(f"{path.relative_to(store).as_posix()} {array.dtype} {shape}\n".encode())
        for slab in _slabs(array):
            digest.update(slab.astype(slab.dtype.newbyteorder("<"), order="C", copy=False).tobytes())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder by their whole paths: a folder is ordered as its name and a slash."""
    entries = [(path, path.is_dir()) for path in folder.iterdir() if not path.name.startswith(".")]
    for path, is_folder in sorted(entries, key=lambda entry: entry[0].name + "/" * entry[1]):
        if is_folder:
            yield from _files(path)
        else:
            yield path


def _images(store: Path) -> Iterator[Path]:
    for document in sorted(store.rglob("zarr.json"), key=lambda path: f"{path.parent.as_posix()}/"):
        if len(json.loads(document.read_text(encoding="utf-8")).get("shape", ())) > 1:
            yield document.parent


def _slabs(array: zarr.Array[Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Rows of one image at a time in C order; where possible rows of whole shards."""
    height, width = array.shape[-2:]
    shard_rows = (array.shards or array.chunks)[-2]
    rows = max(1, min(shard_rows, SLAB_BYTES // max(1, width * array.dtype.itemsize)))
    for image in np.ndindex(array.shape[:-2]):
        for start in range(0, height, rows):
            # Slices only: see reben_dask.stores.cubes.
            yield np.asarray(array[(*(slice(index, index + 1) for index in image), slice(start, start + rows))])
