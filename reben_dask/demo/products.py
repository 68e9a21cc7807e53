"""Products of the demo: five acquisitions as ``.SAFE`` folders or archives, and the build of the region."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import rasterio
from rasterio.transform import from_origin

from reben_dask.demo import DemoRegion
from reben_dask.demo.landcover import Parcels, draw_land_cover, write_countries, write_land_cover
from reben_dask.demo.scene import WEDGE_SIDES, Scene, Weather
from reben_dask.demo.sentinel1 import write_partners
from reben_dask.demo.surface import survey_tile
from reben_dask.demo.terrain import EPSG, Centres, Layout, Noise, Terrain, Tile
from reben_dask.formats.bands import BANDS, IMAGE_RESOLUTION_M, LEVEL_BANDS, PUBLISHED_BANDS, SCENE_CLASSIFICATION

_THREADS = 2
_COMPACT = "%Y%m%dT%H%M%S"
_AEROSOL = "AOT"
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("reben_dask.demo"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Product of the demo: time, tile and defects."""

    tile: Tile
    platform: str
    start: datetime
    """Start of the datatake, UTC."""
    absolute_orbit: int
    baseline: str
    """Processing baseline, such as ``05.00``."""
    generated: datetime
    """Time of production, UTC."""
    season: str
    snowy: bool = False
    cloudy: bool = False
    wedge: bool = False
    """True if the swath ends within the tile."""
    dead_pixels: bool = False
    """True if single pixels of one band are nodata."""
    aerosol: bool = False
    """True if the product has an AOT map."""
    failed_check: str | None = None
    zipped: bool = False
    sentinel1: str | None = None
    """Name of the accompanying Sentinel-1 scene."""
    unpaired_xy: tuple[int, int] | None = None
    """Column and row of a patch without a partner in that scene."""

    @property
    def offset(self) -> int:
        """DN added to the scaled reflectance: 1000 since baseline 04.00, but not in reBEN's reprocessing."""
        return 1000 if "04.00" <= self.baseline < "99.99" else 0

    @property
    def granule(self) -> str:
        """Path of the granule's folder in the product."""
        return f"GRANULE/L2A_T{self.tile.mgrs}_A{self.absolute_orbit:06d}_{self.sensed}"

    @property
    def tile_name(self) -> str:
        """Prefix of patch names: the product name without its last time and ``.SAFE``."""
        baseline = self.baseline.replace(".", "")
        return f"{self.platform}_MSIL2A_{self.start:{_COMPACT}}_N{baseline}_R122_T{self.tile.mgrs}"

    @property
    def product(self) -> str:
        """Name of the product with ``.SAFE``."""
        return f"{self.tile_name}_{self.generated:{_COMPACT}}.SAFE"

    def image(self, band: str, resolution: int) -> str:
        """Path of an image in the product, without suffix, as in ``IMAGE_FILE``."""
        name = f"T{self.tile.mgrs}_{self.start:{_COMPACT}}_{band}_{resolution}m"
        return f"{self.granule}/IMG_DATA/R{resolution}m/{name}"

    @property
    def sensed(self) -> str:
        """Sensing time of the tile, minutes after the start of the datatake."""
        return f"{self.start + timedelta(minutes=4, seconds=38):{_COMPACT}}"


def list_acquisitions(layout: Layout) -> list[Acquisition]:
    """List the acquisitions of a region, grouped by tile.

    Both tiles have a summer and a winter day; the western one also a spring day whose geometry failed its check. The
    summer products have a recent baseline with an offset, the winter ones reBEN's reprocessing, the spring one an old
    baseline.
    """
    west, east = layout.tiles
    rows, columns = west.grid.shape_yx
    summer = Acquisition(
        west, "S2A", datetime(2018, 7, 25, 10, 0, 31, tzinfo=UTC), 16_135, "05.00",
        datetime(2023, 7, 18, 5, 22, 30, tzinfo=UTC), "summer", sentinel1="S1A_IW_GRDH_1SDV_20180724T165131",
    )  # fmt: skip
    winter = Acquisition(
        west, "S2B", datetime(2019, 1, 16, 10, 3, 59, tzinfo=UTC), 9_729, "99.99",
        datetime(2024, 3, 1, 12, tzinfo=UTC), "winter", sentinel1="S1B_IW_GRDH_1SDV_20190115T165045", snowy=True,
    )  # fmt: skip
    spring = Acquisition(
        west, "S2A", datetime(2018, 4, 16, 10, 0, 31, tzinfo=UTC), 14_705, "02.12",
        datetime(2021, 2, 3, 8, 15, 44, tzinfo=UTC), "spring", failed_check="GEOMETRIC_QUALITY",
    )  # fmt: skip
    return [
        replace(summer, aerosol=True, unpaired_xy=(3 * columns // 8, 5 * rows // 8)),
        replace(winter, dead_pixels=True),
        spring,
        replace(summer, tile=east, cloudy=True),
        replace(winter, tile=east, wedge=True, zipped=True),
    ]


def build_region(region: DemoRegion, *, layout: Layout, progress: Callable[[str], None]) -> None:
    """Write all files of a region, with one line of progress for each step."""
    terrain, parcels = Terrain(layout), Parcels(layout)
    cover = draw_land_cover(terrain, parcels)
    write_land_cover(cover, region.landcover)
    progress(f"land cover: {cover.codes.size:,} polygons of {np.unique(cover.codes).size} classes")
    write_countries(layout, region.countries)
    region.s2.mkdir()
    weather = Weather(terrain)
    pairs: list[dict[str, str]] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for tile in layout.tiles:
            surface = survey_tile(tile, cover, terrain, parcels)
            progress(f"tile T{tile.mgrs}: {layout.side_m / 1000:g} km x {layout.side_m / 1000:g} km")
            for acquisition in list_acquisitions(layout):
                if acquisition.tile == tile:
                    _write_product(region.s2, weather.observe(surface, acquisition), layout, pool)
                    progress(f"product {acquisition.product}")
                    if region.s1 is not None:
                        pairs += write_partners(region.s1, acquisition, surface, pool)
    if region.s1_pairs is not None:
        table = pd.DataFrame(pairs).sort_values("s2_name")
        table.to_csv(region.s1_pairs, index=False, lineterminator="\n")
        progress(f"Sentinel-1: {len(pairs)} pairs")


def _write_product(folder: Path, scene: Scene, layout: Layout, pool: Executor) -> None:
    acquisition = scene.acquisition
    safe, scl = folder / acquisition.product, scene.classify()
    resolutions = {image: IMAGE_RESOLUTION_M[image] for image in (*LEVEL_BANDS["L2A"], SCENE_CLASSIFICATION)}
    resolutions |= {_AEROSOL: 20} if acquisition.aerosol else {}
    images = {band: acquisition.image(band, resolution) for band, resolution in resolutions.items()}
    for path in images.values():
        (safe / path).parent.mkdir(parents=True, exist_ok=True)

    def write(band: str) -> None:
        if band == SCENE_CLASSIFICATION:
            pixels: npt.NDArray[Any] = scl
        elif band in PUBLISHED_BANDS:
            pixels = scene.render_band(band)
        else:
            dtype = BANDS[band].dtype if band in BANDS else "uint16"
            pixels = _haze(layout, acquisition.tile, resolutions[band]).astype(dtype)
        _write_jp2(safe / f"{images[band]}.jp2", pixels, acquisition.tile, layout.block_px[resolutions[band]])

    # The largest images first, so that no thread is idle at the end.
    list(pool.map(write, sorted(images, key=resolutions.__getitem__)))
    facts = _metadata(acquisition, sorted(images.values()), scl)
    _render("MTD_MSIL2A.xml", safe / "MTD_MSIL2A.xml", facts)
    _render("MTD_TL.xml", safe / acquisition.granule / "MTD_TL.xml", facts)
    _render("manifest.safe", safe / "manifest.safe", {"files": [_describe(path, safe) for path in _files(safe)]})
    if acquisition.zipped:
        _zip(safe)


def _metadata(acquisition: Acquisition, images: list[str], scl: npt.NDArray[np.uint8]) -> dict[str, object]:
    """Values of both metadata files; percentages are counted from the scene classification."""
    counts = np.bincount(scl.ravel(), minlength=12)
    prefix, made = f"{acquisition.platform}_OPER_MSI_L2A", f"DEMO_{acquisition.generated:{_COMPACT}}"
    orbit, baseline = f"{acquisition.absolute_orbit:06d}", f"N{acquisition.baseline}"
    return {
        "acquisition": acquisition,
        "grid": acquisition.tile.grid,
        "images": images,
        "iso": lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}.024Z",
        "datatake_id": f"G{acquisition.platform}_{acquisition.start:{_COMPACT}}_{orbit}_{baseline}",
        "datastrip_id": f"{prefix}_DS_{made}_S{acquisition.sensed}_{baseline}",
        "granule_id": f"{prefix}_TL_{made}_A{orbit}_T{acquisition.tile.mgrs}_{baseline}",
        "footprint": _footprint(acquisition),
        "nodata_percent": 100 * counts[0] / scl.size,
        "percent": 100 * counts / counts[1:].sum(),
    }


def _footprint(acquisition: Acquisition) -> list[tuple[float, float]]:
    """Latitude and longitude of the corners of the imaged ground, as a closed clockwise ring from the upper left."""
    box, side = acquisition.tile.box, acquisition.tile.grid.tile_m.x
    corners = [(box.west, box.north), (box.east, box.north), (box.east, box.south), (box.west, box.south)]
    if acquisition.wedge:
        corners[2:3] = [(box.east, box.south + WEDGE_SIDES[1] * side), (box.east - WEDGE_SIDES[0] * side, box.south)]
    to_degrees = pyproj.Transformer.from_crs(EPSG, 4326)
    return [to_degrees.transform(*corner) for corner in [*corners, corners[0]]]


def _haze(layout: Layout, tile: Tile, resolution: int) -> npt.NDArray[Any]:
    """Aerosol optical thickness times 1000, as in AOT; also the content of bands without a spectrum here."""
    haze = Noise("haze", layout.region, 0.2 * layout.side_m, 0.1 * layout.side_m)
    return np.clip(np.rint(140 + 12 * haze.sample(Centres.of(tile.box, resolution))), 50, 250)


def _write_jp2(path: Path, pixels: npt.NDArray[Any], tile: Tile, block_px: int) -> None:
    """Write an image of a whole tile as lossless, georeferenced JPEG 2000."""
    height, width = pixels.shape
    resolution = tile.grid.tile_m.x // width
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", height=height, width=width, count=1, dtype=pixels.dtype, crs=EPSG,
        transform=from_origin(tile.box.west, tile.box.north, resolution, resolution), tiled=True,
        blockxsize=min(block_px, width), blockysize=min(block_px, height), QUALITY="100", REVERSIBLE="YES",
    ) as image:  # fmt: skip
        image.write(pixels, 1)


def _render(template: str, path: Path, values: dict[str, object]) -> None:
    path.write_text(_TEMPLATES.get_template(template).render(values), encoding="utf-8")


def _files(safe: Path) -> list[Path]:
    return sorted(path for path in safe.rglob("*") if path.is_file())


def _describe(path: Path, safe: Path) -> dict[str, object]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha3_256").hexdigest().upper()
    return {"path": path.relative_to(safe).as_posix(), "stem": path.stem, "size": path.stat().st_size, "digest": digest}


def _zip(safe: Path) -> None:
    """Move a ``.SAFE`` folder into an uncompressed zip archive (images are compressed already)."""
    with zipfile.ZipFile(safe.with_suffix(".zip"), "w", zipfile.ZIP_STORED) as archive:
        for path in _files(safe):
            archive.write(path, path.relative_to(safe.parent))
    shutil.rmtree(safe)
