"""Verification of the trees of BigEarthNet v1 and SeasoNet: in their dataset and alone, sound and damaged."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import rasterio
from click.testing import CliRunner
from verifying import assert_found, problems_of, verified, with_copies

from reben_dask.cli.verify import verify as command
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE

V1 = ("BigEarthNet-v1.0", "BigEarthNet-S1-v1.0", "Reference_Maps-v1.0")
SEASONS = ("spring", "summer", "fall", "winter", "snow")
LISTS = tuple(f"bigearthnet-{name}.csv" for name in ("train", "val", "test"))
TABLES = "Tables of the trees as in the patch table"
LISTED = "Tables of the trees"
SETS = ("train", "val", "test")


def _kept(out: Path) -> list[dict[str, Any]]:
    columns = ["patch_id", "s1_name", "season", "grid", "split"]
    return pq.read_table(out / "patches.parquet", columns=columns, filters=[("status", "=", "kept")]).to_pylist()


def _rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write an image anew, with other pixels, shape ``(band, y, x)``."""
    with rasterio.open(path) as image:
        pixels, profile = image.read(), image.profile
    pixels = change(pixels)
    path.unlink()
    with rasterio.open(path, "w", **{**profile, "dtype": pixels.dtype}) as image:
        image.write(pixels)


def _first_pixel(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        pixels[0, 0, 0] += value
        return pixels

    return change


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _insert(path: Path, line: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines.insert(line, text)
    path.write_text("\n".join(lines) + "\n")


def _replace_line(path: Path, line: int, text: str) -> str:
    lines = path.read_text().splitlines()
    before, lines[line] = lines[line], text
    path.write_text("\n".join(lines) + "\n")
    return before


# In a dataset


def test_version_1_in_its_dataset(v1_run: Path, tmp_path: Path) -> None:
    out = with_copies(v1_run, tmp_path / "out", (*V1, *LISTS))
    lost, typed, labelled, changed, moved, partner, *_ = _kept(out)
    names = [row["patch_id"] for row in (lost, typed, labelled, changed, moved, partner)]
    s2, s1, maps = (out / tree for tree in V1)
    (s2 / names[0] / f"{names[0]}_B05.tif").unlink()
    _rewrite(s2 / names[1] / f"{names[1]}_B02.tif", lambda pixels: pixels.astype(np.int32))
    _edit(s2 / names[2] / f"{names[2]}_labels_metadata.json", lambda document: document.update(labels=["Airports"]))
    _rewrite(s2 / names[3] / f"{names[3]}_B11.tif", _first_pixel(1))
    (maps / names[4]).rename(maps / f"{names[4]}9")
    other = s1 / partner["s1_name"] / f"{partner['s1_name']}_labels_metadata.json"
    _edit(other, lambda document: document["coordinates"].update(lly=0))
    _insert(out / LISTS[0], 0, "a,b")
    problems = problems_of(out, full=True)
    assert f"{names[0]} has no {names[0]}_B05.tif" in problems[V1[0]]
    assert f"{names[1]}_B02.tif has the type int32, not uint16" in problems[V1[0]]
    assert f"{names[2]}_labels_metadata.json has the labels ['Airports'], not [" in problems[V1[0]]
    assert f"{other.name} has the coordinates " in problems[V1[1]]
    assert problems[V1[2]] == f"{names[4]} is missing"
    assert problems["Nothing left over in the trees"] == f"{V1[2]}/{names[4]}9"
    assert problems["Zarr pixels as in the trees"] == f"{names[3]} differs in B11"
    assert problems[TABLES].startswith(f"{LISTS[0]}, line 1, has the column 1 'a', not '")
    assert set(problems) == {*V1, "Nothing left over in the trees", "Zarr pixels as in the trees", TABLES}


def test_seasonet_in_its_dataset(grids_run: Path, tmp_path: Path) -> None:
    out = with_copies(grids_run, tmp_path / "out", ("summer", "winter", "meta.csv", "splits"))
    summer = [row for row in _kept(out) if row["season"] == "summer"]
    folders = [out / "summer" / f"grid{row['grid']}" / row["patch_id"] for row in summer[:6]]
    lost, typed, mixed, wrong, moved, other = folders
    (lost / f"{lost.name}_10m_IR.tif").unlink()
    _rewrite(typed / f"{typed.name}_labels.tif", lambda pixels: pixels.astype(np.uint16))
    _rewrite(mixed / f"{mixed.name}_10m_RGB.tif", lambda pixels: pixels[::-1])
    _rewrite(wrong / f"{wrong.name}_labels.tif", lambda pixels: np.full_like(pixels, 34))
    grid = int(moved.parent.name[-1])
    moved.rename(moved.parent.with_name(f"grid{3 - grid}") / moved.name)
    other.rename(out / "winter" / f"grid{summer[5]['grid']}" / other.name)
    before = _replace_line(out / "splits" / "train.csv", 0, "396")
    _insert(out / "meta.csv", 10_000, "a further row")
    (out / "splits" / "mine.csv").write_text("")
    problems = problems_of(out, full=True)
    assert f"{lost.name} has no {lost.name}_10m_IR.tif" in problems["summer"]
    assert f"{typed.name}_labels.tif has the type uint16, not uint8" in problems["summer"]
    assert f"{mixed.name} differs in B02, B04" in problems["Zarr pixels as in the trees"]
    assert f"{wrong.name} differs in its reference map" in problems["Zarr pixels as in the trees"]
    text = f"{wrong.name}: its map holds the number 34, of 33 classes"
    assert problems["Labels as in the maps of the trees"] == text
    left = (f"summer/grid{3 - grid}/{moved.name}", f"winter/grid{summer[5]['grid']}/{other.name}")
    assert all(f"{place}, which belongs elsewhere" in problems["Nothing left over in the trees"] for place in left)
    checks = {check.title: check for check in verified(out).checks}
    assert checks["summer"].problems == 4
    assert f"{min(moved.name, other.name)} is missing" in problems["summer"]
    assert f"splits/train.csv, line 1, is '396', not '{before}'" in problems[TABLES]
    assert "is 'a further row', but the table must end before it" in problems[TABLES]
    assert "splits/mine.csv is not a table of the layout" in problems[TABLES]
    assert not [title for title in problems if "archives" in title or title.endswith(".zst")]


def test_trees_that_have_gone_elsewhere(v1_run: Path, tmp_path: Path) -> None:
    out = with_copies(v1_run, tmp_path / "out", ())
    for name in (*V1, *LISTS):
        (out / name).unlink()
    report = verified(out)
    names = json.loads((out / "run" / "record.json").read_text())["exports"]
    assert set(names) == {*V1, *LISTS}
    text = "no problems in the checked parts. Not checked: Exports of the run (none is in the dataset's folder)."
    assert report.verdict().endswith(f"patches: {text}")
    (out / V1[0]).symlink_to(v1_run / V1[0])
    problems = problems_of(out)
    assert problems["Exports of the run"].count("is missing") == 3
    assert problems[V1[2]] == "is missing"


# Alone


@pytest.fixture(scope="module")
def few_v1(v1_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees of some patches of version 1, and their lists."""
    folder = tmp_path_factory.mktemp("few-v1")
    rows = _kept(v1_run)[::4][:6]
    for row in rows:
        for tree, name in zip(V1, (row["patch_id"], row["s1_name"], row["patch_id"]), strict=True):
            shutil.copytree(v1_run / tree / name, folder / tree / name)
    names = {row["patch_id"] for row in rows}
    for name in LISTS:
        lines = [line for line in (v1_run / name).read_text().splitlines() if line.split(",")[0] in names]
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def few_seasonet(grids_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees of some patches of SeasoNet, and their tables; as this recipe's first labels are those of large regions."""
    folder = tmp_path_factory.mktemp("few-seasonet") / "trees"
    folder.mkdir()
    header, *rows = csv.reader((grids_run / "meta.csv").read_text().splitlines())
    sets = {name: set((grids_run / "splits" / f"{name}.csv").read_text().split()) for name in SETS}
    chosen = rows[::6]
    with (folder / "meta.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([number, *row[1:]] for number, row in enumerate(chosen))
    (folder / "splits").mkdir()
    for name, members in sets.items():
        lines = [f"{number}\n" for number, row in enumerate(chosen) if row[0] in members]
        (folder / "splits" / f"{name}.csv").write_text("".join(lines) or "Index\n")
    for row in chosen:
        path = row[header.index("Path")]
        shutil.copytree(grids_run / path, folder / path)
    # Which sizes count is known from the record alone.
    shutil.copytree(grids_run / "run", folder.parent / "run")
    return folder


def test_few_of_version_1(few_v1: Path) -> None:
    done = CliRunner().invoke(command, [str(few_v1)])
    assert done.exit_code == 0, done.output
    assert done.output.count(" 6 patch folders") == 3
    assert "Labels as in the maps of the trees: 6 maps" in done.output
    assert done.output.endswith(": 6 patches: complete and consistent, without metadata.\n")
    assert verified(few_v1 / V1[1]).verdict().startswith("6 patches: complete and consistent, without metadata")


def test_published_patches_of_version_1(data_dir: Path, tmp_path: Path) -> None:
    """The published files are as they must be."""
    for tree, example in zip(V1, ("BigEarthNet-S2-Example", "BigEarthNet-S1-Example"), strict=False):
        (tmp_path / tree).symlink_to(data_dir / "bigearthnet-v1" / example)
    assert verified(tmp_path).verdict() == "6 patches: complete and consistent, without metadata and reference maps."


def test_few_of_seasonet(few_seasonet: Path) -> None:
    seasons = [season for season in SEASONS if (few_seasonet / season).exists()]
    number = len((few_seasonet / "meta.csv").read_text().splitlines()) - 1
    assert number >= 5
    assert len(seasons) >= 2
    report = verified(few_seasonet)
    absent = " and ".join(season for season in SEASONS if season not in seasons)
    assert report.verdict() == f"{number} patches: complete and consistent, without {absent}."
    one = verified(few_seasonet / seasons[0])
    assert 0 < one.patches < number
    # The record is not beside one season, and without it regions of any size count.
    assert {check.title for check in one.checks if check.problems} <= {MAPS}


def _patch(trees: Path, tree: str, number: int = 0) -> Path:
    return sorted((trees / tree).glob("S*"))[number]


def _damage_document(**changed: Any) -> Callable[[Path], object]:
    def damage(trees: Path) -> None:
        patch = _patch(trees, V1[0])
        _edit(patch / f"{patch.name}_labels_metadata.json", lambda document: document.update(changed))

    return damage


def _one_list(trees: Path) -> Path:
    return next(trees / name for name in LISTS if (trees / name).read_text())


V1_DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "label": (
        _damage_document(labels=["Airports"]),
        "Labels as in the maps of the trees",
        "only the document has Airp",
    ),
    "unknown label": (_damage_document(labels=["Roads"]), V1[0], "has the unknown label 'Roads'"),
    "no label": (_damage_document(labels=None), V1[0], "has the labels None, not a list of names"),
    "place": (_damage_document(coordinates={"ulx": 1}), V1[0], "has the coordinates {'ulx': 1}, without "),
    "edge": (
        _damage_document(coordinates={"ulx": 1, "uly": 2, "lrx": 3, "lry": 4}),
        V1[0],
        "has the minx 1, not ",
    ),
    "partner": (
        lambda trees: _edit(next(_patch(trees, V1[1]).glob("*.json")), lambda d: d.pop("corresponding_s2_patch")),
        V1[1],
        "has the patch_id None, not 'S2A",
    ),
    "system": (_damage_document(projection="mine"), V1[0], "has the epsg 'mine', not 32633"),
    "no document": (
        lambda trees: next(_patch(trees, V1[1]).glob("*.json")).unlink(),
        V1[1],
        "_labels_metadata.json",
    ),
    "damaged document": (
        lambda trees: next(_patch(trees, V1[1]).glob("*.json")).write_text("[1"),
        V1[1],
        "is not a JSON document (",
    ),
    "listed twice": (
        lambda trees: _insert(_one_list(trees), 0, _one_list(trees).read_text().splitlines()[0]),
        LISTED,
        " is listed 2 times",
    ),
    "no pair": (
        lambda trees: _insert(_one_list(trees), 0, "a"),
        LISTED,
        "line 1, is 'a', which is not a pair",
    ),
    "list missing": (lambda trees: (trees / LISTS[1]).unlink(), LISTED, f"{LISTS[1]} is missing"),
    "listed, but not there": (
        lambda trees: _insert(_one_list(trees), 0, "S2A_MSIL2A_20170613T101031_1_2,"),
        V1[0],
        "S2A_MSIL2A_20170613T101031_1_2 is missing",
    ),
}


@pytest.mark.parametrize("name", V1_DAMAGE)
def test_damage_to_version_1_alone(few_v1: Path, tmp_path: Path, name: str) -> None:
    damage, title, text = V1_DAMAGE[name]
    trees = Path(shutil.copytree(few_v1, tmp_path / "trees"))
    damage(trees)
    # A list asks for the reference maps of its patches, too.
    also = {V1[2]: text} if name == "listed, but not there" else {}
    assert_found(trees, {title: text, **also})


def test_lists_beside_metadata(few_v1: Path, v1_run: Path, tmp_path: Path) -> None:
    """Those of the whole dataset list more; and a patch that is listed apart must be in none."""
    trees = Path(shutil.copytree(few_v1, tmp_path / "trees"))
    names = {path.name for path in (trees / V1[0]).iterdir()}
    for file in (METADATA_FILE, FLAGGED_METADATA_FILE):
        table = pq.read_table(v1_run / file)
        pq.write_table(table.filter(pc.is_in(table["patch_id"], pa.array(sorted(names)))), trees / file)
    assert verified(trees).verdict() == "6 patches: complete and consistent."
    wrong = next(name for name in LISTS if (trees / name).read_text())
    line = (trees / wrong).read_text().splitlines()[0]
    (trees / wrong).write_text((trees / wrong).read_text().replace(f"{line}\n", ""))
    assert problems_of(trees) == {LISTED: problems_of(trees)[LISTED]}
    assert f"{line.split(',')[0]} is not listed, but in the metadata" in problems_of(trees)[LISTED]


def _cell(row: int, column: str, value: str) -> Callable[[Path], None]:
    def damage(trees: Path) -> None:
        lines = list(csv.reader((trees / "meta.csv").read_text().splitlines()))
        lines[row + 1][lines[0].index(column)] = value
        with (trees / "meta.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)

    return damage


def _labels(value: int) -> Callable[[Path], None]:
    def damage(trees: Path) -> None:
        image = next(trees.glob("*/grid*/*/*_labels.tif"))
        _rewrite(image, lambda pixels: np.full_like(pixels, value))

    return damage


def _in_two_sets(trees: Path) -> None:
    """The first row that is in a set, in all of them."""
    row = next(path.read_text().split()[0] for path in sorted((trees / "splits").iterdir()) if path.read_text())
    for name in SETS:
        (trees / "splits" / f"{name}.csv").write_text(f"{row}\n")


MAPS = "Labels as in the maps of the trees"
SEASONET_DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "position": (_cell(1, "Index", "7"), LISTED, "meta.csv, row 1, has the Index '7', not '1'"),
    "season": (_cell(1, "Season", "Spring"), LISTED, "meta.csv, row 1, has the Season 'Spring', not '"),
    "latitude": (_cell(1, "Latitude", "1.5"), LISTED, "meta.csv, row 1, has the lat 1_5, but is of 33U"),
    "time": (_cell(1, "Hour", "23"), LISTED, "meta.csv, row 1, has the time 20"),
    "class": (_cell(0, "Classes", "6"), MAPS, "only the metadata have Airports"),
    "class that there is not": (_cell(0, "Classes", "99"), LISTED, "meta.csv, row 0, has the Classes '99', not ''"),
    "path": (_cell(0, "Path", "../x"), LISTED, "meta.csv, row 0, has the path '../x', which is that of no patch"),
    "map": (_labels(6), MAPS, "only the map has Airports"),
    "number": (_labels(200), MAPS, "its map holds the number 200, of 33 classes"),
    "position of a set": (
        lambda trees: _insert(trees / "splits" / "val.csv", 0, "1000"),
        LISTED,
        "splits/val.csv, line 1, is '1000', and meta.csv has no such row",
    ),
    "two sets": (_in_two_sets, LISTED, "again, after splits/train.csv"),
    "split missing": (lambda trees: (trees / "splits" / "val.csv").unlink(), LISTED, "splits/val.csv is missing"),
    "file missing": (
        lambda trees: next(trees.glob("*/grid*/*/*_20m.tif")).unlink(),
        "",
        "_20m.tif",
    ),
    "patch missing": (
        lambda trees: shutil.rmtree(next(trees.glob("*/grid*/*"))),
        "",
        " is missing",
    ),
}


@pytest.mark.parametrize("name", SEASONET_DAMAGE)
def test_damage_to_seasonet_alone(few_seasonet: Path, tmp_path: Path, name: str) -> None:
    damage, title, text = SEASONET_DAMAGE[name]
    trees = Path(shutil.copytree(few_seasonet.parent, tmp_path / "copy")) / "trees"
    damage(trees)
    problems = problems_of(trees)
    if name in {"path", "class that there is not"}:
        # Then nobody knows what belongs to the trees, or their labels.
        assert text in problems[title]
        return
    (found,) = problems
    assert found == title or (not title and found in SEASONS)
    assert text in problems[found]


def test_what_cannot_be_verified(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(tmp_path)])
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert all(name in text for name in ("BigEarthNet-S2", "BigEarthNet-v1.0", "summer", ".tar.zst"))


# LMDBs whose names are those of another recipe


def test_an_lmdb_without_its_record(grids_run: Path, v1_run: Path, tmp_path: Path) -> None:
    for name, run in (("grids", grids_run), ("v1", v1_run)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lmdb").symlink_to(run / "lmdb")
        report = verified(tmp_path / name / "lmdb")
        assert report.problems == 0, report.verdict()
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        (tmp_path / "v1" / name).symlink_to(v1_run / name)
    assert verified(tmp_path / "v1" / "lmdb").verdict().endswith("patches: complete and consistent.")


def test_an_lmdb_whose_names_nobody_knows(grids_run: Path, tmp_path: Path) -> None:
    # Which sizes of regions count is known from the record alone, too.
    table = pq.read_table(grids_run / "patches.parquet", filters=[("status", "=", "kept")]).to_pylist()
    alike = {row["patch_id"] for row in table if row["labels"] == row["labels_hard"]}
    rows = [row for row in pq.read_table(grids_run / METADATA_FILE).to_pylist() if row["patch_id"] in alike][:3]
    with (
        lmdb.open(str(grids_run / "lmdb"), readonly=True, lock=False) as source,
        lmdb.open(str(tmp_path / "lmdb"), map_size=2**26) as copy,
        source.begin() as found,
        copy.begin(write=True) as made,
    ):
        for row in rows:
            for suffix in ("", "_reference_map"):
                key = f"{row['patch_id']}{suffix}"
                made.put(f"mine-{key}".encode(), found.get(key.encode()))
    schema = pq.read_schema(grids_run / METADATA_FILE)
    mine = [{**row, "patch_id": f"mine-{row['patch_id']}"} for row in rows]
    pq.write_table(pa.Table.from_pylist(mine, schema), tmp_path / "mine.parquet")
    done = CliRunner().invoke(command, [str(tmp_path / "lmdb")])
    assert done.exit_code == 2
    assert f"has patches such as 'mine-{rows[0]['patch_id']}'" in " ".join(done.output.split())
    assert "put the folder run of their dataset beside it, or give its --metadata" in " ".join(done.output.split())
    report = verified(tmp_path / "lmdb", tmp_path / "mine.parquet")
    text = "no problems in the checked parts. Not checked: Patch ids (only a run record defines the patch names)."
    assert report.verdict() == f"3 patches: {text}"
