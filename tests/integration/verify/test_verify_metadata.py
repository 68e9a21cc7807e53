"""Verification of metadata files: the published ones are sound, and whatever is wrong is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reben_dask.formats import columns
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import METADATA_SCHEMA
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.nomenclature import load_nomenclature
from reben_dask.verify import Report, Settings
from reben_dask.verify.engine import Context, Engine
from reben_dask.verify.expected import published
from reben_dask.verify.findings import Check
from reben_dask.verify.metadata import Rows, find_metadata, verify_metadata
from reben_dask.verify.trees import Walk

TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
SCENE = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP"
CLASSES = load_nomenclature("bigearthnet19").classes

Row = dict[str, Any]
Files = tuple[list[Row], list[Row]]


def _row(x: int, y: int, **changed: Any) -> Row:
    usual = {
        "patch_id": f"{TILE}_{x:02d}_{y:02d}",
        "labels": ["Arable land", "Pastures"],
        "split": "train",
        "country": "Austria",
        "s1_name": f"{SCENE}_{x}_{y}",
        "s2v1_name": f"S2A_MSIL2A_20170613T101031_{x}_{y}",
        "contains_seasonal_snow": False,
        "contains_cloud_or_shadow": False,
    }
    return {**usual, **changed}


def _sound() -> Files:
    clear = [_row(x, y) for x in (3, 4) for y in (5, 6)]
    return clear, [_row(7, 8, contains_seasonal_snow=True), _row(7, 9, contains_cloud_or_shadow=True)]


def _write(
    folder: Path, files: Files, schema: pa.Schema = METADATA_SCHEMA, classes: list[str] | None = None
) -> list[Path]:
    carried = schema.with_metadata({"reben:classes": json.dumps(classes or list(CLASSES))})
    paths = [folder / METADATA_FILE, folder / FLAGGED_METADATA_FILE]
    for path, rows in zip(paths, files, strict=True):
        pq.write_table(pa.Table.from_pylist(rows, carried), path)
    return paths


def _verify(paths: list[Path], *, own: bool = True) -> tuple[Rows, dict[str, Check]]:
    rows, checks = verify_metadata(paths, published(), own=own)
    return rows, {check.title: check for check in checks}


def _problems(paths: list[Path], *, own: bool = True) -> dict[str, list[str]]:
    return {title: check.examples for title, check in _verify(paths, own=own)[1].items() if check.problems}


# Sound files


@pytest.mark.slow
def test_the_published_files(data_dir: Path) -> None:
    rows, checks = _verify(find_metadata([data_dir / "bigearthnet"]), own=False)
    assert len(rows) == 549_488
    assert not [check.line() for check in checks.values() if check.problems or check.notes]
    assert checks["Metadata files"].line() == "ok            Metadata files: 2 files, 549,488 rows"


def test_files_of_others_may_be_ordered_in_another_way(data_dir: Path) -> None:
    """Those of ConfigILM's test data are grouped by split, and carry the index of the frame they were cut from."""
    rows, checks = _verify(find_metadata([data_dir / "bigearthnet" / "configilm_24_patches"]), own=False)
    assert len(rows) == 24
    assert not any(check.problems for check in checks.values())
    assert any("another order" in note for note in checks["Rows in the order of their names"].notes)
    assert any("__index_level_0__" in note for note in checks["Metadata files"].notes)


@pytest.mark.parametrize("own", [True, False])
def test_sound_files(tmp_path: Path, own: bool) -> None:  # noqa: FBT001
    rows, checks = _verify(_write(tmp_path, _sound()), own=own)
    assert [rows.value("patch_id", row) for row in range(6)] == [row["patch_id"] for file in _sound() for row in file]
    assert rows.value("labels", 0) == ["Arable land", "Pastures"]
    assert not [check.line() for check in checks.values() if check.problems or check.notes]


def test_files_without_rows(tmp_path: Path) -> None:
    rows, checks = _verify(_write(tmp_path, ([], [])))
    assert len(rows) == 0
    assert list(rows) == []
    assert [list(rows.names(kind).missing()) for kind in ImageKind] == [[], [], []]
    assert not any(check.problems for check in checks.values())


def test_offsets_of_64_bits_are_as_good(tmp_path: Path) -> None:
    large = {pa.string(): pa.large_string(), pa.list_(pa.string()): pa.large_list(pa.large_string())}
    schema = pa.schema([(field.name, large.get(field.type, field.type)) for field in METADATA_SCHEMA])
    assert _problems(_write(tmp_path, _sound(), schema)) == {}


def test_found_beside_the_data_or_above(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    paths = _write(tmp_path, _sound())
    assert find_metadata([tmp_path / "data", tmp_path]) == paths
    assert find_metadata([tmp_path / "data"]) == []


# Damaged rows


def _set(column: str, value: Any) -> Callable[[Files], None]:
    return lambda files: files[0][1].update({column: value})


def _move(files: Files) -> None:
    files[0].append(files[1].pop())


def _copy_to_other(files: Files) -> None:
    files[1].insert(0, {**files[0][1], "contains_seasonal_snow": True})


SECOND = f"{TILE}_03_06"
ROWS = {
    "twice in a file": (
        lambda files: files[0].insert(1, files[0][1]),
        "Each patch listed once",
        f"{SECOND} is listed twice",
    ),
    "in both files": (_copy_to_other, "Each patch listed once", f"{SECOND} is listed in both files"),
    "no name": (_set("patch_id", f"{TILE}_03"), "Patch ids", f"{TILE}_03 is not the name"),
    "null name": (_set("patch_id", None), "Patch ids", "None is not the name"),
    "name of Sentinel-1": (_set("patch_id", f"{SCENE}_3_6"), "Patch ids", f"{SCENE}_3_6 is not the name"),
    "padded differently": (_set("patch_id", f"{TILE}_3_06"), "Patch ids", f"{TILE}_3_06 is not the name"),
    "unknown split": (_set("split", "val"), "Splits", f"{SECOND} is in the split 'val'"),
    "null split": (_set("split", None), "Splits", f"{SECOND} is in the split None"),
    "no labels": (_set("labels", []), "Labels", f"{SECOND} has no label"),
    "null labels": (_set("labels", None), "Labels", f"{SECOND} has labels that are null"),
    "null label": (_set("labels", ["Pastures", None]), "Labels", f"{SECOND} has labels that are null"),
    "unsorted labels": (
        _set("labels", ["Pastures", "Arable land"]),
        "Labels",
        f"{SECOND} has labels that are not sorted",
    ),
    "label twice": (_set("labels", ["Pastures", "Pastures"]), "Labels", f"{SECOND} has labels that are not sorted"),
    "unknown label": (_set("labels", ["Airports"]), "Labels", f"{SECOND} has the unknown label 'Airports'"),
    "flagged row": (_move, "Flagged patches listed separately", f"{TILE}_07_09 is flagged, but in {METADATA_FILE}"),
    "clear row": (
        lambda files: files[1][0].update(contains_seasonal_snow=False),
        "Flagged patches listed separately",
        f"{TILE}_07_08 is not flagged, but in {FLAGGED_METADATA_FILE}",
    ),
    "null flag": (
        _set("contains_cloud_or_shadow", None),
        "Flagged patches listed separately",
        f"{SECOND} has a null flag",
    ),
    "unsorted": (lambda files: files[0].reverse(), "Rows in the order of their names", f"{SECOND} after {TILE}_04_05"),
    "pair of another place": (
        _set("s1_name", f"{SCENE}_3_7"),
        "Pairs of names",
        f"{SECOND} has the partner {SCENE}_3_7, which has other indices",
    ),
    "pair of another tile": (
        _set("s1_name", f"{SCENE[:-5]}34VER_3_6"),
        "Pairs of names",
        f"{SECOND} has the partner {SCENE[:-5]}34VER_3_6, which is of another tile",
    ),
    "pair of the wrong kind": (_set("s1_name", f"{TILE}_03_06"), "Pairs of names", "is not the name of a S1 patch"),
    "old name of another place": (_set("s2v1_name", "S2A_MSIL2A_20170613T101031_6_3"), "Pairs of names", SECOND),
}


@pytest.mark.parametrize("name", ROWS)
def test_damaged_rows(tmp_path: Path, name: str) -> None:
    damage, title, text = ROWS[name]
    files = _sound()
    damage(files)
    problems = _problems(_write(tmp_path, files))
    assert text in "; ".join(problems.pop(title))
    # A row that lost its name, or has two, is out of order as well, at most.
    assert set(problems) <= {"Rows in the order of their names", "Each patch listed once"}


def test_swapped_partners(tmp_path: Path) -> None:
    files = _sound()
    first, second = files[0][:2]
    first["s1_name"], second["s1_name"] = second["s1_name"], first["s1_name"]
    (examples,) = _problems(_write(tmp_path, files)).values()
    assert [example.split(" ")[0] for example in examples] == [first["patch_id"], second["patch_id"]]


def test_three_are_named_and_all_are_counted(tmp_path: Path) -> None:
    files = ([_row(x, y, split="all") for x in range(10) for y in range(10)], [])
    check = _verify(_write(tmp_path, files))[1]["Splits"]
    assert check.problems == 100
    assert check.line().startswith(f"100 problems  Splits: {TILE}_00_00 is in the split 'all'; ")
    assert check.line().endswith("; and 97 more")


# Damaged files


def _not_parquet(path: Path) -> None:
    path.write_text("patch_id,labels\n")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_not_parquet, _cut, _folder, Path.unlink], ids=lambda damage: damage.__name__)
def test_unreadable_files(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    paths = _write(tmp_path, _sound())
    damage(paths[1])
    rows, checks = _verify(paths)
    assert not rows.is_complete
    assert list(checks) == ["Metadata files"]
    assert [example.split(":")[0] for example in checks["Metadata files"].examples] == [FLAGGED_METADATA_FILE]
    assert "\n" not in checks["Metadata files"].line()


def test_columns_that_only_this_program_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fold = columns.Column("fold", pa.int32(), "Fold", published=len(columns.METADATA) + 1)
    monkeypatch.setattr(columns, "METADATA", (*columns.METADATA, fold))
    paths = _write(tmp_path, _sound())
    lacking = ["has no column fold", "without fold, rows cannot be read"]
    assert _problems(paths, own=False) == {}
    assert _problems(paths)["Metadata files"][:2] == [f"{METADATA_FILE} {lacking[0]}", f"{METADATA_FILE}: {lacking[1]}"]
    for path in paths:
        table = pq.read_table(path)
        pq.write_table(table.append_column("fold", pa.array([1] * len(table), pa.int32())), path)
        assert _problems(paths, own=False) == {}
    assert _problems(paths) == {}
    table = pq.read_table(paths[0])
    pq.write_table(table.set_column(table.schema.get_field_index("fold"), "fold", table["split"]), paths[0])
    assert "has fold as string, not int32" in _problems(paths, own=False)["Metadata files"][0]


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda table: table.drop_columns("split"), ["has no column split", "without split, rows cannot be read"]),
        (lambda table: table.append_column("fold", table["split"]), ["also has the column fold"]),
        (lambda table: table.select([*METADATA_SCHEMA.names[1:], "patch_id"]), ["has its columns in another order"]),
        (
            lambda table: table.set_column(
                6, METADATA_SCHEMA.names[6], table[METADATA_SCHEMA.names[6]].cast(pa.int64())
            ),
            ["has contains_seasonal_snow as int64, not bool"],
        ),
        (
            lambda table: table.set_column(1, "labels", table["split"]),
            ["has labels as string, not list", "cast"],
        ),
    ],
    ids=["column missing", "column of others", "order of columns", "type that can be read", "type that cannot"],
)
def test_other_columns(tmp_path: Path, change: Callable[[pa.Table], pa.Table], texts: list[str]) -> None:
    path = _write(tmp_path, _sound())[0]
    pq.write_table(change(pq.read_table(path)), path)
    for own in (True, False):
        examples = _problems(find_metadata([tmp_path]), own=own)["Metadata files"]
        assert all(example.startswith(METADATA_FILE) for example in examples)
        assert [text in example for text, example in zip(texts, examples, strict=True)] == [True] * len(texts)


def test_an_index_of_pandas_is_no_column_but_not_of_this_program(tmp_path: Path, data_dir: Path) -> None:
    source = data_dir / "bigearthnet" / "configilm_24_patches"
    paths = [tmp_path / name for name in (METADATA_FILE, FLAGGED_METADATA_FILE)]
    for path in paths:
        table = pq.read_table(source / path.name)
        for column in columns.METADATA[len(columns.PUBLISHED_METADATA) :]:
            table = table.append_column(column, pa.nulls(len(table), column.type))
        pq.write_table(table, path)
    examples = _problems(paths)["Metadata files"]
    assert examples[:2] == [
        f"{METADATA_FILE} also has the column __index_level_0__",
        f"{METADATA_FILE} does not carry its class list",
    ]


def test_another_class_list(tmp_path: Path) -> None:
    paths = _write(tmp_path, _sound(), classes=["Arable land", "Pastures"])
    assert "another class list" in _problems(paths)["Metadata files"][0]
    assert _problems(paths, own=False) == {}


# What rows ask for


indices = st.tuples(st.integers(0, 12), st.integers(0, 120))
letters = st.text("ab", max_size=2)


@settings(deadline=None)
@given(st.lists(st.tuples(indices, st.none() | letters), unique_by=lambda item: item[0], max_size=30), st.data())
def test_names_are_met_in_any_order(items: list[tuple[tuple[int, int], str | None]], data: st.DataObject) -> None:
    """Without padding, a name may be the beginning of another; and patches may share a Sentinel-1 partner."""
    rows = [_row(x, y, patch_id=f"{TILE}_{x}_{y}", s1_name=partner) for (x, y), partner in items]
    gathered = Rows([pa.Table.from_pylist(rows, METADATA_SCHEMA)])
    ids = sorted(row["patch_id"] for row in rows)
    assert [row["patch_id"] for row in gathered] == ids
    columns = {ImageKind.S2: "patch_id", ImageKind.S1: "s1_name", ImageKind.MAP: "patch_id"}
    for kind, column in columns.items():
        wanted = {row[column] for row in rows if row[column] is not None}
        found = data.draw(st.lists(st.sampled_from([*sorted(wanted), "c", ""]), max_size=40))
        names = gathered.names(kind)
        for name in found:
            row = names.find(name)
            if row is not None:
                names.mark(name)
            assert (row is not None) == (name in wanted)
            assert row is None or gathered.value(column, row) == name
        assert list(names.missing()) == sorted(wanted - set(found))


@given(st.sets(st.sampled_from([f"{scene}_{x}_{y}" for scene in "ABC" for x in (1, 12) for y in (3, 31)])))
def test_rows_of_a_tile(names: set[str]) -> None:
    rows = [_row(0, 0, patch_id=name) for name in [*names, "A", "A`", "B!"]]
    gathered = Rows([pa.Table.from_pylist(rows, METADATA_SCHEMA)])
    for tile in "ABC":
        here = gathered.table[gathered.of_prefix(f"{tile}_")]["patch_id"].to_pylist()
        assert here == sorted(name for name in names if name.startswith(f"{tile}_"))


@pytest.mark.parametrize(
    ("layout", "tree", "name", "places"),
    [
        ("bigearthnet-v2", "BigEarthNet-S2", f"{TILE}_03_06", {TILE}),
        ("bigearthnet-v2", "Reference_Maps", f"{TILE}_03_06", {TILE}),
        ("bigearthnet-v2", "BigEarthNet-S1", f"{SCENE}_3_6", {SCENE.removesuffix("_33UUP")}),
        ("bigearthnet-v1", "BigEarthNet-v1.0", "S2A_MSIL2A_20170613T101031_3_6", {""}),
        ("bigearthnet-v1", "BigEarthNet-S1-v1.0", f"{SCENE}_3_6", {""}),
        ("seasonet", "winter", "32UME_20180418T104021_53_928425_7_503876", {"grid1", "grid2"}),
    ],
)
def test_folders_that_a_patch_may_be_in(layout: str, tree: str, name: str, places: set[str]) -> None:
    expected = published(layout)
    (chosen,) = (other for other in expected.tree_layout.trees if other.name == tree)
    walk = Walk(chosen, Engine("the trees", Context(Settings(), Report(), expected)), Check(tree))
    assert len(chosen.levels) == (places != {""})
    assert all(walk.is_home(place, name) for place in places)
    assert places == {""} or not walk.is_home("T33UUQ", name)
