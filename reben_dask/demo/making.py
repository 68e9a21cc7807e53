"""Making a demo region: all of its files, or none."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from reben_dask.demo.region import DemoRegion
from reben_dask.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def make_demo_region(
    destination: Path, *, full_size: bool = False, progress: Callable[[str], None] | None = None
) -> DemoRegion:
    """Make a synthetic region that keeps every convention of real inputs.

    The same call gives the same pixels, polygons and names every time. The landscape, its countries and their borders
    are invented; nothing in it is an observation of the Earth.

    Parameters
    ----------
    destination : Path
        Folder to make. It must not exist, or be empty; it appears when everything in it is complete.
    full_size : bool
        Make tiles of 109.8 km, as real ones are, without Sentinel-1 (minutes, 4 GB of memory, 2.5 GB of disk),
        instead of 10.2 km (seconds, some 30 MB of disk).
    progress : callable, optional
        Called with one line of text after each step.

    Returns
    -------
    DemoRegion
        Paths of what was made.

    Raises
    ------
    OutputError
        If ``destination`` holds something already, or cannot be written.

    Examples
    --------
    >>> region = make_demo_region(Path("demo"))  # doctest: +SKIP
    >>> sorted(path.name for path in region.s2.iterdir())[0]  # doctest: +SKIP
    'S2A_MSIL2A_20180416T100031_N0212_R122_T33UVP_20210203T081544.SAFE'
    """
    _refuse_to_overwrite(destination)
    # What makes the region loads a dozen libraries, and the command line imports this module to show its help.
    from reben_dask.demo.build import build_region  # noqa: PLC0415

    partial = destination.with_name(f".{destination.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        build_region(
            DemoRegion.inside(partial, full_size=full_size), full_size=full_size, progress=progress or (lambda _: None)
        )
        if destination.exists():
            destination.rmdir()
        partial.rename(destination)
    except OSError as error:
        raise OutputError(f"The demo region cannot be written to {destination}: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return DemoRegion.inside(destination, full_size=full_size)


def open_demo_region(folder: Path) -> DemoRegion:
    """Paths of the small region in a folder; it is made if there is nothing yet. See :func:`make_demo_region`."""
    return DemoRegion.inside(folder) if DemoRegion.inside(folder).s2.is_dir() else make_demo_region(folder)


def _refuse_to_overwrite(destination: Path) -> None:
    if destination.is_dir() and not any(destination.iterdir()):
        return
    if destination.exists():
        raise OutputError(
            f"{destination} exists already and is not an empty folder; name a folder that does not exist yet, "
            "or remove this one first."
        )
