"""Loading of shipped recipes and of YAML files, with explained errors."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from reben_dask.errors import RecipeError, missing
from reben_dask.recipes.model import Recipe


def shipped_recipes() -> list[str]:
    """Names of the package's recipes, sorted."""
    folder = resources.files("reben_dask.recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str) -> Recipe:
    """Load a recipe of the package (by name, with ``-`` or ``_``) or of a ``.yaml`` or ``.yml`` file.

    A nomenclature file that the recipe names is looked for beside it. :class:`RecipeError` if there is no such recipe,
    or a key is unknown, missing or contradicts another.
    """
    if not name.endswith((".yaml", ".yml")):
        return _parse(name, _shipped_text(name))
    path = Path(name)
    if not path.is_file():
        raise RecipeError(missing("The recipe file", name))
    try:
        recipe = _parse(name, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise RecipeError(f"The recipe file {name} is not UTF-8 text; save it as UTF-8.") from None
    if recipe.nomenclature.endswith(".csv"):
        recipe = recipe.model_copy(update={"nomenclature": str((path.parent / recipe.nomenclature).resolve())})
    return recipe


def _shipped_text(name: str) -> str:
    file = name.replace("-", "_")
    if file not in shipped_recipes():
        known = [recipe.replace("_", "-") for recipe in shipped_recipes()]
        own = [f"{name}{ending}" for ending in (".yaml", ".yml") if Path(f"{name}{ending}").is_file()]
        near = own or difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}, or the path of a .yaml file."
        raise RecipeError(f"There is no recipe {name!r}; {hint}")
    return (resources.files("reben_dask.recipes") / f"{file}.yaml").read_text(encoding="utf-8")


class _TwiceError(Exception):
    """Key that occurs twice; YAML would silently take the second."""


class _DistinctKeys(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _TwiceError(f"the key {key.value} of line {lines[key.value]} is given again in line {line}")
            lines[key.value] = line
        return node


def _parse(name: str, text: str) -> Recipe:
    try:
        content = _DistinctKeys(text).get_single_data()
    except _TwiceError as error:
        raise RecipeError(f"The recipe {name} cannot be used: {error}; leave one of them out.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"The recipe {name} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise RecipeError(f"The recipe {name} is not a table of keys; see reben.yaml in the package for an example.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        # A misspelt key is also a missing one, and the spelling is what helps.
        first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise RecipeError(f"The recipe {name} cannot be used: {_explain(first)}") from None


def _explain(problem: Any) -> str:
    path, known = _follow(problem["loc"])
    where = ".".join(path) or "the recipe"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], known, n=1)
        return f"the key {where} is unknown" + (f"; did you mean {near[0]}?" if near else ".")
    if problem["type"] == "union_tag_invalid":
        of = problem["ctx"]
        return f"{where}.strategy is {of['tag']!r}: input should be one of {of['expected_tags']}."
    if problem["type"] == "union_tag_not_found":
        return f"the key {where}.strategy is missing."
    if problem["type"] == "missing":
        return f"the key {where} is missing."
    message = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    sentence = f"{message[0].lower()}{message[1:]}."
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        # A contradiction names its keys; printing the whole section would hide them.
        return ": ".join([*filter(None, [".".join(path)]), sentence])
    return f"{where} is {problem['input']!r}: {sentence}"


def _follow(location: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """Path of keys to a problem, without pydantic's tags of strategies, and the keys of the part around it."""
    part: Any = Recipe
    path: list[str] = []
    known: list[str] = list(Recipe.model_fields)
    for step in map(str, location):
        tagged = {_strategy(model): model for model in _models(part)}
        if step in tagged and not isinstance(part, type):
            part = tagged[step]
        else:
            path.append(step)
            part = _inside(part, step)
            if get_origin(part) is not dict and len(models := _models(part)) == 1:
                part = models[0]
        if isinstance(part, type) and issubclass(part, BaseModel):
            known = list(part.model_fields)
    return path, known


def _inside(part: Any, key: str) -> Any:
    if isinstance(part, type) and issubclass(part, BaseModel):
        return part.model_fields[key].annotation if key in part.model_fields else None
    return get_args(part)[-1] if get_origin(part) is dict else None


def _models(part: Any) -> list[type[BaseModel]]:
    if isinstance(part, type):
        return [part] if issubclass(part, BaseModel) else []
    return [model for choice in get_args(part) for model in _models(choice)]


def _strategy(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("strategy")
    return str(get_args(field.annotation)[0]) if field else None
