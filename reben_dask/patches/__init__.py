"""Decisions about patches: candidates, NODATA, SCL, reference map, labels, splits, selection.

Pure functions on arrays and (geo)pandas frames; no file access. The package itself may be called: it is
:func:`reben_dask.job.frame.patches`, the public function of the same name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _PatchesPackage(ModuleType):
    """Package that is called as ``reben_dask.patches(...)``: an attribute of that name is always the subpackage."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """List the candidate patches of tiles lazily; see :func:`reben_dask.job.frame.patches`."""
        from reben_dask.job.frame import patches  # noqa: PLC0415 - the job stands above this package

        return patches(*args, **kwargs)


sys.modules[__name__].__class__ = _PatchesPackage
