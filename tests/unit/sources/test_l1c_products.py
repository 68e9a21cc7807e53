"""L1C products: 13 bands with B10, ``RADIO_ADD_OFFSET``, and no scene classification."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from forms import BANDS, write_eopf, write_l1c, zip_folder
from results import error_of

from reben_dask.demo import DemoRegion
from reben_dask.errors import InputError, RecipeError
from reben_dask.job.plan import make_plan
from reben_dask.job.published import Published
from reben_dask.recipes import Recipe, load_recipe
from reben_dask.sources.sentinel2 import find_products, read_band, read_tile, search_products
from reben_dask.sources.sentinel2.discovery import OTHER_LEVEL
from reben_dask.sources.sentinel2.lazy_cube import open_tile

RECIPE = "bigearthnet-l1c"


@pytest.fixture(scope="module")
def safe(small_folders: list[Path]) -> Path:
    return next(folder for folder in small_folders if "N0500" in folder.name and "UVP" in folder.name)


@pytest.fixture(scope="module")
def product(safe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_l1c(safe, tmp_path_factory.mktemp("l1c"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_tile_of_level_1c(product: Path, safe: Path, tmp_path: Path, packed: bool) -> None:  # noqa: FBT001
    path = zip_folder(product, tmp_path / "x.zip", f"{product.name}/") if packed else product
    tile, other = read_tile(path), read_tile(safe)
    assert (tile.level, tile.product) == ("L1C", product.stem)
    assert tile.name == other.name.replace("L2A", "L1C")
    assert (tile.epsg, tile.ulx, tile.uly, tile.shape_yx) == (other.epsg, other.ulx, other.uly, other.shape_yx)
    assert set(tile.images) == {*BANDS, "B10"} == tile.listed
    assert tile.boa_offset(["B10"]) == -1000
    assert len(tile.offsets) == 13
    assert (read_band(tile, "B8A") == read_band(other, "B8A")).all()
    assert (read_band(tile, "B10") == read_band(other, "B09") + 7).all()
    assert open_tile(tile)["r60m"]["band"].values.tolist() == ["B01", "B09", "B10"]


def test_each_level_is_found_alone(product: Path, safe: Path, tmp_path: Path) -> None:
    for path in (product, safe):
        (tmp_path / path.name).symlink_to(path)
    zip_folder(product, tmp_path / "l1c.zip")
    zip_folder(safe, tmp_path / "l2a.zip")
    write_eopf(safe, tmp_path)
    assert find_products([tmp_path], level="L1C") == [tmp_path / product.name, tmp_path / "l1c.zip"]
    found = search_products([tmp_path], level="L1C").passed_over
    assert found == {OTHER_LEVEL["L1C"]: [tmp_path / f"{safe.stem}.zarr", tmp_path / "l2a.zip"]}
    assert search_products([tmp_path]).passed_over == {OTHER_LEVEL["L2A"]: [tmp_path / "l1c.zip"]}


def test_a_plan_of_level_1c(product: Path, small_region: DemoRegion) -> None:
    plan = make_plan(s2=[str(product)], landcover=str(small_region.landcover), recipe=load_recipe(RECIPE))
    assert [tile.level for tile in plan.tiles] == ["L1C"]
    (note,) = [text for text in plan.warnings if "(SCL)" in text]
    assert note == (
        "The recipe bigearthnet_l1c reads L1C products, which have no scene classification (SCL): no patch is flagged, "
        "and the fractions of snow, cloud and shadow stay empty."
    )


def test_a_product_of_another_level_is_set_aside(
    product: Path, safe: Path, small_region: DemoRegion, tmp_path: Path
) -> None:
    """A zip file that is given by itself is not passed over."""
    inputs = {"landcover": str(small_region.landcover)}
    packed = {path: zip_folder(path, tmp_path / path.stem / "x.zip") for path in (product, safe)}
    for recipe, own, other in ((RECIPE, product, safe), ("reben", safe, product)):
        chosen = load_recipe(recipe)
        plan = make_plan(s2=[str(own), str(packed[other])], recipe=chosen, **inputs)
        (damaged,) = plan.damaged
        level = {product: "L1C", safe: "L2A"}
        assert f"is of level {level[other]}, and the recipe {chosen.name} reads {level[own]};" in str(damaged.error)


def test_published_metadata_are_of_level_2a(product: Path, small_region: DemoRegion, data_dir: Path) -> None:
    published = Published((data_dir / "bigearthnet" / "metadata.parquet",))
    inputs = {"s2": [str(product)], "landcover": str(small_region.landcover), "recipe": load_recipe(RECIPE)}
    assert "published metadata name L2A patches" in error_of(lambda: make_plan(**inputs, published=published))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level": "L2A"}, "bands has B10, which products of level L2A do not have"),
        ({"level": "L1B"}, "Input should be 'L2A' or 'L1C'"),
    ],
)
def test_levels_of_recipes(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(load_recipe(RECIPE).model_dump(mode="json") | changes))
    assert said.lower() in error_of(lambda: load_recipe(str(path)), RecipeError).lower()


def test_images_cannot_be_chosen_without_a_scene_classification() -> None:
    seasonet = load_recipe("seasonet").model_dump(mode="json")
    with pytest.raises(ValueError, match="level L1C has no scene classification"):
        Recipe.model_validate(seasonet | {"level": "L1C"})


def test_the_metadata_of_another_level_than_the_name(product: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(product, tmp_path / product.name))
    path = copy / "MTD_MSIL1C.xml"
    path.write_text(path.read_text().replace("MSIL1C", "MSIL2A"))
    with pytest.raises(InputError, match="which is not the name of an L1C product"):
        read_tile(copy)
