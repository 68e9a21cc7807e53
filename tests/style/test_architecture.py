"""The rooms of the package: data flows one way, and modules keep their private names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "reben_dask"
MODULES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"errors", "wording", "atomic", "locks", "environment", "grid", "nomenclature", "options"}
MAY_IMPORT = {
    "formats": set(),
    "workspace": {"formats"},
    "recipes": {"formats"},
    "sources": {"formats", "workspace"},
    "patches": {"formats", "recipes"},
    "stores": {"formats", "patches", "tables", "workspace"},
    "demo": {"formats", "patches", "stores"},
    "cluster": {"signals"},
    "signals": set(),
    "progress": set(),
    "verify": {"formats", "sources", "stores", "patches", "recipes", "progress"},
    "drawing": set(),
    "tables": set(),
    "analysis": {
        "formats",
        "sources",
        "stores",
        "patches",
        "recipes",
        "training",
        "drawing",
        "tables",
        "workspace",
    },
    "report": {"analysis", "tables", "formats", "stores", "patches", "recipes", "drawing"},
    "training": {"formats", "sources", "stores", "patches", "recipes", "tables"},
    "dataset": {"formats", "sources", "stores", "training", "analysis", "report"},
    "dashboard": {"cluster", "progress", "workspace"},
    "job": {
        "analysis",
        "dashboard",
        "formats",
        "sources",
        "stores",
        "patches",
        "recipes",
        "cluster",
        "progress",
        "tables",
        "workspace",
    },
}
"""Rooms that each room may import, besides itself and :data:`GROUND`. The command line may import all."""

CALLED = ("patches/__init__.py", "job")
"""The package ``patches`` is also the public function of that name, which the job makes."""


def _imports(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("reben_dask.")}


def _modules(room: str) -> list[Path]:
    return [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in {room, f"{room}.py"}]


def test_rooms_import_only_what_stands_below_them() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), name)
        for room, allowed in MAY_IMPORT.items()
        for path in _modules(room)
        for name in _imports(path) - allowed - GROUND - {room}
    }
    assert found == {CALLED}


def test_the_ground_imports_nothing_above_it() -> None:
    assert not {(path.name, name) for room in GROUND for path in _modules(room) for name in _imports(path) - GROUND}


def test_modules_keep_their_private_names() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), alias.name)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("reben_dask.")
        for alias in node.names
        if alias.name.startswith("_")
    }
    assert not found


def test_modules_are_documented() -> None:
    assert not [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("reben_dask.cli", {"dask", "numpy", "pandas", "rich"}),  # the entry point of `dask`
        ("reben_dask.job.tasks", {"dask.array", "dask.dataframe", "matplotlib", "rioxarray", "scipy"}),  # every worker
        ("reben_dask.job.run", {"dask.array", "dask.dataframe", "matplotlib", "rioxarray", "scipy"}),
    ],
)
def test_what_many_processes_import_is_light(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
