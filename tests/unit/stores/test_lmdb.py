"""LMDB: values to the byte as the authors' own tool writes them, and environments of any number."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from patch_tables import with_nulls
from safetensors.numpy import load

from reben_dask.errors import InputError
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.cube import CubeLayout
from reben_dask.formats.lmdb import (
    ShardIndex,
    encode_bands,
    encode_reference_map,
    reference_map_key,
    shard_name,
    value_bytes,
)
from reben_dask.formats.names import TileName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import Scene, candidate_patches
from reben_dask.recipes import load_recipe
from reben_dask.stores import lmdb as lmdb_store
from reben_dask.stores.cubes import create_cube, create_store, write_band, write_reference_map
from reben_dask.stores.lmdb import (
    TileRange,
    find_environments,
    merge_environments,
    new_environment,
    pages_bytes,
    plan_shards,
    put,
    shared_environment,
    used_bytes,
    write_environment,
)
from reben_dask.stores.patch_table import write_part

S2 = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43"
S1 = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48"
MAP = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"
BANDS = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B06", "B07", "B8A", "B11", "B12"), 60: ("B01", "B09")}


def _content(path: Path) -> dict[str, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {key.decode(): value for key, value in transaction.cursor()}


def _stored_map_size(path: Path) -> int:
    """A size of zero stands for the one that is stored; any other only for the pages in use."""
    with lmdb.open(str(path), readonly=True, lock=False, map_size=0) as environment:
        return int(environment.info()["map_size"])


def _tensors(values: dict[str, np.ndarray]) -> bytes:
    """A safetensors file by hand: length of the header, header, tensors in the order of their names."""
    kinds, header, body = {"<u2": "U16", "<f4": "F32"}, {}, b""
    for name in sorted(values):
        raw = np.ascontiguousarray(values[name]).tobytes()
        offsets = [len(body), len(body) + len(raw)]
        header[name] = {
            "dtype": kinds[values[name].dtype.str],
            "shape": list(values[name].shape),
            "data_offsets": offsets,
        }
        body += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def _images(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Bands of a published patch by name, as rasterio reads them."""
    bands = {}
    for path in folder.glob(f"*/*/{name}/*.tif"):
        with rasterio.open(path) as dataset:
            bands[path.stem.removeprefix(f"{name}_")] = dataset.read(1)
    return bands


# Values


@pytest.mark.parametrize(("key", "size"), [(S2, 160_832), (S1, 115_344)])
def test_values_are_those_of_rico_hdl(data_dir: Path, key: str, size: int) -> None:
    reference = _content(data_dir / "bigearthnet" / "rico_hdl_reference_lmdb")[key]
    encoded = encode_bands(_images(data_dir / "bigearthnet", key))
    assert len(encoded) == size
    assert encoded == reference


def test_the_reference_map_as_the_tensor_data(data_dir: Path) -> None:
    """The reference database of the test data holds no map, so its value is put together by hand."""
    codes = _images(data_dir / "bigearthnet", MAP)["reference_map"]
    encoded = encode_reference_map(codes)
    assert len(encoded) == 28_880
    assert encoded == _tensors({"Data": codes})
    assert reference_map_key(MAP) == f"{MAP}_reference_map"


def test_values_of_24_published_pairs_come_back(data_dir: Path) -> None:
    published = _content(data_dir / "bigearthnet" / "configilm_24_patches" / "BigEarthNet-V2-LMDB")
    assert len(published) == 48
    for key, value in published.items():
        assert encode_bands(load(value)) == value, key


@given(
    st.dictionaries(st.from_regex(r"[A-Z]{1,3}[0-9]{0,2}", fullmatch=True), st.integers(1, 5), min_size=1, max_size=13),
    st.sampled_from([np.uint16, np.float32]),
    st.randoms(use_true_random=False),
)
def test_bytes_do_not_depend_on_the_order_of_the_bands(sides: dict[str, int], kind: type, random: object) -> None:
    bands = {name: np.arange(side * side, dtype=kind).reshape(side, side) for name, side in sides.items()}
    names = list(bands)
    random.shuffle(names)
    assert encode_bands({name: bands[name] for name in names}) == _tensors(bands)


@pytest.mark.parametrize(
    "cut", [np.s_[::2, ::2], np.s_[5:15, 30:40], np.s_[::-1], np.s_[:, ::-1]], ids=["step", "window", "up", "left"]
)
def test_views_are_encoded_as_what_they_show(cut: tuple[slice, ...]) -> None:
    image = np.arange(60 * 60, dtype=np.uint16).reshape(60, 60)
    for view in (image[cut], image.T[cut]):
        assert encode_bands({"B02": view}) == _tensors({"B02": view.copy(order="C")})


@pytest.mark.parametrize("bands", [BANDS, {60: ("B01",)}, {10: ("B02", "B03")}])
def test_the_planned_size_is_an_upper_bound(bands: dict[int, tuple[str, ...]]) -> None:
    images = {name: np.ones((1200 // side,) * 2, np.uint16) for side, names in bands.items() for name in names}
    size = len(encode_bands(images))
    assert size <= value_bytes(ImageKind.S2, tuple(images)) <= size + 2048


# Division into shards


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 20))
def test_each_kept_patch_is_in_exactly_one_shard_in_order(counts: list[int], shards: int) -> None:
    kept = [(Path(f"T{number:02d}.parquet"), count) for number, count in enumerate(counts)]
    plan = plan_shards(kept, shards)
    assert len(plan) == shards
    patches = [(piece.part, row) for shard in plan for piece in shard for row in range(piece.start, piece.stop)]
    assert patches == [(part, row) for part, count in kept for row in range(count)]
    sizes = [sum(piece.stop - piece.start for piece in shard) for shard in plan]
    assert max(sizes) - min(sizes) <= 1
    assert all(piece.start < piece.stop for shard in plan for piece in shard)


@pytest.mark.parametrize(
    ("number", "shards", "name"),
    [(0, 8, "part-00000-of-00008"), (7, 8, "part-00007-of-00008"), (12_345, 99_999, "part-12345-of-99999")],
)
def test_names_of_shards(number: int, shards: int, name: str) -> None:
    assert shard_name(number, shards) == name


# Environments, from a small real store


class _Region:
    """Two tiles in a store and a patch table, with every patch's values encoded by hand."""

    def __init__(self, folder: Path) -> None:
        self.store, self.table = folder / "cubes.zarr", folder / "patches.parquet"
        self.parts: list[tuple[Path, int]] = []
        self.expected: dict[str, bytes] = {}
        self.kept: list[str] = []
        create_store(self.store, {})
        for number, (rows, columns) in enumerate([(2, 3), (3, 2)]):
            self._add(
                f"S2A_MSIL2A_2017061{number}T101031_N9999_R022_T33UUP", ShapeYX(1200 * rows, 1200 * columns), number
            )

    def _add(self, tile: str, tile_m: ShapeYX, seed: int) -> None:
        grid = PatchGrid(32633, 300_000, 5_400_000, tile_m)
        random = np.random.default_rng(seed)
        images = {
            band: random.integers(0, 65_535, grid.shape_px_yx(resolution), np.uint16)
            for resolution, bands in BANDS.items()
            for band in bands
        }
        codes = random.integers(111, 523, grid.shape_px_yx(10), np.uint16)
        layout = CubeLayout(tile, grid, BANDS, {})
        create_cube(self.store, layout)
        for band, dn in images.items():
            write_band(self.store, layout, band, dn)
        write_reference_map(self.store, layout, codes)

        scene = Scene(TileName(tile, ""), datetime(2017, 6, 13, tzinfo=UTC), (grid,), None)
        patches = candidate_patches(scene, load_recipe("reben"))
        status = np.where(np.arange(grid.size) == seed, "rejected", "kept")
        part = write_part(with_nulls(patches.assign(status=pd.Series(status, dtype="str"))), self.table, [])
        self.parts.append((part, grid.size - 1))
        for x in range(grid.shape_yx.x):
            for y in range(grid.shape_yx.y):
                if x * grid.shape_yx.y + y == seed:
                    continue
                patch = f"{tile}_{x}_{y}"
                cut = {side: np.s_[y * side : (y + 1) * side, x * side : (x + 1) * side] for side in (120, 60, 20)}
                self.expected[patch] = _tensors(
                    {band: dn[cut[dn.shape[0] // grid.shape_yx.y]] for band, dn in images.items()}
                )
                self.expected[f"{patch}_reference_map"] = _tensors({"Data": codes[cut[120]]})
                self.kept.append(patch)

    def ranges(self, shards: int) -> list[list[TileRange]]:
        return plan_shards(self.parts, shards)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> _Region:
    return _Region(tmp_path_factory.mktemp("region"))


def test_one_environment_holds_every_kept_patch(region: _Region, tmp_path: Path) -> None:
    (ranges,) = region.ranges(1)
    record = write_environment(tmp_path / "lmdb", ranges, region.store)
    assert _content(tmp_path / "lmdb") == region.expected
    assert vars(record) == {
        "path": "",
        "first": region.kept[0],
        "last": region.kept[-1],
        "patches": 10,
        "keys": 20,
    }


def test_an_environment_may_be_written_again(region: _Region, tmp_path: Path) -> None:
    """A scheduler repeats the task of a worker that was lost."""
    whole, half = region.ranges(1)[0], region.ranges(2)[0]
    write_environment(tmp_path / "lmdb", half, region.store)
    write_environment(tmp_path / "lmdb", whole, region.store)
    write_environment(tmp_path / "lmdb", whole, region.store)
    assert _content(tmp_path / "lmdb") == region.expected


@pytest.mark.parametrize("shards", [2, 3, 10, 13])
def test_shards_and_their_index(region: _Region, tmp_path: Path, shards: int) -> None:
    names = [shard_name(number, shards) for number in range(shards)]
    records = [
        write_environment(tmp_path / name, ranges, region.store, name)
        for name, ranges in zip(names, region.ranges(shards), strict=True)
    ]
    ShardIndex(("Arable land", "Pastures"), tuple(records)).write(tmp_path)
    assert ShardIndex.read(tmp_path) == ShardIndex(("Arable land", "Pastures"), tuple(records))
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["version"] == 1
    assert index["classes"] == ["Arable land", "Pastures"]
    assert [shard["path"] for shard in index["shards"]] == names
    together: dict[str, bytes] = {}
    for shard in index["shards"]:
        content = _content(tmp_path / shard["path"])
        patches = sorted(key for key in content if not key.endswith("_reference_map"))
        assert not together.keys() & content.keys()
        together |= content
        assert (shard["patches"], shard["keys"]) == (len(patches), len(content))
        assert (shard["first"], shard["last"]) == ((patches[0], patches[-1]) if patches else (None, None))
    assert together == region.expected
    firsts = [shard["first"] for shard in index["shards"] if shard["first"]]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("shards", [1, 3, 13])
def test_merged_shards_are_the_one_environment(region: _Region, tmp_path: Path, shards: int) -> None:
    names = [shard_name(number, shards) for number in range(shards)]
    records = [
        write_environment(tmp_path / "lmdb" / name, ranges, region.store, name)
        for name, ranges in zip(names, region.ranges(shards), strict=True)
    ]
    ShardIndex((), tuple(records)).write(tmp_path / "lmdb")
    environments = find_environments([tmp_path / "lmdb"])
    assert environments == [tmp_path / "lmdb" / name for name in names]
    assert merge_environments(environments, tmp_path / "merged") == 20
    merged = _content(tmp_path / "merged")
    assert merged == region.expected
    assert list(merged) == sorted(merged)
    held = sum(map(len, merged.values()))
    assert held < _stored_map_size(tmp_path / "merged") < 2 * held + 2 * 2**20


def test_an_environment_of_nothing(region: _Region, tmp_path: Path) -> None:
    record = write_environment(tmp_path / "lmdb", [], region.store, "part-00003-of-00008")
    assert _content(tmp_path / "lmdb") == {}
    assert (record.first, record.last, record.patches, record.keys) == (None, None, 0, 0)
    assert record.path == "part-00003-of-00008"


@pytest.mark.parametrize("every", [1, 3, 10, 256])
def test_progress_counts_every_patch(
    region: _Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(lmdb_store, "COMMIT_EVERY", every)
    steps: list[int] = []
    write_environment(tmp_path / "lmdb", region.ranges(1)[0], region.store, "", steps.append)
    assert sum(steps) == 10
    assert max(steps) == min(every, 10)
    assert _content(tmp_path / "lmdb") == region.expected


@pytest.mark.parametrize("every", [1, 4, 256])
def test_the_map_grows_when_it_is_too_small(
    region: _Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    asked: list[int] = []

    def far_too_small(_: Sequence[object], patches: int) -> int:
        asked.append(patches)
        return 65_536

    monkeypatch.setattr(lmdb_store, "COMMIT_EVERY", every)
    monkeypatch.setattr(lmdb_store, "_expected_map_size", far_too_small)
    record = write_environment(tmp_path / "lmdb", region.ranges(1)[0], region.store)
    assert asked == [10]
    assert record.patches == 10
    assert _content(tmp_path / "lmdb") == region.expected


def test_the_stored_map_is_modest(region: _Region, tmp_path: Path) -> None:
    """Readers map as much as the environment says, and some machines refuse terabytes."""
    write_environment(tmp_path / "lmdb", region.ranges(1)[0], region.store)
    held = sum(len(value) for value in region.expected.values())
    assert held < _stored_map_size(tmp_path / "lmdb") < 2 * held + 2 * 2**20


def test_keys_are_stored_in_the_order_of_names(region: _Region, tmp_path: Path) -> None:
    write_environment(tmp_path / "lmdb", region.ranges(1)[0], region.store)
    keys = list(_content(tmp_path / "lmdb"))
    assert keys == sorted(region.expected)
    patches = [key for key in keys if not key.endswith("_reference_map")]
    assert patches == region.kept
    assert all(a < b for a, b in pairwise(region.kept))


# Environments that grow


@pytest.fixture
def small_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """New environments begin with a map of 32 KiB."""
    monkeypatch.setattr(lmdb_store, "SPARE_PAGES", 8)


@pytest.mark.usefixtures("small_map")
def test_put_loses_nothing_when_the_map_grows(tmp_path: Path) -> None:
    batches = [
        [(b"%d-%03d" % (batch, item), bytes([batch]) * (50 * 6**batch)) for item in range(40)] for batch in range(5)
    ]
    with new_environment(tmp_path / "new") as environment:
        assert environment.info()["map_size"] == 32_768
        for batch in batches:
            put(environment, [(key, memoryview(value)) for key, value in batch])
    assert _content(tmp_path / "new") == {key.decode(): value for batch in batches for key, value in batch}
    held = sum(len(value) for batch in batches for _, value in batch)
    assert held < _stored_map_size(tmp_path / "new") < 3 * held


@pytest.mark.usefixtures("small_map")
def test_put_writes_all_of_a_batch_or_nothing(tmp_path: Path) -> None:
    with new_environment(tmp_path / "new") as environment:
        put(environment, [(b"a", b"1")])
        with pytest.raises(lmdb.BadValsizeError):
            put(environment, [(b"b", bytes(10**6)), (b"too long" * 999, b"2")])
        put(environment, [])
    assert _content(tmp_path / "new") == {"a": b"1"}


def test_an_environment_is_closed_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_environment(tmp_path / "new"):
        1 / 0  # noqa: B018
    assert _content(tmp_path / "new") == {}
    with pytest.raises(FileExistsError), new_environment(tmp_path / "new"):
        pass


@given(sizes=st.lists(st.integers(2_100, 20_000) | st.sampled_from([4_079, 4_080, 4_081, 4_096, 8_177]), max_size=20))
def test_pages_of_large_values(sizes: list[int]) -> None:
    """A page of 4096 bytes, and a header of 16 before the first byte of a value."""
    with tempfile.TemporaryDirectory() as folder:
        with new_environment(Path(folder) / "new") as environment:
            put(environment, [(b"%d" % number, bytes(size)) for number, size in enumerate(sizes)])
            assert pages_bytes(map(bytes, sizes)) == environment.stat()["overflow_pages"] * 4096
            used = used_bytes(environment)
        assert used == (Path(folder) / "new" / "data.mdb").stat().st_size


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not an index of LMDB shards"),
        ('{"classes": []}', "is not an index of LMDB shards"),
        ('{"classes": [], "shards": [{"path": "a", "first": null, "last": null, "patches": 0}]}', "'keys'"),
        (
            '{"classes": [], "shards": [{"path": "../a", "first": null, "last": null, "patches": 0, "keys": 0}]}',
            "is not in its folder",
        ),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(InputError, match=problem):
        ShardIndex.read(tmp_path)


# Disks without locks


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have LMDB fail where it locks, as on a disk without locks."""
    opened = lmdb.open

    def refuse(path: str, *, lock: bool = True, **options: Any) -> lmdb.Environment:
        if lock:
            raise lmdb.Error(f"{path}: No locks available")
        return opened(path, lock=False, **options)

    monkeypatch.setattr(lmdb, "open", refuse)


@pytest.mark.usefixtures("without_locks")
def test_an_environment_on_a_disk_without_locks(tmp_path: Path) -> None:
    with new_environment(tmp_path / "new") as environment:
        put(environment, [(b"a", b"1")])
    with shared_environment(tmp_path / "new", 2**20) as environment:
        put(environment, [(b"b", b"2")])
    assert _content(tmp_path / "new") == {"a": b"1", "b": b"2"}
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


SHARE = """
import lmdb, sys
from pathlib import Path
from reben_dask.stores.lmdb import put, shared_environment

opened = lmdb.open

def refuse(path, *, lock=True, **options):
    if lock:
        raise lmdb.Error(f"{path}: No locks available")
    return opened(path, lock=False, **options)

lmdb.open = refuse
for number in range(25):
    with shared_environment(Path(sys.argv[1]), 2**24) as environment:
        put(environment, [(f"{sys.argv[2]}-{number}".encode(), bytes(9000))])
"""


def test_processes_write_in_turn_there(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", SHARE, tmp_path / "shared", str(number)], stderr=subprocess.PIPE)
        for number in range(3)
    ]
    errors = [writer.communicate()[1] for writer in writers]
    assert errors == [b""] * 3
    expected = {f"{writer}-{number}" for writer in range(3) for number in range(25)}
    assert _content(tmp_path / "shared").keys() == expected
