"""Published folder layouts, by their name in recipes (``tree``).

To add a layout, add a module with ``LAYOUT`` and ``layout`` to this package.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module

from reben_dask.formats.trees.layout import Contents, FileSpec, PatchPixels, Tree, TreeLayout

__all__ = ["DEFAULT_LAYOUT", "LAYOUTS", "Contents", "FileSpec", "PatchPixels", "Tree", "TreeLayout"]

DEFAULT_LAYOUT = "bigearthnet-v2"
"""Layout of data of unknown origin."""


def _find_layouts() -> Mapping[str, Callable[[Contents], TreeLayout]]:
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {module.LAYOUT: module.layout for module in modules if hasattr(module, "LAYOUT")}


LAYOUTS = _find_layouts()
