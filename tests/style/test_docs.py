"""The documentation: tables from the formats, and names that exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from conftest import ROOT

ROLE = re.compile(r":(?:func|class|mod|meth|data|attr):`~?(reben_dask[\w.]*)`")


def test_the_tables_of_the_documentation_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_docstrings_mention_is_there() -> None:
    modules = (ROOT / "reben_dask").rglob("*.py")
    names = {name for path in modules for name in ROLE.findall(path.read_text(encoding="utf-8"))}
    assert not [name for name in sorted(names) if not _is_there(name)]


def _is_there(name: str) -> bool:
    """Test if a module defines or imports a name; it is read, not imported, as it may need an extra."""
    parts, module = name.split("."), ROOT
    while parts and (module / parts[0]).is_dir():
        module /= parts.pop(0)
    file = module / f"{parts[0]}.py" if parts else module / "__init__.py"
    if parts and file.is_file():
        parts.pop(0)
    else:
        file = module / "__init__.py"
    defined, imported = _names_in(file)
    return set(parts) <= defined or parts[0] in imported


@cache
def _names_in(file: Path) -> tuple[set[str], set[str]]:
    """Names that a module defines, and those that it imports, whose attributes are elsewhere."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    defined = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    aliases = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    return defined | assigned, {alias.asname or alias.name for alias in aliases}
