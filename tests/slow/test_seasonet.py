"""SeasoNet from the mini product and from the small region, seen again on more days, against the oracle.

The small region has one image of each tile and season, so that there is nothing to choose from. Here its western tile
is seen again twice in summer, once in winter and once in March, which is in no season; its eastern one in a product
that has no scene classification.

There are three datasets: the shipped recipe on the mini product and on the small region with these images, and a recipe
of one's own, in which everything that may be chosen is chosen otherwise.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from importlib import resources
from itertools import pairwise
from pathlib import Path

import datasets
import geopandas as gpd
import numpy as np
import oracle
import protocols
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely.affinity
import yaml
from acquisitions import acquire_again, sky
from click.testing import CliRunner
from conftest import maps_of, run_here
from datasets import Dataset
from oracle import Patch, Product, Protocol
from processes import Cluster

from reben_dask.cli.table import table as table_command
from reben_dask.cli.verify import verify as verify_command
from reben_dask.demo import DemoRegion
from reben_dask.job.global_steps import add_blocks, assign_blocks, assign_patches, choose_among, count_blocks
from reben_dask.recipes import load_recipe
from reben_dask.recipes.model import StratifiedSplit

SIDE_PX = 252
"""SCL pixels along a tile of the small region."""

OFFSET = {"N0500": 1000}
"""What to take off digital numbers by processing baseline, in products of the small region."""

SHARDS = 3

WOODS = (311, 312, 313)


def _run(*arguments: object, out: Path) -> str:
    done = run_here(*arguments, "--out", out, COLUMNS="160")
    assert done.returncode == 0, done.stderr
    return done.stdout


# -------------------------------------------------------------------------------------------------------- the inputs


@pytest.fixture(scope="module")
def seen_again(small_folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Products of more days."""

    def find(day: str, tile: str) -> Path:
        return next(folder for folder in small_folders if day in folder.name and tile in folder.name)

    def at(month: int, day: int, year: int = 2018) -> datetime:
        return datetime(year, month, day, 10, 0, 31, tzinfo=UTC)

    folder = tmp_path_factory.mktemp("seen-again")
    summer, winter = find("20180725", "T33UVP"), find("20190116", "T33UVP")
    hazy = {"snow": (0, 0, 0, 0, 18, 72), "cloud": (0, 0, 90), "shadow": (0, 0, 90)}
    july, august = sky(SIDE_PX, 65, **hazy), sky(SIDE_PX, 77, **hazy)
    august[: SIDE_PX // 2] = july[: SIDE_PX // 2]  # equally clear
    acquire_again(summer, folder, at(7, 5), scl=july)
    acquire_again(summer, folder, at(8, 14), platform="S2B", scl=august)
    cold = {"snow": (0, 45, 90, 90, 225, 900), "cloud": (0, 0, 45, 90), "shadow": (0, 9)}
    acquire_again(winter, folder, at(2, 5, 2019), scl=sky(SIDE_PX, 66, **cold))
    thaw = {"snow": (0, 0, 180, 225, 400), "cloud": (0, 0, 45), "shadow": (0, 400)}
    acquire_again(winter, folder, at(3, 17, 2019), scl=sky(SIDE_PX, 70, **thaw))
    acquire_again(find("20180725", "T33UWP"), folder, at(7, 15))
    return folder


@pytest.fixture(scope="module")
def every_folder(small_folders: list[Path], seen_again: Path) -> list[Path]:
    return [*small_folders, *sorted(seen_again.iterdir())]


def _layer(path: Path, product: Product, width_m: int, number: int) -> Path:
    """Polygons with a number each, in degrees: some overlap, some lack their number, and some ground has none."""
    random = np.random.default_rng(7)
    to_degrees = pyproj.Transformer.from_crs(product.epsg, 4326, always_xy=True)
    squares = []
    for left, top in random.uniform(-500, (width_m, product.side), (number, 2)):
        square = shapely.box(0, 0, *random.uniform(400, 3000, 2))
        turned = shapely.affinity.rotate(square, 37)
        placed = shapely.affinity.translate(turned, product.ulx + left, product.uly - top)
        squares.append(shapely.transform(placed, to_degrees.transform, interleaved=False))
    numbers = [51.0 + each % 4 if each % 9 else None for each in range(number)]
    gpd.GeoDataFrame({"rtyp3": numbers, "value": "none of it"}, geometry=squares, crs=4326).to_file(path)
    return path


def _urbanisation(layer: Path, patches: Iterable[Patch]) -> dict[str, str | None]:
    """Value of each patch: the one whose polygons cover most of it, as text."""
    found = {}
    for patch in patches:
        polygons = oracle._polygons_of(layer, "rtyp3", patch.epsg)
        box = shapely.box(*patch.bounds)
        areas: dict[str, float] = defaultdict(float)
        for number in polygons.tree.query(box, predicate="intersects"):
            if not np.isnan(polygons.values[number]):
                shared = shapely.intersection(box, polygons.geometries[number]).area
                areas[str(int(polygons.values[number]))] += shared
        first, second, *_ = [*sorted(areas.values(), reverse=True), 0, 0]
        assert first == 0 or first - second > 1e-3, "two areas are too near to one another to say which is larger"
        found[patch.patch_id] = max(areas, key=lambda value: areas[value]) if first else None
    return found


# ------------------------------------------------------------------------------------------------------ the datasets


def _expected(
    folders: Iterable[Path], landcover: Path, countries: Path, protocol: Protocol, choice: protocols.Choice
) -> dict[str, Patch]:
    patches = [patch for folder in folders for patch in oracle.patches_of(folder, landcover, countries, protocol)]
    return {patch.patch_id: patch for patch in protocols.choose(patches, choice)}


@pytest.fixture(scope="module")
def mini(
    mini_inputs: list[object], data_dir: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    """The shipped recipe on real pixels of one day in May."""
    out = tmp_path_factory.mktemp("mini-seasonet") / "out"
    folders = sorted((data_dir / "mini").glob("*.SAFE"))
    layer = _layer(out.parent / "layer.gpkg", oracle.open_product(folders[0]), 10_000, 40)
    given = ("--recipe", "seasonet", "--join", f"urbanisation={layer}", *cluster.options)
    printed = _run(*mini_inputs, *given, out=out)
    landcover = data_dir / "landcover" / "clc2018_poznan_3035.gpkg"
    countries = data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg"
    rules = (protocols.SEASONET_PROTOCOL, protocols.SEASONET_CHOICE)
    return Dataset(out, printed, _expected(folders, landcover, countries, *rules))


@pytest.fixture(scope="module")
def shipped(
    small_inputs: list[object],
    small_region: DemoRegion,
    every_folder: list[Path],
    seen_again: Path,
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Dataset:
    """The shipped recipe on the small region and the images of more days, with its LMDB in shards."""
    out = tmp_path_factory.mktemp("small-seasonet") / "out"
    given = ("--s2", seen_again, "--recipe", "seasonet", "--lmdb-shards", SHARDS, *cluster.options)
    printed = _run(*small_inputs, *given, out=out)
    rules = (protocols.SEASONET_PROTOCOL, protocols.SEASONET_CHOICE)
    return Dataset(out, printed, _expected(every_folder, small_region.landcover, small_region.countries, *rules))


def _own_recipe(folder: Path) -> Path:
    """The shipped recipe, copied and changed; the classes of woods are one in a nomenclature beside it."""
    recipe = yaml.safe_load((resources.files("reben_dask.recipes") / "seasonet.yaml").read_text(encoding="utf-8"))
    recipe |= {
        "name": "mine",
        "bands": ["B05", "B01", "B02"],
        "harmonize": True,
        "patch_name": "{mgrs}_{time}_g{grid}_{x}_{y}",
        "nomenclature": "woods.csv",
        "labeled_fraction": {"threshold": 0.9, "comparison": "at_least"},
        "region_thresholds_px": {"medium": 100, "hard": 0, "huge": 5000},
        "seasons": {"warm": [6, 7, 8], "cold": [1, 2]},
        "images": {
            "limits": {"warm": {"snow": 0.02, "cloud": 0.1}, "cold": {"snow": 0.1, "cloud": 0.1}},
            "snowy": {"season": "white", "snow_from": 0.2, "cloud": 0.05},
        },
        "countries": None,
    }
    recipe["split"]["block_m"] = 4800
    recipe["split"]["validation"] = 0.2
    recipe["sky"]["flag_from"] = 0.25
    recipe["attributes"]["district"] = {"column": "NAME"}
    recipe["more_splits"] = {
        "near": {"strategy": "grid", "block": 2},
        "far": {"strategy": "geographic", "validation": 0.25, "test": 0.25},
        "lot": {"strategy": "random", "validation": 0.5, "test": 0.25, "seed": 3},
    }
    rows = [f"{code},{name or ''}" for code, name in _woods().items() if code != oracle.NO_POLYGON]
    (folder / "woods.csv").write_text("\n".join(["code,class", *rows]), encoding="utf-8")
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return folder / "mine.yaml"


def _woods() -> dict[int, str | None]:
    listed = protocols.classes_of(protocols.SEASONET)
    plain = {code: name and name.split(",")[0] for code, name in listed.items()}
    return plain | dict.fromkeys(WOODS, "Woods")


MINE = Protocol(
    class_of_code=_woods(),
    offsets_m=(0, 600),
    name=lambda product, grid, x, y: f"{product.mgrs}_{product.time}_g{grid}_{x}_{y}",
    min_region_px={"medium": 100, "hard": 0, "huge": 5000},
    enough=lambda labeled, pixels: 10 * labeled >= 9 * pixels,
    months={"warm": (6, 7, 8), "cold": (1, 2)},
    apart_from_percent=25,
    bands=("B05", "B01", "B02"),
)
MY_CHOICE = protocols.Choice({"warm": (2, 10), "cold": (10, 10)}, "white", 20, 5)


def _harmonized(patch: Patch) -> Patch:
    offset = OFFSET.get(patch.tile.split("_")[3], 0)
    shifted = {band: np.maximum(dn.astype(int) - offset, dn > 0).astype(np.uint16) for band, dn in patch.bands.items()}
    return replace(patch, bands=shifted)


@pytest.fixture(scope="module")
def my_layer(every_folder: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    west = min((oracle.open_product(folder) for folder in every_folder), key=lambda product: product.ulx)
    return _layer(tmp_path_factory.mktemp("layer") / "layer.gpkg", west, 9_000, 16)


@pytest.fixture(scope="module")
def mine(
    small_region: DemoRegion,
    every_folder: list[Path],
    my_layer: Path,
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Dataset:
    """A recipe of one's own; without the western tile's clear day in summer, which is the clearest of all places."""
    out = tmp_path_factory.mktemp("small-mine") / "out"
    folders = [folder for folder in every_folder if not ("20180725" in folder.name and "T33UVP" in folder.name)]
    recipe = _own_recipe(out.parent)
    maps = maps_of(small_region)
    given = ("--recipe", recipe, "--join", f"urbanisation={my_layer}", *cluster.options)
    printed = _run("--s2", *folders, *maps, *given, out=out)
    expected = _expected(folders, small_region.landcover, small_region.countries, MINE, MY_CHOICE)
    return Dataset(out, printed, {name: _harmonized(patch) for name, patch in expected.items()})


@pytest.fixture(params=["mini", "shipped", "mine"])
def dataset(request: pytest.FixtureRequest) -> Dataset:
    found: Dataset = request.getfixturevalue(request.param)
    return found


# --------------------------------------------------------------------------------------------------------- the tests


def test_the_cases_that_matter_are_there(shipped: Dataset, mine: Dataset) -> None:
    for dataset, snowy, percents in ((shipped, "snow", (1, 5, 10)), (mine, "white", (2, 10, 20))):
        patches = dataset.patches.values()
        reasons = {patch.reason for patch in patches}
        assert reasons >= {None, "nodata", "no_season", "no_scl", "snow_or_cloud", "not_chosen"}
        assert {patch.season for patch in dataset.kept.values()} > {snowy}
        assert {patch.sensing_time.month for patch in dataset.kept.values() if patch.season == snowy} >= {1, 3}
        assert any(patch.snow_pixels is None for patch in patches)
        shares = {
            (100 * patch.snow_pixels, 100 * patch.cloud_pixels) for patch in patches if patch.snow_pixels is not None
        }
        for percent in percents:
            exactly = percent * 3600
            assert any(exactly in pair for pair in shares), f"no patch has exactly {percent} %"
    assert {patch.reason for patch in mine.patches.values()} > {"label"}
    assert {patch.set_apart for patch in mine.kept.values()} == {True, False}
    both_sides = Counter((patch.tile[-5:], patch.grid) for patch in shipped.kept.values())
    assert len(both_sides) == 4, "both grids of both tiles"


def test_an_image_without_scene_classification_is_rejected_for_that(shipped: Dataset, mine: Dataset) -> None:
    for dataset in (shipped, mine):
        rows = [row for name, row in dataset.rows.items() if "_20180715T" in row["tile"]]
        assert Counter(row["reason"] for row in rows) == {"no_scene_classification": 16 + 9}
        warnings = json.loads((dataset.out / "run" / "record.json").read_text())["warnings"]
        assert f"{rows[0]['tile']} has no scene classification (SCL); its patches are rejected." in warnings


def test_images_compete_and_some_are_equally_clear(mine: Dataset) -> None:
    images: dict[object, list[Patch]] = defaultdict(list)
    for patch in mine.patches.values():
        if patch.reason in {None, "not_chosen"}:
            images[patch.tile[-5:], patch.grid, patch.x, patch.y, patch.season].append(patch)
    several = [patches for patches in images.values() if len(patches) > 1]
    assert len(several) > 5
    taken = Counter(patch.tile for patches in several for patch in patches if patch.reason is None)
    assert len(taken) > 2, "always the same image is the clearest"
    ties = [patches for patches in several if len({protocols._unclear(patch, MY_CHOICE) for patch in patches}) == 1]
    assert ties, "no two images of a place are equally clear"
    for patches in ties:
        assert min(patches, key=lambda patch: patch.sensing_time).reason is None


def test_every_candidate_is_on_record(mini: Dataset, shipped: Dataset, mine: Dataset) -> None:
    datasets.expect_every_candidate(mini)
    datasets.expect_every_candidate(shipped, left_out=16 + 9)
    datasets.expect_every_candidate(mine)
    assert len(mini.patches) == 2 * 64
    assert len(shipped.patches) == 9 * (16 + 9)


def test_every_column_is_as_the_oracle_says(dataset: Dataset) -> None:
    datasets.expect_columns(dataset)
    datasets.expect_footprints(dataset)


def test_the_attribute_is_that_of_the_largest_area(mini: Dataset, mine: Dataset, my_layer: Path) -> None:
    for dataset, layer in ((mini, mini.out.parent / "layer.gpkg"), (mine, my_layer)):
        expected = _urbanisation(layer, dataset.patches.values())
        assert {dataset.rows[name]["urbanisation"] for name in expected} >= {None, "51", "52", "53", "54"}
        assert {name: dataset.rows[name]["urbanisation"] for name in expected} == expected


def test_an_attribute_without_a_layer_stays_empty(shipped: Dataset, mine: Dataset) -> None:
    for dataset, name in ((shipped, "urbanisation"), (mine, "district")):
        assert dataset.table[name].isna().all()
        warnings = json.loads((dataset.out / "run" / "record.json").read_text())["warnings"]
        assert f"The attribute {name} stays empty: no layer is given (--join {name}=FILE)." in warnings


def test_further_splits_of_both_grids(mine: Dataset) -> None:
    patches = mine.patches
    quarter, half = Fraction(1, 4), Fraction(1, 2)
    expected = {
        "split_near": {name: protocols.grid_split(patch.x, patch.y, 2) for name, patch in patches.items()},
        "split_far": {name: patch.split for name, patch in patches.items()},
        "split_lot": {name: protocols.random_split(name, half, quarter, 3) for name in patches},
    }
    datasets.expect_columns(mine, expected)


def test_every_pixel_is_as_the_oracle_says(dataset: Dataset) -> None:
    datasets.expect_cubes(dataset)
    datasets.expect_places_of_cubes(dataset, 1)


def test_cubes_of_the_second_grid_lie_where_its_patches_do(dataset: Dataset) -> None:
    datasets.expect_places_of_cubes(dataset, 2)


def test_metadata_and_lmdb_hold_the_kept_patches(dataset: Dataset) -> None:
    datasets.expect_metadata(dataset)
    datasets.expect_lmdb(dataset)
    assert {patch.grid for patch in dataset.kept.values()} == {1, 2}


def test_shards_of_patches_whose_names_are_not_in_the_order_of_the_cubes(shipped: Dataset) -> None:
    """Names tell latitudes, which are the smaller the further down a patch lies."""
    rows = [row["patch_id"] for row in shipped.rows.values() if row["status"] == "kept"]
    assert rows != sorted(rows)
    datasets.expect_index_of_shards(shipped, SHARDS)
    (index,) = (shipped.out / "lmdb").glob("*.json")
    ranges = [(shard["first"], shard["last"]) for shard in json.loads(index.read_text())["shards"]]
    assert any(one[1] >= other[0] for one, other in pairwise(ranges)), "no two ranges overlap"
    assert CliRunner().invoke(verify_command, [str(shipped.out / "lmdb")]).exit_code == 0


def test_no_ground_is_in_two_sets(dataset: Dataset) -> None:
    datasets.expect_no_ground_in_two_sets(dataset)


@pytest.mark.parametrize(("name", "block_m"), [("shipped", 12_000), ("mine", 4800)])
def test_sets_are_those_of_the_blocks_of_ground(request: pytest.FixtureRequest, name: str, block_m: float) -> None:
    datasets.expect_sets_of_blocks(request.getfixturevalue(name), block_m)


def test_several_sets_occur_and_some_patches_are_in_none(mine: Dataset) -> None:
    splits = Counter(mine.rows[name]["split"] for name in mine.kept)
    assert set(splits) == {"train", "validation", "test", None}


def _second_look(parts: list[Path]) -> None:
    """Global steps of the job, task by task."""
    recipe = load_recipe(str(parts[0].parent.parent / "mine.yaml"))
    assert isinstance(recipe.split, StratifiedSplit)
    assert recipe.images is not None
    for mgrs in sorted({part.stem[-5:] for part in parts}):
        choose_among([part for part in parts if part.stem.endswith(mgrs)], recipe.images)
    sets = assign_blocks(add_blocks([count_blocks(part, recipe.split) for part in parts]), recipe.split)
    for part in parts:
        assign_patches(part, sets, recipe.split)


def _copy(dataset: Dataset, folder: Path) -> list[Path]:
    shutil.copytree(dataset.out / "patches.parquet", folder / "patches.parquet")
    shutil.copyfile(dataset.out / "run" / "recipe.yaml", folder / "mine.yaml")
    return sorted((folder / "patches.parquet").glob("*.parquet"))


def _read(parts: list[Path]) -> list[pa.Table]:
    return [pq.read_table(part, partitioning=None) for part in parts]


def test_the_second_look_may_be_repeated(mine: Dataset, tmp_path: Path) -> None:
    """A scheduler may do a task again, after the whole of it or after some of its files have been written."""
    parts = _copy(mine, tmp_path)
    before = _read(parts)
    _second_look(parts)
    assert _read(parts) == before
    assert [table.schema.metadata for table in _read(parts)] == [table.schema.metadata for table in before]
    for part, table in list(zip(parts, before, strict=True))[::2]:
        kept_before_the_choice = pc.or_(
            pc.equal(table["status"], "kept"), pc.fill_null(pc.equal(table["reason"], "not_chosen"), fill_value=False)
        )
        nothing = pa.nulls(len(table), pa.string())
        for name, values in (
            ("status", pc.if_else(kept_before_the_choice, "kept", table["status"])),
            ("reason", pc.if_else(kept_before_the_choice, nothing, table["reason"])),
            ("split", nothing),
        ):
            table = table.set_column(table.schema.get_field_index(name), name, values)  # noqa: PLW2901
        pq.write_table(table, part)
    assert [table["status"] for table in _read(parts)] != [table["status"] for table in before]
    _second_look(parts)
    for found, wanted in zip(_read(parts), before, strict=True):
        assert found.to_pylist() == wanted.to_pylist()


def test_the_second_look_at_tiles_of_which_nothing_is_kept(mine: Dataset, tmp_path: Path) -> None:
    parts = [part for part in _copy(mine, tmp_path) if "20180715" in part.name]
    (table,) = _read(parts)
    assert set(table["status"].to_pylist()) == {"rejected"}
    _second_look(parts)
    assert _read(parts)[0]["split"].null_count == len(table)
    assert _read(parts)[0].drop_columns("split") == table.drop_columns("split")


def test_what_is_printed_agrees_with_the_patch_table(dataset: Dataset) -> None:
    datasets.expect_printed_funnel(dataset)
    datasets.expect_printed_sets(dataset)
    datasets.expect_recorded_counts(dataset)


def test_all_kept_patches_of_a_class_are_counted(mine: Dataset) -> None:
    datasets.expect_counts_of_all_kept_patches(mine)


def test_the_table_command_agrees_with_the_patch_table(dataset: Dataset) -> None:
    done = CliRunner().invoke(table_command, [str(dataset.out), "--format", "csv"])
    assert done.exit_code == 0, done.output
    expected = {label: counts for label, *counts in dataset.query(datasets.CLASSES)}
    rows = csv.DictReader(done.output.splitlines())
    names = ("train", "validation", "test", "all")
    assert {row["class"]: [int(row[name]) for name in names] for row in rows} == expected


def test_a_recipe_beside_the_dataset_builds_it_again(mini: Dataset, mine: Dataset) -> None:
    assert load_recipe(str(mini.out / "run" / "recipe.yaml")) == load_recipe("seasonet")
    again = load_recipe(str(mine.out / "run" / "recipe.yaml"))
    assert again == load_recipe(str(mine.out.parent / "mine.yaml"))
