"""Damaged LMDB environments: refused in one sentence, where the library would end the process."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest

from reben_dask.errors import InputError
from reben_dask.formats.lmdb import Shard, ShardIndex
from reben_dask.stores import lmdb_pages
from reben_dask.stores.lmdb import find_environments, merge_environments
from reben_dask.stores.lmdb_pages import require_sound_pages

PAGE = 4096
BRANCH, LEAF = 1, 2
CONFIGILM = Path("bigearthnet") / "configilm_24_patches" / "BigEarthNet-V2-LMDB"

Flip = tuple[int, int]
"""Position of a byte, and what is changed in it."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of values with and without pages of their own, below a tree of two levels."""
    folder = tmp_path_factory.mktemp("pages") / "lmdb"
    for shard in range(2):
        (folder / f"part-{shard}").mkdir(parents=True)
        with (
            lmdb.open(str(folder / f"part-{shard}"), map_size=2**24) as environment,
            environment.begin(write=True) as t,
        ):
            for number in range(300):
                t.put(b"S2A_MSIL2A_20170613T101031_%d_%03d" % (shard, number), bytes(9_000 if number % 3 else 50))
    ShardIndex((), tuple(Shard(f"part-{shard}", None, None, 0, 0) for shard in range(2))).write(folder)
    return folder


def _tree_pages(content: bytes) -> Iterator[tuple[int, int]]:
    """Offsets of branches and leaves, and their flags. Values are zeros, so that none of them looks like a page."""
    for start in range(2 * PAGE, len(content), PAGE):
        number, flags = struct.unpack_from("<Q2xH", content, start)
        if number * PAGE == start and flags in (BRANCH, LEAF):
            yield start, flags


def _nodes(content: bytes, page: int) -> list[int]:
    lower = struct.unpack_from("<H", content, page + 12)[0]
    return [page + offset for offset in struct.unpack_from(f"<{(lower - 16) // 2}H", content, page + 16)]


def _merge(shards: Path, content: bytes) -> str:
    """Error for shards of which the second is changed."""
    (shards / "part-1" / "data.mdb").write_bytes(content)
    destination = shards.with_name("merged")
    shutil.rmtree(destination, ignore_errors=True)
    try:
        return str(merge_environments(find_environments([shards]), destination))
    except InputError as error:
        return f"InputError: {error}"


def _merge_changed(shards: Path, flips: Iterable[Flip]) -> list[str]:
    intact = (shards / "part-1" / "data.mdb").read_bytes()
    said = []
    for position, change in flips:
        changed = bytearray(intact)
        changed[position] ^= change
        said.append(_merge(shards, bytes(changed)))
    return said


def _elsewhere(shards: Path, folder: Path, flips: list[Flip]) -> list[str]:
    """In a process of its own, which a damaged environment may end."""
    shutil.copytree(shards, folder / "lmdb")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_merge_changed, folder / "lmdb", flips).result()


def test_each_damaged_page_is_found_before_the_library_reads_it(shards: Path, tmp_path: Path) -> None:
    content = (shards / "part-1" / "data.mdb").read_bytes()
    pages = dict(_tree_pages(content))
    assert set(pages.values()) == {BRANCH, LEAF}
    flips = [(page + offset, change) for page in pages for offset, change in ((0, 65), (10, 65), (13, 65), (16, 1))]
    for page, flags in pages.items():
        for node in _nodes(content, page)[::40]:
            # Length of the key; what an entry is; the page of a branch.
            flips += [(node + 7, 2), *([(node + 4, 4)] if flags == LEAF else [(node + 1, 64)])]
    said = _elsewhere(shards, tmp_path, flips)
    expected = f"InputError: The LMDB environment {tmp_path / 'lmdb' / 'part-1'} is damaged: "
    assert [text for text in said if not text.startswith(expected) or not text.endswith("; copy it again.")] == []
    assert not any("\n" in text for text in said)


def test_any_flipped_bit_of_the_tree_is_survived(shards: Path, tmp_path: Path) -> None:
    content = (shards / "part-1" / "data.mdb").read_bytes()
    pages = [0, PAGE, *dict(_tree_pages(content))]
    chance = np.random.default_rng(1)
    flips = [(int(chance.choice(pages) + chance.integers(160)), 1 << int(chance.integers(8))) for _ in range(60)]
    for text in _elsewhere(shards, tmp_path, flips):
        # A key or a number in it may have changed, which nothing but a digest could tell.
        assert "InputError" not in text or str(tmp_path / "lmdb" / "part-1") in text or "more than one" in text


@pytest.mark.parametrize("pages", [1, 2, 3, 50])
def test_a_shard_that_is_cut_short(shards: Path, tmp_path: Path, pages: int) -> None:
    shutil.copytree(shards, tmp_path / "lmdb")
    content = (shards / "part-1" / "data.mdb").read_bytes()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        said = pool.submit(_merge, tmp_path / "lmdb", content[: -pages * PAGE]).result()
    assert said == (
        f"InputError: The LMDB environment {tmp_path / 'lmdb' / 'part-1'} is damaged: it is cut short; copy it again."
    )


def test_values_are_not_read(shards: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def pread(file: int, size: int, offset: int) -> bytes:
        read.append(offset // PAGE)
        return os.pread(file, size, offset)

    monkeypatch.setattr(lmdb_pages, "os", SimpleNamespace(pread=pread, fstat=os.fstat))
    for folder in (shards / "part-0", data_dir / CONFIGILM):
        read.clear()
        require_sound_pages(folder / "data.mdb")
        with lmdb.open(str(folder), readonly=True, lock=False) as environment:
            tree = environment.stat()
        # Each page of the tree once, beside the first two.
        assert len(read) == len(set(read)) == 2 + tree["branch_pages"] + tree["leaf_pages"]
        assert tree["overflow_pages"] > 10 * len(read)
