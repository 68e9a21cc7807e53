"""Merging of LMDB environments: every entry as it was, or no new environment at all."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from subprocess import run
from types import SimpleNamespace

import lmdb
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from reben_dask.errors import InputError, OutputError
from reben_dask.formats.lmdb import Shard, ShardIndex
from reben_dask.stores import lmdb as lmdb_store
from reben_dask.stores.lmdb import NETWORK_DISKS, find_environments, is_on_network_disk, merge_environments

RICO = Path("bigearthnet") / "rico_hdl_reference_lmdb"
CONFIGILM = Path("bigearthnet") / "configilm_24_patches" / "BigEarthNet-V2-LMDB"
SPARE = 2 * 2**20

Entries = Mapping[bytes, bytes]


def _make(folder: Path, entries: Entries) -> Path:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            assert transaction.put(key, value)
    return folder


def _content(folder: Path) -> list[tuple[bytes, bytes]]:
    """Entries in the order of a cursor."""
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return [(bytes(key), bytes(value)) for key, value in transaction.cursor()]


def _listing(*folders: Path) -> dict[Path, tuple[int, int]]:
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def _require_modest_map(folder: Path) -> None:
    # A size of zero stands for the one that is stored.
    with lmdb.open(str(folder), readonly=True, lock=False, map_size=0) as environment:
        info, page = environment.info(), environment.stat()["psize"]
    used = (info["last_pgno"] + 1) * page
    assert used <= info["map_size"] <= 2 * used + SPARE


def _refused(sources: Iterable[Path], destination: Path, error: type[Exception] = InputError) -> str:
    """Merge what cannot be merged; nothing may be left of it. Gives the one sentence that says why."""
    before = set(destination.parent.iterdir())
    with pytest.raises(error) as caught:
        merge_environments(find_environments(sources), destination)
    assert set(destination.parent.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert not message.endswith("..")
    return message


@pytest.fixture
def far_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """New environments begin with a map of 32 KiB."""
    monkeypatch.setattr(lmdb_store, "used_bytes", lambda _: 0)
    monkeypatch.setattr(lmdb_store, "SPARE_PAGES", 8)


@pytest.fixture
def real(data_dir: Path) -> list[Path]:
    """50 entries in two environments; the map size that is stored in the first is 100 TiB."""
    return [data_dir / RICO, data_dir / CONFIGILM]


def _union(real: list[Path]) -> list[tuple[bytes, bytes]]:
    return sorted(entry for folder in real for entry in _content(folder))


def _steps(sizes: list[int], commit_bytes: int) -> list[int]:
    """Entries of each commit: as few as have the bytes together."""
    steps, held = [0], 0
    for size in sizes:
        if held >= commit_bytes:
            steps.append(0)
            held = 0
        steps[-1] += 1
        held += size
    return steps


# The union


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("commit_bytes", [1, 500_000, 64 * 2**20])
def test_real_environments(
    real: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int, commit_bytes: int
) -> None:
    monkeypatch.setattr(lmdb_store, "COMMIT_BYTES", commit_bytes)
    before = _listing(*real)
    steps: list[int] = []
    totals: list[int] = []
    assert merge_environments(real[::turn], tmp_path / "merged", totals.append, steps.append) == 50
    assert totals == [50]
    assert _content(tmp_path / "merged") == _union(real)
    assert _listing(*real) == before
    assert sum(steps) == 50
    assert steps == _steps([len(value) for _, value in _union(real)], commit_bytes)
    _require_modest_map(tmp_path / "merged")


def test_merged_values_are_tensors_for_any_reader(real: list[Path], tmp_path: Path) -> None:
    merge_environments(real, tmp_path / "merged")
    for key, value in _content(tmp_path / "merged"):
        sides = {name: tensor.shape[0] for name, tensor in load(value).items()}
        assert sides["B02" if key.startswith(b"S2") else "VV"] == 120


@given(
    owners=st.dictionaries(
        st.binary(min_size=1, max_size=200),
        st.tuples(st.integers(0, 4), st.one_of(st.just(0), st.integers(0, 20_000))),
        max_size=30,
    ),
    number=st.integers(1, 5),
    commit_bytes=st.sampled_from([1, 30_000, 64 * 2**20]),
    spare_pages=st.sampled_from([8, 256]),
)
def test_any_entries(owners: dict[bytes, tuple[int, int]], number: int, commit_bytes: int, spare_pages: int) -> None:
    parts: list[dict[bytes, bytes]] = [{} for _ in range(number)]
    for key, (owner, size) in owners.items():
        parts[owner % number][key] = random.Random(key).randbytes(size)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        sources = [_make(Path(folder) / str(index), part) for index, part in enumerate(parts)]
        patch.setattr(lmdb_store, "COMMIT_BYTES", commit_bytes)
        patch.setattr(lmdb_store, "SPARE_PAGES", spare_pages)
        merged = Path(folder) / "merged"
        assert merge_environments(sources, merged) == len(owners)
        assert _content(merged) == sorted(entry for part in parts for entry in part.items())
        _require_modest_map(merged)


@pytest.mark.usefixtures("far_too_small")
@pytest.mark.parametrize("commit_bytes", [1, 500_000, 64 * 2**20])
def test_the_map_grows(real: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit_bytes: int) -> None:
    monkeypatch.setattr(lmdb_store, "COMMIT_BYTES", commit_bytes)
    assert merge_environments(real, tmp_path / "merged") == 50
    assert _content(tmp_path / "merged") == _union(real)
    _require_modest_map(tmp_path / "merged")


def test_one_environment(real: list[Path], tmp_path: Path) -> None:
    assert merge_environments(real[1:], tmp_path / "merged") == 48
    assert _content(tmp_path / "merged") == _content(real[1])


@pytest.mark.parametrize("others", [0, 1, 3])
def test_empty_environments(tmp_path: Path, others: int) -> None:
    sources = [_make(tmp_path / str(number), {}) for number in range(2)]
    sources[1:1] = [_make(tmp_path / f"full{number}", {b"%d" % number: b"v"}) for number in range(others)]
    assert merge_environments(sources, tmp_path / "merged") == others
    assert _content(tmp_path / "merged") == [(b"%d" % number, b"v") for number in range(others)]


def test_nothing_is_written_to_the_sources(tmp_path: Path) -> None:
    """They may be on a disk that cannot be written to."""
    sources = [_make(tmp_path / "from" / name, {name.encode(): b"v"}) for name in "ab"]
    for source in sources:
        (source / "lock.mdb").unlink()
        (source / "data.mdb").chmod(0o444)
        source.chmod(0o555)
    before = _listing(tmp_path / "from")
    assert merge_environments(sources, tmp_path / "merged") == 2
    assert _listing(tmp_path / "from") == before


def test_the_folder_of_the_new_environment_is_made(tmp_path: Path) -> None:
    source = _make(tmp_path / "source", {b"k": b"v"})
    merge_environments([source], tmp_path / "new" / "place" / "merged")
    assert [path.name for path in (tmp_path / "new" / "place").iterdir()] == ["merged"]


def test_what_an_interrupted_merge_left_is_replaced(tmp_path: Path) -> None:
    source = _make(tmp_path / "source", {b"k": b"v"})

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_environments([source], tmp_path / "merged", advance=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    _make(tmp_path / ".merged.building", {b"old": b"old"})
    merge_environments([source], tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "source"]
    assert _content(tmp_path / "merged") == [(b"k", b"v")]


# What cannot be merged


@pytest.mark.parametrize("commit_bytes", [1, 64 * 2**20])
@pytest.mark.parametrize(("key", "named"), [(b"T33UUP_26_57", "T33UUP_26_57"), (b"z\xff", "z")])
def test_a_key_in_two_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes, named: str, commit_bytes: int
) -> None:
    monkeypatch.setattr(lmdb_store, "COMMIT_BYTES", commit_bytes)
    sources = [_make(tmp_path / str(number), {b"%d" % number: b"v", key: b"%d" % number}) for number in range(3)]
    before = _listing(*sources)
    assert named in _refused([sources[0], sources[2]], tmp_path / "merged")
    assert _listing(*sources) == before


def test_an_environment_given_twice(tmp_path: Path) -> None:
    source = _make(tmp_path / "source", {b"k": b"v"})
    (tmp_path / "link").symlink_to(source)
    for again in (source, tmp_path / "link"):
        message = _refused([source, again], tmp_path / "merged")
        assert str(source) in message
        assert "in this process" not in message, "the user has opened nothing"


@pytest.mark.parametrize("kind", ["file", "folder", "environment"])
def test_something_at_the_destination_stays(tmp_path: Path, kind: str) -> None:
    source, destination = _make(tmp_path / "source", {b"k": b"v"}), tmp_path / "merged"
    if kind == "environment":
        _make(destination, {b"mine": b"mine"})
    elif kind == "folder":
        destination.mkdir()
    else:
        destination.write_text("mine")
    before = _listing(tmp_path)
    assert str(destination) in _refused([source], destination, OutputError)
    assert _listing(tmp_path) == before


def _damaged(source: Path, damage: Callable[[bytes], bytes]) -> None:
    file = source / "data.mdb"
    file.write_bytes(damage(file.read_bytes()))


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"not LMDB",
        lambda content: bytes(len(content)),
        lambda content: random.Random(1).randbytes(len(content)),  # noqa: S311
        lambda content: content[:4096],
        lambda content: content[:8192] + bytes(len(content) - 8192),
        lambda content: content[:8192] + b"\xff" * (len(content) - 8192),
    ],
    ids=["empty", "short", "zeros", "random", "one page", "zeros after the header", "ones after the header"],
)
def test_a_damaged_environment(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    sources = [
        _make(tmp_path / name, {name.encode() + b"%d" % number: bytes(9000) for number in range(99)}) for name in "ab"
    ]
    _damaged(sources[1], damage)
    assert str(sources[1]) in _refused(sources, tmp_path / "merged")


def test_a_truncated_environment(tmp_path: Path) -> None:
    """In a process of its own: who reads a memory map beyond the end of its file is ended by the system."""
    source = _make(tmp_path / "source", {b"%d" % number: bytes(9000) for number in range(99)})
    _damaged(source, lambda content: content[: len(content) // 2])
    code = "import sys; from pathlib import Path; from reben_dask.stores.lmdb import merge_environments as merge\n"
    code += "try: merge([Path(sys.argv[1])], Path(sys.argv[2]))\nexcept Exception as error: print(type(error).__name__)"
    done = run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "merged")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "InputError")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("kind", ["missing", "empty folder", "file", "data.mdb itself", "folder data.mdb"])
def test_a_source_that_is_no_environment(tmp_path: Path, kind: str) -> None:
    good, source = _make(tmp_path / "good", {b"k": b"v"}), tmp_path / "source"
    if kind == "data.mdb itself":
        source = good / "data.mdb"
    elif kind == "file":
        source.write_text("text")
    elif kind != "missing":
        (source / "data.mdb" if kind == "folder data.mdb" else source).mkdir(parents=True)
    assert str(source) in _refused([good, source], tmp_path / "merged")


# Folders of shards


def _shards(folder: Path, names: Iterable[str]) -> Path:
    shards = []
    for name in names:
        _make(folder / name, {name.encode(): b"v"})
        shards.append(Shard(name, name, name, 1, 1))
    ShardIndex((), tuple(shards)).write(folder)
    return folder


def test_folders_of_shards_and_single_environments(tmp_path: Path) -> None:
    names = [f"part-{number:05d}-of-00003" for number in range(3)]
    folder, single = _shards(tmp_path / "lmdb", names), _make(tmp_path / "single", {b"single": b"v"})
    sources = find_environments([single, folder])
    assert sources == [single, *(folder / name for name in names)]
    merge_environments(sources, tmp_path / "merged")
    assert _content(tmp_path / "merged") == [(name.encode(), b"v") for name in (*names, "single")]


@pytest.mark.parametrize("name", ["../other", "..", ".", "inner/shard", "./shard", "/absolute", "{tmp_path}/other"])
def test_an_index_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    for place in ("other", "lmdb/shard", "lmdb/inner/shard"):
        _make(tmp_path / place, {place.encode(): b"v"})
    for place in (".", "lmdb"):
        shutil.copy(tmp_path / "other" / "data.mdb", tmp_path / place)
    name = name.format(tmp_path=tmp_path)
    index = tmp_path / "lmdb" / "index.json"
    ShardIndex((), tuple(Shard(path, None, None, 0, 0) for path in ("shard", name))).write(index.parent)
    message = _refused([tmp_path / "lmdb"], tmp_path / "merged")
    assert str(index) in message
    assert repr(name) in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "7",
        "null",
        '{"shards": 7}',
        '{"shards": [7]}',
        '{"shards": [{}]}',
        '{"shards": ["a"]}',
        "é",
    ],
)
def test_a_damaged_index(tmp_path: Path, text: str) -> None:
    (_shards(tmp_path / "lmdb", ["a", "b"]) / "index.json").write_text(text, encoding="latin-1")
    assert "index.json" in _refused([tmp_path / "lmdb"], tmp_path / "merged")


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    shutil.rmtree(_shards(tmp_path / "lmdb", ["a", "b"]) / "b")
    assert str(tmp_path / "lmdb" / "b") in _refused([tmp_path / "lmdb"], tmp_path / "merged")


# Network disks


def _mount(monkeypatch: pytest.MonkeyPatch, table: Iterable[tuple[object, str]]) -> None:
    """A table of mounts, in which disks without a device are listed only if all are asked for."""
    mounts = [SimpleNamespace(mountpoint=str(place), fstype=kind) for place, kind in table]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **options: mounts if options.get("all") else [])


@pytest.mark.parametrize(
    ("expected", "paths"),
    [
        (False, ["", "new/lmdb", "nfs2/new", "ram/new", "nfs/../new"]),
        (True, ["nfs", "nfs/new/lmdb", "nfs/locally", "ram/../nfs/new", "home/new", "win/new"]),
        (False, ["nfs/local", "nfs/local/new/lmdb"]),
        (True, ["auto/new", "to_nfs/new"]),
        (False, ["to_nfs/local/new", "nfs/to_ram/new"]),
    ],
    ids=["local", "network", "a local disk below it", "mounted over, linked", "linked from it"],
)
def test_network_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, expected: bool, paths: list[str]) -> None:
    table = {"nfs": "nfs4", "nfs/local": "xfs", "home": "fuse.sshfs", "ram": "tmpfs", "win": "CIFS"}
    mounts = [(tmp_path / name, kind) for name, kind in table.items()]
    _mount(monkeypatch, [("/", "ext4"), *mounts, (tmp_path / "auto", "autofs"), (tmp_path / "auto", "nfs")])
    (tmp_path / "nfs" / "local").mkdir(parents=True)
    (tmp_path / "to_nfs").symlink_to(tmp_path / "nfs")
    (tmp_path / "nfs" / "to_ram").symlink_to(tmp_path / "ram")
    monkeypatch.chdir(tmp_path)
    for path in paths:
        assert is_on_network_disk(tmp_path / path) is expected, path
        assert is_on_network_disk(Path(path)) is expected, path


@pytest.mark.parametrize("kind", sorted(NETWORK_DISKS))
def test_each_type_of_network_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for name in (kind, f"fuse.{kind}"):
        _mount(monkeypatch, [("/", name), (tmp_path / "local", "ext4")])
        assert is_on_network_disk(tmp_path / "new")
        assert not is_on_network_disk(tmp_path / "local" / "new")


def test_the_disk_of_the_tests_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_on_network_disk(tmp_path / "new" / "lmdb")
    _mount(monkeypatch, [])
    assert not is_on_network_disk(tmp_path / "new" / "lmdb")
