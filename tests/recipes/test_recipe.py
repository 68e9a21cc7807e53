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
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reben_dask.errors import RecipeError
from reben_dask.patches.nomenclature import load_nomenclature
from reben_dask.recipes import load_recipe, shipped_recipes

SHIPPED = yaml.safe_load((resources.files("reben_dask.recipes") / "reben.yaml").read_text(encoding="utf-8"))
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
        (_set("bands", ["B02", "B10"]), "bands.1 is 'B10': input should be"),
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
        ("", "is not a table of keys; reben.yaml in the package shows how one looks."),
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
        ("rebn", "did you mean reben?"),
        ("reBEN", "use one of reben"),
        ("landsat", "use one of "),
        ("", "use one of "),
        ("../reben", ""),
    ],
)
def test_a_name_that_no_recipe_has(name: str, hint: str) -> None:
    message = _refused(name)
    assert message.startswith(f"There is no recipe {name!r}; ")
    assert hint in message


@settings(max_examples=150, deadline=None)
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
