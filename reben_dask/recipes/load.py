"""Finding and reading recipes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from reben_dask.errors import RecipeError
from reben_dask.recipes.model import Recipe


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = resources.files("reben_dask.recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str) -> Recipe:
    """Load a recipe by name, or from a YAML file of one's own.

    Parameters
    ----------
    name : str
        The name of a recipe that comes with the package, or a path that ends in ``.yaml`` or ``.yml``. A nomenclature
        file that such a recipe names is looked for beside it.

    Raises
    ------
    RecipeError
        If there is no such recipe, or a key is unknown, missing or contradicts another.
    """
    if not name.endswith((".yaml", ".yml")):
        return _parse(name, _shipped_text(name))
    path = Path(name)
    if not path.is_file():
        raise RecipeError(f"The recipe file {name} does not exist.")
    try:
        recipe = _parse(name, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise RecipeError(f"The recipe file {name} is not UTF-8 text; save it as UTF-8.") from None
    if recipe.nomenclature.endswith(".csv"):
        recipe = recipe.model_copy(update={"nomenclature": str((path.parent / recipe.nomenclature).resolve())})
    return recipe


def _shipped_text(name: str) -> str:
    known = shipped_recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}, or the path of a .yaml file."
        raise RecipeError(f"There is no recipe {name!r}; {hint}")
    return (resources.files("reben_dask.recipes") / f"{name}.yaml").read_text(encoding="utf-8")


def _parse(name: str, text: str) -> Recipe:
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"The recipe {name} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise RecipeError(f"The recipe {name} is not a table of keys; reben.yaml in the package shows how one looks.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        # A misspelt key is also a missing one, and the spelling is what helps.
        first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise RecipeError(f"The recipe {name} cannot be used: {_explain(first)}") from None


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the recipe"
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        near = difflib.get_close_matches(key, _keys(problem["loc"][:-1]), n=1)
        return f"the key {where} is unknown" + (f"; did you mean {near[0]}?" if near else ".")
    if problem["type"] == "missing":
        return f"the key {where} is missing."
    message = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    return f"{where} is {problem['input']!r}: {message[0].lower()}{message[1:]}."


def _keys(location: Sequence[int | str]) -> list[str]:
    part: type[BaseModel] = Recipe
    for name in location:
        inner = part.model_fields[str(name)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            part = inner
    return list(part.model_fields)
