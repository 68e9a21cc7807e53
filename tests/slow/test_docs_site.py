"""The site of the documentation: a broken reference is an error, and pages load nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def _build(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Build a site of one page with the command of ``make docs``."""
    (recipe,) = re.findall(r"^\t\$\(BIN\)/sphinx-build (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
    words = {"docs": str(ROOT / "docs"), ".": str(folder), "docs/site/html": str(folder / "site" / "html")}
    command = [sys.executable, "-m", "sphinx", *(words.get(word, word) for word in recipe.split())]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


BROKEN = {
    "[gone](gone.md)": "gone.md",
    "[gone](#lost)": "lost",
    "![gone](images/gone.png)": "gone.png",
    "{py:func}`reben_dask.lost_name`": "reben_dask.lost_name",
    "```{eval-rst}\n.. autosummary::\n\n   reben_dask.gone\n```": "reben_dask.gone",
}
"""Broken references, and the word of the warning about each."""


def test_a_broken_reference_is_an_error(tmp_path: Path) -> None:
    done = _build(tmp_path, "\n\n".join(BROKEN))
    assert done.returncode != 0
    assert not [word for word in BROKEN.values() if word not in done.stderr]


def test_a_page_loads_nothing_from_the_network(tmp_path: Path) -> None:
    done = _build(tmp_path, "{py:class}`xarray.Dataset`\n\n```{eval-rst}\n.. automodule:: reben_dask.errors\n```")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "html" / "docs" / "index.html").read_text(encoding="utf-8")
    assert "InputError" in page
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"https?:", page)
