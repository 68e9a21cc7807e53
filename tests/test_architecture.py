"""The rooms of the house: data flows one way, and small modules stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "reben_dask"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "recipes": {"recipes"},
    "sources": {"sources"},
    "patches": {"patches", "recipes"},
    "stores": {"stores", "patches"},
    "demo": {"demo", "patches", "stores"},
    "cluster": {"interrupts"},
    "interrupts": set(),
    "progress": set(),
    "verify": {"verify", "sources", "stores", "patches", "recipes", "progress"},
    "drawing": set(),
    "compare": {"compare", "stores", "patches", "drawing"},
    "report": {"report", "compare", "stores", "patches", "recipes", "drawing"},
    "training": {"training", "sources", "stores", "patches"},
    "conversion": {"conversion", "sources", "stores", "patches"},
    "output": {"output", "stores"},
    "dashboard": {"dashboard"},
    "job": {"job", "dashboard", "output", "sources", "stores", "patches", "recipes", "cluster", "progress"},
    "commands": {
        *("commands", "compare", "conversion", "demo", "output", "patches", "report", "sources", "stores", "verify"),
        *("configuration", "drawing", "interrupts", "progress"),
    },
    "configuration": set(),
    "cli": set(),
    "run": {"commands", "configuration", "job"},
}
"""What each room may know; only the job knows the way from the sources to the stores."""

FOR_ALL = {"errors", "wording"}


def _imports(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    inside = [name.split(".") for name in names if name.startswith("reben_dask.")]
    return {parts[1] for parts in inside}


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_know_only_what_comes_before_them(room: str) -> None:
    modules = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in {room, f"{room}.py"}]
    assert modules
    unexpected = {(path.name, name) for path in modules for name in _imports(path) - MAY_IMPORT[room] - FOR_ALL}
    assert not unexpected


@pytest.mark.parametrize("module", sorted(FOR_ALL))
def test_what_all_rooms_know_knows_none_of_them(module: str) -> None:
    assert not _imports(PACKAGE / f"{module}.py")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_keep_their_private_names(module: Path) -> None:
    nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    inside = (node for node in nodes if isinstance(node, ast.ImportFrom) and str(node.module).startswith("reben_dask."))
    assert not [alias.name for node in inside for alias in node.names if alias.name.startswith("_")]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_small_and_documented(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 260
    assert ast.get_docstring(ast.parse(text))


def test_the_entry_point_of_dask_is_light() -> None:
    code = "import sys, reben_dask.cli; print(sorted({'dask', 'numpy', 'pandas', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
