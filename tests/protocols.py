"""BigEarthNet v1 and SeasoNet as their papers and documentation have them, for the oracle; nothing of it is imported.

Class lists are written down in the order in which they were published (BigEarthNet v1: ``label_indices.json``;
SeasoNet: its documentation, where they are numbered from 1), with the CORINE codes that they stand for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import blake2b
from itertools import groupby

import oracle
import pyproj
from oracle import Patch, Product, Protocol

BIGEARTHNET_V1 = """
111 Continuous urban fabric
112 Discontinuous urban fabric
121 Industrial or commercial units
122 Road and rail networks and associated land
123 Port areas
124 Airports
131 Mineral extraction sites
132 Dump sites
133 Construction sites
141 Green urban areas
142 Sport and leisure facilities
211 Non-irrigated arable land
212 Permanently irrigated land
213 Rice fields
221 Vineyards
222 Fruit trees and berry plantations
223 Olive groves
231 Pastures
241 Annual crops associated with permanent crops
242 Complex cultivation patterns
243 Land principally occupied by agriculture, with significant areas of natural vegetation
244 Agro-forestry areas
311 Broad-leaved forest
312 Coniferous forest
313 Mixed forest
321 Natural grassland
322 Moors and heathland
323 Sclerophyllous vegetation
324 Transitional woodland/shrub
331 Beaches, dunes, sands
332 Bare rock
333 Sparsely vegetated areas
334 Burnt areas
411 Inland marshes
412 Peatbogs
421 Salt marshes
422 Salines
423 Intertidal flats
511 Water courses
512 Water bodies
521 Coastal lagoons
522 Estuaries
523 Sea and ocean
"""

SEASONET = """
111 Continuous urban fabric
112 Discontinuous urban fabric
121 Industrial or commercial units
122 Road and rail networks and associated land
123 Port areas
124 Airports
131 Mineral extraction sites
132 Dump sites
133 Construction sites
141 Green urban areas
142 Sport and leisure facilities
211 Non-irrigated arable land
221 Vineyards
222 Fruit trees and berry plantations
231 Pastures
311 Broad-leaved forest
312 Coniferous forest
313 Mixed forest
321 Natural grasslands
322 Moors and heathland
324 Transitional woodland/shrub
331 Beaches, dunes, sands
332 Bare rock
333 Sparsely vegetated areas
411 Inland marshes
412 Peat bogs
421 Salt marshes
423 Intertidal flats
511 Water courses
512 Water bodies
521 Coastal lagoons
522 Estuaries
523 Sea and ocean
"""

LEVEL_3 = tuple(sorted({*oracle.CLASS_OF_CODE, *oracle.UNLABELED_CODES}))
"""Every code of CORINE Land Cover, and that of no polygon."""

HALF_A_PATCH_M = 600


def classes_of(table: str) -> dict[int, str | None]:
    """Class of each code of level 3, None where the published list has none."""
    rows = (line.split(" ", 1) for line in table.strip().splitlines())
    listed = {int(code): name for code, name in rows}
    return {code: listed.get(code) for code in LEVEL_3}


# ---------------------------------------------------------------------------------------------------- BigEarthNet v1


def v1_names(products: Iterable[Product]) -> Callable[[Product, int, int, int], str]:
    """Names of version 1: product and indices without padding; several tiles of one product are told apart."""
    products = list(products)

    def short(product: Product) -> str:
        return "_".join(product.tile.split("_")[:3])

    def name(product: Product, _grid: int, x: int, y: int) -> str:
        alike = [other for other in products if short(other) == short(product)]
        return f"{short(product)}{f'_T{product.mgrs}' if len(alike) > 1 else ''}_{x}_{y}"

    return name


def bigearthnet_v1(products: Iterable[Product]) -> Protocol:
    """43 classes, one labelled pixel is enough."""
    return Protocol(
        class_of_code=classes_of(BIGEARTHNET_V1), name=v1_names(products), enough=lambda labeled, _: labeled > 0
    )


def random_split(name: str, validation: Fraction, test: Fraction, seed: int) -> str:
    """By the first 53 bits of a hash of seed and name, as a share of all there are."""
    number = int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big") >> 11
    share = Fraction(number, 2**53)
    return "test" if share < test else "validation" if share < test + validation else "train"


def grid_split(x: int, y: int, block: int) -> str:
    """Two by two blocks of patches: train beside validation, below them test beside train."""
    right, below = x // block % 2 == 1, y // block % 2 == 1
    return "train" if right == below else "validation" if right else "test"


# ---------------------------------------------------------------------------------------------------------- SeasoNet


def seasonet_name(product: Product, grid: int, x: int, y: int) -> str:
    """MGRS tile, time, and latitude and longitude of the centre of the first pixel."""
    left, _, _, top = product.bounds(x, y, HALF_A_PATCH_M * (grid - 1))
    degrees = pyproj.Transformer.from_crs(product.epsg, 4326, always_xy=True).transform(left + 5, top - 5)
    lon, lat = (f"{degree:.6f}".replace(".", "_") for degree in degrees)
    return f"{product.mgrs}_{product.time}_{lat}_{lon}"


SEASONET_PROTOCOL = Protocol(
    class_of_code=classes_of(SEASONET),
    offsets_m=(0, HALF_A_PATCH_M),
    name=seasonet_name,
    min_region_px={"hard": 0, "medium": 100, "easy": 300},
    enough=lambda labeled, _: labeled > 0,
    months={"spring": (4, 5), "summer": (7, 8), "fall": (10, 11), "winter": (1, 2)},
    apart_from_percent=None,
)


@dataclass(frozen=True)
class Choice:
    """Selection of images: per cent of snow and cloud to stay below by season, and the season of snow."""

    below_percent: Mapping[str, tuple[int, int]]
    snowy_season: str
    snowy_from_percent: int
    snowy_cloud_below_percent: int


SEASONET_CHOICE = Choice(
    {"spring": (1, 5), "summer": (1, 5), "fall": (1, 5), "winter": (10, 10)},
    snowy_season="snow",
    snowy_from_percent=10,
    snowy_cloud_below_percent=5,
)


def choose(patches: Sequence[Patch], choice: Choice) -> list[Patch]:
    """The same patches with their season and reason: limits first, then the clearest image of each place and season."""
    judged = [_within_limits(patch, choice) for patch in patches]

    def place(patch: Patch) -> tuple[str, int, int, int, str]:
        return (patch.tile[-5:], patch.grid, patch.x, patch.y, str(patch.season))

    competing = sorted((patch for patch in judged if patch.reason is None), key=place)
    taken = set()
    for _, images in groupby(competing, place):
        taken.add(min(images, key=lambda patch: (_unclear(patch, choice), patch.sensing_time, patch.patch_id)).patch_id)
    return [
        patch if patch.reason or patch.patch_id in taken else replace(patch, reason="not_chosen") for patch in judged
    ]


def _unclear(patch: Patch, choice: Choice) -> int:
    covered = (patch.cloud_pixels or 0) + (patch.shadow_pixels or 0)
    return covered if patch.season == choice.snowy_season else covered + (patch.snow_pixels or 0)


def _within_limits(patch: Patch, choice: Choice) -> Patch:
    season, snow, cloud, of = patch.season, patch.snow_pixels, patch.cloud_pixels, patch.scl_pixels
    within = False
    if snow is not None and cloud is not None:
        if 100 * snow >= choice.snowy_from_percent * of:
            season, within = choice.snowy_season, 100 * cloud < choice.snowy_cloud_below_percent * of
        elif season is not None:
            snow_below, cloud_below = choice.below_percent[season]
            within = 100 * snow < snow_below * of and 100 * cloud < cloud_below * of
    why_not = "no_season" if season is None else "no_scl" if snow is None else None if within else "snow_or_cloud"
    return replace(patch, season=season, reason=patch.reason if patch.reason == "nodata" else why_not or patch.reason)
