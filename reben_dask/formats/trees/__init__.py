"""Published folder layouts, by their name in recipes (``tree``).

To add a layout, add a module with ``LAYOUT`` and ``layout`` to this package.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module

from reben_dask.errors import RecipeError
from reben_dask.formats.bands import BANDS
from reben_dask.formats.trees.layout import Contents, FileSpec, PatchPixels, Tree, TreeLayout

__all__ = ["DEFAULT_LAYOUT", "LAYOUTS", "Contents", "FileSpec", "PatchPixels", "Tree", "TreeLayout", "make_layout"]

DEFAULT_LAYOUT = "bigearthnet-v2"
"""Layout of data of unknown origin."""


def _find_layouts() -> Mapping[str, Callable[[Contents], TreeLayout]]:
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {module.LAYOUT: module.layout for module in modules if hasattr(module, "LAYOUT")}


LAYOUTS = _find_layouts()


def make_layout(name: str, contents: Contents) -> TreeLayout:
    """Make the layout of a dataset.

    Raises
    ------
    RecipeError
        If a file of the layout needs a band that the dataset lacks, or as the layout itself.
    """
    layout = LAYOUTS[name](contents)
    needed = {band for tree in layout.trees for band in tree.needs}
    needed |= {band.name for tree in layout.trees for spec in tree.specs.values() for band in spec.bands}
    if missing := [band for band in BANDS if band in needed and band not in contents.bands]:
        raise RecipeError(
            f"The tree {name} has files of the bands {', '.join(missing)}, which the recipe lacks; "
            "add them to bands, or choose another tree."
        )
    return layout
