"""Configuration of the documentation; ``make docs`` builds it from the root of the repository, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, NumpyDocstring

from reben_dask import __version__ as release

project = "reben_dask"
author = copyright = "The reben_dask contributors"  # noqa: A001 - Sphinx's name
version = release

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "deploy/**.md",
    "docs/**.md",
    "docs/**.rst",
    "notebooks/*.ipynb",
    "reben_dask/recipes/README.md",
]
exclude_patterns = [".*", "docs/_templates", "docs/site", "notebooks/work", "demo-*", "bench-*", "build", "dist"]
templates_path = [str(Path(__file__).parent / "_templates")]
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!reben_dask\.).*"),  # other projects: nothing is looked up on the network
    ("py:.*", r".+\.(_\w+|[A-Z])"),  # private names and type variables in signatures
]
suppress_warnings = ["ref.python"]  # a short name in a signature that several modules define

myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests execute the notebooks
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would be loaded from the network

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_mock_imports = ["lightning", "timm", "torch", "torchvision"]  # not needed to document the extra train
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"reben_dask {release}"
html_additional_pages = {"index": "start.html"}
html_show_sourcelink = False


def parse_sections(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Parse numpydoc sections, but in attributes, where napoleon would take ``a: b`` for a type and a text."""
    if what not in {"attribute", "data", "property"}:
        config = Config(napoleon_use_param=False, napoleon_use_rtype=False)
        lines[:] = NumpyDocstring(lines, config, app, what, name, obj, options).lines()


def skip_aliases(_app: Sphinx, _what: str, _name: str, obj: object, *_: object) -> bool | None:
    """Skip fields of named tuples without a docstring."""
    return True if str(obj.__doc__).startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("autodoc-process-docstring", parse_sections)
    app.connect("autodoc-skip-member", skip_aliases)
