"""Converting published trees to an LMDB: `reben convert`, from folders and `.tar` archives, beside a user's loop.

All read the same invented patches (12 bands of Sentinel-2, two of Sentinel-1, a reference map: 15 files each, laid out
as the published ones), with the same number of processes. With fewer than 20,000 patches, the start of the cluster
shows in the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import rasterio
from measure import Measured, machine, measure_command
from rasterio.transform import from_origin
from safetensors.numpy import save

from reben_dask.formats.bands import ImageKind
from reben_dask.sources.published.trees import IMAGES

TREES = {"BigEarthNet-S2": ImageKind.S2, "BigEarthNet-S1": ImageKind.S1, "Reference_Maps": ImageKind.MAP}
TILES = ("T33UUP", "T33UWP", "T33UXP", "T29UPU")
DIFFERENT = 64
"""Patches with pixels of their own; others are copies. To make all of them would take longer than to measure."""

ROUNDS = 2
NAIVE_COMMIT = 256
OURS = [sys.executable, "-c", "from reben_dask.cli.convert import convert; convert()"]


def main() -> None:
    """Measure both, one after the other, twice; print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2, help="processes that read")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the figures")
    parser.add_argument("--scratch", type=Path, help="where to make the patches: 500 kB each, LMDBs included")
    parser.add_argument("--naive", type=Path, nargs=2, metavar=("TREES", "LMDB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.naive:
        convert_naively(*options.naive, options.processes)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        make_trees(folder / "trees", options.patches)
        runs = _rounds(folder, options.processes)
        same = _content(folder / "naive") == _content(folder / "ours") == _content(folder / "archives")
    best = {way: min(found, key=lambda measured: measured.cpu_s) for way, found in runs.items()}
    rates = {way: options.patches / measured.cpu_s for way, measured in best.items()}
    print(f"{'':>9}{'CPU s':>8}{'wall s':>8}{'patches/CPU s':>15}{'peak MiB':>10}")
    for way, measured in best.items():
        print(f"{way:>9}{measured.cpu_s:>8.2f}{measured.wall_s:>8.2f}{rates[way]:>15,.0f}", end="")
        print(f"{measured.peak_bytes / 2**20:>10,.0f}")
    print(f"\nratio {rates['ours'] / rates['naive']:.1f}, LMDBs are {'the same' if same else 'NOT the same'}")
    _save(
        options.out,
        {
            "patches": options.patches,
            "processes": options.processes,
            "runs": {way: [measured.as_json() for measured in found] for way, found in runs.items()},
            "patches_per_cpu_s": {way: round(rate, 1) for way, rate in rates.items()},
            "ratio": round(rates["ours"] / rates["naive"], 2),
            "same_content": same,
        },
    )


def make_trees(root: Path, patches: int) -> None:
    """Make the three trees."""
    for tree, kind in TREES.items():
        files: list[dict[str, bytes]] = []
        for number, (parent, name) in enumerate(_names(kind, patches)):
            folder = root / tree / parent / name
            folder.mkdir(parents=True)
            if number < DIFFERENT:
                files.append({band: _geotiff(folder / "new.tif", kind, band, number) for band in IMAGES[kind]})
                (folder / "new.tif").unlink()
            for band, content in files[number % DIFFERENT].items():
                (folder / f"{name}_{band}.tif").write_bytes(content)


def _pack(tree: Path) -> Path:
    """Make a ``.tar`` archive of a tree, in the order of its names, as the published ones are."""
    path = tree.with_name(f"{tree.name}.tar")
    with tarfile.open(path, "w") as archive:
        for file in sorted(tree.rglob("*.tif")):
            archive.add(file, file.relative_to(tree.parent))
    return path


def convert_naively(trees: Path, destination: Path, processes: int) -> None:
    """Open and read every file with rasterio, in some processes; write what they encode."""
    folders = [folder for tree in TREES for folder in sorted((trees / tree).glob("*/*"))]
    with get_context().Pool(processes) as pool, lmdb.open(str(destination), map_size=2**36) as environment:
        values = pool.imap(_encode_naively, folders, chunksize=16)
        for _ in range(0, len(folders), NAIVE_COMMIT):
            with environment.begin(write=True) as transaction:
                for _, (key, value) in zip(range(NAIVE_COMMIT), values, strict=False):
                    transaction.put(key, value)


def _encode_naively(folder: Path) -> tuple[bytes, bytes]:
    bands = {}
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as file:
            bands[path.stem.removeprefix(f"{folder.name}_")] = file.read(1)
    if "reference_map" in bands:
        return f"{folder.name}_reference_map".encode(), save({"Data": bands["reference_map"]})
    return folder.name.encode(), save(bands)


def _rounds(folder: Path, processes: int) -> dict[str, list[Measured]]:
    trees, naive, ours, archives = (folder / name for name in ("trees", "naive", "ours", "archives"))
    roots = {"--s2": "BigEarthNet-S2", "--s1": "BigEarthNet-S1", "--maps": "Reference_Maps"}
    inputs = [word for option, tree in roots.items() for word in (option, trees / tree)]
    packed = [word for option, tree in roots.items() for word in (option, _pack(trees / tree))]
    commands: dict[str, list[Any]] = {
        "naive": [sys.executable, __file__, "--processes", processes, "--naive", trees, naive],
        "ours": [*OURS, *inputs, "--workers", processes, ours],
        "archives": [*OURS, *packed, "--workers", processes, archives],
    }
    runs: dict[str, list[Measured]] = {way: [] for way in commands}
    for _ in range(ROUNDS):
        for way, command in commands.items():
            for file in (folder / way).glob("*"):
                file.unlink()
            if (folder / way).is_dir():
                (folder / way).rmdir()
            runs[way].append(measure_command(command, folder / "log.txt"))
    return runs


def _names(kind: ImageKind, patches: int) -> Iterator[tuple[str, str]]:
    for number in range(patches):
        tile = TILES[number % len(TILES)]
        x, y = divmod(number // len(TILES), 91)
        if kind is ImageKind.S1:
            scene = "S1A_IW_GRDH_1SDV_20170613T165043"
            yield scene, f"{scene}_{tile[1:]}_{x}_{y}"
        else:
            parent = f"S2A_MSIL2A_20170613T101031_N9999_R022_{tile}"
            yield parent, f"{parent}_{x:02d}_{y:02d}"


def _geotiff(path: Path, kind: ImageKind, band: str, seed: int) -> bytes:
    """Smooth and noisy, as images are; a map has areas of few codes."""
    resolution, dtype = IMAGES[kind][band].resolution_m, IMAGES[kind][band].dtype
    side, random = IMAGES[kind][band].side_px(), np.random.default_rng([seed, len(IMAGES[kind]), *band.encode()])
    waves = np.add.outer(*np.sin(random.uniform(0, 0.1, (2, 1)) * np.arange(side) + random.uniform(0, 6, (2, 1))))
    options: dict[str, Any] = {"nodata": 0}
    if kind is ImageKind.MAP:
        pixels = random.choice([112, 211, 231, 311, 313, 512], 8)[np.digitize(waves, np.linspace(-2, 2, 7))]
        options.update(compress="deflate", predictor=2)
    elif kind is ImageKind.S1:
        pixels, options = 4 * waves - 15 + random.normal(0, 2, waves.shape), {}
    else:
        pixels = 400 * waves + 1500 + random.normal(0, 50, waves.shape)
    place = from_origin(300_000, 5_400_000, resolution, resolution)
    layout = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": dtype}
    with rasterio.open(path, "w", **layout, crs=32633, transform=place, **options) as file:
        file.write(pixels.astype(dtype), 1)
    return path.read_bytes()


def _content(folder: Path) -> dict[bytes, int]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {key: hash(value) for key, value in transaction.cursor()}


def _save(folder: Path, found: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "convert.json"
    made = datetime.now(UTC).isoformat(timespec="seconds")
    file.write_text(json.dumps({"made": made, "machine": machine(), **found}, indent=2) + "\n")
    print(f"Saved as {file}")


if __name__ == "__main__":
    main()
