"""The five acquisitions of the demo, and the names that follow from each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reben_dask.demo.ground.layout import Tile

RELATIVE_ORBIT = 122
QUALITY_CHECKS = (
    "FORMAT_CORRECTNESS",
    "GENERAL_QUALITY",
    "GEOMETRIC_QUALITY",
    "RADIOMETRIC_QUALITY",
    "SENSOR_QUALITY",
)

_OFFSET_SINCE, _REPROCESSED = "04.00", "99.99"
_COMPACT = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One product: when and how a tile was seen, and what is wrong with it.

    Parameters
    ----------
    tile : Tile
        What was seen.
    platform : str
        ``S2A`` or ``S2B``.
    start : datetime
        Start of the datatake, UTC.
    absolute_orbit : int
        Number of the orbit since launch.
    baseline : str
        Processing baseline, such as ``05.00``.
    generated : datetime
        When the product was made, UTC.
    season : str
        Season of the spectra.
    snowy, cloudy : bool
        Does snow lie on high ground? Are there clouds?
    wedge : bool
        Does the swath end within the tile?
    dead_pixels : bool
        Are single pixels of B11 NODATA?
    aerosol : bool
        Does the product bring an AOT map?
    failed : tuple of str
        Quality checks that failed.
    zipped : bool
        Is the product delivered as a zip archive?
    sentinel1 : str or None
        Name of the Sentinel-1 scene that goes with it.
    unpaired_xy : tuple of int or None
        Column and row of a patch that the scene has no partner for.
    """

    tile: Tile
    platform: str
    start: datetime
    absolute_orbit: int
    baseline: str
    generated: datetime
    season: str
    snowy: bool = False
    cloudy: bool = False
    wedge: bool = False
    dead_pixels: bool = False
    aerosol: bool = False
    failed: tuple[str, ...] = ()
    zipped: bool = False
    sentinel1: str | None = None
    unpaired_xy: tuple[int, int] | None = None

    @property
    def offset(self) -> int:
        """DN that the baseline adds to the scaled reflectance: 1000 since 04.00, but not in reBEN's reprocessing."""
        return 1000 if _OFFSET_SINCE <= self.baseline < _REPROCESSED else 0

    @property
    def number(self) -> str:
        """The baseline as names have it: ``N0500``."""
        return "N" + self.baseline.replace(".", "")

    @property
    def datatake(self) -> str:
        """Start of the datatake as names have it: ``20180725T100031``."""
        return self.start.strftime(_COMPACT)

    @property
    def made(self) -> str:
        """Time of production as names have it."""
        return self.generated.strftime(_COMPACT)

    @property
    def tile_name(self) -> str:
        """Product name without its last time and ``.SAFE``: what patch names begin with."""
        return f"{self.platform}_MSIL2A_{self.datatake}_{self.number}_R{RELATIVE_ORBIT:03d}_T{self.tile.mgrs}"

    @property
    def product(self) -> str:
        """Name of the product: its folder's name with ``.SAFE``."""
        return f"{self.tile_name}_{self.made}.SAFE"

    @property
    def sensed(self) -> str:
        """When this tile was passed, some minutes after the datatake began."""
        return (self.start + timedelta(minutes=4, seconds=38)).strftime(_COMPACT)

    @property
    def granule(self) -> str:
        """Name of the granule's folder."""
        return f"L2A_T{self.tile.mgrs}_A{self.absolute_orbit:06d}_{self.sensed}"

    def image(self, band: str, resolution: int) -> str:
        """Path of an image inside the product, without its ending, as ``IMAGE_FILE`` has it."""
        name = f"T{self.tile.mgrs}_{self.datatake}_{band}_{resolution}m"
        return f"GRANULE/{self.granule}/IMG_DATA/R{resolution}m/{name}"


def acquisitions(west: Tile, east: Tile) -> tuple[Acquisition, ...]:
    """Return the acquisitions of a region, those of one tile together.

    Both tiles are seen on a summer and on a winter day; the western one also on a day in spring, in a product whose
    geometry failed its check. The summer products come from a recent baseline with an offset, the winter ones from
    the reprocessing of reBEN, the spring one from an old baseline.
    """
    summer = Acquisition(
        tile=west, platform="S2A", start=_utc("20180725T100031"), absolute_orbit=16_135, baseline="05.00",
        generated=_utc("20230718T052230"), season="summer", sentinel1="S1A_IW_GRDH_1SDV_20180724T165131",
    )  # fmt: skip
    winter = Acquisition(
        tile=west, platform="S2B", start=_utc("20190116T100359"), absolute_orbit=9_729, baseline=_REPROCESSED,
        generated=_utc("20240301T120000"), season="winter", snowy=True, sentinel1="S1B_IW_GRDH_1SDV_20190115T165045",
    )  # fmt: skip
    spring = Acquisition(
        tile=west, platform="S2A", start=_utc("20180416T100031"), absolute_orbit=14_705, baseline="02.12",
        generated=_utc("20210203T081544"), season="spring", failed=("GEOMETRIC_QUALITY",),
    )  # fmt: skip
    return (
        replace(summer, aerosol=True, unpaired_xy=(3, 5)),
        replace(winter, dead_pixels=True),
        spring,
        replace(summer, tile=east, cloudy=True),
        replace(winter, tile=east, wedge=True, zipped=True),
    )


def _utc(compact: str) -> datetime:
    return datetime.strptime(compact, _COMPACT).replace(tzinfo=UTC)
