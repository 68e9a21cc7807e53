"""Variants are data: no code knows the name of a recipe."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest

import reben_dask
from reben_dask.options import DEFAULT_RECIPE
from reben_dask.recipes import load_recipe, shipped_recipes
from reben_dask.recipes.model import TreeName

PACKAGE = Path(reben_dask.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

NAMES = {spelling for name in shipped_recipes() for spelling in (name, name.replace("_", "-"))}

ALLOWED = {
    ("cli/__init__.py", "reben"): "the command",
    ("cli/configuration.py", "reben"): "the section of Dask's configuration",
    ("dashboard/jobs.py", "reben"): "the topic of events, and the page",
    ("options.py", "reben"): "the recipe that is taken if none is named",
}


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text.lower() in NAMES


def _docstrings(tree: ast.AST) -> set[int]:
    """Bare strings, which document what stands above them."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Literals and keywords that are the name of a recipe and nothing else."""
    documentation = _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation and _is_name(node.value):
            yield str(node.value).lower(), node.lineno
        if isinstance(node, ast.keyword | ast.arg) and _is_name(node.arg):
            yield str(node.arg).lower(), node.lineno


def _subject(node: ast.AST) -> str:
    """Last word of what is asked: ``tree`` of ``plan.recipe.tree``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _conditions_on_names(tree: ast.AST) -> Iterator[int]:
    """Lines of conditions in which the name of a recipe stands, but for those that ask for a tree of files."""
    for node in ast.walk(tree):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            asked = [node.subject, *(case.pattern for case in node.cases)]
        if any(_subject(part) == "tree" for part in asked):
            continue
        if any(_is_name(getattr(inner, "value", None)) for part in asked for inner in ast.walk(part)):
            yield node.lineno


def _decisions_by_name(tree: ast.AST) -> Iterator[int]:
    """Lines that compare the name of a recipe, match it, or look something up by it."""
    for node in ast.walk(tree):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            asked = [node.subject]
        elif isinstance(node, ast.Subscript):
            asked = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            methods = {"get", "startswith", "endswith", "removeprefix", "fullmatch", "match", "search"}
            asked = [*node.args, node.func.value] if node.func.attr in methods else []
        for part in asked:
            if isinstance(part, ast.Attribute) and part.attr == "name" and _subject(part.value) == "recipe":
                yield node.lineno


def _parsed(module: Path) -> ast.AST:
    return ast.parse(module.read_text(encoding="utf-8"))


def test_recipe_names_are_literals_nowhere() -> None:
    """A tree of files with the name of a dataset is a separate setting, which any recipe may use."""
    found = {
        (str(module.relative_to(PACKAGE)), name, line)
        for module in MODULES
        for name, line in _names_in(_parsed(module))
        if name not in get_args(TreeName)
    }
    assert {(module, name) for module, name, _ in found} <= ALLOWED.keys(), found


def test_no_condition_asks_for_the_name_of_a_recipe() -> None:
    found = {
        f"{module.relative_to(PACKAGE)}:{line}"
        for module in MODULES
        for line in (*_conditions_on_names(_parsed(module)), *_decisions_by_name(_parsed(module)))
    }
    assert not found


def test_what_is_allowed_is_there() -> None:
    for module, name in ALLOWED:
        assert name in {found for found, _ in _names_in(_parsed(PACKAGE / module))}


def test_other_files_with_recipe_names_are_recipes_and_what_explains_them() -> None:
    named = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.suffix in {".yaml", ".csv", ".md", ".json", ".toml"}
        and any(f"name: {name}\n" in path.read_text(encoding="utf-8") for name in shipped_recipes())
    }
    assert named == {f"recipes/{name}.yaml" for name in shipped_recipes()}


def test_the_default_is_a_recipe_that_is_shipped() -> None:
    assert (resources.files("reben_dask.recipes") / f"{load_recipe(DEFAULT_RECIPE).name}.yaml").is_file()


@pytest.mark.parametrize(
    "code",
    [
        "if recipe.name == 'mine': pass",
        "x = 1 if plan.recipe.name in known else 2",
        "match self.recipe.name:\n    case 'a': pass",
        "SPECIAL[recipe.name]",
        "SPECIAL.get(plan.recipe.name)",
        "recipe.name.startswith('big')",
    ],
)
def test_the_search_finds_decisions_by_name(code: str) -> None:
    assert list(_decisions_by_name(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "if name == 'seasonet': pass",
        "if 'bigearthnet-v1' != dataset: pass",
        "if kind in ('reben', 'other'): pass",
        "match kind:\n    case 'seasonet' | 'x': pass",
        "y = [n for n in names if n == 'reben']",
    ],
)
def test_the_search_finds_conditions_with_names(code: str) -> None:
    assert list(_conditions_on_names(ast.parse(code)))


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("WRITERS = {'reben': 1}", ["reben"]),
        ("make(recipe='SeasoNet')", ["seasonet"]),
        ("f'{folder}/reben'", []),
        ("class A:\n    'reben'\n    x = 1\n    'reben'", []),
        ("import reben_dask; x = 'reben_dask'; y = 'reben:classes'", []),
        ("dict(seasonet=1)", ["seasonet"]),
    ],
)
def test_the_search_finds_literals(code: str, names: list[str]) -> None:
    assert [name for name, _ in _names_in(ast.parse(code))] == names


@pytest.mark.parametrize(
    "code", ["if recipe.tree == 'seasonet': pass", "match plan.recipe.tree:\n    case 'seasonet': pass", "recipe.name"]
)
def test_the_search_leaves_alone_what_is_no_decision_by_name(code: str) -> None:
    tree = ast.parse(code)
    assert not list(_conditions_on_names(tree))
    assert not list(_decisions_by_name(tree))
