"""Small synthetic region to try the job on, with every convention of real inputs.

:func:`make_demo_region` writes Sentinel-2 products, a CORINE-like land-cover map, countries and Sentinel-1 patches of
an invented landscape, reproducible to the last pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reben_dask.atomic import atomic_path
from reben_dask.errors import OutputError

__all__ = ["DemoRegion", "make_demo_region", "open_demo_region"]


@dataclass(frozen=True, slots=True)
class DemoRegion:
    """Paths of a demo region."""

    s2: Path
    """Folder of Sentinel-2 Level-2A products: ``.SAFE`` folders and a ``.zip`` archive."""
    landcover: Path
    """GeoPackage with the schema of CORINE Land Cover 2018."""
    countries: Path
    """GeoPackage with invented countries."""
    s1: Path | None
    """Folder of Sentinel-1 patches; None for a region at full size."""
    s1_pairs: Path | None
    """CSV file with the columns ``s2_name`` and ``s1_name``; None for a region at full size."""

    @classmethod
    def inside(cls, folder: Path, *, full_size: bool = False) -> DemoRegion:
        """Return the paths of a region in ``folder``, without access to it."""
        return cls(
            s2=folder / "sentinel2",
            landcover=folder / "landcover.gpkg",
            countries=folder / "countries.gpkg",
            s1=None if full_size else folder / "sentinel1",
            s1_pairs=None if full_size else folder / "s1_pairs.csv",
        )


def make_demo_region(
    destination: Path, *, full_size: bool = False, progress: Callable[[str], None] | None = None
) -> DemoRegion:
    """Make a synthetic region that keeps every convention of real inputs.

    The same call gives the same pixels, polygons and names. Landscape, countries and borders are invented: no
    observation of the Earth.

    Parameters
    ----------
    destination : Path
        Folder to make, missing or empty; it appears when complete.
    full_size : bool
        Make tiles of 109.8 km, as real ones are, without Sentinel-1 (minutes, 4 GB of memory, 2.5 GB of disk),
        instead of 10.2 km (seconds, 30 MB of disk).
    progress : callable, optional
        Called with one line of text after each step.

    Raises
    ------
    OutputError
        If ``destination`` is not empty, or cannot be written.

    Examples
    --------
    >>> region = make_demo_region(Path("demo"))  # doctest: +SKIP
    >>> sorted(path.name for path in region.s2.iterdir())[0]  # doctest: +SKIP
    'S2A_MSIL2A_20180416T100031_N0212_R122_T33UVP_20210203T081544.SAFE'
    """
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise OutputError(
            f"{destination} exists already and is not an empty folder; name a folder that does not exist yet, "
            "or remove this one first."
        )
    # Imports a dozen libraries; the command line imports this package to show its help.
    from reben_dask.demo.products import build_region  # noqa: PLC0415
    from reben_dask.demo.terrain import FULL, SMALL  # noqa: PLC0415

    try:
        with atomic_path(destination) as draft:
            draft.mkdir()
            build_region(
                DemoRegion.inside(draft, full_size=full_size),
                layout=FULL if full_size else SMALL,
                progress=progress or (lambda _: None),
            )
    except OSError as error:
        raise OutputError(f"The demo region cannot be written to {destination}: {error}.") from error
    return DemoRegion.inside(destination, full_size=full_size)


def open_demo_region(folder: Path) -> DemoRegion:
    """Open the small region in a folder, made on the first call; see :func:`make_demo_region`."""
    return DemoRegion.inside(folder) if DemoRegion.inside(folder).s2.is_dir() else make_demo_region(folder)
