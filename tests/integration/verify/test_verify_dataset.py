"""Verification of finished datasets: runs pass, and each kind of damage, made on purpose, is found and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
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
from verifying import TREES, Findings, Rows, assert_found, change_rows, listing, verified, with_copies

from reben_dask.cli.verify import verify as command
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE as FLAGGED
from reben_dask.formats.dataset import METADATA_FILE as METADATA
from reben_dask.formats.dataset import RECORD, STATISTICS

EXPORTS = (*TREES, *(f"{tree}.tar.zst" for tree in TREES))


class Dataset:
    """A copy of a finished dataset of one tile without its trees, and what is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (self.part,) = (root / "patches.parquet").iterdir()
        self.tile = self.part.stem
        self.cube = root / "cubes.zarr" / self.tile
        rows = pq.read_table(self.part).to_pylist()
        self.partner = next(row["s1_name"] for row in rows if row["status"] == "kept")
        self.kept = [row["patch_id"] for row in rows if row["status"] == "kept"]
        self.rejected = [row["patch_id"] for row in rows if row["status"] == "rejected"]
        self.listed = pq.read_table(root / METADATA)["patch_id"].to_pylist()

    def shard(self, array: str, *index: int) -> Path:
        """The only shard that an image of such a small tile has."""
        return self.cube.joinpath(array, "c", *map(str, index), "0", "0")

    def array(self, path: str) -> zarr.Array[Any]:
        return zarr.open_array(self.cube / path, mode="r+")

    def change_value(self, key: str, change: Callable[[bytes], bytes] | None) -> None:
        """Change a value of the LMDB, or remove it."""
        for folder in sorted((self.root / "lmdb").glob("part*")):
            with lmdb.open(str(folder), map_size=2**28) as environment, environment.begin(write=True) as transaction:
                value = transaction.pop(key.encode())
                if value is not None and change is not None:
                    transaction.put(key.encode(), change(value))

    def change_record(self, change: Callable[[dict[str, Any]], object]) -> None:
        record = json.loads((self.root / RECORD).read_text())
        change(record)
        (self.root / RECORD).write_text(json.dumps(record))


@pytest.fixture
def dataset(tile_run: Path, tmp_path: Path) -> Dataset:
    copied = ("cubes.zarr", "patches.parquet", METADATA, FLAGGED, "stac", "lmdb", STATISTICS, "run")
    return Dataset(with_copies(tile_run, tmp_path / "out", copied, left_out=EXPORTS))


# Finished runs


@pytest.mark.parametrize("options", [["--digest"], ["--full"]], ids=" ".join)
def test_a_finished_run_passes_and_stays_as_it_is(tile_run: Path, options: list[str]) -> None:
    before = listing(tile_run)
    done = CliRunner().invoke(command, [str(tile_run), *options])
    assert done.exit_code == 0, done.output
    rows = sum(pq.read_metadata(tile_run / name).num_rows for name in (METADATA, FLAGGED))
    assert done.output.endswith(f"{tile_run}: {rows:,} patches: complete and consistent.\n")
    assert {line.split()[0] for line in done.output.splitlines() if "  " in line} - set(_digests(done.output)) == {"ok"}
    assert len(_digests(done.output)) == (12 if "--digest" in options else 0)
    images = f"{3 * rows} images" if "--full" in options else " images"
    for place in ("LMDB", "trees", "archives"):
        assert f"Zarr pixels as in the {place}: {images}".removesuffix(" images") in done.output
    assert listing(tile_run) == before


def _digests(output: str) -> dict[str, str]:
    return dict(line.split("  ") for line in output.splitlines() if len(line.split("  ")[0]) == 64)


def test_the_lmdb_of_a_run_by_itself(tile_run: Path) -> None:
    assert verified(tile_run / "lmdb", full=True).verdict().endswith("patches: complete and consistent.")


def test_digests_follow_the_content(dataset: Dataset) -> None:
    digests = verified(dataset.root, digest=True).digests
    independent = digest.digest_of(dataset.root)
    assert all(digests[name] == independent[name] for name in (METADATA, FLAGGED, "lmdb"))
    dataset.array("r10m/dn")[0, 0, 0] = 1
    changed = verified(dataset.root, digest=True).digests
    assert [name for name in digests if digests[name] != changed[name]] == ["cubes.zarr"]


def test_a_dataset_has_metadata_of_its_own(tile_run: Path) -> None:
    done = CliRunner().invoke(command, [str(tile_run), "--metadata", str(tile_run / METADATA)])
    assert done.exit_code == 2
    assert "is a dataset with metadata of its own" in " ".join(done.output.split())


# Damage

TABLE, AGREE, COUNTS = "Patch table", "Metadata as in the patch table", "Counts of the run record"
CUBES, SHARDS, PIXELS = "Zarr cubes", "Zarr patches", "Zarr pixels as in the patch table"
FILES, ORDER, LMDB, EQUAL = "Metadata files", "Rows in the order of their names", "LMDB", "Zarr pixels as in the LMDB"
STRAY = "{data.tile} is not the group of a tile"
PATCH_ITEMS, TILE_ITEMS = "Catalogue of patches", "Catalogue of tiles"
LEFT_OVER, NODATA = "Nothing left over in the LMDB", "No NODATA in the LMDB"

Damage = Callable[[Dataset], object]


def _remove(name: str) -> Damage:
    def damage(data: Dataset) -> None:
        path = data.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def _replace(name: str) -> Damage:
    """Something of another kind in place of an artefact."""

    def damage(data: Dataset) -> None:
        if (data.root / name).is_dir():
            shutil.rmtree(data.root / name)
        (data.root / name).write_text("not what it was")

    return damage


def _rows(change: Callable[[Rows], object]) -> Damage:
    return lambda data: change_rows(data.part, change)


def _set(row: int, **changed: Any) -> Damage:
    return _rows(lambda rows: rows[row].update(changed))


def _set_kept(**changed: Any) -> Damage:
    return _rows(lambda rows: next(row for row in rows if row["status"] == "kept").update(changed))


def _metadata(change: Callable[[Rows], object]) -> Damage:
    return lambda data: change_rows(data.root / METADATA, change)


def _item(change: Callable[[Rows], object]) -> Damage:
    return lambda data: change_rows(data.root / "stac" / "patches.parquet", change)


def _table(change: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(data: Dataset) -> None:
        path = data.root / METADATA
        pq.write_table(change(pq.read_table(path)), path)

    return damage


def _bounds(patch_id: str, side: int = 120) -> tuple[slice, slice]:
    x, y = (int(index) for index in patch_id.split("_")[-2:])
    return slice(side * y, side * y + side), slice(side * x, side * x + side)


def _pixels(path: str, patch: int, value: Any, image: tuple[int, ...] = (1,), *, whole: bool = False) -> Damage:
    """Fill the last pixel of the first row of a kept patch, or all of the patch."""

    def damage(data: Dataset) -> None:
        rows, columns = _bounds(data.kept[patch])
        array = data.array(path)
        window = (
            (rows, columns) if whole else (slice(rows.start, rows.start + 1), slice(columns.stop - 1, columns.stop))
        )
        array[(*image, *window)] = value if value is not None else array[(*image, *window)] + 1

    return damage


def _index_bits(data: Dataset) -> None:
    """Flip a bit of the index of a shard, which is before its checksum."""
    shard = data.shard("r20m/dn", 2)
    content = bytearray(shard.read_bytes())
    content[-9] ^= 1
    shard.write_bytes(content)


def _pixel_bits(data: Dataset) -> None:
    """Flip a bit of a kept patch; threads decide where in the shard it is, and the index tells."""
    shard, array = data.shard("r10m/dn", 3), data.array("r10m/dn")
    content = bytearray(shard.read_bytes())
    rows, columns = (shards // chunks for shards, chunks in zip(array.shards[1:], array.chunks[1:], strict=True))
    index = np.frombuffer(content[-4 - 16 * rows * columns : -4], "<u8").reshape(rows, columns, 2)
    x, y = (int(number) for number in data.kept[7].split("_")[-2:])
    offset, size = index[y, x].tolist()
    content[offset + size // 2] ^= 0x10
    shard.write_bytes(content)


def _statistics(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(data: Dataset) -> None:
        content = json.loads((data.root / STATISTICS).read_text())
        change(content)
        (data.root / STATISTICS).write_text(json.dumps(content))

    return damage


def _edit_document(data: Dataset) -> None:
    path = data.cube / "r20m" / "dn" / "zarr.json"
    path.write_text(path.read_text().replace("digital number", "radiance"))


def _nodata_everywhere(data: Dataset) -> None:
    """NODATA in a kept patch that all forms agree about."""
    _pixels("r10m/dn", 7, 0, (0,))(data)

    def change(value: bytes) -> bytes:
        tensors = load(value)
        tensors["B02"][0, -1] = 0
        return save(tensors)

    data.change_value(data.kept[7], change)


def _map_of_rejected(data: Dataset) -> None:
    data.array("reference_map/reference_map")[_bounds(data.rejected[0])] = np.full((120, 120), 331, np.uint16)


def _other_index(data: Dataset) -> None:
    path = data.root / "lmdb" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "classes": ["Pastures"]}))


def _unreadable(data: Dataset) -> None:
    data.part.write_bytes(data.part.read_bytes()[:-20])


def _case(name: str, damage: Damage, findings: Findings) -> Any:
    return pytest.param(damage, findings, id=name)


DAMAGES = [
    _case("no cubes", _remove("cubes.zarr"), {"Artefacts": "cubes.zarr is missing"}),
    _case("no table", _remove("patches.parquet"), {"Artefacts": "patches.parquet is missing", CUBES: STRAY}),
    _case("no metadata", _remove(METADATA), {"Artefacts": f"{METADATA} is missing"}),
    _case("no flagged metadata", _remove(FLAGGED), {"Artefacts": f"{FLAGGED} is missing"}),
    _case("no lmdb", _remove("lmdb"), {"Artefacts": "lmdb is missing"}),
    _case("no record", _remove(RECORD), {"Artefacts": f"{RECORD} is missing"}),
    _case("no statistics", _remove(STATISTICS), {"Artefacts": f"{STATISTICS} is missing"}),
    _case("statistics of another kind", _replace(STATISTICS), {"Statistics": "are damaged (content: Invalid JSON"}),
    _case(
        "band of the statistics",
        _statistics(lambda content: content["bands"].pop("B11")),
        {"Statistics": f"{STATISTICS} has no B11 train"},
    ),
    _case(
        "count of the statistics",
        _statistics(lambda content: content["bands"]["B8A"]["all"].update(count=1)),
        {"Statistics": f"{STATISTICS} has the B8A all count 1, not "},
    ),
    _case(
        "median of the statistics",
        _statistics(lambda content: content["bands"]["VV"]["all"].update(p50=99.0)),
        {"Statistics": f"{STATISTICS} has the VV all p50 99.0, not -"},
    ),
    _case(
        "class of the statistics",
        _statistics(lambda content: content["classes"]["Pastures"].update(patches=0)),
        {"Statistics": f"{STATISTICS} has the Pastures patches 0, not "},
    ),
    _case("metadata of another kind", _replace(METADATA), {FILES: f"{METADATA}: "}),
    _case("table of another kind", _replace("patches.parquet"), {TABLE: "there are no parts", CUBES: STRAY}),
    _case("cubes of another kind", _replace("cubes.zarr"), {CUBES: "{data.tile} is missing"}),
    _case("shard of another kind", _replace("lmdb/part-00000-of-00002/data.mdb"), {LMDB: "part-00000-of-00002: "}),
    _case("record of another kind", _replace(RECORD), {"Artefacts": f"{RECORD}: "}),
    _case(
        "row lost",
        _rows(lambda rows: rows.pop(5)),
        {
            TABLE: "{data.tile} has 15 rows, but its grids have 16 patches",
            AGREE: "{data.tile}_1_1 is in the metadata, but not kept",
            COUNTS: " in the record, ",
            PATCH_ITEMS: "stac/patches.parquet has {data.tile}_1_1, which is not kept",
            TILE_ITEMS: "stac/tiles.parquet {data.tile} has the reben:candidates 16, not 15",
        },
    ),
    _case("order", _rows(lambda rows: rows.reverse()), {TABLE: "{data.tile}, row 0, has the patch_id "}),
    _case(
        "index",
        _set(5, x=2),
        {
            TABLE: "{data.tile}, row 5, has the x 2, not 1",
            EQUAL: "_1_1 differs in ",
            PATCH_ITEMS: "{data.tile}_1_1 has the reben:x 1, not 2",
        },
    ),
    _case(
        "bounds",
        _set(5, minx=0),
        {
            TABLE: "{data.tile}, row 5, has the minx 0, not ",
            PATCH_ITEMS: "{data.tile}_1_1 has the proj:bbox [",
        },
    ),
    _case(
        "time",
        _set(5, sensing_time=datetime(2018, 5, 8, tzinfo=UTC)),
        {TABLE: "row 5, has the sensing_time 2018-05-08 ", PATCH_ITEMS: "{data.tile}_1_1 has the datetime "},
    ),
    _case(
        "box",
        _rows(lambda rows: rows[5]["bbox"].update(xmin=0.0)),
        {TABLE: "{data.tile}_1_1 has a bbox that is not its footprint", PATCH_ITEMS: "{data.tile}_1_1 has the bbox "},
    ),
    _case(
        "status",
        _set(5, status="maybe"),
        {
            TABLE: "{data.tile}_1_1 has the status 'maybe'",
            AGREE: "{data.tile}_1_1 is in the metadata, but not kept",
            COUNTS: " in the record, ",
            PATCH_ITEMS: "stac/patches.parquet has {data.tile}_1_1, which is not kept",
            TILE_ITEMS: "stac/tiles.parquet {data.tile} has the reben:kept ",
        },
    ),
    _case(
        "reason",
        _set_kept(reason="nodata"),
        {
            TABLE: "{data.kept[0]} is kept for the reason 'nodata'",
            COUNTS: "reason nodata: 0 in the record, 1 in the patch table",
        },
    ),
    _case(
        "labels",
        _set_kept(labels=["Pastures", "Urban fabric"]),
        {
            AGREE: "{data.kept[0]} has the labels [",
            COUNTS: "class ",
            PIXELS: "{data.kept[0]}: its map has the labels [",
            PATCH_ITEMS: "{data.kept[0]} has the reben:labels [",
        },
    ),
    _case(
        "split",
        _set_kept(split="none"),
        {
            TABLE: "{data.kept[0]} has the split 'none'",
            AGREE: "{data.kept[0]} has the split '",
            COUNTS: "split none: 0 in the record, 1 in the patch table",
            PATCH_ITEMS: "{data.kept[0]} has the ml-aoi:split '",
        },
    ),
    _case(
        "kept",
        _set_kept(status="rejected", reason="nodata"),
        {
            AGREE: "{data.kept[0]} is in the metadata, but not kept",
            COUNTS: "reason nodata: 0 in the record, 1 in the patch table",
            PATCH_ITEMS: "stac/patches.parquet has {data.kept[0]}, which is not kept",
            TILE_ITEMS: "stac/tiles.parquet {data.tile} has the reben:kept ",
        },
    ),
    _case("unreadable part", _unreadable, {TABLE: "{data.tile}.parquet: "}),
    _case("no catalogue", _remove("stac"), {"Artefacts": "stac is missing"}),
    _case("no items of patches", _remove("stac/patches.parquet"), {PATCH_ITEMS: "stac/patches.parquet: "}),
    _case("no collection of tiles", _remove("stac/tiles.json"), {TILE_ITEMS: "stac/tiles.parquet: "}),
    _case("item lost", _item(lambda rows: rows.pop(3)), {PATCH_ITEMS: "stac/patches.parquet has no {data.kept[3]}"}),
    _case(
        "item of another tile",
        _item(lambda rows: rows.append({**rows[0], "id": "X", "reben:tile": "X"})),
        {PATCH_ITEMS: " items, not "},
    ),
    _case(
        "property of an item",
        _item(lambda rows: rows[3].update({"eo:cloud_cover": 101.0})),
        {PATCH_ITEMS: "{data.kept[3]} has the eo:cloud_cover 101.0, not "},
    ),
    _case(
        "metadata beside the table",
        _metadata(lambda rows: rows[3].update(country="Atlantis")),
        {AGREE: "{data.listed[3]} has the country 'Atlantis', not "},
    ),
    _case(
        "row of the metadata lost",
        _metadata(lambda rows: rows.pop(3)),
        {
            AGREE: "{data.listed[3]} is kept, but not in the metadata",
            LEFT_OVER: "{data.listed[3]}; {data.listed[3]}_reference_map",
        },
    ),
    _case(
        "order of the metadata",
        _table(lambda table: table.take(pc.sort_indices(table, [("patch_id", "descending")]))),
        {ORDER: f"{METADATA}: "},
    ),
    _case(
        "further column",
        _table(lambda table: table.append_column("fold", table["split"])),
        {FILES: f"{METADATA} also has the column fold"},
    ),
    _case(
        "count",
        lambda data: data.change_record(lambda record: record["counts"]["status"].update(kept=0)),
        {COUNTS: "status kept: 0 in the record, "},
    ),
    _case("tile", lambda data: shutil.rmtree(data.cube), {CUBES: "{data.tile} is missing"}),
    _case(
        "foreign tile",
        lambda data: shutil.copytree(data.cube, data.cube.with_name("X")),
        {CUBES: "X is not the group of a tile"},
    ),
    _case("array", lambda data: shutil.rmtree(data.cube / "r60m" / "dn"), {CUBES: "{data.tile}/r60m"}),
    _case(
        "band",
        lambda data: data.shard("r10m/dn", 1).unlink(),
        {
            SHARDS: "{data.tile}/r10m/dn/c/1/0/0 is missing",
            PIXELS: "{data.kept[0]} has NODATA in B03",
            EQUAL: "{data.kept[0]} differs in B03",
        },
    ),
    _case(
        "polarisation",
        lambda data: data.shard("s1/db", 0).unlink(),
        {
            SHARDS: "{data.tile}/s1/db/c/0/0/0 is missing",
            PIXELS: "{data.kept[0]} has 14,400 pixels without backscatter",
            EQUAL: "{data.kept[0]} differs in VV",
        },
    ),
    # The result of two tasks that write to one shard: no reader complains.
    _case(
        "patch",
        _pixels("r10m/dn", 7, 0, whole=True),
        {
            SHARDS: "{data.tile}/r10m/dn/c/1/0/0 lacks 1 patch: {data.kept[7]} has no B03",
            PIXELS: "{data.kept[7]} has NODATA in B03",
            EQUAL: "{data.kept[7]} differs in B03",
        },
    ),
    _case(
        "map",
        lambda data: data.shard("reference_map/reference_map").unlink(),
        {
            SHARDS: "{data.tile}/reference_map/reference_map/c/0/0 is missing",
            PIXELS: "{data.kept[0]}: its map has the labels [], not [",
            EQUAL: "{data.kept[0]} differs in its reference map",
        },
    ),
    _case(
        "coordinates",
        lambda data: shutil.rmtree(data.cube / "r10m" / "x" / "c"),
        {CUBES: "{data.tile}/r10m has other x coordinates"},
    ),
    _case("document", lambda data: (data.cube / "zarr.json").write_text("{"), {CUBES: "{data.tile}/zarr.json: "}),
    _case("copy of a document", _edit_document, {CUBES: "{data.tile}/r20m/dn/zarr.json differs from its copy in "}),
    _case(
        "index of a shard",
        _index_bits,
        {PIXELS: "{data.tile}, column 0, cannot be read from r20m (RuntimeError: the checksum"},
    ),
    _case(
        "shard cut short",
        lambda data: os.truncate(data.shard("r60m/dn", 0), 200),
        {
            SHARDS: "{data.tile}/r60m/dn/c/0/0/0 lacks 16 patches: ",
            PIXELS: "{data.tile}, column 0, cannot be read from r60m",
        },
    ),
    # Chunks have no checksum: other pixels are seen by comparing them.
    _case("bits that decode", _pixel_bits, {EQUAL: "{data.kept[7]} differs in B08"}),
    _case("pixel", _pixels("r10m/dn", 7, None), {EQUAL: "{data.kept[7]} differs in B03"}),
    _case("pixel of radar", _pixels("s1/db", 7, None), {EQUAL: "{data.kept[7]} differs in VH"}),
    _case("nodata", _nodata_everywhere, {PIXELS: "{data.kept[7]} has NODATA in B02", NODATA: "{data.kept[7]} in B02"}),
    _case(
        "map of a rejected patch",
        _map_of_rejected,
        {PIXELS: "{data.rejected[0]}: its map has the labels ['Beaches, dunes, sands'], not ["},
    ),
    _case(
        "value cut short",
        lambda data: data.change_value(data.kept[0], lambda value: value[:-2]),
        {"Values of Sentinel-2": "{data.kept[0]} cannot be decoded"},
    ),
    _case(
        "map cut short",
        lambda data: data.change_value(f"{data.kept[0]}_reference_map", lambda value: value[:-2]),
        {"Values of reference maps": "{data.kept[0]}_reference_map cannot be decoded"},
    ),
    _case(
        "value missing",
        lambda data: data.change_value(data.kept[0], None),
        {"Values of Sentinel-2": "{data.kept[0]} is missing", LMDB: "part-00000-of-00002 has the keys "},
    ),
    _case(
        "partner missing",
        lambda data: data.change_value(data.partner, None),
        {"Values of Sentinel-1": "{data.partner} is missing", LMDB: "part-00000-of-00002 has the keys "},
    ),
    _case("class list of the shards", _other_index, {LMDB: "index.json has another class list than the run record"}),
]


@pytest.mark.parametrize(("damage", "findings"), DAMAGES)
def test_damage(dataset: Dataset, damage: Damage, findings: Findings) -> None:
    damage(dataset)
    assert_found(dataset.root, {t: text.format(data=dataset) for t, text in findings.items()}, full=True)
