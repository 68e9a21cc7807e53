"""Verification of an LMDB: published samples are sound, and each kind of damage is found and named."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import digest
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from verifying import problems_of, published_row, verified

from reben_dask.cli.verify import verify as command
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import METADATA_SCHEMA
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.formats.lmdb import Shard, ShardIndex, tensors_of
from reben_dask.grid import PATCH_SIDE_M
from reben_dask.nomenclature import load_nomenclature
from reben_dask.verify.lmdb import ValueFormat

SAMPLE = Path("bigearthnet") / "configilm_24_patches"
RICO = Path("bigearthnet") / "rico_hdl_reference_lmdb"
NAMES = (METADATA_FILE, FLAGGED_METADATA_FILE)
S2 = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_27_56"
S1 = "S1B_IW_GRDH_1SDV_20170612T165809_33UUP_27_56"
MAP = f"{S2}_reference_map"
VALUES = {S2: "Values of Sentinel-2", S1: "Values of Sentinel-1", MAP: "Values of reference maps"}

Entries = dict[str, bytes]


def _read(folder: Path) -> Entries:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {key.decode(): value for key, value in transaction.cursor()}


def _write(folder: Path, entries: Entries) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return folder


@pytest.fixture(scope="module")
def sample(data_dir: Path) -> Entries:
    """Values of 24 published pairs, and reference maps that have the classes of their labels."""
    code_of = {name: code for code, name in load_nomenclature("bigearthnet19").class_of.items()}
    entries = _read(data_dir / SAMPLE / "BigEarthNet-V2-LMDB")
    for name in NAMES:
        for row in pq.read_table(data_dir / SAMPLE / name).to_pylist():
            codes = [999, 122, *(code_of[label] for label in row["labels"])]
            pixels = np.resize(np.array(codes, np.uint16), (120, 120))
            entries[f"{row['patch_id']}_reference_map"] = save({"Data": pixels})
    return dict(sorted(entries.items()))


@pytest.fixture
def folder(data_dir: Path, tmp_path: Path) -> Path:
    """A folder with the metadata of those pairs."""
    for name in NAMES:
        shutil.copy(data_dir / SAMPLE / name, tmp_path)
    return tmp_path


# Sound environments


def test_the_published_sample(data_dir: Path) -> None:
    done = CliRunner().invoke(command, [str(data_dir / SAMPLE / "BigEarthNet-V2-LMDB"), "--full"])
    assert done.exit_code == 0, done.output
    *lines, verdict = done.output.splitlines()
    assert {line[:11] for line in lines} == {"ok         ", "not checked"}
    assert verdict.endswith("BigEarthNet-V2-LMDB: 24 patches: complete and consistent, without reference maps.")


def test_the_folder_that_configilm_reads(data_dir: Path, tmp_path: Path) -> None:
    """LMDB and metadata side by side: the same checks as of the LMDB alone, whatever its name."""
    whole, alone = verified(data_dir / SAMPLE), verified(data_dir / SAMPLE / "BigEarthNet-V2-LMDB")
    assert whole.verdict() == alone.verdict() == "24 patches: complete and consistent, without reference maps."
    assert [check.title for check in whole.checks] == [check.title for check in alone.checks]
    for name in ("train.lmdb", "test.lmdb"):
        (tmp_path / name).symlink_to(data_dir / SAMPLE / "BigEarthNet-V2-LMDB")
    done = CliRunner().invoke(command, [str(tmp_path)])
    assert done.exit_code == 2
    assert "holds several LMDBs (test.lmdb, train.lmdb); give one of them." in " ".join(done.output.split())


def test_the_reference_of_rico_hdl(data_dir: Path, tmp_path: Path) -> None:
    """It holds one patch of each sensor, of two places: by themselves they are sound, as a dataset they are not."""
    shutil.copytree(data_dir / RICO, tmp_path / "lmdb")
    report = verified(tmp_path / "lmdb", full=True)
    assert report.verdict() == "1 patch: complete and consistent, without metadata and reference maps."

    pair = published_row(data_dir, "T33UUP_75_43")
    pq.write_table(pa.Table.from_pylist([pair], METADATA_SCHEMA), tmp_path / "mine.parquet")
    assert problems_of(tmp_path / "lmdb", tmp_path / "mine.parquet") == {
        "Values of Sentinel-1": f"{pair['s1_name']} is missing",
        "Nothing left over in the LMDB": "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48",
    }


def test_everything_there(folder: Path, sample: Entries) -> None:
    report = verified(_write(folder / "lmdb", sample), full=True)
    assert report.verdict() == "24 patches: complete and consistent."
    assert [check.title for check in report.checks[-8:]] == [
        "LMDB",
        *VALUES.values(),
        "Nothing left over in the LMDB",
        "Labels as in the maps of the LMDB",
        "No NODATA in the LMDB",
        "Backscatter in the LMDB",
    ]


def test_one_sensor_is_enough(folder: Path, sample: Entries) -> None:
    only = {key: value for key, value in sample.items() if key.startswith("S1")}
    verdict = verified(_write(folder / "lmdb", only)).verdict()
    assert verdict == "24 patches: complete and consistent, without Sentinel-2 and reference maps."
    report = verified(_write(folder / "none", {}))
    assert report.problems == 72


@pytest.mark.parametrize("number", [1, 3])
def test_shards_and_their_digest(folder: Path, sample: Entries, number: int) -> None:
    """However entries are divided, their digest is that of one environment."""
    _write_shards(folder / "lmdb", sample, number)
    report = verified(folder / "lmdb", digest=True)
    assert report.verdict() == "24 patches: complete and consistent."
    assert report.digests["lmdb"] == digest.lmdb_digest(_write(folder / "one", sample))
    assert report.digests[METADATA_FILE] == digest._file_digest(folder / METADATA_FILE)


# Damaged entries


def _tensors(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[bytes], bytes]:
    def changed(value: bytes) -> bytes:
        tensors = load(value)
        change(tensors)
        return save(tensors)

    return changed


def _header(change: Callable[[dict[str, dict[str, object]]], None]) -> Callable[[bytes], bytes]:
    def changed(value: bytes) -> bytes:
        length = struct.unpack("<Q", value[:8])[0]
        described = json.loads(value[8 : 8 + length])
        change(described)
        text = json.dumps(described).encode()
        return struct.pack("<Q", len(text)) + text + value[8 + length :]

    return changed


ENTRIES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "type": (S2, _tensors(lambda t: t.update(B05=t["B05"].astype(np.float32))), "B05 has the type float32, not uint16"),
    "signed": (S2, _tensors(lambda t: t.update(B05=t["B05"].astype(np.int16))), "B05 has the type int16, not uint16"),
    "shape": (S2, _tensors(lambda t: t.update(B01=t["B01"][:19])), "B01 has the shape (19, 20), not (20, 20)"),
    "transposed twice": (S2, _tensors(lambda t: t.update(B01=t["B01"].reshape(10, 40))), "the shape (10, 40)"),
    "band missing": (S2, _tensors(lambda t: t.pop("B8A")), "has no B8A"),
    "band too many": (S2, _tensors(lambda t: t.update(B10=t["B01"])), "also holds B10"),
    "another kind": (S1, lambda _: save({"Data": np.zeros((120, 120), np.uint16)}), "has no VV"),
    "type of radar": (
        S1,
        _tensors(lambda t: t.update(VV=t["VV"].astype(np.float64))),
        "VV has the type float64, not float32",
    ),
    "shape of the map": (MAP, _tensors(lambda t: t.update(Data=t["Data"][::2])), "Data has the shape (60, 120)"),
    "cut short": (
        S2,
        lambda value: value[:-1],
        "cannot be decoded (160,831 bytes; incomplete metadata, file not fully covered)",
    ),
    "too long": (
        S1,
        lambda value: value + b"\0",
        "cannot be decoded (115,345 bytes; incomplete metadata, file not fully covered)",
    ),
    "cut in the header": (S2, lambda value: value[:500], "cannot be decoded (500 bytes; invalid header length)"),
    "empty": (MAP, lambda _: b"", "cannot be decoded (0 bytes; header too small)"),
    "no safetensors": (MAP, lambda value: b"\xff" * len(value), "header too large"),
    "header no JSON": (MAP, lambda value: value[:8] + b"]" + value[9:], "invalid JSON in header"),
    "gap": (MAP, _header(lambda h: h["Data"].update(data_offsets=[2, 28_802])), "invalid offset for tensor `Data`"),
    "lie": (S1, _header(lambda h: h["VV"].update(data_offsets=[0, 57_600])), "invalid offset for tensor `V"),
    "negative": (MAP, _header(lambda h: h["Data"].update(data_offsets=[-2, 28_798])), "invalid JSON in header"),
    "type unknown": (MAP, _header(lambda h: h["Data"].update(dtype=["U16"])), "invalid JSON in header"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_damaged_values(folder: Path, sample: Entries, name: str) -> None:
    key, damage, text = ENTRIES[name]
    problems = problems_of(_write(folder / "lmdb", {**sample, key: damage(sample[key])}))
    assert list(problems) == [VALUES[key]]
    assert problems[VALUES[key]].startswith(f"{key} ")
    assert text in problems[VALUES[key]]


@pytest.mark.parametrize("key", VALUES)
def test_missing_and_left_over(folder: Path, sample: Entries, key: str) -> None:
    entries = dict(sample)
    entries[key.replace("27_56", "27_99")] = entries.pop(key)
    problems = problems_of(_write(folder / "lmdb", entries))
    assert problems == {
        VALUES[key]: f"{key} is missing",
        "Nothing left over in the LMDB": key.replace("27_56", "27_99"),
    }


def test_labels_are_those_of_the_map(folder: Path, sample: Entries) -> None:
    rows = pq.read_table(folder / METADATA_FILE).to_pylist()
    row = next(row for row in rows if row["patch_id"] == S2)
    gone, row["labels"] = row["labels"][0], [*row["labels"][1:], "Urban fabric"]
    pq.write_table(pa.Table.from_pylist(rows, METADATA_SCHEMA), folder / METADATA_FILE)
    assert problems_of(_write(folder / "lmdb", sample)) == {
        "Labels as in the maps of the LMDB": f"{S2}: only the map has {gone}, only the metadata have Urban fabric"
    }


def test_codes_that_no_nomenclature_knows(folder: Path, sample: Entries) -> None:
    damage = _tensors(lambda tensors: tensors["Data"].__setitem__((7, 7), 445))
    problems = problems_of(_write(folder / "lmdb", {**sample, MAP: damage(sample[MAP])}))
    assert problems == {"Labels as in the maps of the LMDB": f"{S2}: its map holds the unknown code 445"}


def test_nodata_is_seen_where_all_pixels_are_read(folder: Path, sample: Entries) -> None:
    damage = _tensors(lambda tensors: tensors["B11"].__setitem__((59, 0), 0))
    path = _write(folder / "lmdb", {**sample, S2: damage(sample[S2])})
    assert problems_of(path) == {}
    assert problems_of(path, full=True) == {"No NODATA in the LMDB": f"{S2} in B11"}


def test_without_metadata_keys_are_names(tmp_path: Path, sample: Entries) -> None:
    path = _write(tmp_path / "lmdb", {**sample, "classes": b"[]"})
    problems = problems_of(path)
    assert problems["Nothing left over in the LMDB"] == "classes is not named as a patch"


# Damaged environments


def _write_shards(folder: Path, entries: Entries, number: int) -> list[Path]:
    names = [f"part-{shard:05d}-of-{number:05d}" for shard in range(number)]
    keys = list(entries)
    described = []
    for shard, name in enumerate(names):
        own = {key: entries[key] for key in keys[len(keys) * shard // number : len(keys) * (shard + 1) // number]}
        _write(folder / name, own)
        patches = [key for key in own if key.startswith("S2") and not key.endswith("map")] or [None]
        described.append(Shard(name, patches[0], patches[-1], len([*filter(None, patches)]), len(own)))
    ShardIndex((), tuple(described)).write(folder)
    return [folder / name for name in names]


def _edit_index(shards: list[Path]) -> None:
    folder = shards[0].parent
    first, second, *others = ShardIndex.read(folder).shards
    ShardIndex((), (first, replace(second, keys=second.keys + 1), *others)).write(folder)


def _copy_last(shards: list[Path]) -> None:
    shutil.rmtree(shards[1])
    shutil.copytree(shards[2], shards[1])


def _cut(shards: list[Path]) -> None:
    data = shards[1] / "data.mdb"
    data.write_bytes(data.read_bytes()[:-8192])


SHARDS: dict[str, tuple[Callable[[list[Path]], object], str]] = {
    "folder deleted": (lambda shards: shutil.rmtree(shards[1]), "part-00001-of-00003: "),
    "file deleted": (lambda shards: (shards[1] / "data.mdb").unlink(), "is not an LMDB environment"),
    "cut short": (_cut, "part-00001-of-00003: it is cut short"),
    "no LMDB": (lambda shards: (shards[1] / "data.mdb").write_bytes(bytes(65_536)), "cannot be opened"),
    "no index": (lambda shards: (shards[0].parent / "index.json").write_text("{}"), "is not an index of LMDB shards"),
    "counts": (_edit_index, "index.json: part-00001-of-00003 has the keys 25, not 24"),
    "not in index": (lambda shards: _write(shards[0].parent / "part-9", {}), "part-9 is not in index.json"),
    "same keys": (_copy_last, "is in more than one environment"),
}


@pytest.mark.parametrize("name", SHARDS)
def test_damaged_shards(folder: Path, sample: Entries, name: str) -> None:
    damage, text = SHARDS[name]
    shards = _write_shards(folder / "lmdb", sample, 3)
    damage(shards)
    problems = problems_of(folder / "lmdb")
    assert text in problems["LMDB"]
    # What is in a shard that cannot be read is not said to be missing.
    assert name == "same keys" or list(problems) == ["LMDB"]


def test_partners_may_be_shared_by_shards(folder: Path, sample: Entries) -> None:
    """Two acquisitions of one place may have the same Sentinel-1 partner, and each shard has what its patches need."""
    shards = _write_shards(folder / "lmdb", sample, 3)
    _write(shards[2], {S1: sample[S1]})
    assert "more than one environment" not in problems_of(folder / "lmdb")["LMDB"]
    _write(shards[2], {S1: sample[S1] + b"0"})
    assert f"{S1} is in more than one environment" in problems_of(folder / "lmdb")["LMDB"]


def _damage_tree(data: Path) -> tuple[int, list[tuple[int, int]]]:
    """Change single bytes of the pages above the values; gives the number of changes, and those that were not found."""
    content = data.read_bytes()
    heads = [(start, *struct.unpack_from("<Q2xH", content, start)) for start in range(0, len(content), 4096)]
    places = [
        (number, position)
        for start, number, flags in heads
        if (start, flags) in {(4096 * number, 1), (4096 * number, 2)}
        for position in (0, 10, 12, 16)
    ]
    silent = []
    for number, position in places:
        damaged = bytearray(content)
        damaged[number * 4096 + position] ^= 0x41
        data.write_bytes(damaged)
        if "is damaged" not in problems_of(data.parent).get("LMDB", ""):
            silent.append((number, position))
    return len(places), silent


@pytest.mark.slow
def test_a_damaged_tree_does_not_end_the_process(folder: Path, sample: Entries) -> None:
    """LMDB follows its pages blindly."""
    data = _write(folder / "lmdb", sample) / "data.mdb"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        changes, silent = pool.submit(_damage_tree, data).result()
    assert changes >= 12
    assert silent == []


# Values by their headers


def _format(kind: ImageKind) -> ValueFormat:
    return ValueFormat(tensors_of(kind), PATCH_SIDE_M)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_reason(value: bytes) -> None:
    assert [fault[:18] for fault in _format(ImageKind.MAP).read(memoryview(value), pixels=False).faults] == [
        "cannot be decoded "
    ]


@pytest.mark.parametrize(("key", "kind"), [(S2, ImageKind.S2), (S1, ImageKind.S1), (MAP, ImageKind.MAP)])
def test_usual_headers_are_known_and_nothing_else_is_read(sample: Entries, key: str, kind: ImageKind) -> None:
    """Pixels may be anything, but a header is only known together with the length of its value."""
    usual, value = _format(kind), sample[key]
    for sound in (value, value[:-1000] + bytes(1000)):
        assert usual.read(memoryview(sound), pixels=False).faults == []
    for other in (value[:-1], value + b"\0", value[:60], b""):
        assert "cannot be decoded" in usual.read(memoryview(other), pixels=False).faults[0]


# The command


def test_exit_status(folder: Path, sample: Entries) -> None:
    path = _write(folder / "lmdb", {key: value for key, value in sample.items() if key != S1})
    done = CliRunner().invoke(command, [str(path)])
    assert done.exit_code == 1
    assert f"1 problem     Values of Sentinel-1: {S1} is missing\n" in done.output
    assert done.output.endswith("1 problem: Values of Sentinel-1 (1).\n")
    (folder / "empty").mkdir()
    for arguments, text in (
        ([folder / "nothing"], "does not exist"),
        ([folder / "empty"], "is neither a dataset of this program"),
        ([path, "--metadata", folder / "nothing.parquet"], "does not exist"),
    ):
        done = CliRunner().invoke(command, [*map(str, arguments)])
        assert done.exit_code == 2
        assert text in " ".join(done.output.split())
