"""The documentation: tables from the formats, and names that exist."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys

from conftest import ROOT

ROLE = re.compile(r":(?:func|class|mod|meth|data|attr):`~?(reben_dask[\w.]*)`")


def test_the_tables_of_the_documentation_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_docstrings_mention_is_there() -> None:
    modules = (ROOT / "reben_dask").rglob("*.py")
    for name in {name for path in modules for name in ROLE.findall(path.read_text(encoding="utf-8"))}:
        assert pkgutil.resolve_name(name), name
