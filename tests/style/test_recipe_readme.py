"""The page that explains recipes, against the model and the files that it speaks of."""

from __future__ import annotations

import re
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from reben_dask.formats import names
from reben_dask.formats.names import V2, NameTemplate, TileName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import shipped_nomenclatures
from reben_dask.recipes import Recipe, load_recipe, shipped_recipes

FOLDER = resources.files("reben_dask.recipes")
README = (FOLDER / "README.md").read_text(encoding="utf-8")
SEASONET = yaml.safe_load((FOLDER / "seasonet.yaml").read_text(encoding="utf-8"))


def _keys(model: type[BaseModel]) -> dict[str, set[str]]:
    """Keys of the recipe, and for each those of the parts below it."""
    return {name: _below(field.annotation) for name, field in model.model_fields.items()}


def _below(annotation: Any) -> set[str]:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if not issubclass(annotation, BaseModel):
            return set()
        return set(annotation.model_fields).union(*_keys(annotation).values())
    return set().union(*(_below(choice) for choice in get_args(annotation)))


def _explained() -> dict[str, str]:
    """Text of each key on the page: from the bold key to the next one."""
    pieces = re.split(r"^(?:- )?((?:\*\*`\w+`\*\*(?:, )?)+) \N{EN DASH} ", README, flags=re.MULTILINE)
    texts = zip(pieces[1::2], pieces[2::2], strict=True)
    return {key: text for names, text in texts for key in re.findall(r"`(\w+)`", names)}


def test_each_key_of_the_model_is_explained_and_no_other() -> None:
    assert set(_explained()) == set(Recipe.model_fields)


@pytest.mark.parametrize("key", sorted(Recipe.model_fields))
def test_each_key_below_a_key_is_named_where_that_is_explained(key: str) -> None:
    # Further splits have the keys of the first, whose table stands there.
    told = _explained()[key] + (_explained()["split"] if key == "more_splits" else "")
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", told))))
    assert _keys(Recipe)[key] <= words


def test_each_key_that_may_be_left_out_says_what_it_is_then() -> None:
    for key, text in _explained().items():
        assert ("Default" in text or "(default)" in text) != Recipe.model_fields[key].is_required(), key


@pytest.mark.parametrize("key", ["grid_offsets_m", "patch_name", "region_thresholds_px", "countries", "tree"])
def test_defaults_are_those_of_the_model(key: str) -> None:
    told = re.search(r"Default\s+`([^`]+)`|`([^`]+)` \(default\)", _explained()[key])
    assert told is not None
    text = next(filter(None, told.groups()))
    default = Recipe.model_fields[key].default
    value = text if isinstance(default, str) else yaml.safe_load(text)
    assert value == (list(default) if isinstance(default, tuple) else default)


def test_the_table_of_recipes_is_that_of_the_folder() -> None:
    table = README.split("## Every key")[0]
    names = re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)
    assert sorted(load_recipe(name).name for name in names) == shipped_recipes()


@pytest.mark.parametrize("key", ["split", "nomenclature", "tree", "sky"])
def test_each_choice_is_named(key: str) -> None:
    text = _explained()[key]
    choices = {
        "split": ["geographic", "random", "grid", "stratified"],
        "nomenclature": shipped_nomenclatures(),
        "tree": get_args(Recipe.model_fields["tree"].annotation),
        "sky": ["null"],
    }[key]
    assert [choice for choice in choices if f"`{choice}`" not in text] == []


def test_the_table_of_splits_has_the_keys_of_each_strategy() -> None:
    table = re.findall(r"^  \| `(\w+)` \| ([^|]+) \|", _explained()["split"], flags=re.MULTILINE)
    told = {strategy: set(re.findall(r"`(\w+)`", keys)) for strategy, keys in table}
    models = get_args(Recipe.model_fields["split"].annotation)
    assert told == {
        get_args(model.model_fields["strategy"].annotation)[0]: set(model.model_fields) - {"strategy"}
        for model in models
    }


def test_the_fields_of_names_are_those_of_the_table() -> None:
    rows = re.findall(r"^  \| (`\{\w+\}`.*?) \|", _explained()["patch_name"], flags=re.MULTILINE)
    assert {field for row in rows for field in re.findall(r"\{(\w+)\}", row)} == set(names._FIELDS)
    first = _explained()["patch_name"].split("Default")[0]
    assert [name for name in names._STARTS if f"`{name}`" not in first] == []


def test_the_examples_of_names_are_names() -> None:
    """The examples are of two patches: of reBEN's own, and of the one that SeasoNet's documentation shows."""
    rows = re.findall(r"^  \| (`\{\w+\}`.*?) \| (.*) \|$", _explained()["patch_name"], flags=re.MULTILINE)
    told = {
        field: example
        for fields, examples in rows
        for field, example in zip(re.findall(r"\{\w+\}", fields), re.findall(r"`([^`]+)`", examples), strict=False)
    }
    tile = TileName("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", "S2A_MSIL2A_20170613T101031")
    one = PatchGrid(32633, 300_000, 5_800_020, ShapeYX(1200, 1200))
    for field in ("{tile}", "{product}", "{mgrs}", "{time}", "{grid}"):
        assert NameTemplate(f"{{tile}}.{field}.{{x}}_{{y}}").names(tile, one) == [f"{tile.name}.{told[field]}.0_0"]
    shown = PatchGrid(32632, 399_960, 6_000_000, ShapeYX(30_000, 30_000), offset_m=600)
    template = NameTemplate("{product}.{lat}_{lon}")
    assert f"{tile.product}.{told['{lat}']}_{told['{lon}']}" == template.names(tile, shown, 2)[24 + 19]
    # After the table's words, {xx} has an example alone.
    assert "`05`" in README
    eleven = PatchGrid(32633, 0, 0, ShapeYX(13_200, 13_200))
    assert "05" in {name.split("_")[-2] for name in V2.names(tile, eleven)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("patch_size_m", 60 * number) for number in (1, 2, 40)),
        ("labeled_fraction", "{threshold: 0, comparison: more_than}"),
        *(("nomenclature", name) for name in shipped_nomenclatures()),
        *(("tree", name) for name in get_args(Recipe.model_fields["tree"].annotation)),
        ("countries", "null"),
        ("images", "null"),
        ("region_thresholds_px", "{all: 0}"),
        ("grid_offsets_m", "[0]"),
    ],
)
def test_values_that_the_page_shows_are_valid(tmp_path: Path, key: str, value: object) -> None:
    recipe = {**deepcopy(SEASONET), "grid_offsets_m": [0], "patch_name": "{tile}_{xx}_{yy}"}
    recipe["region_thresholds_px"] = {"all": 0}
    recipe[key] = yaml.safe_load(value) if isinstance(value, str) else value
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    loaded = load_recipe(str(file)).model_dump(mode="json")
    assert loaded[key] == recipe[key]


def test_every_example_in_braces_or_brackets_is_tried() -> None:
    """A new example on the page has to be added to the test above."""
    examples = {text for text in re.findall(r"`([{\[][^`]*[}\]])`", README) if ":" in text or text.startswith("[")}
    assert examples == {"{threshold: 0, comparison: more_than}", "{all: 0}", "[0]"}
