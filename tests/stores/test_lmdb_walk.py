"""Damaged LMDB environments: refused in one sentence, where the library would end the process."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import lmdb
import numpy as np
import pytest

from reben_dask.errors import InputError
from reben_dask.formats.lmdb import Shard, ShardIndex
from reben_dask.stores.lmdb_environment import open_environment
from reben_dask.stores.lmdb_merge import find_environments, merge_environments
from reben_dask.stores.lmdb_walk import find_damage

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
    """Where branches and leaves begin, and their flags. Values are zeros, so that none of them looks like a page."""
    for start in range(2 * PAGE, len(content), PAGE):
        number, flags = struct.unpack_from("<Q2xH", content, start)
        if number * PAGE == start and flags in (BRANCH, LEAF):
            yield start, flags


def _nodes(content: bytes, page: int) -> list[int]:
    lower = struct.unpack_from("<H", content, page + 12)[0]
    return [page + offset for offset in struct.unpack_from(f"<{(lower - 16) // 2}H", content, page + 16)]


def _flips(content: bytes) -> list[Flip]:
    """Numbers, kinds and counts of pages; lengths of keys, kinds of entries, and pages below branches."""
    flips = []
    for page, flags in _tree_pages(content):
        flips += [(page + offset, change) for offset, change in ((10, 65), (13, 65), (16, 1))]
        for node in _nodes(content, page)[::40]:
            flips += [(node + 7, 2), *([(node + 4, 4)] if flags == LEAF else [(node + 1, 64)])]
    return flips


def _content(folder: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def _merge_changed(shards: Path, flips: Iterable[Flip]) -> list[str]:
    """Merge shards of which the second is changed; return the errors, or whether the result is as it was."""
    data, merged = shards / "part-1" / "data.mdb", shards.with_name("merged")
    intact, said = data.read_bytes(), []
    entries = _content(shards / "part-0") | _content(shards / "part-1")
    for position, change in flips:
        changed = bytearray(intact)
        changed[position] ^= change
        data.write_bytes(bytes(changed))
        shutil.rmtree(merged, ignore_errors=True)
        try:
            merge_environments(find_environments([shards]), merged)
        except InputError as error:
            said.append(str(error))
        else:
            said.append("intact" if _content(merged) == entries else "changed")
    return said


def _elsewhere(shards: Path, folder: Path, flips: list[Flip]) -> list[str]:
    """In a process of its own, which a damaged environment may end."""
    shutil.copytree(shards, folder / "lmdb")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_merge_changed, folder / "lmdb", flips).result()


def test_damage_of_each_page_is_found_before_it_can_end_the_process(shards: Path, tmp_path: Path) -> None:
    content = (shards / "part-1" / "data.mdb").read_bytes()
    assert {flags for _, flags in _tree_pages(content)} == {BRANCH, LEAF}
    said = _elsewhere(shards, tmp_path, _flips(content))
    expected = f"The LMDB environment {tmp_path / 'lmdb' / 'part-1'} is damaged: "
    # LMDB does not look at every bit.
    errors = [text for text in said if text != "intact"]
    assert len(errors) > 0.9 * len(said)
    assert [text for text in errors if not text.startswith(expected) or not text.endswith("; copy it again.")] == []
    assert not any("\n" in text for text in errors)


def test_any_flipped_bit_of_the_tree_is_survived(shards: Path, tmp_path: Path) -> None:
    content = (shards / "part-1" / "data.mdb").read_bytes()
    pages = [0, PAGE, *dict(_tree_pages(content))]
    chance = np.random.default_rng(1)
    flips = [(int(chance.choice(pages) + chance.integers(160)), 1 << int(chance.integers(8))) for _ in range(60)]
    for text in _elsewhere(shards, tmp_path, flips):
        # A key may have changed, which nothing but a digest could tell.
        assert text in {"intact", "changed"} or str(tmp_path / "lmdb" / "part-1") in text or "more than one" in text


@pytest.mark.parametrize("pages", [1, 2, 3, 50])
def test_an_environment_that_is_cut_short(shards: Path, tmp_path: Path, pages: int) -> None:
    shutil.copytree(shards / "part-1", tmp_path / "lmdb")
    data = tmp_path / "lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes()[: -pages * PAGE])
    assert find_damage(tmp_path / "lmdb") == "it is cut short"
    expected = f"^The LMDB environment {tmp_path / 'lmdb'} is damaged: it is cut short; copy it again.$"
    with pytest.raises(InputError, match=expected), open_environment(tmp_path / "lmdb", checked=True):
        pass


def test_a_value_that_ends_beyond_the_file(shards: Path, tmp_path: Path) -> None:
    """Its length is in the leaf; keys alone can still be read."""
    shutil.copytree(shards / "part-1", tmp_path / "lmdb")
    data = tmp_path / "lmdb" / "data.mdb"
    content = bytearray(data.read_bytes())
    leaf = next(page for page, flags in _tree_pages(content) if flags == LEAF)
    large = next(node for node in _nodes(content, leaf) if content[node + 4])
    content[large + 3] ^= 64
    data.write_bytes(content)
    assert find_damage(tmp_path / "lmdb", values=False) is None
    assert "exit code -" in (find_damage(tmp_path / "lmdb") or "")


@pytest.mark.parametrize("values", [True, False])
def test_sound_environments(shards: Path, data_dir: Path, *, values: bool) -> None:
    for folder in (shards / "part-0", data_dir / CONFIGILM):
        assert find_damage(folder, values=values) is None
