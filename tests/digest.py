"""Content digests of a finished output folder: two runs made the same dataset if theirs are equal.

Nothing of the package is used. Tables are taken as bytes, arrays as plain Zarr reads them, LMDB entries in the order of
their keys over all environments; how arrays are cut into chunks, and entries into environments, makes no difference.

    python tests/digest.py OUT [OUT2 …]
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import zarr

CUBES, TABLE, LMDB = "cubes.zarr", "patches.parquet", "lmdb"
FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet", "statistics.json")
SLAB_BYTES = 64 * 2**20
"""At most this much of an array is in memory at a time, whatever its shards."""


def digest_of(out: Path) -> dict[str, str]:
    """SHA-256 by artefact: metadata files, statistics, parts of the patch table, groups and arrays of cubes, the LMDB.

    Raises
    ------
    FileNotFoundError
        If one of them is missing: this is no finished dataset.
    """
    for name in (*FILES, TABLE, CUBES, LMDB):
        if not (out / name).exists():
            raise FileNotFoundError(f"{out} is not a finished dataset: it has no {name}")
    files = {name: _file_digest(out / name) for name in FILES}
    return {**files, **table_digests(out / TABLE), **cube_digests(out / CUBES), LMDB: lmdb_digest(out / LMDB)}


def table_digests(folder: Path) -> dict[str, str]:
    """Digests of the part files of a patch table."""
    parts = (path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    return {f"{folder.name}/{part.name}": _file_digest(part) for part in parts}


def cube_digests(store: Path) -> dict[str, str]:
    """Digests of the groups and arrays of a Zarr store.

    Arrays count with their pixels and attributes. A group counts with its attributes and with what a reader who opens
    it sees below, which its consolidated metadata decides.
    """
    digests = {}
    for folder, node in _nodes(store):
        name = "/".join((store.name, *folder.relative_to(store).parts))
        digests[name] = _array_digest(node) if isinstance(node, zarr.Array) else _group_digest(node, folder)
    return digests


def contents_of_store(store: Path) -> dict[str, object]:
    """Digest of each group, and description and digests of stored pieces of each array: what is not stored is not read.

    Files may differ, as threads decide the order of patches in a shard.
    """
    found: dict[str, object] = {}
    for folder, node in _nodes(store):
        name = folder.relative_to(store).as_posix()
        if isinstance(node, zarr.Group):
            found[name] = _group_digest(node, folder)
        else:
            found[name] = _description(node), dict(_pieces(node, folder))
    return found


def _pieces(array: zarr.Array[Any], folder: Path) -> Iterator[tuple[str, str]]:
    """Index and digest of each shard or chunk that is stored."""
    sides = array.shards or array.chunks
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json"):
        index = file.relative_to(folder / "c").parts
        window = tuple(slice(side * int(i), side * (int(i) + 1)) for i, side in zip(index, sides, strict=True))
        yield "/".join(index), hashlib.sha256(_content(np.asarray(array[window]))).hexdigest()


def lmdb_digest(folder: Path) -> str:
    """Digest of all entries of the environments in a folder, at any depth, in the order of their keys."""
    digest = hashlib.sha256()
    with ExitStack() as stack:
        streams = [_entries(stack, file.parent) for file in sorted(folder.rglob("data.mdb"))]
        for key, value in heapq.merge(*streams, key=lambda entry: entry[0]):
            digest.update(f"{len(key)} {len(value)} ".encode() + key)
            digest.update(value)
    return digest.hexdigest()


def _entries(stack: ExitStack, environment: Path) -> Iterator[tuple[bytes, memoryview]]:
    opened = stack.enter_context(lmdb.open(str(environment), readonly=True, lock=False, create=False, readahead=False))
    transaction = stack.enter_context(opened.begin(buffers=True))
    return ((bytes(key), value) for key, value in transaction.cursor())


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nodes(folder: Path) -> Iterator[tuple[Path, zarr.Group | zarr.Array[Any]]]:
    """Groups and arrays as they lie on disk: what consolidated metadata says of them may be another thing."""
    yield folder, zarr.open(folder, mode="r", use_consolidated=False)
    for below in sorted(folder.iterdir()):
        if (below / "zarr.json").is_file():
            yield from _nodes(below)


def _group_digest(group: zarr.Group, folder: Path) -> str:
    consolidated = zarr.open_group(folder, mode="r")
    seen = {path: _description(member) for path, member in consolidated.members(max_depth=None)}
    return hashlib.sha256(_json([_description(group), seen])).hexdigest()


def _array_digest(array: zarr.Array[Any]) -> str:
    digest = hashlib.sha256(_json(_description(array)))
    for slab in _slabs(array):
        digest.update(_content(slab))
    return digest.hexdigest()


def _content(values: np.ndarray) -> bytes:
    """Bytes of an array; strings have none of their own."""
    return _json(values.tolist()) if values.dtype.kind in "OTU" else values.tobytes()


def _description(node: zarr.Array[Any] | zarr.Group) -> dict[str, Any]:
    """All that a node says of itself, but for its chunks."""
    said = {"attributes": dict(node.attrs)}
    if isinstance(node, zarr.Array):
        fill_value = str(node.fill_value)
        said |= {"shape": node.shape, "dtype": str(node.dtype), "fill_value": fill_value}
        said |= {"dimensions": node.metadata.dimension_names}
    return said


def _slabs(array: zarr.Array[Any]) -> Iterator[np.ndarray]:
    """An array in C order: whole rows of shards of one image after the other; in one piece if it is no image."""
    if array.ndim < 2:
        yield np.asarray(array[...])
        return
    height, width = array.shape[-2:]
    shard_rows = (array.shards or array.chunks)[-2]
    rows = max(1, min(shard_rows, SLAB_BYTES // (max(1, width) * array.dtype.itemsize)))
    for image in np.ndindex(array.shape[:-2]):
        for start in range(0, height, rows):
            yield np.asarray(array[(*image, slice(start, start + rows))])


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def compare(outs: Iterable[Path]) -> Iterator[tuple[str, dict[Path, str]]]:
    """For each artefact of any of the folders its digest by folder, ``missing`` where there is none."""
    found = {out: digest_of(out) for out in outs}
    for name in sorted(set().union(*found.values())):
        yield name, {out: digests.get(name, "missing") for out, digests in found.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Print the digests of datasets, and whether they are equal.")
    parser.add_argument("outs", nargs="+", type=Path, metavar="OUT", help="folder of a finished dataset")
    outs = parser.parse_args(arguments).outs
    artefacts = different = 0
    for name, digests in compare(outs):
        artefacts += 1
        if len(set(digests.values())) == 1:
            print(f"{digests[outs[0]]}  {name}")
            continue
        different += 1
        print(f"{'different':64}  {name}")
        for out, digest in digests.items():
            print(f"  {digest:64}  {out}")
    print(f"{artefacts} artefacts, {different} different" if len(outs) > 1 else f"{artefacts} artefacts")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
