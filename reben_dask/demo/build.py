"""Putting the region together: map, tiles, products, partners."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reben_dask.demo.ground.countries import country_table, write_countries
from reben_dask.demo.ground.landcover import LandCover, draw_land_cover, map_table, write_map
from reben_dask.demo.ground.layout import Layout, Tile, full_layout, small_layout
from reben_dask.demo.ground.parcels import Parcels
from reben_dask.demo.ground.surface import Surface, survey
from reben_dask.demo.ground.terrain import Terrain
from reben_dask.demo.products.acquisitions import Acquisition, acquisitions
from reben_dask.demo.products.imaging import Camera, new_grains
from reben_dask.demo.products.safe import write_product
from reben_dask.demo.products.scene import Weather, classify_scene
from reben_dask.demo.products.sentinel1 import Pair, write_pairs, write_partners

if TYPE_CHECKING:
    from collections.abc import Callable

    from reben_dask.demo.region import DemoRegion

_THREADS = 2


def build_region(region: DemoRegion, *, full_size: bool, progress: Callable[[str], None]) -> None:
    """Make every file of a region, in folders that do not exist yet.

    Parameters
    ----------
    region : DemoRegion
        Where to write.
    full_size : bool
        Tiles of 109.8 km instead of 10.2 km.
    progress : callable
        Told what is done, in one line each time.
    """
    layout = full_layout() if full_size else small_layout()
    terrain, parcels = Terrain(layout), Parcels(layout)
    cover = draw_land_cover(layout, terrain, parcels)
    write_map(map_table(cover), region.landcover)
    progress(f"land cover: {cover.codes.size:,} polygons of {len(set(cover.codes.tolist()))} classes")
    write_countries(country_table(layout), region.countries)
    region.s2.mkdir()
    builder = _Builder(region, layout, terrain, parcels, cover, Weather(layout, terrain), progress)
    every = acquisitions(layout.west, layout.east)
    pairs: list[Pair] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for tile in layout.tiles:
            pairs += builder.make_tile(tile, [seen for seen in every if seen.tile == tile], pool)
    if region.s1_pairs is not None:
        write_pairs(region.s1_pairs, pairs)
        progress(f"Sentinel-1: {len(pairs)} pairs")


@dataclass(frozen=True)
class _Builder:
    region: DemoRegion
    layout: Layout
    terrain: Terrain
    parcels: Parcels
    cover: LandCover
    weather: Weather
    progress: Callable[[str], None]

    def make_tile(self, tile: Tile, seen: list[Acquisition], pool: Executor) -> list[Pair]:
        """Write the products and partners of one tile; its ground is forgotten before the next one's is drawn."""
        surface = survey(tile, self.cover, self.terrain, self.parcels)
        self.progress(f"tile T{tile.mgrs}: {tile.side_px} x {tile.side_px} pixels of 10 m")
        pairs: list[Pair] = []
        for acquisition in seen:
            self._make_product(acquisition, surface, pool)
            self.progress(f"product {acquisition.product}")
            if self.region.s1 is not None:
                pairs += write_partners(self.region.s1, acquisition, surface, pool)
        return pairs

    def _make_product(self, acquisition: Acquisition, surface: Surface, pool: Executor) -> None:
        sky = self.weather.over(surface, snowy=acquisition.snowy, cloudy=acquisition.cloudy)
        scl = classify_scene(surface, sky, acquisition.season, wedge=acquisition.wedge)
        camera = Camera(surface, sky, acquisition.season, acquisition.offset, acquisition.wedge, *new_grains())
        write_product(self.region.s2, acquisition, camera, scl, self.layout, pool)
