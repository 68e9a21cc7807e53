"""Where the files of a demo region are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoRegion:
    """Paths of a demo region.

    Parameters
    ----------
    s2 : Path
        Folder of Sentinel-2 Level-2A products: ``.SAFE`` folders and a ``.zip`` archive.
    landcover : Path
        GeoPackage with the schema of CORINE Land Cover 2018.
    countries : Path
        GeoPackage with invented countries.
    s1 : Path or None
        Folder of Sentinel-1 patches; a region at full size has none.
    s1_pairs : Path or None
        CSV file with the columns ``s2_name`` and ``s1_name``; a region at full size has none.
    """

    s2: Path
    landcover: Path
    countries: Path
    s1: Path | None
    s1_pairs: Path | None

    @classmethod
    def inside(cls, folder: Path, *, full_size: bool = False) -> DemoRegion:
        """Return the paths of a region in ``folder``; nothing is looked at or made."""
        return cls(
            s2=folder / "sentinel2",
            landcover=folder / "landcover.gpkg",
            countries=folder / "countries.gpkg",
            s1=None if full_size else folder / "sentinel1",
            s1_pairs=None if full_size else folder / "s1_pairs.csv",
        )
