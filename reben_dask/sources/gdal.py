"""Access to images through GDAL."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any, TypeVar

from reben_dask.errors import InputError

T = TypeVar("T")

GDAL_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {"GDAL_CACHEMAX": 64 * 2**20, "GDAL_NUM_THREADS": "1", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
)
"""By default GDAL caches 5 % of the machine's memory in every process, and lists each folder for side files.

rasterio sets the cache in bytes, for all threads of the process.
"""


def use_image(
    source: str | os.PathLike[str] | bytes,
    read: Callable[[Any], T],
    explain: Callable[[str], str],
    *,
    error: type[InputError] = InputError,
    driver: str | None = None,
    options: Mapping[str, Any] = GDAL_OPTIONS,
) -> T:
    """Open an image, pass its dataset to ``read``, and close it.

    ``source`` is a GDAL path or the bytes of a file. Each call opens it again, as GDAL's datasets must not be shared
    between threads. ``explain`` turns GDAL's reason into the message of an ``error``. ``driver`` excludes all
    others.
    """
    # Imported here: workers that read only plain files (tiff.py) need no GDAL, and its import takes as long as
    # reading 10,000 of them.
    import rasterio  # noqa: PLC0415
    from rasterio.errors import RasterioError  # noqa: PLC0415

    try:
        with rasterio.Env(**options), ExitStack() as stack:
            if isinstance(source, bytes):
                memory = stack.enter_context(rasterio.MemoryFile(source))
                return read(stack.enter_context(memory.open(driver=driver)))
            return read(stack.enter_context(rasterio.open(source, driver=driver)))
    except (RasterioError, OSError, ValueError, LookupError) as raised:
        cause = _cause(raised)
    # Raised outside the handler: GDAL's exceptions, even as a context, cannot be sent from a worker to the client.
    raise error(explain(cause))


def _cause(error: BaseException) -> str:
    """GDAL's reason, without the names of its functions and files."""
    message = str(error.__cause__ or error).strip() or type(error).__name__
    return message.rpartition(": ")[2].rpartition("' ")[2].rstrip(".")
