"""Splitting: time, memory and balance of half a million locations, regions of a tile, and what borders cost.

The populations and the map are invented; the region has the size and the place of Germany.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from measure import machine, measure
from scipy import ndimage

from reben_dask.formats.columns import SPLITS
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import load_nomenclature
from reben_dask.patches.candidates import footprints
from reben_dask.patches.labels import largest_regions
from reben_dask.patches.spatial_blocks import (
    adjusted_split_fractions,
    blocks_per_patch,
    patch_blocks,
    splits_of_patches,
)
from reben_dask.patches.splits import random_split
from reben_dask.patches.stratified import stratified_split

sys.path.append(str(Path(__file__).parent.parent))
from populations import make_population

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
ASKED = {"validation": 0.1, "test": 0.2}
CLASSES = (33, 43)
ENOUGH_SAMPLES = 100
BLOCKS_M = (6_000, 12_000, 24_000)
BLOB_PX = 30
TILE_M = 109_800
OUTLINE = [(6, 51.8), (7, 53.5), (8.6, 54.9), (11, 54.3), (14.2, 53.9), (14.7, 51), (12.1, 50.3), (13.8, 48.6)]
OUTLINE += [(12.9, 47.6), (7.6, 47.6), (8.2, 49), (6.2, 49.6)]
TILES = [(epsg, east, north) for epsg in (32632, 32633) for east in range(2, 8) for north in range(53, 63)]
"""Zone and corner in units of 100 km; tiles overlap by 9.8 km, and zones where they meet."""


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=500_000, help="locations to split")
    parser.add_argument("--patches", type=int, default=91, help="patches along a side of the map")
    parser.add_argument("--tiles", type=int, default=len(TILES), help="tiles of the region to look at")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = {
            "random": _random(options.units),
            "stratified": [_stratified(Path(scratch), options.units, classes) for classes in CLASSES],
            "regions": _regions(Path(scratch), options.patches),
            "borders": list(_borders(options.tiles)),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "split.json"
    made = datetime.now(UTC).isoformat(timespec="seconds")
    file.write_text(json.dumps({"made": made, "machine": machine(), **found}, indent=2) + "\n")
    print(f"\nSaved as {file}")


def write_population(file: Path, units: int, classes: int) -> None:
    """Write counts and samples; in a process of its own, as the peak of a process is that of its parent at least."""
    counts, samples = make_population(units=units, classes=classes, seed=0)
    np.savez(file, counts=counts, samples=samples)


def write_map(file: Path, patches: int) -> None:
    """Write blobs of ten classes; a large map repeats a smaller one."""
    rng = np.random.default_rng(0)
    side = 120 * min(patches, 13)
    chosen = rng.permutation(sorted(load_nomenclature("bigearthnet19").known_values))[:10]
    fields = [ndimage.gaussian_filter(rng.standard_normal((side, side)), BLOB_PX, mode="wrap") for _ in chosen]
    codes = chosen[np.argmax(fields, axis=0)].astype(np.uint16)
    repeats = -(-120 * patches // side)
    np.save(file, np.tile(codes, (repeats, repeats))[: 120 * patches, : 120 * patches])


def split_by_lot(units: int) -> None:
    """Split invented patches at random."""
    random_split(_names(units), **ASKED, seed=42)


def split_counts(counts: Path, splits: Path) -> None:
    """Split what is counted in a file."""
    table = np.load(counts)["counts"]
    np.save(splits, stratified_split(_names(len(table)), table, **ASKED, seed=42))


def load_counts(counts: Path) -> None:
    """Prepare the inputs of a split."""
    _names(len(np.load(counts)["counts"]))


def find_regions(codes: Path) -> None:
    """Find the regions of the map in a file."""
    pixels = np.load(codes)
    grid = PatchGrid(32633, 0, 0, ShapeYX(*(10 * length for length in pixels.shape)))
    largest_regions(pixels, grid, load_nomenclature("bigearthnet19"))


def _names(number: int) -> list[str]:
    return [f"S2A_MSIL2A_20180418T104021_N9999_R008_T32UME_{place}" for place in range(number)]


def _random(units: int) -> dict[str, Any]:
    measured = measure(split_by_lot, units)
    print(f"random split of {units:,} patches: {measured.cpu_s:.2f} CPU s")
    return {"units": units, **measured.as_json()}


def _stratified(scratch: Path, units: int, classes: int) -> dict[str, Any]:
    population, splits = scratch / "population.npz", scratch / "splits.npy"
    measure(write_population, population, units, classes)
    before, measured = measure(load_counts, population), measure(split_counts, population, splits)
    off, everything = np.split(_points_off(np.load(splits), np.load(population)), [classes])
    print(
        f"stratified split of {units:,} locations, {classes} classes: {measured.cpu_s - before.cpu_s:.2f} CPU s, ",
        end="",
    )
    print(f"{measured.peak_bytes / 2**20:,.0f} MiB ({before.peak_bytes / 2**20:,.0f} before); points off: ", end="")
    print(f"classes at most {np.nanmax(off):.2f}, on average {np.nanmean(off):.3f}, ", end="")
    print(f"samples {everything[0]:.3f}, locations {everything[1]:.3f}")
    return {
        "units": units,
        "classes": classes,
        **measured.as_json(),
        "before": before.as_json(),
        "points_off": {
            "largest_of_a_class": round(float(np.nanmax(off)), 4),
            "mean_of_classes": round(float(np.nanmean(off)), 4),
            "samples": round(float(everything[0]), 4),
            "units": round(float(everything[1]), 4),
        },
    }


def _points_off(splits: np.ndarray, population: Mapping[str, np.ndarray]) -> np.ndarray:
    """Largest difference of a set from its share, in percentage points: of each class, of samples, of locations.

    Classes with few samples are not looked at: theirs are nan.
    """
    every = np.column_stack([population["counts"], population["samples"], np.ones(len(splits))])
    total = np.where(every.sum(axis=0) >= ENOUGH_SAMPLES, every.sum(axis=0), np.nan)
    off = [np.abs(every[splits == name].sum(axis=0) / total - share) for name, share in SHARES.items()]
    return 100 * np.max(off, axis=0)


def _regions(scratch: Path, patches: int) -> dict[str, Any]:
    file = scratch / "codes.npy"
    measure(write_map, file, patches)
    found = measure(find_regions, file)
    print(f"regions of {patches} x {patches} patches: {found.cpu_s:.2f} CPU s, {found.peak_bytes / 2**20:,.0f} MiB")
    return {"patches": patches**2, **found.as_json()}


def _borders(tiles: int) -> Iterator[dict[str, Any]]:
    patches = np.concatenate([_patches_of(*tile) for tile in TILES[:tiles]])
    for block_m in BLOCKS_M:
        touched = patch_blocks(patches, block_m)
        asked = adjusted_split_fractions(blocks_per_patch(touched), **ASKED)
        alone = (touched == touched[:, :1]).all(axis=1)
        homes = touched[alone, 0]
        print(f"blocks of {block_m:,} m: {len(patches):,} patches, {1 - alone.mean():.1%} touch several blocks")
        yield {
            "block_m": block_m,
            "patches": len(patches),
            "in_several_blocks": round(float(1 - alone.mean()), 4),
            "as_wanted": _in_sets(touched, homes, *ASKED.values()),
            "as_to_ask": _in_sets(touched, homes, *asked),
        }


def _in_sets(touched: np.ndarray, homes: np.ndarray, validation: float, test: float) -> dict[str, Any]:
    """Split blocks by the number of their patches."""
    blocks = np.unique(touched)
    at_home = np.zeros((len(blocks), 1), np.int64)
    np.add.at(at_home, np.searchsorted(blocks, homes), 1)
    splits = stratified_split([str(block) for block in blocks], at_home, validation=validation, test=test, seed=42)
    sets = splits_of_patches(touched, dict(zip(blocks.tolist(), splits.tolist(), strict=True)))
    placed = sets[np.not_equal(sets, None)]
    left_out = 1 - len(placed) / len(sets)
    shares = {name: round(float(np.mean(placed == name)), 4) for name in SPLITS}
    print(
        f"    {len(blocks):,} blocks split by validation {validation}, test {test}: {left_out:.1%} of patches ", end=""
    )
    print(f"in no set; of the others {shares}")
    asked = {"validation": validation, "test": test}
    return {"blocks": len(blocks), "asked": asked, "in_no_set": round(left_out, 4), "shares": shares}


def _patches_of(epsg: int, east: int, north: int) -> np.ndarray:
    """Corners of the patches of both grids of a tile whose centres are in the region, shape ``(patch, 4, 2)``."""
    region = shapely.Polygon(OUTLINE)
    corners = []
    for shift in (0, 600):
        side = TILE_M - shift
        grid = PatchGrid(epsg, 100_000 * east - 40 + shift, 100_000 * north + 40 - shift, ShapeYX(side, side))
        squares = footprints(grid).to_numpy()
        inside = squares[shapely.contains_xy(region, shapely.get_coordinates(shapely.centroid(squares)))]
        corners.append(shapely.get_coordinates(inside).reshape(-1, 5, 2)[:, :4])
    return np.concatenate(corners)


if __name__ == "__main__":
    main()
