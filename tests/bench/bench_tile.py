"""A full-size tile from ``.SAFE`` to LMDB: each stage and the whole job, beside decoding alone and the naive way.

Everything is measured in the same run, so that the ratios hold whatever the machine is. ``make bench`` runs it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import naive
import stages
from exactness import EXPLAINED_M, compare_maps
from measure import Measured, machine, measure, measure_command
from region import heaviest_product

from reben_dask.stores.patch_table import part_files

sys.path.insert(0, str(Path(__file__).parent.parent))
from digest import digest_of

SHARDS = 4
MAPS_FOR_A_WINDOW = 50
"""A map takes milliseconds: those of a few patches are lost in the time that reading all polygons takes."""
MEBI = 2**20


def main() -> None:
    """Make the region if it is missing, measure, print, save."""
    options = _options()
    product = options.product or heaviest_product(options.region)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        results = _Bench(options.region, product, Path(folder), options.sample).run()
    results = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **results}
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "tile.json"
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nSaved as {file}")


class _Bench:
    """Measurements of one product; each prints a line when it is done."""

    def __init__(self, region: Path, product: Path, folder: Path, sample: int) -> None:
        self.region, self.product, self.folder, self.sample = region, product, folder, sample
        self.landcover, self.sorted = region / "landcover.gpkg", folder / "map.parquet"
        self.plan = stages.plan_of(product, self.landcover)
        (self.tile,) = self.plan.usable
        self.patches = self.plan.size(self.tile)
        self.measured: dict[str, Measured] = {}

    def run(self) -> dict[str, Any]:
        print(f"{self.tile.name}: {self.patches:,} patches\n")
        print(f"{'':<46}{'CPU s':>9}{'wall s':>9}{'peak MiB':>10}{'patches/s':>11}")
        self._stages_of_tile()
        self._jobs()
        self._stages_of_lmdb()
        self._naive()
        ratios = self._ratios()
        print()
        for name, ratio in ratios.items():
            print(f"{name:<55}{ratio:>8.2f}")
        return {
            "tile": self.tile.name,
            "patches": self.patches,
            "kept": sum(map(stages.kept_in, part_files(self.folder / "job-2" / "patches.parquet"))),
            "polygons": stages.polygons_of(self.product, self.sorted),
            "stages": {name: measured.as_json() for name, measured in self.measured.items()},
            "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
            "exactness": self._exactness(),
            "same_digest_with_1_and_2_workers": self._same(),
        }

    def _stages_of_tile(self) -> None:
        cubes = self.folder / "stages.zarr"
        self._stage("decoding the bands alone", stages.decode, self.product)
        self._stage("land cover sorted", stages.sort, self.landcover, self.sorted)
        self._stage("bands to Zarr", stages.ingest, self.product, self.sorted, cubes)
        self._stage("join, map and labels", stages.label, self.product, self.sorted, cubes)

    def _jobs(self) -> None:
        for workers in (1, 2):
            out = self.folder / f"job-{workers}"
            command = [sys.executable, "-m", "reben_dask.run", "--no-report", "--s2", self.product, "--out", out]
            command += ["--landcover", self.landcover, "--countries", self.region / "countries.gpkg"]
            command += ["--workers", workers, "--threads", 1, "--dashboard-address", ":0"]
            log = out.with_suffix(".log")
            self._show(f"the whole job, {workers} of 1 thread", measure_command(command, log), self.patches)
            # Each job sorts the map for itself, as a user's first one does.
            for cache in self.folder.glob("landcover-*.parquet"):
                cache.rename(self.folder / f"used-by-{workers}.parquet")

    def _stages_of_lmdb(self) -> None:
        out, shards = self.folder / "job-2", self.folder / "shards"
        self._stage("LMDB from Zarr", stages.export, out, self.folder / "lmdb", 1)
        self._stage(f"LMDB from Zarr, {SHARDS} shards", stages.export, out, shards, SHARDS)
        self._stage("LMDB shards merged", stages.merge, shards, self.folder / "merged")
        self._stage("patches read from Zarr", stages.read, out)
        self._stage("patches read from Zarr, with statistics", stages.count, out)

    def _naive(self) -> None:
        sample = naive.sample_of(self.plan, self.sample)
        (self.folder / "naive").mkdir()
        windows = measure(naive.windows_to_lmdb, self.plan, sample, self.folder / "naive")
        self._show(f"naive: windows of {len(sample)} patches", windows, len(sample))
        self._show("naive: reading the map", measure(naive.rasterize_patches, self.plan, []), self.patches)
        many = naive.sample_of(self.plan, MAPS_FOR_A_WINDOW * self.sample)
        maps = measure(naive.rasterize_patches, self.plan, many)
        self._show(f"naive: reading it, maps of {len(many)} patches", maps, len(many))

    def _ratios(self) -> dict[str, float]:
        cpu = {name.partition(" of ")[0]: measured.cpu_s for name, measured in self.measured.items()}
        one, two = (self.measured[f"the whole job, {workers} of 1 thread"] for workers in (1, 2))
        sample, many = (min(number, self.patches) for number in (self.sample, MAPS_FOR_A_WINDOW * self.sample))
        windows = cpu["naive: windows"] / sample * self.patches
        without = cpu["naive: reading the map"]
        maps = without + (cpu["naive: reading it, maps"] - without) / many * self.patches
        reading, statistics = cpu["patches read from Zarr"], cpu["patches read from Zarr, with statistics"]
        return {
            "CPU of statistics, beside reading (s)": statistics - reading,
            "CPU of the job / CPU of decoding": two.cpu_s / cpu["decoding the bands alone"],
            "wall of the job on 2 workers / its CPU": two.wall_s / two.cpu_s,
            "wall of the job on 2 workers / on 1": two.wall_s / one.wall_s,
            "naive windows / bands to Zarr to LMDB, CPU": windows / (cpu["bands to Zarr"] + cpu["LMDB from Zarr"]),
            "naive maps / land cover sorted, map and labels, CPU": maps
            / (cpu["land cover sorted"] + cpu["join, map and labels"]),
        }

    def _stage(self, name: str, function: Callable[..., None], *arguments: object) -> None:
        self._show(name, measure(function, *arguments), self.patches)

    def _show(self, name: str, measured: Measured, patches: int) -> None:
        self.measured[name] = measured
        peak, rate = measured.peak_bytes / MEBI, patches / measured.wall_s
        print(f"{name:<46}{measured.cpu_s:>9.2f}{measured.wall_s:>9.2f}{peak:>10,.0f}{rate:>11,.0f}", flush=True)

    def _exactness(self) -> dict[str, Any]:
        found = compare_maps(self.plan, self.folder / "job-2" / "cubes.zarr")
        print(
            f"\nmap against each patch by itself, clipped: {found['different']:,} of {found['pixels']:,} pixels differ"
        )
        if found["different"]:
            distance = found["farthest_from_an_edge_m"]
            print(f"their centres are within {distance:.1e} m of an edge (on it: below {EXPLAINED_M:.0e} m)")
        return found

    def _same(self) -> bool:
        same = digest_of(self.folder / "job-1") == digest_of(self.folder / "job-2")
        print(f"jobs with 1 and 2 workers have the same digests: {'yes' if same else 'NO'}")
        return same


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--region", type=Path, default=Path("bench-data"), help="what `reben demo --full-size` makes")
    parser.add_argument("--product", type=Path, help="the product to measure; by default the heaviest of the region")
    parser.add_argument("--sample", type=int, default=40, help="patches that the naive way is tried on")
    parser.add_argument("--scratch", type=Path, help="folder for outputs (6 GB), deleted afterwards")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
