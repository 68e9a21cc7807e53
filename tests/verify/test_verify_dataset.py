"""Verification of finished datasets: runs pass, and each kind of damage, made on purpose, is found and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import digest
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner
from safetensors.numpy import load, save
from verifying import listing, problems_of, verified

from reben_dask.cli.verify import verify as command

METADATA = "metadata.parquet"
APART = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
RECORD = Path("run") / "record.json"


class Dataset:
    """A copy of a finished dataset of one tile, and what is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (self.part,) = (root / "patches.parquet").iterdir()
        self.tile = self.part.stem
        self.cube = root / "cubes.zarr" / self.tile
        table = pq.read_table(self.part)
        self.rows = table.to_pylist()
        self.kept = [row["patch_id"] for row in self.rows if row["status"] == "kept"]
        self.rejected = [row["patch_id"] for row in self.rows if row["status"] == "rejected"]

    def shard(self, node: str, *index: int) -> Path:
        """A shard of the only one that bands of such a small tile have."""
        return self.cube.joinpath(node, node if node == "reference_map" else "dn", "c", *map(str, index), "0", "0")

    def array(self, node: str) -> zarr.Array[Any]:
        return zarr.open_array(self.cube / node / ("dn" if node.startswith("r1") else node), mode="r+")


@pytest.fixture
def dataset(mini_run: Path, tmp_path: Path) -> Dataset:
    return Dataset(Path(shutil.copytree(mini_run, tmp_path / "out")))


# Finished runs


@pytest.mark.parametrize("options", [[], ["--full"], ["--full", "--digest"]], ids=" ".join)
@pytest.mark.parametrize("run", ["mini_run", "demo_run"])
def test_finished_runs_pass_and_stay_as_they_are(run: str, options: list[str], request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue(run)
    before = listing(out)
    done = CliRunner().invoke(command, [str(out), *options])
    assert done.exit_code == 0, done.output
    rows = sum(pq.read_metadata(out / name).num_rows for name in (METADATA, APART))
    assert done.output.endswith(f"{out}: {rows:,} patches: complete and consistent.\n")
    assert {line.split()[0] for line in done.output.splitlines() if "  " in line} - set(_digests(done.output)) == {"ok"}
    assert len(_digests(done.output)) == (5 if "--digest" in options else 0)
    assert listing(out) == before


def _digests(output: str) -> dict[str, str]:
    return dict(line.split("  ") for line in output.splitlines() if len(line.split("  ")[0]) == 64)


def test_the_lmdb_of_a_run_by_itself(demo_run: Path) -> None:
    report = verified(demo_run / "lmdb", full=True)
    assert report.verdict().endswith("patches: complete and consistent.")


def test_digests_follow_the_content(dataset: Dataset, mini_run: Path) -> None:
    digests = verified(dataset.root, digest=True).digests
    assert digests == verified(mini_run, digest=True).digests
    independent = digest.digest_of(mini_run)
    assert all(digests[name] == independent[name] for name in (METADATA, APART, "lmdb"))
    array = dataset.array("r10m")
    array[0, 0, 0] = 1
    changed = verified(dataset.root, digest=True).digests
    assert [name for name in digests if digests[name] != changed[name]] == ["cubes.zarr"]


# Whole artefacts


@pytest.mark.parametrize("name", ["cubes.zarr", "patches.parquet", METADATA, APART, "lmdb", str(RECORD)])
def test_missing_artefacts(dataset: Dataset, name: str) -> None:
    path = dataset.root / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert problems_of(dataset.root)["Artefacts"] == f"{name} is missing"


@pytest.mark.parametrize("name", [METADATA, "patches.parquet", "cubes.zarr", "lmdb/data.mdb", str(RECORD)])
def test_artefacts_of_other_kinds(dataset: Dataset, name: str) -> None:
    path = dataset.root / name
    if path.is_dir():
        shutil.rmtree(path)
    path.write_text("not what it was")
    problems = problems_of(dataset.root)
    titles = {METADATA: "Metadata files", "patches.parquet": "Patch table", "cubes.zarr": "Zarr cubes"}
    assert {**titles, "lmdb/data.mdb": "LMDB", str(RECORD): "Artefacts"}[name] in problems
    assert CliRunner().invoke(command, [str(dataset.root)]).exit_code == 1


def test_a_dataset_has_metadata_of_its_own(mini_run: Path) -> None:
    done = CliRunner().invoke(command, [str(mini_run), "--metadata", str(mini_run / METADATA)])
    assert done.exit_code == 2
    assert "is a dataset with metadata of its own" in " ".join(done.output.split())


# Tables


def _rewrite(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def _set(row: int, **changed: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[row].update(changed)


def _set_kept(**changed: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: next(row for row in rows if row["status"] == "kept").update(changed)


TABLE, AGREE, COUNTS = "Patch table", "Metadata as in the patch table", "Counts of the run record"
PARTS: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str, str]] = {
    "row lost": (lambda rows: rows.pop(9), TABLE, "has 63 rows, but a grid of 8 x 8 patches has 64"),
    "order": (lambda rows: rows.reverse(), TABLE, "in row 0, not "),
    "index": (_set(9, x=2), TABLE, "has the x 2 in row 9, not 1"),
    "bounds": (_set(9, minx=0), TABLE, "has the minx 0 in row 9"),
    "box": (lambda rows: rows[9]["bbox"].update(xmin=0.0), TABLE, "_1_1 has a bbox that is not its footprint"),
    "status": (_set(9, status="maybe"), TABLE, "_1_1 has the status 'maybe'"),
    "reason": (_set_kept(reason="nodata"), TABLE, "is kept for the reason 'nodata'"),
    "label": (_set_kept(labels=["Pastures", "Urban fabric"]), AGREE, "has another labels"),
    "split": (_set_kept(split="none"), COUNTS, "split none: 0 in the record, 1 in the patch table"),
    "kept": (_set_kept(status="rejected", reason="nodata"), AGREE, "is in the metadata, but not kept"),
}


@pytest.mark.parametrize("name", PARTS)
def test_damaged_parts(dataset: Dataset, name: str) -> None:
    change, title, text = PARTS[name]
    _rewrite(dataset.part, change)
    problems = problems_of(dataset.root)
    assert text in problems[title]
    assert dataset.tile in problems[title] or title == COUNTS


def test_missing_foreign_and_unreadable_parts(demo_run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(demo_run, tmp_path / "out"))
    first, second, *_ = sorted((out / "patches.parquet").iterdir())
    tiles = [path.stem for path in (first, second)]
    first.rename(out / "patches.parquet" / "mine.parquet")
    second.write_bytes(second.read_bytes()[:-20])
    problem = next(check for check in verified(out).checks if check.title == "Patch table")
    text = problem.line()
    assert f"{tiles[0]}.parquet is missing" in text
    assert "mine.parquet is of no tile of the run" in text
    assert problem.problems >= 3
    assert next(check for check in verified(out).checks if "Counts" in check.title).not_checked


def test_metadata_beside_the_patch_table(dataset: Dataset) -> None:
    _rewrite(dataset.root / METADATA, lambda rows: rows[3].update(country="Atlantis", split="test"))
    name = pq.read_table(dataset.root / METADATA)["patch_id"][3].as_py()
    problems = problems_of(dataset.root)
    assert f"{name} has another country" in problems.pop("Metadata as in the patch table")
    assert problems == {}
    _rewrite(dataset.root / METADATA, lambda rows: rows.pop(3))
    problems = problems_of(dataset.root)
    assert problems["Metadata as in the patch table"] == f"{name} is kept, but not in the metadata"
    assert problems["Nothing left over in the LMDB"] == f"{name}; {name}_reference_map"


def test_order_and_columns_that_only_others_may_have(dataset: Dataset) -> None:
    path = dataset.root / METADATA
    table = pq.read_table(path)
    pq.write_table(table.take(pc.sort_indices(table, [("patch_id", "descending")])), path)
    assert list(problems_of(dataset.root)) == ["Rows in the order of their names"]
    pq.write_table(table.append_column("fold", table["split"]), path)
    assert problems_of(dataset.root) == {"Metadata files": f"{METADATA} also has the column fold"}


def test_counts_of_the_record(dataset: Dataset) -> None:
    record = json.loads((dataset.root / RECORD).read_text())
    record["counts"]["status"]["kept"] += 1
    (dataset.root / RECORD).write_text(json.dumps(record))
    kept = len(dataset.kept)
    text = f"status kept: {kept + 1} in the record, {kept} in the patch table"
    assert problems_of(dataset.root) == {"Counts of the run record": text}


# Zarr


def _edit_document(dataset: Dataset) -> None:
    path = dataset.cube / "r20m" / "dn" / "zarr.json"
    path.write_text(path.read_text().replace("digital number", "radiance"))


def _lose_patch(dataset: Dataset) -> None:
    """What two tasks that write to one shard do: no reader complains."""
    rows, columns = _bounds(dataset.kept[20])
    dataset.array("r10m")[1, rows, columns] = 0


def _damage_index(dataset: Dataset) -> None:
    path = dataset.shard("r20m", 2)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


ZARR: dict[str, tuple[Callable[[Dataset], object], str, str]] = {
    "tile": (lambda data: shutil.rmtree(data.cube), "Zarr cubes", " is missing"),
    "foreign tile": (
        lambda data: shutil.copytree(data.cube, data.cube.with_name("X")),
        "Zarr cubes",
        "X is a group of no",
    ),
    "array": (lambda data: shutil.rmtree(data.cube / "r60m" / "dn"), "Zarr cubes", "/r60m"),
    "band": (lambda data: data.shard("r10m", 1).unlink(), "Zarr shards", "r10m/dn/c/1/0/0 is missing"),
    "patch": (_lose_patch, "Zarr shards", "r10m/dn/c/1/0/0 lacks 1 patch"),
    "map": (lambda data: data.shard("reference_map").unlink(), "Zarr shards", "reference_map/c/0/0 is missing"),
    "coordinates": (lambda data: shutil.rmtree(data.cube / "r10m" / "x" / "c"), "Zarr cubes", "other x coordinates"),
    "document": (lambda data: (data.cube / "zarr.json").write_text("{"), "Zarr cubes", "/zarr.json: "),
    "copy of a document": (_edit_document, "Zarr cubes", "/r20m/dn/zarr.json is not as "),
    "index": (
        _damage_index,
        "Zarr pixels as in the patch table",
        "cannot be read from r20m (RuntimeError: the checksum",
    ),
    "cut": (
        lambda data: os.truncate(data.shard("r60m", 0), 900),
        "Zarr pixels as in the patch table",
        "read from r60m",
    ),
}


@pytest.mark.parametrize("name", ZARR)
def test_damaged_cubes(dataset: Dataset, name: str) -> None:
    damage, title, text = ZARR[name]
    damage(dataset)
    problems = problems_of(dataset.root)
    assert text in problems[title]
    assert dataset.tile in problems[title] or name == "foreign tile"


# Pixels


def _bounds(patch_id: str) -> tuple[slice, slice]:
    x, y = (int(index) for index in patch_id.split("_")[-2:])
    return slice(120 * y, 120 * y + 120), slice(120 * x, 120 * x + 120)


def test_flipped_bits_that_decode(dataset: Dataset) -> None:
    """Chunks have no checksum: other pixels are seen by comparing them."""
    path = dataset.shard("r10m", 3)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    problems = problems_of(dataset.root, full=True)
    assert any(
        dataset.tile in text and ("differs in B08" in text or "cannot be read" in text) for text in problems.values()
    )


def test_one_pixel(dataset: Dataset) -> None:
    patch_id = dataset.kept[20]
    rows, columns = _bounds(patch_id)
    array = dataset.array("r10m")
    array[1, rows.start + 7, columns.stop - 1] += 1
    assert problems_of(dataset.root, full=True) == {"Zarr pixels as in the LMDB": f"{patch_id} differs in B03"}


def test_nodata_in_a_kept_patch_that_all_agree_about(dataset: Dataset) -> None:
    patch_id = dataset.kept[20]
    rows, columns = _bounds(patch_id)
    array = dataset.array("r10m")
    array[0, rows.start, columns.start] = 0

    def damage(value: bytes) -> bytes:
        tensors = load(value)
        tensors["B02"][0, 0] = 0
        return save(tensors)

    _change_value(dataset, patch_id, damage)
    problems = problems_of(dataset.root, full=True)
    assert problems == {
        "Zarr pixels as in the patch table": f"{patch_id} has NODATA in B02",
        "No NODATA in the LMDB": f"{patch_id} in B02",
    }


def test_map_and_labels_of_a_rejected_patch(dataset: Dataset) -> None:
    patch_id = dataset.rejected[0]
    array = dataset.array("reference_map")
    array[_bounds(patch_id)] = np.full((120, 120), 331, np.uint16)
    problems = problems_of(dataset.root, full=True)
    assert (
        f"{patch_id} has the labels Beaches, dunes, sands in its map" in problems["Zarr pixels as in the patch table"]
    )


def _change_value(dataset: Dataset, key: str, change: Callable[[bytes], bytes] | None) -> None:
    environment = lmdb.open(str(dataset.root / "lmdb"), map_size=2**28)
    with environment.begin(write=True) as transaction:
        value = transaction.pop(key.encode())
        if change is not None:
            transaction.put(key.encode(), change(value))
    environment.close()


@pytest.mark.parametrize("suffix", ["", "_reference_map"])
def test_entries(dataset: Dataset, suffix: str) -> None:
    key = f"{dataset.kept[0]}{suffix}"
    title = "Values of reference maps" if suffix else "Values of Sentinel-2"
    _change_value(dataset, key, lambda value: value[:-2])
    assert list(problems_of(dataset.root)) == [title]
    _change_value(dataset, key, None)
    assert problems_of(dataset.root) == {title: f"{key} is missing"}


# Pairs


def test_pairs(pairs_run: Path, tmp_path: Path) -> None:
    """A dataset with Sentinel-1 must have all of it, in the cubes and in the LMDB."""
    out = Path(shutil.copytree(pairs_run, tmp_path / "out"))
    report = verified(out, full=True)
    assert report.verdict().endswith("patches: complete and consistent.")
    images = f"{3 * report.patches} images"
    compared = {
        check.title: check.summary for check in report.checks if check.title.startswith("Zarr pixels as in the ")
    }
    assert [compared[f"Zarr pixels as in the {place}"] for place in ("LMDB", "trees", "archives")] == [images] * 3

    row = pq.read_table(out / METADATA).to_pylist()[0]
    tile, s1_name = row["patch_id"].rsplit("_", 2)[0], row["s1_name"]
    rows, columns = _bounds(row["patch_id"])
    array = zarr.open_array(out / "cubes.zarr" / tile / "s1" / "db", mode="r+")
    array[1, rows.start, columns.start] += 1
    (array.store_path.store.root / "c" / "0" / "0" / "0").unlink()
    environment = lmdb.open(str(out / "lmdb" / "part-00000-of-00002"), map_size=2**28)
    with environment.begin(write=True) as transaction:
        removed = pq.read_table(out / METADATA)["s1_name"][1].as_py()
        assert transaction.delete(removed.encode())
    environment.close()
    problems = problems_of(out, full=True)
    assert problems["Zarr shards"] == f"{tile}/s1/db/c/0/0/0 is missing"
    for place in ("LMDB", "trees", "archives"):
        assert f"{row['patch_id']} differs in VH, VV" in problems[f"Zarr pixels as in the {place}"]
    assert problems["Values of Sentinel-1"] == f"{removed} is missing"
    assert s1_name != removed
