"""A dataset of five patches, written with other libraries than the package: what its readers have to find in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rioxarray  # noqa: F401 - gives datasets their .rio accessor
import xarray as xr
import zarr
from safetensors.numpy import save

BANDS = {
    10: ("B02", "B03", "B04", "B08"),
    20: ("B05", "B06", "B07", "B11", "B12", "B8A"),
    60: ("B01", "B09"),
}
SIDE = {10: 120, 20: 60, 60: 20}
CLASSES = ("Arable land", "Pastures", "Urban fabric")
TILE, EPSG, ULX, ULY = "T", 32633, 500_000, 5_400_000
OFFSETS = {"B02": -1000, "B03": -900, "B04": -800}
COLUMNS, ROWS = 3, 2
METADATA = "metadata.parquet"


@dataclass(frozen=True)
class Patch:
    """One patch and everything that is known of it."""

    name: str
    grid: int
    x: int
    y: int
    labels: tuple[str, ...]
    split: str
    s1_name: str | None


PATCHES = (
    Patch("T_0_0", 1, 0, 0, ("Pastures",), "train", "S1_0_0"),
    Patch("T_0_1", 1, 0, 1, ("Arable land", "Urban fabric"), "train", "S1_0_1"),
    Patch("T_1_0", 1, 1, 0, (), "test", "S1_1_0"),
    Patch("T_2_1", 1, 2, 1, CLASSES, "train", None),
    Patch("T_9_9", 2, 1, 1, ("Urban fabric",), "validation", "S1_9_9"),
)


def pixels(grid: int, name: str) -> np.ndarray:
    """Pixels of a whole tile, each band and grid with its own."""
    seed = np.random.default_rng([grid, *name.encode()])
    resolution = next((side for side, bands in BANDS.items() if name in bands), 10)
    shape = (ROWS * SIDE[resolution], COLUMNS * SIDE[resolution])
    if name in {"VV", "VH"}:
        return seed.normal(-12, 4, shape).astype(np.float32)
    if name == "map":
        return seed.choice(np.array([112, 211, 231, 999], np.uint16), shape)
    return seed.integers(0, 10_000, shape, dtype=np.uint16)


def of_patch(patch: Patch, name: str) -> np.ndarray:
    """Pixels of one patch."""
    whole = pixels(patch.grid, name)
    side = whole.shape[0] // ROWS
    return whole[patch.y * side : (patch.y + 1) * side, patch.x * side : (patch.x + 1) * side]


def write_tiny(out: Path) -> Path:
    """Write metadata, patch table, cubes and LMDB."""
    out.mkdir(parents=True)
    write_metadata(out, json.dumps(CLASSES).encode())
    (out / "patches.parquet").mkdir()
    columns = {name: [getattr(patch, name) for patch in PATCHES] for name in ("grid", "x", "y")}
    names = [patch.name for patch in PATCHES]
    table = {"patch_id": names, "tile": [TILE] * len(names), "status": ["kept"] * len(names), **columns}
    pq.write_table(pa.table(table), out / "patches.parquet" / f"{TILE}.parquet")
    for grid, group in ((1, TILE), (2, f"{TILE}/grid2")):
        _write_cubes(out / "cubes.zarr", grid, group)
    zarr.consolidate_metadata(out / "cubes.zarr")
    write_lmdb(out / "lmdb", PATCHES)
    return out


def write_metadata(out: Path, classes: bytes | None) -> None:
    """Write the metadata file, with a class list or without one."""
    schema = pa.schema({"patch_id": pa.string(), "labels": pa.list_(pa.string()), "split": pa.string(), "s1_name": pa.string()})  # noqa: E501  # fmt: skip
    rows = [{"patch_id": patch.name, "labels": patch.labels, "split": patch.split, "s1_name": patch.s1_name} for patch in PATCHES]  # noqa: E501  # fmt: skip
    described = schema.with_metadata({b"reben:classes": classes}) if classes else schema
    pq.write_table(pa.Table.from_pylist(rows, schema=described), out / METADATA)


def write_lmdb(folder: Path, patches: tuple[Patch, ...]) -> None:
    """Write one environment in rico-hdl's layout."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for patch in patches:
            bands = {name: np.ascontiguousarray(of_patch(patch, name)) for names in BANDS.values() for name in names}
            transaction.put(patch.name.encode(), save(bands))
            codes = {"Data": np.ascontiguousarray(of_patch(patch, "map"))}
            transaction.put(f"{patch.name}_reference_map".encode(), save(codes))
            if patch.s1_name:
                radar = {name: np.ascontiguousarray(of_patch(patch, name)) for name in ("VV", "VH")}
                transaction.put(patch.s1_name.encode(), save(radar))


def _write_cubes(store: Path, grid: int, group: str) -> None:
    shift = 600 * (grid - 1)
    nodes = {
        **{f"r{side}m": ("dn", "band", names, side) for side, names in BANDS.items()},
        "s1": ("db", "polarisation", ("VH", "VV"), 10),
    }
    attributes = {"boa_add_offset": OFFSETS, "harmonized": grid == 2}
    xr.Dataset(attrs=attributes).to_zarr(store, group=group, zarr_format=3, consolidated=False)
    for node, (variable, axis, names, resolution) in nodes.items():
        stack = np.stack([pixels(grid, name) for name in names])
        dataset = xr.Dataset({variable: ((axis, "y", "x"), stack)}, {axis: np.array(names, object)})
        _write_node(dataset, store, f"{group}/{node}", (resolution, shift))
    codes = xr.Dataset({"reference_map": (("y", "x"), pixels(grid, "map"))})
    _write_node(codes, store, f"{group}/reference_map", (10, shift))


def _write_node(dataset: xr.Dataset, store: Path, group: str, place: tuple[int, int]) -> None:
    resolution, shift = place
    rows, columns = dataset.sizes["y"], dataset.sizes["x"]
    placed = dataset.assign_coords(
        y=ULY - shift - resolution * (np.arange(rows) + 0.5), x=ULX + shift + resolution * (np.arange(columns) + 0.5)
    )
    placed = placed.rio.write_crs(EPSG).rio.write_transform()
    for variable in placed.data_vars.values():
        variable.attrs["grid_mapping"] = variable.encoding.pop("grid_mapping", "spatial_ref")
    chunks = {
        name: {"chunks": (*(1,) * (variable.ndim - 2), SIDE[resolution], SIDE[resolution])}
        for name, variable in placed.data_vars.items()
        if variable.ndim > 1
    }
    placed.to_zarr(store, group=group, zarr_format=3, consolidated=False, encoding=chunks)
