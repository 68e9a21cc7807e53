"""Ground that published patches of different products share: no validation or test patch conflicts."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.overlaps import CONFLICTING, find_conflicts, find_places, neighbours_of, split_codes

TILE_M = 109_800
PER_SIDE = 91
BANDS, COLUMNS, ROWS = "CDEFGHJKLMNPQRSTUVWX", ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ"), "ABCDEFGHJKLMNPQRSTUV"
FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")


def _origin(mgrs: str) -> tuple[int, int, int]:
    """EPSG code and upper-left corner of a Sentinel-2 tile, from the 100 km square in its name."""
    zone, band, column, row = int(mgrs[:2]), *mgrs[2:]
    east = 100_000 * (1 + COLUMNS[(zone - 1) % 3].index(column))
    north = 100_000 * ((ROWS.index(row) - 5 * (zone % 2 == 0)) % 20)
    epsg, south_edge = 32600 + zone, -80 + 8 * BANDS.index(band)
    _, lowest = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(6 * zone - 183, south_edge)
    while north + 100_000 <= lowest:  # rows repeat every 2,000 km
        north += 2_000_000
    return epsg, east // 60 * 60, math.ceil((north + 100_000) / 60) * 60


def test_origins_by_name(data_dir: Path) -> None:
    """Those that are known: of 22 tiles."""
    known = pd.read_csv(data_dir / "bigearthnet" / "tile_origins.csv")
    assert len(known) == 22
    origins = known[["epsg", "ox", "oy"]].itertuples(index=False, name=None)
    assert [_origin(mgrs[1:]) for mgrs in known["mgrs"]] == list(origins)


def test_no_published_patch_conflicts(data_dir: Path) -> None:
    rows = pd.concat(pd.read_parquet(data_dir / "bigearthnet" / name, columns=["patch_id", "split"]) for name in FILES)
    parts = rows["patch_id"].str.rsplit("_", n=2, expand=True)
    rows = rows.assign(tile=parts[0], number=PER_SIDE * parts[1].astype(int) + parts[2].astype(int))
    splits, grids = {}, {}
    for tile, of_tile in ((str(name), group) for name, group in rows.groupby("tile")):
        splits[tile] = np.full(PER_SIDE**2, -1, np.int8)
        splits[tile][of_tile["number"]] = split_codes(of_tile["split"])
        grids[tile] = (PatchGrid(*_origin(tile[-5:]), ShapeYX(TILE_M, TILE_M)),)
    places = find_places(grids)
    assert (len(grids), len(places)) == (115, 54)
    assert any(neighbours_of(places))
    compared, found = Counter[int](), Counter[int]()
    for place, near in zip(places, neighbours_of(places), strict=True):
        for tile, codes in find_conflicts(place, [place, *near], splits.__getitem__, CONFLICTING).items():
            compared.update(splits[tile][splits[tile] > 0].tolist())
            found.update(codes[codes >= 0].tolist())
    assert compared.total() == 276_944
    assert found.total() == 0
