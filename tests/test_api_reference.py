"""The reference of functions, as ``make docs`` builds it."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

ROOM = "reben_dask.patches"


def test_docstrings_become_pages(tmp_path: Path) -> None:
    """One room stands for all: its modules have pages, and sections of docstrings are headings there."""
    (recipe,) = re.findall(r"^\t\$\(BIN\)/python (-W .+ -m pdoc .+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    words = [{"docs/api": str(tmp_path), "reben_dask": ROOM}.get(word, word) for word in recipe.split()]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    modules = {path.stem for path in (ROOT / Path(*ROOM.split("."))).glob("[!_]*.py")}
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.rglob("patches/*.html")}
    assert modules == pages.keys()
    headings = set(re.findall(r"<h6[^>]*>([^<]+)</h6>", pages["reference_map"]))
    assert headings >= {"Parameters", "Returns"}
    assert "rasterize_map" in pages["reference_map"]


ROLE = re.compile(r":(?:func|class|mod|meth|data|attr):`~?(reben_dask[\w.]*)`")
MENTIONS = {
    name: path
    for path in sorted((ROOT / "reben_dask").rglob("*.py"))
    for name in ROLE.findall(path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("name", MENTIONS)
def test_what_docstrings_mention_is_there(name: str) -> None:
    assert pkgutil.resolve_name(name), MENTIONS[name]
