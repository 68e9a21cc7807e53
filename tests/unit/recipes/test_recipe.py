"""Recipes: the shipped one says what the paper says, and a bad one ends in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reben_dask.errors import RecipeError
from reben_dask.formats.trees import LAYOUTS
from reben_dask.nomenclature import load_nomenclature
from reben_dask.recipes import load_recipe, shipped_recipes

FOLDER = resources.files("reben_dask.recipes")
SHIPPED = yaml.safe_load((FOLDER / "reben.yaml").read_text(encoding="utf-8"))
SEASONET = yaml.safe_load((FOLDER / "seasonet.yaml").read_text(encoding="utf-8"))
STRATIFIED = {"strategy": "stratified", "validation": 0.1, "test": 0.1, "block_m": 12_000, "seed": 1}
TEN = "Austria Belgium Finland Ireland Kosovo Lithuania Luxembourg Portugal Serbia Switzerland"

Change = Callable[[dict[str, Any]], None]


def _write(folder: Path, content: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def _refused(name: str) -> str:
    """Load a recipe, which must be refused, and give the one sentence."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    message = str(caught.value)
    assert "\n" not in message
    assert message[0].isupper()
    assert message.endswith((".", "?"))
    assert "pydantic" not in message
    return message


def _set(path: str, value: object) -> Change:
    def change(recipe: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        for key in outer:
            recipe = recipe[key]
        recipe[last] = value

    return change


def _drop(path: str) -> Change:
    def change(recipe: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        for key in outer:
            recipe = recipe[key]
        del recipe[last]

    return change


def test_the_shipped_recipe_is_that_of_the_paper() -> None:
    recipe = load_recipe("reben")
    assert recipe.name == "reben"
    assert recipe.patch_size_m == 1200
    assert sorted(recipe.bands) == ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B11", "B12", "B8A"]
    assert not recipe.harmonize
    assert sorted(recipe.quality_indicators) == ["GENERAL", "GEOMETRIC", "RADIOMETRIC", "SENSOR"]
    assert recipe.nomenclature == "bigearthnet19"
    assert recipe.labeled_fraction.threshold == 0.75
    assert recipe.labeled_fraction.comparison == "at_least"
    assert (recipe.split.strategy, recipe.split.validation, recipe.split.test) == ("geographic", 0.25, 0.25)
    assert recipe.sky.model_dump() == {"snow": (11,), "cloud": (8, 9, 10), "shadow": (3,), "flag_from": 1.0}
    assert list(recipe.countries or ()) == TEN.split()


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load_with_their_nomenclature(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_nomenclature(recipe.nomenclature).classes


def test_a_recipe_is_a_value_that_cannot_be_changed() -> None:
    recipe = load_recipe("reben")
    with pytest.raises(ValidationError):
        recipe.harmonize = True
    assert tokenize(recipe) == tokenize(load_recipe("reben"))
    assert tokenize(recipe) != tokenize(recipe.model_copy(update={"harmonize": True}))


@pytest.mark.parametrize("shipped", shipped_recipes())
def test_a_copy_that_is_changed_differs_in_nothing_else(tmp_path: Path, shipped: str) -> None:
    """A person opens the file, changes two lines, and leaves the comments as they are."""
    text = (FOLDER / f"{shipped}.yaml").read_text(encoding="utf-8")
    changed = text.replace(f"name: {shipped}\n", "name: mine\n").replace("harmonize: false", "harmonize: true")
    path = _write(tmp_path, changed)
    assert load_recipe(path) == load_recipe(shipped).model_copy(update={"name": "mine", "harmonize": True})


@pytest.mark.parametrize("shipped", shipped_recipes())
def test_the_recipe_of_a_finished_job_is_a_recipe(tmp_path: Path, shipped: str) -> None:
    """A job writes its recipe with every key beside its results."""
    recipe = load_recipe(shipped)
    assert load_recipe(_write(tmp_path, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))) == recipe


@pytest.mark.parametrize("name", ["bigearthnet-v1", "bigearthnet_v1"])
def test_a_dash_is_as_good_as_an_underscore(name: str) -> None:
    assert load_recipe(name).name == "bigearthnet_v1"


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_a_copy_of_the_shipped_recipe_is_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"copy.{suffix}"
    path.write_text(yaml.safe_dump(SHIPPED), encoding="utf-8")
    assert load_recipe(str(path)) == load_recipe("reben")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # An unknown key, with the one that was probably meant.
        (_set("harmonise", value=True), "the key harmonise is unknown; did you mean harmonize?"),
        (_set("sky.flag_form", 1.0), "the key sky.flag_form is unknown; did you mean flag_from?"),
        (_set("split.validate", 0.1), "the key split.validate is unknown; did you mean validation?"),
        (_set("labeled_fraction.treshold", 1), "the key labeled_fraction.treshold is unknown; did you mean threshold?"),
        (_set("xyzzy", 1), "the key xyzzy is unknown."),
        # A missing key.
        (_drop("bands"), "the key bands is missing."),
        (_drop("sky.cloud"), "the key sky.cloud is missing."),
        (_drop("labeled_fraction.comparison"), "the key labeled_fraction.comparison is missing."),
        # The wrong type, or a value out of its limits.
        (_set("patch_size_m", "wide"), "patch_size_m is 'wide': input should be a valid integer"),
        (_set("patch_size_m", 1000), "patch_size_m is 1000: input should be a multiple of 60"),
        (_set("patch_size_m", 0), "patch_size_m is 0: input should be greater than 0"),
        (_set("patch_size_m", 1200.5), "patch_size_m is 1200.5: input should be a valid integer"),
        (_set("bands", ["B02", "B10"]), "bands has B10, which products of level L2A do not have"),
        (_set("bands", []), "bands is []: "),
        (_set("bands", "B02"), "bands is 'B02': input should be a list"),
        (_set("harmonize", "perhaps"), "harmonize is 'perhaps': input should be a valid boolean"),
        (_set("nomenclature", None), "nomenclature is None: input should be a valid string"),
        (_set("labeled_fraction", 0.75), "labeled_fraction is 0.75: input should be a valid dictionary"),
        (
            _set("labeled_fraction.threshold", 75),
            "labeled_fraction.threshold is 75: input should be less than or equal",
        ),
        (_set("labeled_fraction.threshold", float("nan")), "labeled_fraction.threshold is nan: "),
        (_set("labeled_fraction.comparison", ">="), "labeled_fraction.comparison is '>=': input should be 'at_least'"),
        (
            _set("split.strategy", "by_moon"),
            "split.strategy is 'by_moon': input should be one of 'geographic', 'random'",
        ),
        (_set("split.test", 0), "split.test is 0: input should be greater than 0"),
        (_set("overlaps", "merge"), "overlaps is 'merge': input should be 'keep', 'drop' or 'first'"),
        (_set("sky.snow", [12]), "sky.snow.0 is 12: input should be less than or equal to 11"),
        (_set("sky.flag_from", 1.5), "sky.flag_from is 1.5: input should be less than or equal to 1"),
        (_set("sky.flag_from", 0), "sky.flag_from is 0: input should be greater than 0"),
        (_set("seasons.summer", [6, 13]), "seasons.summer.1 is 13: input should be less than or equal to 12"),
        (_set("countries", "Austria"), "countries is 'Austria': input should be a list"),
        (_set("name", "My Recipe"), "name is 'My Recipe': 'My Recipe' is not a plain name; use small letters"),
        (_set("name", "../reben"), "is not a plain name"),
        # Contradictions.
        (_set("bands", ["B02", "B03", "B02"]), "a band is named twice in B02, B03, B02"),
        (_set("seasons.summer", [5, 6, 7]), "month 5 belongs to more than one season"),
        (_set("seasons.summer", [6, 6]), "month 6 belongs to more than one season"),
        (_set("split.test", 0.75), "validation + test is 1, which leaves nothing to train on"),
        (_set("split.test", 0.9), "validation + test is 1.15, which leaves nothing to train on"),
    ],
)
def test_a_bad_recipe_is_named_with_its_key(tmp_path: Path, change: Change, words: str) -> None:
    recipe = deepcopy(SHIPPED)
    change(recipe)
    path = _write(tmp_path, recipe)
    message = _refused(path)
    assert message.startswith(f"The recipe {path} cannot be used: ")
    assert words in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # Grids.
        (_set("grid_offsets_m", 600), "grid_offsets_m is 600: input should be a list."),
        (_set("grid_offsets_m", []), "grid_offsets_m is []: "),
        (_set("grid_offsets_m", [-60]), "grid_offsets_m.0 is -60: input should be greater than or equal to 0."),
        (_set("grid_offsets_m", [0, 50]), "grid_offsets_m.1 is 50: input should be a multiple of 60."),
        (_set("grid_offsets_m", [0, 600, 0]), "grid_offsets_m is [0, 600, 0]: two grids have the same offset, and"),
        (_set("grid_offsets_m", [0, 1200]), "grid_offsets_m has 1200, which is not less than patch_size_m, 1200."),
        (_set("patch_size_m", 600), "grid_offsets_m has 600, which is not less than patch_size_m, 600."),
        # Names.
        (
            _set("patch_name", "{tile}_{z}_{y}"),
            "patch_name is '{tile}_{z}_{y}': {z} is not a field of a name; use tile, p",
        ),
        (_set("patch_name", "{tile}_{lat!r}_{lon}"), "{lat!r} is not a field of a name"),
        (_set("patch_name", "{tile}_{}_{}"), "{} is not a field of a name"),
        (_set("patch_name", "{tile}/{lat}_{lon}"), "a name may have letters, digits, and . _ - between its fields."),
        (_set("patch_name", "{tile}_{lat}_{lon}}"), "a name may have letters, digits, and . _ - between its fields."),
        (_set("patch_name", "{tile}_{lat}_{lon}\n"), "a name may have letters, digits, and . _ - between its fields."),
        (
            _set("patch_name", "p_{tile}_{lat}_{lon}"),
            "a name starts with its tile: {tile} or {product} or {mgrs}_{time} ",
        ),
        (_set("patch_name", "{mgrs}_{lat}_{lon}"), "a name starts with its tile: "),
        (
            _set("patch_name", "{tile}"),
            "a name needs the position in its tile: {x} and {y}, {xx} and {yy}, or {lat} and {lon}",
        ),
        (_set("patch_name", "{tile}_{grid}_{x}_{yy}"), "a name needs the position in its tile: "),
        (
            _set("patch_name", "{tile}_{grid}_{x}{y}"),
            "two patches may have one name, as {x} has no end; add",
        ),
        (_set("patch_name", "{tile}_{x}_{y}{grid}"), "two patches may have one name, as {y} has no end"),
        (
            _set("patch_name", "{tile}_{xx}_{yy}"),
            "patch_name is '{tile}_{xx}_{yy}', and patches of 2 grids would have the same names; add {grid}, or {lat} ",
        ),
        # Labels.
        (_set("region_thresholds_px", {}), "region_thresholds_px is {}: dictionary should have at least 1 item"),
        (_set("region_thresholds_px", [0]), "region_thresholds_px is [0]: input should be a valid dictionary."),
        (
            _set("region_thresholds_px.easy", -1),
            "region_thresholds_px.easy is -1: input should be greater than or equal",
        ),
        (_set("region_thresholds_px.easy", 0.5), "region_thresholds_px.easy is 0.5: input should be a valid integer"),
        (
            _set("region_thresholds_px", {"Very Easy": 1}),
            "region_thresholds_px: 'Very Easy' is not a plain name; use sm",
        ),
        (
            _set("region_thresholds_px.easy", 14_401),
            "region_thresholds_px.easy is 14401, more than the 14400 pixels of a patch; no class would ever count.",
        ),
        # Splits.
        (_set("split", "random"), "split is 'random': input should be a valid dictionary"),
        (_set("split", {}), "the key split.strategy is missing."),
        (_drop("split.strategy"), "the key split.strategy is missing."),
        (_set("split.strategy", "by_place"), "one of 'geographic', 'random', 'grid', 'stratified'."),
        (_drop("split.block_m"), "the key split.block_m is missing."),
        (_set("split.block", 4), "the key split.block is unknown; did you mean block_m?"),
        (_set("split.seed", "forty-two"), "split.seed is 'forty-two': input should be a valid integer"),
        (_set("split.test", 0.9), "split: validation + test is 1, which leaves nothing to train on."),
        (_set("split.block_m", 0), "split.block_m is 0: input should be greater than 0."),
        (_set("split.block_m", 4799), "split.block_m is 4799, less than four patches of 1200 m; most patches would"),
        (_set("patch_size_m", 6000), "split.block_m is 12000, less than four patches of 6000 m"),
        (_set("split.block_m", 1_000_001), "split.block_m is 1000001: input should be less than or equal to 1000000."),
        (_set("split.block_m", float("inf")), "split.block_m is inf: input should be less than or equal to 1000000."),
        (_set("split", {"strategy": "random", "validation": 0.1, "test": 0.1}), "the key split.seed is missing."),
        (_set("split", {"strategy": "grid"}), "the key split.block is missing."),
        (_set("split", {"strategy": "grid", "block": 0}), "split.block is 0: input should be greater than 0."),
        (_set("split", {"strategy": "grid", "block": 4, "test": 0.2}), "the key split.test is unknown."),
        (
            _set("split", {"strategy": "geographic", "test": 0.2, "validation": 1}),
            "split.validation is 1: input should be",
        ),
        (_set("more_splits", [{}]), "more_splits is [{}]: input should be a valid dictionary."),
        (
            _set("more_splits", {"a b": {"strategy": "grid", "block": 4}}),
            "more_splits: 'a b' is not a plain name; use s",
        ),
        (
            _set("more_splits", {"far": {"strategy": "grid", "blok": 4}}),
            "the key more_splits.far.blok is unknown; did you",
        ),
        (_set("more_splits", {"far": {"block": 4}}), "the key more_splits.far.strategy is missing."),
        (
            _set("more_splits", {"far": STRATIFIED}),
            "more_splits.far.strategy is 'stratified': input should be one of 'geographic', 'random', 'grid'.",
        ),
        # Images.
        (_set("images", "clearest"), "images is 'clearest': input should be a valid dictionary"),
        (_drop("images.limits"), "the key images.limits is missing."),
        (_set("images.limts", {}), "the key images.limts is unknown; did you mean limits?"),
        (_set("images.limits.fall.snw", 0.1), "the key images.limits.fall.snw is unknown; did you mean snow?"),
        (_drop("images.limits.fall.cloud"), "the key images.limits.fall.cloud is missing."),
        (_set("images.limits.fall.snow", 5), "images.limits.fall.snow is 5: input should be less than or equal to 1."),
        (_set("images.limits.fall.snow", -0.1), "images.limits.fall.snow is -0.1: input should be greater than or eq"),
        (_set("images.snowy.snow_form", 0.1), "the key images.snowy.snow_form is unknown; did you mean snow_from?"),
        (_set("images.snowy.snow_from", 0), "images.snowy.snow_from is 0: input should be greater than 0."),
        (_set("images.snowy.snow_from", 1), "images.snowy.snow_from is 1: input should be less than 1."),
        (_set("images.snowy.cloud", 1.1), "images.snowy.cloud is 1.1: input should be less than or equal to 1."),
        (_drop("images.snowy.season"), "the key images.snowy.season is missing."),
        (_drop("images.limits.fall"), "the season 'fall' is in only one of seasons and images.limits."),
        (_drop("seasons.fall"), "the season 'fall' is in only one of seasons and images.limits."),
        (_set("seasons.autumn", [9]), "the season 'autumn' is in only one of seasons and images.limits."),
        (_set("images.snowy.season", "../snow"), "images.snowy.season is '../snow': '../snow' is not a plain name; "),
        (_set("seasons", {"spring/summer": [4, 7]}), "seasons: 'spring/summer' is not a plain name; use small letters"),
        (_set("seasons", {"..": [4, 7]}), "seasons: '..' is not a plain name; use small letters, digits, - and _."),
        (_set("images.snowy.season", "winter"), "images.snowy.season is 'winter', which is one of seasons already."),
        # Places and export.
        (_set("attributes", ["urbanisation"]), "attributes is ['urbanisation']: input should be a valid dictionary."),
        (
            _set("attributes.urbanisation", "RTYP3"),
            "attributes.urbanisation is 'RTYP3': input should be a valid diction",
        ),
        (
            _set("attributes.urbanisation.colum", "a"),
            "the key attributes.urbanisation.colum is unknown; did you mean co",
        ),
        (
            _set("attributes.urbanisation.column", ""),
            "attributes.urbanisation.column is '': string should have at least",
        ),
        (
            _set("attributes", {"Urban": {"column": "RTYP3"}}),
            "attributes: 'Urban' is not a plain name; use small letters",
        ),
        (
            _set("tree", "bigearthnet"),
            f"tree is 'bigearthnet': input should be {min(LAYOUTS)!r}, ",
        ),
        (_set("tree", None), f"tree is None: input should be {min(LAYOUTS)!r}, "),
    ],
)
def test_a_bad_recipe_with_grids_images_and_places(tmp_path: Path, change: Change, words: str) -> None:
    recipe = deepcopy(SEASONET)
    change(recipe)
    path = _write(tmp_path, recipe)
    message = _refused(path)
    assert message.startswith(f"The recipe {path} cannot be used: ")
    assert words in message
    assert len(message) < len(path) + 300, "the sentence drowns in the recipe"


@pytest.mark.parametrize(
    "change",
    [
        _set("grid_offsets_m", [0]),
        _set("grid_offsets_m", [60, 1140]),
        _set("grid_offsets_m", [0, 300, 600, 900]),
        _set("patch_name", "{tile}_g{grid}_{xx}_{yy}"),
        _set("patch_name", "{product}_{x}_{y}.{grid}"),
        _set("patch_name", "{time}_{mgrs}_{xx}{yy}-{grid}"),
        _set("patch_name", "{mgrs}_{time}{lat}{lon}"),
        _set("region_thresholds_px", {"only": 14_400}),
        _set("split.block_m", 4800),
        _set("split.block_m", 1_000_000),
        _set("split.seed", -1),
        _set("split", {"strategy": "grid", "block": 1}),
        _set("split", {"strategy": "random", "validation": 0.1, "test": 0.2, "seed": 0}),
        _set("more_splits", {"near": {"strategy": "grid", "block": 1}, "far": {"strategy": "grid", "block": 9}}),
        _set("images", None),
        _set("images.snowy", None),
        _set("images.limits.fall", {"snow": 0, "cloud": 1}),
        _set("sky.flag_from", 0.5),
        _set("attributes", {}),
        _drop("attributes"),
        _drop("grid_offsets_m"),
        _drop("region_thresholds_px"),
        _drop("tree"),
    ],
)
def test_a_recipe_within_the_limits(tmp_path: Path, change: Change) -> None:
    recipe = deepcopy(SEASONET)
    change(recipe)
    load_recipe(_write(tmp_path, recipe))


def test_defaults_are_those_of_a_single_grid_of_all_images() -> None:
    recipe = load_recipe("reben")
    assert recipe.grid_offsets_m == (0,)
    assert recipe.patch_name == "{tile}_{xx}_{yy}"
    assert recipe.region_thresholds_px == {"all": 0}
    assert recipe.more_splits == recipe.attributes == {}
    assert recipe.images is None
    assert recipe.tree == "bigearthnet-v2"
    assert recipe.all_seasons == ("spring", "summer", "fall", "winter")


def test_bigearthnet_v1_is_that_of_its_paper() -> None:
    recipe = load_recipe("bigearthnet-v1")
    assert recipe.nomenclature == "bigearthnet43"
    assert (recipe.labeled_fraction.threshold, recipe.labeled_fraction.comparison) == (0, "more_than")
    assert recipe.split.model_dump() == {"strategy": "random", "validation": 0.2, "test": 0.2, "seed": 42}
    assert recipe.more_splits["grid"].strategy == "grid"
    assert recipe.patch_name == "{product}_{x}_{y}"
    assert recipe.tree == "bigearthnet-v1"
    assert list(recipe.countries or ()) == TEN.split()


def test_seasonet_is_that_of_its_paper() -> None:
    recipe = load_recipe("seasonet")
    assert recipe.grid_offsets_m == (0, 600)
    assert recipe.patch_size_m == 1200
    assert recipe.nomenclature == "seasonet33"
    assert recipe.region_thresholds_px == {"hard": 0, "medium": 100, "easy": 300}
    assert next(iter(recipe.region_thresholds_px)) == "hard"
    assert (recipe.split.strategy, recipe.split.test, recipe.split.validation) == ("stratified", 0.2, 0.1)
    assert recipe.seasons == {"spring": (4, 5), "summer": (7, 8), "fall": (10, 11), "winter": (1, 2)}
    assert recipe.all_seasons == ("spring", "summer", "fall", "winter", "snow")
    assert recipe.images is not None
    assert recipe.images.model_dump() == {
        "limits": {
            **{season: {"snow": 0.01, "cloud": 0.05} for season in ("spring", "summer", "fall")},
            "winter": {"snow": 0.1, "cloud": 0.1},
        },
        "snowy": {"season": "snow", "snow_from": 0.1, "cloud": 0.05},
    }
    assert recipe.tree == "seasonet"
    assert list(recipe.attributes) == ["urbanisation"]


@pytest.mark.parametrize("indicators", [["GEOMETRICAL"], ["GEOMETRIC_QUALITY"], ["GENERAL", "geometric"]])
def test_a_quality_indicator_that_no_product_has(tmp_path: Path, indicators: list[str]) -> None:
    """It would never be found in a product, and tiles of bad quality would pass."""
    path = _write(tmp_path, {**SHIPPED, "quality_indicators": indicators})
    assert "quality_indicators" in _refused(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [reben", "is not valid YAML"),
        ("name: reben\n\ttitle: x", "is not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("title: 2020-13-45", ""),  # YAML takes it for a date, and there is no such month
        ("", "is not a table of keys; see reben.yaml in the package for an example."),
        ("just a line", "is not a table of keys"),
        ("- name: reben", "is not a table of keys"),
        ("1: reben", ""),
        ("name: reben", "the key title is missing."),
        ("a: &a {a: *a}", ""),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, text: str, words: str) -> None:
    path = _write(tmp_path, text)
    message = _refused(path)
    assert message.startswith(f"The recipe {path} ")
    assert words in message


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ("name: a\ntitle: b\nname: c\n", "the key name of line 1 is given again in line 3"),
        ("name: a\n'name': c\n", "the key name of line 1 is given again in line 2"),
        ("name: a\nsky: {snow: [11], snow: []}\n", "the key snow of line 2 is given again in line 2"),
        ("sky:\n  snow: [11]\n  snow: []\n", "the key snow of line 2 is given again in line 3"),
        ("a: {b: 1}\nc:\n  - {d: 1}\n  - d: 1\n    e: 2\n    d: 3\n", "the key d of line 4 is given again in line 6"),
    ],
)
def test_a_key_that_is_given_twice(tmp_path: Path, text: str, twice: str) -> None:
    """YAML takes the last one without a word."""
    path = _write(tmp_path, text)
    assert _refused(path) == f"The recipe {path} cannot be used: {twice}; leave one of them out."


def test_keys_may_occur_once_in_each_part_and_be_taken_over_from_another(tmp_path: Path) -> None:
    text = (FOLDER / "seasonet.yaml").read_text(encoding="utf-8")
    limits = "spring: {snow: 0.01, cloud: 0.05}"
    assert text.count(limits) == 1
    changed = text.replace(limits, f"spring: &clear {limits[8:]}")
    changed = changed.replace("fall: {snow: 0.01, cloud: 0.05}", "fall: {<<: *clear, cloud: 0.01}")
    recipe = load_recipe(_write(tmp_path, changed))
    assert recipe.images is not None
    assert recipe.images.limits["fall"].model_dump() == {"snow": 0.01, "cloud": 0.01}


def test_a_recipe_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes("title: Südtirol".encode("latin-1"))
    assert str(path) in _refused(str(path))


@pytest.mark.parametrize("name", ["none.yaml", "none.yml", "folder.yaml"])
def test_a_recipe_file_that_does_not_exist(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert _refused(str(tmp_path / name)) == f"The recipe file {tmp_path / name} does not exist."


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("seasonnet", "did you mean seasonet?"),
        ("bigearthnet", "did you mean bigearthnet-v1?"),
        ("rebn", "did you mean reben?"),
        ("reBEN", "did you mean reben?"),
        ("SeasoNet", "did you mean seasonet?"),
        ("BigEarthNet-v1", "did you mean bigearthnet-v1?"),
        ("landsat", "use one of bigearthnet-l1c, bigearthnet-v1, reben, seasonet, or the path of a .yaml file."),
        ("", "use one of "),
        ("../reben", ""),
    ],
)
def test_a_name_that_no_recipe_has(name: str, hint: str) -> None:
    message = _refused(name)
    assert message.startswith(f"There is no recipe {name!r}; ")
    assert hint in message


@pytest.mark.parametrize("file", ["mine.yaml", "reben-2.yml"])
def test_a_name_that_a_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(_write(tmp_path, SHIPPED)).rename(file)
    name = file.rpartition(".")[0]
    assert _refused(name) == f"There is no recipe {name!r}; did you mean {file}?"


@given(
    st.sampled_from(sorted(SHIPPED)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_any_value_is_taken_or_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    path = _write(tmp_path_factory.getbasetemp(), {**SHIPPED, key: value})
    try:
        load_recipe(path)
    except RecipeError as error:
        assert key in str(error)  # noqa: PT017


def test_a_nomenclature_of_ones_own_stands_beside_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my dataset"
    folder.mkdir()
    (folder / "classes.csv").write_text("code,class\n311,Forest\n312,Forest\n511,Water\n")
    path = _write(folder, {**SHIPPED, "name": "mine", "nomenclature": "classes.csv"})
    monkeypatch.chdir(folder.parent)
    for name in (path, "my dataset/mine.yaml"):
        recipe = load_recipe(name)
        assert recipe.nomenclature == str(folder / "classes.csv")
        nomenclature = load_nomenclature(recipe.nomenclature)
        assert nomenclature.name == "classes"
        assert nomenclature.class_of == {311: "Forest", 312: "Forest", 511: "Water"}
        assert nomenclature.classes == ("Forest", "Water")


def test_a_nomenclature_at_another_place(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("code,class\n311,Forest\n")
    (tmp_path / "recipes").mkdir()
    for nomenclature in (str(tmp_path / "classes.csv"), "../classes.csv"):
        path = _write(tmp_path / "recipes", {**SHIPPED, "nomenclature": nomenclature})
        assert load_recipe(path).nomenclature == str(tmp_path / "classes.csv")
