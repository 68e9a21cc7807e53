"""Expected contents of a dataset for one Sentinel-2 product, computed slowly, patch by patch.

This is a second, independent reading of the specification: it shares no code with the package and takes other ways
on purpose. Pixels are read with one window per patch and band; a pixel's land cover is decided by asking which
polygon contains its centre (no rasteriser); the split is decided in whole numbers. Where the specification leaves a
case open (a centre exactly on a border, overlapping polygons, a tile that failed its quality check) the oracle
raises instead of choosing.

The dataset is reBEN, unless another :class:`Protocol` is given; those of other datasets are in ``protocols.py``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.transform import from_origin
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

Pixels = NDArray[np.uint16]
XY = tuple[int, int]  # (column counted eastwards, row counted southwards)

PATCH_M = 1200
CLIP_MARGIN_M = 45.0
NO_POLYGON = 999
CLOUD_SCL, SHADOW_SCL, SNOW_SCL = (8, 9, 10), (3,), (11,)
LOOKED_AT_QUALITY = ("GEOMETRIC", "GENERAL", "RADIOMETRIC", "SENSOR")
MONTHS_OF_SEASON = {"winter": (12, 1, 2), "spring": (3, 4, 5), "summer": (6, 7, 8), "fall": (9, 10, 11)}

BAND_RESOLUTION_M: dict[str, int] = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20),
    **dict.fromkeys(("B01", "B09"), 60),
}

FARTHEST_COUNTRY_M = 100_000
TEN_COUNTRIES = (
    *("Austria", "Belgium", "Finland", "Ireland", "Kosovo"),
    *("Lithuania", "Luxembourg", "Portugal", "Serbia", "Switzerland"),
)

_CODES_OF_CLASS: dict[str, tuple[int, ...]] = {
    "Agro-forestry areas": (244,),
    "Arable land": (211, 212, 213),
    "Beaches, dunes, sands": (331,),
    "Broad-leaved forest": (311,),
    "Coastal wetlands": (421, 422),
    "Complex cultivation patterns": (242,),
    "Coniferous forest": (312,),
    "Industrial or commercial units": (121,),
    "Inland waters": (511, 512),
    "Inland wetlands": (411, 412),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (243,),
    "Marine waters": (521, 522, 523),
    "Mixed forest": (313,),
    "Moors, heathland and sclerophyllous vegetation": (322, 323),
    "Natural grassland and sparsely vegetated areas": (321, 333),
    "Pastures": (231,),
    "Permanent crops": (221, 222, 223, 241),
    "Transitional woodland, shrub": (324,),
    "Urban fabric": (111, 112),
}
CLASS_OF_CODE: dict[int, str] = {code: name for name, codes in _CODES_OF_CLASS.items() for code in codes}
UNLABELED_CODES = frozenset((122, 123, 124, 131, 132, 133, 141, 142, 332, 334, 335, 423, NO_POLYGON))


@dataclass(frozen=True)
class Polygons:
    """Map polygons in a tile's CRS, each with its value (a CLC code or a country's name), and an index over them."""

    geometries: NDArray[Any]
    values: NDArray[Any]
    tree: shapely.STRtree


@dataclass(frozen=True)
class Product:
    """Metadata of a Sentinel-2 product folder: its names, its place and its time."""

    folder: Path
    tile: str
    sensing_time: datetime
    epsg: int
    ulx: int
    uly: int
    side: int

    @property
    def mgrs(self) -> str:
        """MGRS tile, without its ``T``."""
        return self.tile[-5:]

    @property
    def time(self) -> str:
        """Time in the product's name."""
        return self.tile.split("_")[2]

    @property
    def patches_per_side(self) -> int:
        """Complete patches along one side of the tile."""
        return self.side // PATCH_M

    def patches(self, offset_m: int = 0) -> Iterator[XY]:
        """All (x, y) of the grid, row by row."""
        along = range((self.side - offset_m) // PATCH_M)
        return ((x, y) for y in along for x in along)

    def bounds(self, x: int, y: int, offset_m: int = 0) -> tuple[int, int, int, int]:
        """(minx, miny, maxx, maxy) of a patch in the tile's CRS."""
        left, top = self.ulx + offset_m + PATCH_M * x, self.uly - offset_m - PATCH_M * y
        return left, top - PATCH_M, left + PATCH_M, top

    def patch_id(self, x: int, y: int) -> str:
        """Return the tile's name and both indices, padded to the digits of the grid's largest index."""
        digits = len(str(self.patches_per_side - 1))
        return f"{self.tile}_{x:0{digits}d}_{y:0{digits}d}"


def name_of_patch(product: Product, _grid: int, x: int, y: int) -> str:
    """Name of a patch as reBEN has it."""
    return product.patch_id(x, y)


@dataclass(frozen=True)
class Protocol:
    """Rules in which datasets differ, as in their papers."""

    class_of_code: Mapping[int, str | None] = field(
        default_factory=lambda: {**CLASS_OF_CODE, **dict.fromkeys(UNLABELED_CODES)}
    )
    offsets_m: Sequence[int] = (0,)
    name: Callable[[Product, int, int, int], str] = name_of_patch
    min_region_px: Mapping[str, int] = field(default_factory=lambda: {"all": 0})
    enough: Callable[[int, int], bool] = lambda labeled, pixels: 4 * labeled >= 3 * pixels
    months: Mapping[str, Sequence[int]] = field(default_factory=lambda: MONTHS_OF_SEASON)
    apart_from_percent: int | None = 100
    bands: Sequence[str] = tuple(BAND_RESOLUTION_M)


REBEN = Protocol()


@dataclass(frozen=True)
class Patch:
    """Everything the dataset must say about one candidate patch, its pixels included."""

    patch_id: str
    tile: str
    x: int
    y: int
    epsg: int
    bounds: tuple[int, int, int, int]
    sensing_time: datetime
    season: str | None
    split: str
    countries: tuple[str | None, ...]  # more than one only where several are exactly as near
    bands: dict[str, Pixels]
    reference_map: Pixels
    labels: list[str]
    labeled_pixels: int
    snow_pixels: int | None  # None without a scene classification
    cloud_pixels: int | None
    shadow_pixels: int | None
    scl_pixels: int
    nodata: bool
    contains_seasonal_snow: bool
    contains_cloud_or_shadow: bool
    reason: str | None  # None (kept), "nodata" or "label" (too little of it labelled), or what a protocol adds
    grid: int = 1
    offset_m: int = 0
    more_labels: dict[str, list[str]] = field(default_factory=dict)  # by further thresholds of region size

    @property
    def status(self) -> str:
        """True if the patch belongs to the dataset."""
        return "kept" if self.reason is None else "rejected"

    @property
    def set_apart(self) -> bool:
        """True if a kept patch is listed in the snow, cloud or shadow file."""
        return self.contains_seasonal_snow or self.contains_cloud_or_shadow

    @property
    def labeled_fraction(self) -> float:
        """Share of the 10 m pixels whose code carries a label."""
        return self.labeled_pixels / self.reference_map.size


def image_path(folder: Path, name: str, resolution_m: int) -> Path:
    """Return the product's only image of a band (or SCL) at a resolution."""
    (path,) = folder.glob(f"GRANULE/*/IMG_DATA/R{resolution_m}m/*_{name}_{resolution_m}m.jp2")
    return path


def open_product(folder: Path) -> Product:
    """Read a product's place from its B02 image and its time and quality from MTD_MSIL2A.xml."""
    xml = (folder / "MTD_MSIL2A.xml").read_text(encoding="utf-8")
    for check, result in re.findall(r'checkType="([A-Z]+)_\w+"[^>]*>\s*(\w+)\s*<', xml):
        if check in LOOKED_AT_QUALITY and result != "PASSED":
            raise ValueError(f"{folder.name} is no candidate: {check} is {result}")
    (start,) = re.findall(r"<PRODUCT_START_TIME>\s*(\S+?)\s*<", xml)
    sensing_time = datetime.fromisoformat(start)
    with rasterio.open(image_path(folder, "B02", 10)) as image:
        transform, epsg, sides = image.transform, image.crs.to_epsg(), {10 * image.width, 10 * image.height}
    (side,) = sides  # the split rule is written for square tiles
    return Product(
        folder=folder,
        tile=folder.name.rsplit("_", 1)[0],
        sensing_time=sensing_time.astimezone(UTC),
        epsg=epsg,
        ulx=int(transform.c),
        uly=int(transform.f),
        side=side,
    )


def cut_image(product: Product, name: str, resolution_m: int, offset_m: int = 0) -> dict[XY, NDArray[Any]]:
    """Read one image and cut it: a 2-D array per patch."""
    px, first = PATCH_M // resolution_m, offset_m // resolution_m
    with rasterio.open(image_path(product.folder, name, resolution_m)) as image:
        pixels = image.read(1)
    corners = {(x, y): (first + x * px, first + y * px) for x, y in product.patches(offset_m)}
    return {xy: pixels[top : top + px, left : left + px].copy() for xy, (left, top) in corners.items()}


def read_polygons(path: Path, column: str, epsg: int) -> Polygons:
    """Read the first layer of a vector file and move every vertex to the CRS `epsg`, adding none."""
    layer = pyogrio.list_layers(path)[0, 0]
    meta, _, wkb, (values,) = pyogrio.raw.read(path, layer=layer, columns=[column])
    transformer = pyproj.Transformer.from_crs(meta["crs"], epsg, always_xy=True)
    geometries = shapely.transform(shapely.from_wkb(wkb), transformer.transform, interleaved=False)
    return Polygons(geometries, values, shapely.STRtree(geometries))


def clip_to_patch(bounds: tuple[int, int, int, int], polygons: Polygons) -> list[tuple[BaseGeometry, int]]:
    """Return the parts of the polygons at a patch, cut off some metres around it, each with its code, in map order."""
    box = shapely.box(*bounds)
    around = shapely.box(*shapely.buffer(box, CLIP_MARGIN_M, cap_style="square", join_style="mitre").bounds)
    hits = np.sort(polygons.tree.query(box, predicate="intersects"))
    parts = [(shapely.intersection(polygons.geometries[i], around), int(polygons.values[i])) for i in hits]
    return [(area, code) for whole, code in parts for area in shapely.get_parts(whole) if area.area > 0]


def centres(bounds: tuple[int, int, int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of the 10 m pixels' centres in a patch, as two (120, 120) arrays, north up."""
    minx, miny, maxx, maxy = bounds
    xs, ys = np.meshgrid(np.arange(minx + 5.0, maxx, 10.0), np.arange(maxy - 5.0, miny, -10.0))
    return xs, ys


def reference_map(bounds: tuple[int, int, int, int], polygons: Polygons) -> Pixels:
    """Ask for every pixel which polygon contains its centre.

    Raises
    ------
    ValueError
        If a centre lies exactly on a border or in two polygons with different codes: the specification does not say
        what such a pixel is.
    """
    xs, ys = centres(bounds)
    codes = np.full(xs.shape, NO_POLYGON, dtype=np.uint16)
    decided = np.zeros(xs.shape, dtype=bool)
    open_case = np.zeros(xs.shape, dtype=bool)
    for area, code in clip_to_patch(bounds, polygons):
        shapely.prepare(area)
        inside = shapely.contains_xy(area, xs, ys)
        open_case |= shapely.intersects_xy(area, xs, ys) & ~inside
        open_case |= inside & decided & (codes != code)
        codes[inside] = code
        decided |= inside
    if open_case.any():
        raise ValueError(f"{open_case.sum()} pixel centres of the patch at {bounds} have no single polygon")
    return codes


def rasterized_map(bounds: tuple[int, int, int, int], polygons: Polygons) -> Pixels:
    """Let GDAL burn the same clipped polygons: the usual way, here only for comparison."""
    areas = clip_to_patch(bounds, polygons)
    shape_yx = (PATCH_M // 10, PATCH_M // 10)
    if not areas:
        return np.full(shape_yx, NO_POLYGON, dtype=np.uint16)
    transform = from_origin(bounds[0], bounds[3], 10, 10)
    return rasterio.features.rasterize(areas, out_shape=shape_yx, fill=NO_POLYGON, transform=transform, dtype="uint16")


def differing_pixels(product: Product, polygons: Polygons) -> dict[XY, int]:
    """Count, for every patch, the pixels in which GDAL's map is not the point-in-polygon map."""
    differ = {}
    for x, y in product.patches():
        bounds = product.bounds(x, y)
        differ[x, y] = int((reference_map(bounds, polygons) != rasterized_map(bounds, polygons)).sum())
    return differ


@cache
def map_of_patch(land_cover: Path, column: str, epsg: int, bounds: tuple[int, int, int, int]) -> Pixels:
    """Reference map of a patch; several products and datasets are of the same ground."""
    codes = reference_map(bounds, _polygons_of(land_cover, column, epsg))
    codes.flags.writeable = False
    return codes


@cache
def _polygons_of(path: Path, column: str, epsg: int) -> Polygons:
    return read_polygons(path, column, epsg)


def labels_of(codes: Pixels, protocol: Protocol = REBEN) -> tuple[dict[str, list[str]], int]:
    """Sorted names of the labels in a map, by threshold of region size, and how many pixels carry any."""
    present, counts = np.unique(codes, return_counts=True)
    class_of = {code: protocol.class_of_code[code] for code in present.tolist()}
    labeled = sum(count for code, count in zip(present.tolist(), counts.tolist(), strict=True) if class_of[code])
    largest = {}
    for name in {name for name in class_of.values() if name}:
        regions, _ = ndimage.label(np.isin(codes, [code for code, of in class_of.items() if of == name]))
        largest[name] = int(np.bincount(regions.ravel())[1:].max())
    return {
        threshold: sorted(name for name, pixels in largest.items() if pixels >= least)
        for threshold, least in protocol.min_region_px.items()
    }, labeled


def geographic_split(x: int, y: int, side: int, offset_m: int = 0) -> str:
    """Split of a patch with p = q = 1/4, in whole metres.

    With d, the centre's distance from the nearest border (never above side / 2), "d < side (1 - sqrt(1/2)) / 2" is
    the same as "side^2 < 2 (side - 2 d)^2" and "d < side (1 - sqrt(1/4)) / 2" the same as "4 d < side".
    """
    east, south = (offset_m + PATCH_M * place + PATCH_M // 2 for place in (x, y))
    d = min(east, south, side - east, side - south)
    if side**2 < 2 * (side - 2 * d) ** 2:
        return "train"
    return "validation" if 4 * d < side else "test"


def season_of(time: datetime, months_of: Mapping[str, Sequence[int]] = MONTHS_OF_SEASON) -> str | None:
    """Season of an aware time, by its UTC month, if it is in any."""
    found = [name for name, months in months_of.items() if time.astimezone(UTC).month in months]
    assert len(found) <= 1
    return found[0] if found else None


def nearest_countries(bounds: tuple[int, int, int, int], countries: Polygons) -> tuple[str | None, ...]:
    """Names of the ten countries nearest to a patch, several at exactly the same distance; None beyond 100 km."""
    ours = np.isin(countries.values, TEN_COUNTRIES)
    distances = shapely.distance(shapely.box(*bounds), countries.geometries[ours])
    if distances.min() > FARTHEST_COUNTRY_M:
        return (None,)
    return tuple(sorted(str(name) for name in countries.values[ours][distances == distances.min()]))


def dataset_of(folder: Path, land_cover: Path, countries: Path, code_column: str = "Code_18") -> dict[XY, Patch]:
    """Work out every candidate patch of a product for reBEN."""
    return {(patch.x, patch.y): patch for patch in patches_of(folder, land_cover, countries, code_column=code_column)}


def patches_of(
    folder: Path, land_cover: Path, countries: Path, protocol: Protocol = REBEN, code_column: str = "Code_18"
) -> list[Patch]:
    """Work out every candidate patch of a product, grid after grid, as far as one product tells."""
    product = open_product(folder)
    nations = _polygons_of(countries, "name", product.epsg)
    has_scl = any(folder.glob("GRANULE/*/IMG_DATA/R20m/*_SCL_20m.jp2"))
    truth = []
    for number, offset in enumerate(protocol.offsets_m, start=1):
        images = {band: cut_image(product, band, BAND_RESOLUTION_M[band], offset) for band in protocol.bands}
        scl = cut_image(product, "SCL", 20, offset) if has_scl else None
        for x, y in product.patches(offset):
            bounds = product.bounds(x, y, offset)
            bands = {band: cuts[x, y] for band, cuts in images.items()}
            codes = map_of_patch(land_cover, code_column, product.epsg, bounds)
            labels, labeled = labels_of(codes, protocol)
            first, *further = labels
            snow, cloud, shadow = (
                int(np.isin(scl[x, y], of).sum()) if scl else None for of in (SNOW_SCL, CLOUD_SCL, SHADOW_SCL)
            )
            size = (PATCH_M // 20) ** 2
            flag_from = size * protocol.apart_from_percent if scl and protocol.apart_from_percent else None
            nodata = any(bool((dn == 0).any()) for dn in bands.values())
            patch = Patch(
                patch_id=protocol.name(product, number, x, y),
                tile=product.tile,
                x=x,
                y=y,
                epsg=product.epsg,
                bounds=bounds,
                sensing_time=product.sensing_time,
                season=season_of(product.sensing_time, protocol.months),
                split=geographic_split(x, y, product.side, offset),
                countries=nearest_countries(bounds, nations),
                bands=bands,
                reference_map=codes,
                labels=labels[first],
                labeled_pixels=labeled,
                snow_pixels=snow,
                cloud_pixels=cloud,
                shadow_pixels=shadow,
                scl_pixels=size,
                nodata=nodata,
                contains_seasonal_snow=flag_from is not None and 100 * snow >= flag_from,
                contains_cloud_or_shadow=flag_from is not None and 100 * (cloud + shadow) >= flag_from,
                reason="nodata" if nodata else None if protocol.enough(labeled, codes.size) else "label",
                grid=number,
                offset_m=offset,
                more_labels={name: labels[name] for name in further},
            )
            truth.append(patch)
    return truth
