"""Contradictions of a recipe and its inputs are refused before anything is computed."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
from acquisitions import acquire_again
from rich.console import Console

from reben_dask.demo import DemoRegion
from reben_dask.errors import InputError, RebenError, RecipeError
from reben_dask.job.plan import Plan, make_plan
from reben_dask.job.published import Published
from reben_dask.job.record import NO_COUNTS
from reben_dask.job.show import funnel_table
from reben_dask.options import JobOptions
from reben_dask.recipes import Recipe, load_recipe
from reben_dask.recipes.model import Attribute
from reben_dask.sources.sentinel2 import read_tile

SUMMER = datetime(2018, 7, 25, 10, 0, 31, tzinfo=UTC)


def _recipe(name: str, **changes: object) -> Recipe:
    """A shipped recipe with some keys changed, checked as one that is read from a file."""
    return Recipe.model_validate({**load_recipe(name).model_dump(mode="json"), **changes})


@pytest.fixture
def folders(small_folders: list[Path]) -> list[str]:
    """The demo region's products of its western tile."""
    return [str(folder) for folder in small_folders if "T33UVP" in folder.name]


def _plan(folders: list[str], region: DemoRegion, recipe: Recipe, **more: Any) -> Plan:
    return make_plan(s2=folders, landcover=str(region.landcover), recipe=recipe, **more)


def _refused(kind: type[RebenError], folders: list[str], region: DemoRegion, recipe: Recipe, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        _plan(folders, region, recipe, **more)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.fixture
def processed_twice(folders: list[str], tmp_path: Path) -> list[str]:
    """One acquisition in two baselines: two tiles of one place and time."""
    summer = next(Path(folder) for folder in folders if "20180725" in folder)
    return [str(summer), str(acquire_again(summer, tmp_path, SUMMER, baseline="N0206"))]


@pytest.mark.parametrize("name", ["bigearthnet-v1", "seasonet"])
def test_names_that_would_occur_twice(processed_twice: list[str], small_region: DemoRegion, name: str) -> None:
    message = _refused(InputError, processed_twice, small_region, load_recipe(name))
    for folder in processed_twice:
        assert read_tile(Path(folder)).name in message
    assert repr(load_recipe(name).patch_name) in message
    assert "leave one of them out, or start the recipe's patch_name" in message


@pytest.mark.parametrize("patch_name", ["{tile}_{lat}_{lon}", "{mgrs}_{time}_{tile}_{grid}_{x}_{y}"])
def test_names_that_have_the_tile_occur_once(
    processed_twice: list[str], small_region: DemoRegion, patch_name: str
) -> None:
    assert len(_plan(processed_twice, small_region, _recipe("seasonet", patch_name=patch_name)).tiles) == 2
    assert len(_plan(processed_twice, small_region, load_recipe("reben")).tiles) == 2


@pytest.mark.parametrize("name", ["bigearthnet-v1", "seasonet"])
def test_tiles_of_one_day_or_of_one_place_are_told_apart(
    small_folders: list[Path], small_region: DemoRegion, name: str
) -> None:
    plan = _plan([str(folder) for folder in small_folders], small_region, load_recipe(name))
    assert len(plan.tiles) == 4
    assert plan.candidates == 4 * {1: 16, 2: 16 + 9}[len(plan.recipe.grid_offsets_m)]


@pytest.mark.parametrize(
    "attribute",
    [
        *("split", "labels", "country", "season", "grid", "geometry", "bbox", "s1_name", "patch_id", "tile", "x"),
        *("labels_medium", "labels_anything", "split_grid", "within_limits", "is_published"),
    ],
)
def test_an_attribute_that_would_overwrite_a_column(
    folders: list[str], small_region: DemoRegion, attribute: str
) -> None:
    recipe = _recipe("seasonet", attributes={attribute: {"column": "RTYP3"}})
    message = _refused(RecipeError, folders, small_region, recipe)
    assert f"has an attribute {attribute!r}, which is a column of the patch table already" in message


def test_attributes_of_other_names(folders: list[str], small_region: DemoRegion) -> None:
    attributes = {name: {"column": "a"} for name in ("labelled", "splits", "urban_2", "gridded")}
    plan = _plan(folders, small_region, _recipe("seasonet", attributes=attributes))
    assert plan.recipe.extra_columns == ("labels_medium", "labels_easy", *attributes)
    assert [warning for warning in plan.warnings if "stays empty" in warning] == [
        f"The attribute {name} stays empty: no layer is given (--join {name}=FILE)." for name in attributes
    ]


def _layer(folder: Path) -> str:
    path = folder / "layer.gpkg"
    gpd.GeoDataFrame({"RTYP3": ["a"]}, geometry=[shapely.box(14, 48, 16, 49)], crs=4326).to_file(path)
    return str(path)


def _layers(*given: str) -> dict[str, str]:
    return JobOptions.of(s2="tiles", landcover="map.gpkg", out="out", layers=given).layers


def test_layers_of_attributes(folders: list[str], small_region: DemoRegion, tmp_path: Path) -> None:
    layer = _layer(tmp_path)
    recipe = load_recipe("seasonet")
    plan = _plan(folders, small_region, recipe, layers={"urbanisation": layer})
    assert plan.layers == {"urbanisation": layer}
    assert not [warning for warning in plan.warnings if "stays empty" in warning]
    message = _refused(InputError, folders, small_region, recipe, layers={"urban": layer})
    assert f"has no attribute 'urban' for the layer {layer}; it has urbanisation." in message
    message = _refused(InputError, folders, small_region, load_recipe("reben"), layers={"urban": layer})
    assert "it has none." in message
    missing = _recipe("seasonet", attributes={"urbanisation": Attribute(column="RTYP4").model_dump()})
    message = _refused(InputError, folders, small_region, missing, layers={"urbanisation": layer})
    assert "has no column RTYP4; it has RTYP3." in message


@pytest.mark.parametrize("given", ["urbanisation", "urbanisation=", "=layer.gpkg", "=", ""])
def test_a_layer_is_given_by_name(given: str) -> None:
    with pytest.raises(InputError) as caught:
        _layers(given)
    assert str(caught.value).endswith(" is not NAME=FILE, such as urbanisation=RegioStaR.gpkg.")


def test_an_attribute_has_one_layer() -> None:
    with pytest.raises(InputError) as caught:
        _layers("a=x.gpkg", "b=y.gpkg", "a=z.gpkg")
    assert str(caught.value) == "--join gives a two layers, x.gpkg and z.gpkg; leave one of them out."


def test_the_name_of_a_layers_file_may_have_an_equals_sign() -> None:
    assert _layers("a=x.gpkg", "b=year=2018/y.gpkg") == {"a": "x.gpkg", "b": "year=2018/y.gpkg"}


@pytest.mark.parametrize(
    ("side_m", "sentence"),
    [
        (1140, "is smaller than one patch of 1200 m."),
        (1740, "is smaller than one patch of 1200 m, 600 m from its corner."),
        (1800, None),
    ],
)
def test_a_tile_that_is_too_small_for_a_grid(
    folders: list[str], small_region: DemoRegion, tmp_path: Path, side_m: int, sentence: str | None
) -> None:
    source = Path(folders[0])
    small = tmp_path / source.name
    shutil.copytree(source, small, copy_function=shutil.copyfile)
    geocoding = next(small.rglob("MTD_TL.xml"))
    text = geocoding.read_text(encoding="utf-8")
    for resolution in (10, 20, 60):
        text = text.replace(f">{5_040 // resolution}</N", f">{side_m // resolution}</N")
    geocoding.write_text(text, encoding="utf-8")
    recipe = load_recipe("seasonet")
    if sentence:
        message = _refused(InputError, [str(small)], small_region, recipe)
        assert message == f"The tile {read_tile(small).name} {sentence}"
    else:
        assert _plan([str(small)], small_region, recipe).candidates == 2


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        (
            "bigearthnet-v1",
            {},
            "names patches '{product}_{x}_{y}', and published metadata '{tile}_{xx}_{yy}'; leave --p",
        ),
        (
            "seasonet",
            {},
            "names patches '{mgrs}_{time}_{lat}_{lon}', and published metadata '{tile}_{xx}_{yy}'; leave ",
        ),
        ("reben", {"grid_offsets_m": [600]}, "shifts its grid by 600 m, and that of published metadata is not shifted"),
    ],
)
def test_published_metadata_has_names_and_places_of_its_own(
    folders: list[str], small_region: DemoRegion, data_dir: Path, name: str, changes: dict[str, object], words: str
) -> None:
    published = Published((data_dir / "bigearthnet" / "metadata.parquet",))
    message = _refused(InputError, folders, small_region, _recipe(name, **changes), published=published)
    assert words in message
    assert "leave --published out, or change " in message


@pytest.mark.parametrize("is_given", [False, True])
def test_patches_of_a_list_are_told_of_where_no_share_lists_any_apart(
    folders: list[str], small_region: DemoRegion, tmp_path: Path, *, is_given: bool
) -> None:
    v1_name = "S2A_MSIL2A_20180725T100031_0_1"
    (tmp_path / "pairs.csv").write_text(f"s2v1_name,s1_name\n{v1_name},S1A_IW_GRDH_1SDV_20180725T165043_33UVP_0_1\n")
    (tmp_path / "snow.csv").write_text(v1_name)
    published = Published(pairs=tmp_path / "pairs.csv", snow_list=tmp_path / "snow.csv" if is_given else None)
    plan = _plan(folders, small_region, load_recipe("seasonet"), published=published)
    console = Console(file=io.StringIO(), width=120)
    funnel_table(plan, NO_COUNTS).show(console)
    assert ("flagged (listed separately): all snow" in console.file.getvalue()) == is_given


def test_countries_that_are_far_away(data_dir: Path, small_region: DemoRegion) -> None:
    """Poland is not one of the ten."""
    plan = make_plan(
        s2=[str(data_dir / "mini")],
        landcover=str(data_dir / "landcover" / "clc2018_poznan_3035.gpkg"),
        countries=str(data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg"),
        recipe=load_recipe("reben"),
    )
    (warning,) = (warning for warning in plan.warnings if "reaches into" in warning)
    assert f"reaches into {plan.tiles[0].name}; patches there are assigned the nearest, those farther" in warning
    near = make_plan(
        s2=[str(small_region.s2)],
        landcover=str(small_region.landcover),
        countries=str(small_region.countries),
        recipe=load_recipe("reben"),
    )
    assert not [warning for warning in near.warnings if "reaches into" in warning]
