"""The digests with which tests compare datasets: whatever differs is seen, and where it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import digest
import lmdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from digest import digest_of, lmdb_digest

pytestmark = pytest.mark.slow

TILE = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP"


@pytest.fixture(scope="module")
def dataset(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because other tests of this process may hold the LMDB of the first open."""
    return Path(shutil.copytree(small_run, tmp_path_factory.mktemp("digest") / "dataset"))


@pytest.fixture(scope="module")
def before(dataset: Path) -> dict[str, str]:
    return digest_of(dataset)


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def _change_pixel(out: Path, name: str) -> None:
    array = zarr.open_array(out / name, mode="r+")
    last = tuple(size - 1 for size in array.shape)
    array[last] = array[last] ^ 1


def _change_labels(out: Path, name: str) -> None:
    table = pq.read_table(out / name, partitioning=None)
    labels = table["labels"].to_pylist()
    first = next(number for number, names in enumerate(labels) if names)
    labels[first] = labels[first][1:]
    place = table.schema.get_field_index("labels")
    pq.write_table(
        table.set_column(place, table.schema.field(place), pa.array(labels, table["labels"].type)), out / name
    )


def _change_attribute(out: Path, name: str) -> None:
    zarr.open_array(out / name, mode="r+").attrs["nodata"] = 1


def _change_consolidated(out: Path, name: str) -> None:
    document = out / name / "zarr.json"
    text = document.read_text()
    assert '"mgrs": "33UVP"' in text
    document.write_text(text.replace('"mgrs": "33UVP"', '"mgrs": "33UWP"', 1))


def _edit_lmdb(edit: Callable[[lmdb.Transaction, bytes], None]) -> Callable[[Path, str], None]:
    def change(out: Path, name: str) -> None:
        environment = lmdb.open(str(out / name), map_size=2**28)
        with environment.begin(write=True) as transaction:
            edit(transaction, max(transaction.cursor().iternext(values=False)))
        environment.close()

    return change


def _drop(transaction: lmdb.Transaction, key: bytes) -> None:
    transaction.delete(key)


def _rename(transaction: lmdb.Transaction, key: bytes) -> None:
    transaction.put(key + b"x", transaction.pop(key))


def _flip(transaction: lmdb.Transaction, key: bytes) -> None:
    value = transaction.get(key)
    transaction.put(key, value[:-1] + bytes([value[-1] ^ 1]))


CHANGES: Mapping[str, tuple[str, Callable[[Path, str], None]]] = {
    "a pixel": ("cubes.zarr/{tile}/r20m/dn", _change_pixel),
    "a pixel of a map": ("cubes.zarr/{tile}/reference_map/reference_map", _change_pixel),
    "an attribute": ("cubes.zarr/{tile}/r60m/dn", _change_attribute),
    "labels in the table": ("patches.parquet/{tile}.parquet", _change_labels),
    "labels in the metadata": ("metadata.parquet", _change_labels),
    "a missing entry": ("lmdb", _edit_lmdb(_drop)),
    "an entry with another key": ("lmdb", _edit_lmdb(_rename)),
    "an entry with another value": ("lmdb", _edit_lmdb(_flip)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_where_it_is(copy: Path, before: dict[str, str], change: str) -> None:
    place, apply = CHANGES[change]
    place = place.format(tile=TILE)
    apply(copy, place)
    after = digest_of(copy)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {place}


def test_a_change_of_consolidated_metadata_is_seen(copy: Path, before: dict[str, str]) -> None:
    group = f"cubes.zarr/{TILE}"
    _change_consolidated(copy, group)
    assert digest_of(copy)[group] != before[group]


@pytest.mark.parametrize("name", ["metadata.parquet", "patches.parquet", "cubes.zarr", "lmdb"])
def test_a_missing_artefact_is_no_dataset(copy: Path, name: str) -> None:
    (copy / name).rename(copy / "elsewhere")
    with pytest.raises(FileNotFoundError, match=name):
        digest_of(copy)


def test_a_missing_tile_is_seen(copy: Path, before: dict[str, str]) -> None:
    tile = TILE
    shutil.rmtree(copy / "cubes.zarr" / tile)
    (copy / "patches.parquet" / f"{tile}.parquet").unlink()
    gone = before.keys() - digest_of(copy).keys()
    assert {f"cubes.zarr/{tile}", f"cubes.zarr/{tile}/r20m/dn", f"patches.parquet/{tile}.parquet"} < gone


def test_the_size_of_slabs_is_not_seen(dataset: Path, before: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "SLAB_BYTES", 50_000)
    assert digest_of(dataset) == before


def test_an_image_is_read_in_slabs(tmp_path: Path) -> None:
    size, limit = 10_980, digest.SLAB_BYTES
    chunked = zarr.create_array(tmp_path / "a", shape=(2, size, size), dtype="u2", chunks=(1, 1_560, 1_560))
    whole = zarr.create_array(tmp_path / "b", shape=(1, size, size), dtype="u2", chunks=(1, size, size))
    for array in (chunked, whole):
        slabs = [slab.shape for slab in digest._slabs(array)]
        assert sum(rows for rows, _ in slabs) == array.shape[0] * size
        assert max(rows * columns * 2 for rows, columns in slabs) <= limit


def test_an_entry_in_two_environments_is_seen(tmp_path: Path) -> None:
    for name in ("one", "two", "two/again"):
        environment = lmdb.open(str(tmp_path / name))
        with environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value")
        environment.close()
    assert lmdb_digest(tmp_path / "one") != lmdb_digest(tmp_path / "two")


def test_digests_on_the_command_line(copy: Path, dataset: Path) -> None:
    same = _digest(dataset, copy)
    assert same.returncode == 0, same.stderr
    assert "0 different" in same.stdout
    changed = f"cubes.zarr/{TILE}/r20m/dn"
    _change_pixel(copy, changed)
    different = _digest(dataset, copy)
    assert different.returncode == 1
    assert "1 different" in different.stdout
    assert [line.split()[1] for line in different.stdout.splitlines() if line.startswith("different")] == [changed]


def _digest(*folders: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, digest.__file__, *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
