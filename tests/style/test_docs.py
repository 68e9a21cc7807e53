"""The documentation: tables from the formats, names that exist, and a site in which a broken reference is an error."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
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


def _build(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Build a site of one page with the command of ``make docs``."""
    (recipe,) = re.findall(r"^\t\$\(BIN\)/sphinx-build (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
    words = {"docs": str(ROOT / "docs"), ".": str(folder), "docs/site/html": str(folder / "site" / "html")}
    command = [sys.executable, "-m", "sphinx", *(words.get(word, word) for word in recipe.split())]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("[gone](#gone)", "gone"),
        ("![gone](images/gone.png)", "gone.png"),
        ("{py:func}`reben_dask.gone`", "reben_dask.gone"),
        ("```{eval-rst}\n.. autosummary::\n\n   reben_dask.gone\n```", "reben_dask.gone"),
    ],
)
def test_a_broken_reference_is_an_error(tmp_path: Path, text: str, warning: str) -> None:
    done = _build(tmp_path, text)
    assert done.returncode != 0
    assert warning in done.stderr


def test_a_page_loads_nothing_from_the_network(tmp_path: Path) -> None:
    done = _build(tmp_path, "{py:class}`xarray.Dataset`\n\n```{eval-rst}\n.. automodule:: reben_dask.errors\n```")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "html" / "docs" / "index.html").read_text(encoding="utf-8")
    assert "InputError" in page
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"https?:", page)
