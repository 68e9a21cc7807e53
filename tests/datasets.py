"""A finished dataset beside what the oracle says of it: every patch, column and pixel, and what the job printed."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import lmdb
import numpy as np
import oracle
import pandas as pd
import pyarrow.parquet as pq
import pyproj
import rioxarray  # noqa: F401  (brings the .rio accessor)
import shapely
import xarray as xr
import zarr
from oracle import BAND_RESOLUTION_M, Patch
from safetensors.numpy import load

METADATA = "metadata.parquet"
METADATA_APART = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
REASONS = {
    "nodata": ("nodata", "a pixel of the patch is NODATA in at least one band"),
    "label": ("too_little_labeled", "too few of its pixels carry a label"),
    "no_season": ("no_season", "its month is in no season"),
    "no_scl": ("no_scene_classification", "its tile has no scene classification (SCL)"),
    "snow_or_cloud": ("snow_or_cloud", "it has more snow or cloud than its season allows"),
    "not_chosen": ("not_chosen", "another image of that season is clearer"),
    "tile_quality": ("tile_quality", "the tile failed one of its quality indicators"),
}
"""The oracle's words, those of the patch table, and those that a person reads."""


@dataclass(frozen=True)
class Dataset:
    """Output folder of a job, what it printed, and the patches that it should have of the tiles of good quality."""

    out: Path
    printed: str
    patches: dict[str, Patch]

    @cached_property
    def table(self) -> gpd.GeoDataFrame:
        """The patch table."""
        return gpd.read_parquet(self.out / "patches.parquet")

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Rows of the patch table by name; null is None."""
        records = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {row["patch_id"]: row for row in records}

    @cached_property
    def kept(self) -> dict[str, Patch]:
        """Patches that belong to the dataset."""
        return {name: patch for name, patch in self.patches.items() if patch.reason is None}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask DuckDB about the patch table, which is called ``patches``."""
        parts = f"read_parquet('{self.out}/patches.parquet/*.parquet')"
        return duckdb.sql(f"WITH patches AS (SELECT * FROM {parts}) {sql}").fetchall()  # noqa: S608


def nothing_wrong(problems: Iterable[str]) -> None:
    """Fail with the first problems, one a line."""
    lines = list(problems)
    assert not lines, f"{len(lines)} differences:\n" + "\n".join(lines[:20])


def expect_every_candidate(dataset: Dataset, left_out: int = 0) -> None:
    """One row for each patch of each tile, ``left_out`` of them of tiles that failed their quality checks."""
    assert dataset.table["patch_id"].is_unique
    failed = dataset.table["failed_quality"].notna()
    assert failed.sum() == left_out
    assert set(dataset.table.loc[failed, "reason"]) <= {"tile_quality"}
    assert set(dataset.table.loc[~failed, "patch_id"]) == set(dataset.patches)


def expect_columns(dataset: Dataset, more: Mapping[str, Mapping[str, object]] | None = None) -> None:
    """Every column of every patch is as the oracle says; ``more`` are further columns, by name and patch."""

    def check(name: str, patch: Patch) -> Iterator[str]:
        row = dataset.rows[name]
        for column, value in _columns(patch).items():
            found = list(row[column]) if isinstance(value, list) else row[column]
            if found != value:
                yield f"{name}: {column} is {found!r}, must be {value!r}"
        if row["country"] not in patch.countries:
            yield f"{name}: country is {row['country']!r}, must be one of {patch.countries}"
        for column, values in (more or {}).items():
            if row[column] != values[name]:
                yield f"{name}: {column} is {row[column]!r}, must be {values[name]!r}"

    nothing_wrong(line for name, patch in dataset.patches.items() for line in check(name, patch))


def _columns(patch: Patch) -> dict[str, object]:
    of_scl = {"snow": patch.snow_pixels, "cloud": patch.cloud_pixels, "shadow": patch.shadow_pixels}
    return {
        **{name: getattr(patch, name) for name in ("tile", "grid", "x", "y", "epsg", "season", "nodata", "labels")},
        **dict(zip(("minx", "miny", "maxx", "maxy"), patch.bounds, strict=True)),
        "sensing_time": pd.Timestamp(patch.sensing_time),
        "status": patch.status,
        "reason": REASONS[patch.reason][0] if patch.reason else None,
        "labeled_fraction": patch.labeled_fraction,
        **{f"{of}_fraction": None if px is None else px / patch.scl_pixels for of, px in of_scl.items()},
        "contains_seasonal_snow": patch.contains_seasonal_snow,
        "contains_cloud_or_shadow": patch.contains_cloud_or_shadow,
        **{f"labels_{name}": labels for name, labels in patch.more_labels.items()},
        **dict.fromkeys(("s1_name", "s2v1_name", "failed_quality")),
    }


def expect_footprints(dataset: Dataset) -> None:
    """The corners of each patch, transformed to degrees."""
    for name, patch in dataset.patches.items():
        to_degrees = pyproj.Transformer.from_crs(patch.epsg, 4326, always_xy=True).transform
        corners = shapely.transform(shapely.box(*patch.bounds), to_degrees, interleaved=False)
        assert shapely.hausdorff_distance(dataset.rows[name]["geometry"], corners) < 1e-9, name


def _group(patch: Patch) -> str:
    return patch.tile if patch.grid == 1 else f"{patch.tile}/grid{patch.grid}"


def _pixel_problems(name: str, what: str, found: np.ndarray, expected: np.ndarray) -> Iterator[str]:
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        yield f"{name}: {what} is {found.dtype} {found.shape}, must be {expected.dtype} {expected.shape}"
    elif wrong := int((found != expected).sum()):
        yield f"{name}: {what} has {wrong} wrong pixels"


def expect_cubes(dataset: Dataset) -> None:
    """Every pixel of every patch, in the group of its tile and grid, rejected ones included."""
    arrays: dict[tuple[str, str | None], np.ndarray] = {}
    store, first = zarr.open_group(dataset.out / "cubes.zarr", mode="r"), min(dataset.patches.values(), key=_group).tile

    def image(group: str, band: str | None) -> np.ndarray:
        if (group, band) in arrays:
            return arrays[group, band]
        name = "dn" if band else "reference_map"
        # One tile as a person opens it; for all of them that would take most of the time of the tests.
        if group.startswith(first):
            cube = xr.open_zarr(dataset.out / "cubes.zarr", group=group, chunks=None)
            pixels, bands = cube[name].to_numpy(), cube["band"].to_numpy() if band else ()
        else:
            pixels, bands = store[f"{group}/{name}"][:], store[f"{group}/band"][:] if band else ()
        stack = dict(zip(map(str, bands), pixels, strict=True)) if band else {None: pixels}
        arrays.update({(group, key): layer for key, layer in stack.items()})
        return arrays[group, band]

    def check(name: str, patch: Patch) -> Iterator[str]:
        for band, pixels in [(None, patch.reference_map), *patch.bands.items()]:
            metres = 10 if band is None else BAND_RESOLUTION_M[band]
            whole = image(f"{_group(patch)}/{'reference_map' if band is None else f'r{metres}m'}", band)
            side = oracle.PATCH_M // metres
            cut = whole[patch.y * side : (patch.y + 1) * side, patch.x * side : (patch.x + 1) * side]
            yield from _pixel_problems(name, band or "map", cut, pixels)

    nothing_wrong(line for name, patch in dataset.patches.items() for line in check(name, patch))
    bands = {band for patch in dataset.patches.values() for band in patch.bands}
    assert {band for _, band in arrays if band} == bands


def expect_places_of_cubes(dataset: Dataset, grid: int) -> None:
    """Coordinates, system and transform of each cube of a grid, as the patches have them."""
    store = dataset.out / "cubes.zarr"
    firsts = [patch for patch in dataset.patches.values() if (patch.grid, patch.x, patch.y) == (grid, 0, 0)]
    assert firsts
    for patch in firsts:
        left, _, _, top = patch.bounds
        pixels = {f"r{BAND_RESOLUTION_M[band]}m": BAND_RESOLUTION_M[band] for band in patch.bands}
        for node, metres in {**pixels, "reference_map": 10}.items():
            cube = xr.decode_cf(xr.open_zarr(store, group=f"{_group(patch)}/{node}"), decode_coords="all")
            assert cube.rio.crs.to_epsg() == patch.epsg
            assert cube["x"].to_numpy()[:2].tolist() == [left + metres * 0.5, left + metres * 1.5], node
            assert cube["y"].to_numpy()[:2].tolist() == [top - metres * 0.5, top - metres * 1.5], node
            assert tuple(cube.rio.transform())[:6] == (metres, 0, left, 0, -metres, top), node


def expect_lmdb(dataset: Dataset) -> None:
    """Bands and map of each kept patch, and nothing else, in the environment or in one of the shards."""
    seen: list[str] = []

    def check(name: str, transaction: lmdb.Transaction) -> Iterator[str]:
        patch, bands = dataset.kept[name], load(transaction.get(name.encode()))
        if sorted(bands) != sorted(patch.bands):
            yield f"{name} has {sorted(bands)}"
        for band in bands.keys() & patch.bands.keys():
            yield from _pixel_problems(name, band, bands[band], patch.bands[band])
        (codes,) = load(transaction.get(f"{name}_reference_map".encode())).values()
        yield from _pixel_problems(name, "map", codes, patch.reference_map)

    for file in sorted((dataset.out / "lmdb").rglob("data.mdb")):
        with lmdb.open(str(file.parent), readonly=True, lock=False) as environment, environment.begin() as transaction:
            keys = [bytes(key).decode() for key in transaction.cursor().iternext(values=False)]
            assert keys == sorted(keys)
            names = [key for key in keys if not key.endswith("_reference_map")]
            assert sorted(keys) == sorted([*names, *(f"{name}_reference_map" for name in names)])
            nothing_wrong(line for name in names for line in check(name, transaction))
        seen += names
    assert sorted(seen) == sorted(dataset.kept)


def expect_index_of_shards(dataset: Dataset, shards: int) -> None:
    """``index.json`` tells what is in each environment, and all have as many patches, give or take one."""
    index = json.loads((dataset.out / "lmdb" / "index.json").read_text(encoding="utf-8"))
    assert [shard["path"] for shard in index["shards"]] == [f"part-{n:05d}-of-{shards:05d}" for n in range(shards)]
    sizes = [shard["patches"] for shard in index["shards"]]
    assert (sum(sizes), max(sizes) - min(sizes) <= 1) == (len(dataset.kept), True)
    for shard in index["shards"]:
        folder = str(dataset.out / "lmdb" / shard["path"])
        with lmdb.open(folder, readonly=True, lock=False) as environment, environment.begin() as transaction:
            keys = [bytes(key).decode() for key in transaction.cursor().iternext(values=False)]
        names = [key for key in keys if key in dataset.kept]
        assert (shard["first"], shard["last"]) == (names[0], names[-1])
        assert (shard["patches"], shard["keys"]) == (len(names), len(keys))


def expect_metadata(dataset: Dataset) -> None:
    """Each kept patch once, in one of the two files, ordered by name, as it is in the patch table."""
    for file, apart in ((METADATA, False), (METADATA_APART, True)):
        rows = pq.read_table(dataset.out / file).to_pylist()
        names = sorted(name for name, patch in dataset.kept.items() if patch.set_apart is apart)
        assert [row["patch_id"] for row in rows] == names, file
        for row in rows:
            wanted = dataset.rows[row["patch_id"]]
            assert {**row, "labels": row["labels"]} == {
                **{name: wanted[name] for name in row if name != "labels"},
                "labels": list(wanted["labels"]),
            }


# -------------------------------------------------------------------------------------------------- what is printed


def printed_funnel(text: str) -> dict[str, int]:
    """The table of what became of the candidates."""
    lines = text.split("\nPatches", 1)[1].split("\nClasses of kept patches", 1)[0].splitlines()
    found = (re.fullmatch(r"\s*(\S.*?)\s{2,}([\d,]+)\s*", line) for line in lines)
    return {match[1]: int(match[2].replace(",", "")) for match in found if match}


def printed_classes(text: str) -> dict[str, list[int]]:
    """Counts of each class: train, validation, test and all; patches in no split may have a column of their own."""
    lines = text.split("\nClasses of kept patches", 1)[1].split("\nDone in", 1)[0].splitlines()
    found = (re.fullmatch(r"(\S.*?)((?:\s+[\d,]+){4,5})\s*", line) for line in lines)
    counts = {match[1]: [int(number.replace(",", "")) for number in match[2].split()] for match in found if match}
    return {label: [*of_splits[:3], of_splits[-1]] for label, of_splits in counts.items()}


def expect_printed_funnel(dataset: Dataset) -> None:
    """Check that the final output agrees with the patch table."""
    printed = printed_funnel(dataset.printed)
    ((candidates, kept),) = dataset.query("SELECT count(*), count(*) FILTER (status = 'kept') FROM patches")
    assert (printed["Candidates"], printed["Kept"]) == (candidates, kept)
    reasons = dict(dataset.query("SELECT reason, count(*) FROM patches WHERE status = 'rejected' GROUP BY 1"))
    words = dict(REASONS.values())
    told = {line: count for line, count in printed.items() if line.startswith("rejected: ") and count}
    assert told == {f"rejected: {words[reason]}": count for reason, count in reasons.items()}
    splits = dict(dataset.query("SELECT split, count(*) FROM patches WHERE status = 'kept' GROUP BY 1"))
    for split in ("train", "validation", "test"):
        assert printed[split] == splits.get(split, 0)
    assert printed.get("in no split: the patch spans blocks of several splits", 0) == splits.get(None, 0)


CLASSES = """
    SELECT label, count(*) FILTER (split = 'train'), count(*) FILTER (split = 'validation'),
           count(*) FILTER (split = 'test'), count(*)
    FROM (SELECT unnest(labels) AS label, split FROM patches WHERE status = 'kept') GROUP BY label
"""


def expect_printed_sets(dataset: Dataset) -> None:
    """Counts of each class in train, validation and test."""

    def occurring(counts: Mapping[str, list[int]]) -> dict[str, list[int]]:
        return {label: of_sets[:3] for label, of_sets in counts.items() if any(of_sets[:3])}

    expected = {label: list(counts) for label, *counts in dataset.query(CLASSES)}
    assert occurring(printed_classes(dataset.printed)) == occurring(expected)


def expect_counts_of_all_kept_patches(dataset: Dataset) -> None:
    """All kept patches of a class, printed and recorded, those in none of the sets included."""
    expected = {label: counts[-1] for label, *counts in dataset.query(CLASSES)}
    assert {label: counts[-1] for label, counts in printed_classes(dataset.printed).items()} == expected
    record = json.loads((dataset.out / "run" / "record.json").read_text(encoding="utf-8"))
    assert record["counts"]["class"] == expected


def expect_recorded_counts(dataset: Dataset) -> None:
    """``run/counts.csv`` agrees, tile by tile, with the patch table; of classes only the counts of the sets.

    Conflicts are not of one tile alone, and have tests of their own.
    """
    counts = pd.read_csv(dataset.out / "run" / "counts.csv", keep_default_na=False)
    counts = counts[((counts["measure"] != "class") | (counts["split"] != "")) & (counts["measure"] != "conflict")]
    found = {(tile, measure, key, split): n for tile, measure, key, split, n in counts.itertuples(index=False)}
    kept = "FROM patches WHERE status = 'kept'"
    labels = f"FROM (SELECT tile, split, unnest(labels) AS label {kept})"
    flags = {"snow": "contains_seasonal_snow", "cloud_or_shadow": "contains_cloud_or_shadow"}
    flags["any"] = f"({' OR '.join(flags.values())})"

    def flagged(flag: str) -> str:
        return f"count(*) FILTER (status = 'kept' AND {flag}) FROM patches"

    queries = [
        "SELECT tile, 'status', status, '', count(*) FROM patches GROUP BY ALL",
        "SELECT tile, 'reason', reason, '', count(*) FROM patches WHERE reason IS NOT NULL GROUP BY ALL",
        f"SELECT tile, 'split', split, '', count(*) {kept} AND split IS NOT NULL GROUP BY ALL",
        f"SELECT tile, 'class', label, split, count(*) {labels} WHERE split IS NOT NULL GROUP BY ALL",
        *(f"SELECT tile, 'apart', '{name}', '', {flagged(flag)} GROUP BY ALL" for name, flag in flags.items()),
    ]
    expected = {row[:4]: row[4] for query in queries for row in dataset.query(query)}
    assert found == expected


# ------------------------------------------------------------------------------------------------------------- sets


def expect_no_ground_in_two_sets(dataset: Dataset) -> None:
    """No two patches of different sets overlap, whatever their tile, grid, season or UTM zone."""
    table = dataset.table[dataset.table["split"].notna()]
    squares = shapely.box(*table[["minx", "miny", "maxx", "maxy"]].to_numpy().T)
    epsg = table["epsg"].to_numpy()
    for foreign in set(epsg) - {epsg[0]}:
        to_first = pyproj.Transformer.from_crs(foreign, epsg[0], always_xy=True).transform
        with_edges = shapely.segmentize(squares[epsg == foreign], 20)
        squares[epsg == foreign] = shapely.transform(with_edges, to_first, interleaved=False)
    one, other = shapely.STRtree(squares).query(squares, predicate="intersects")
    overlap = shapely.area(shapely.intersection(squares[one], squares[other])) > 1e-3
    split = table["split"].to_numpy()
    assert overlap.sum() > len(table), "no patches overlap, so nothing was checked"
    assert (split[one[overlap]] == split[other[overlap]]).all()


def blocks_under(patch: Patch, block_m: float) -> set[tuple[int, int]]:
    """Blocks of ground (row and column on the globe) that the outline of a patch touches, each side in 60 steps."""
    to_degrees = pyproj.Transformer.from_crs(patch.epsg, 4326, always_xy=True)
    outline = shapely.segmentize(shapely.box(*patch.bounds).exterior, 20)
    lon, lat = to_degrees.transform(*shapely.get_coordinates(outline).T)
    radius = 6_371_008.8
    rows = round(np.pi * radius / block_m)
    row = np.floor((lat + 90) / 180 * rows).astype(int)
    around = 2 * np.pi * radius * np.cos(np.radians((row + 0.5) / rows * 180 - 90))
    columns = np.maximum(np.rint(around / block_m), 1)
    column = np.floor((lon + 180) / 360 * columns).astype(int)
    return set(zip(row.tolist(), column.tolist(), strict=True))


def expect_sets_of_blocks(dataset: Dataset, block_m: float) -> None:
    """Patches inside a block are in its set; one over several blocks is in their set, or in none if they differ."""
    under = {name: blocks_under(patch, block_m) for name, patch in dataset.patches.items()}
    sets: dict[tuple[int, int], object] = {}
    for name, blocks in under.items():
        if len(blocks) == 1:
            (block,) = blocks
            assert dataset.rows[name]["split"] is not None, name
            assert sets.setdefault(block, dataset.rows[name]["split"]) == dataset.rows[name]["split"], name
    decided = 0
    for name, blocks in under.items():
        if len(blocks) > 1 and blocks <= sets.keys():
            wanted = {sets[block] for block in blocks}
            assert dataset.rows[name]["split"] == (wanted.pop() if len(wanted) == 1 else None), name
            decided += 1
    assert decided, "no patch lies over several blocks"


def folders_of(folder: Path, unpacked: Path) -> list[Path]:
    """Product folders below a folder, those in zip archives unpacked to another."""
    found = []
    for product in sorted(folder.iterdir()):
        if product.suffix == ".zip":
            with zipfile.ZipFile(product) as archive:
                archive.extractall(unpacked)
            found.append(unpacked / product.with_suffix(".SAFE").name)
        else:
            found.append(product)
    return [path for path in found if "FAILED" not in (path / "MTD_MSIL2A.xml").read_text(encoding="utf-8")]


def open_products(folders: Iterable[Path]) -> list[oracle.Product]:
    """Results of the oracle for products of good quality."""
    return [oracle.open_product(folder) for folder in folders]
