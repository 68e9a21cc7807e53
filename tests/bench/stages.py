"""The stages of a tile as functions of paths, so that each can be measured in a process of its own."""

from __future__ import annotations

from pathlib import Path

from reben_dask.formats.columns import KEPT
from reben_dask.formats.lmdb import shard_name
from reben_dask.job.plan import Plan, make_plan
from reben_dask.job.tasks import LabelRule, ingest_band, label_tile
from reben_dask.patches.join import partitions_of_tiles, search_area
from reben_dask.patches.statistics import describe_sums
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import SortedMap, open_landcover, read_polygons, sort_landcover
from reben_dask.sources.sentinel2 import read_band, read_tile
from reben_dask.stores.cube_reader import TileReader
from reben_dask.stores.cubes import create_store
from reben_dask.stores.lmdb import merge_environments, plan_shards, write_environment
from reben_dask.stores.patch_table import part_files, read_rows
from reben_dask.stores.statistics import sum_cubes


def plan_of(product: Path, landcover: Path | str) -> Plan:
    """The job of one product."""
    return make_plan(s2=[str(product)], landcover=str(landcover), recipe=load_recipe("reben"))


def decode(product: Path) -> None:
    """Decode the bands of the recipe, and nothing else."""
    tile = read_tile(product)
    for band in load_recipe("reben").bands:
        read_band(tile, band)


def ingest(product: Path, landcover: Path, cubes: Path) -> None:
    """Decode, count NODATA, write to Zarr."""
    plan = plan_of(product, landcover)
    (tile,) = plan.usable
    create_store(cubes, {})
    for band in plan.recipe.bands:
        ingest_band(tile, band, cubes, plan.layouts(tile), harmonized=False)


def sort(landcover: Path, destination: Path) -> None:
    """Sort the land-cover map."""
    sort_landcover(open_landcover(str(landcover)), destination)


def label(product: Path, landcover: Path, cubes: Path) -> None:
    """Join, burn the map, write it, count labels; the cube is there already."""
    plan = plan_of(product, landcover)
    (tile,) = plan.usable
    rule = LabelRule(plan.nomenclature, plan.recipe.region_thresholds_px)
    label_tile(cubes, plan.layouts(tile), rule, _parts(plan, landcover), plan.landcover.crs)


def polygons_of(product: Path, landcover: Path) -> int:
    """Polygons that the tile is labelled with."""
    plan = plan_of(product, landcover)
    area = search_area(plan.grids(plan.usable[0])[0], plan.landcover.crs)
    return len(read_polygons(_parts(plan, landcover), area.bounds))


def export(out: Path, destination: Path, shards: int) -> None:
    """Write the LMDB of a finished dataset again, as one environment or in shards."""
    counts = [(part, kept_in(part)) for part in part_files(out / "patches.parquet")]
    for number, ranges in enumerate(plan_shards(counts, shards)):
        folder = destination if shards == 1 else destination / shard_name(number, shards)
        write_environment(folder, ranges, out / "cubes.zarr")


def read(out: Path) -> None:
    """Read the kept patches of a finished dataset from Zarr, and nothing else."""
    for part in part_files(out / "patches.parquet"):
        readers = TileReader(out / "cubes.zarr", part.stem)
        for row in read_rows(part, ["grid", "x", "y"], status=KEPT).to_pylist():
            readers[row["grid"]].patch(row["x"], row["y"])


def count(out: Path) -> None:
    """Read them, and make their statistics."""
    sums = sum_cubes(out / "cubes.zarr", part_files(out / "patches.parquet"), lambda _: None)
    describe_sums(sums, (), None)


def merge(shards: Path, destination: Path) -> None:
    """Merge environments."""
    merge_environments(sorted(shards.iterdir()), destination)


def kept_in(part: Path) -> int:
    """Kept patches of a part of a patch table."""
    return len(read_rows(part, ["patch_id"], status=KEPT))


def _parts(plan: Plan, landcover: Path) -> list[Path]:
    sorted_map = SortedMap(landcover)
    (partitions,) = partitions_of_tiles(sorted_map.spatial_partitions, [plan.grids(plan.usable[0])[0]])
    return [sorted_map.parts[number] for number in partitions]
