"""A full-size tile as JPEG 2000, COG and EOPF Zarr: the whole job from each, beside decoding the JPEG 2000 alone.

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

import stages
from measure import Measured, machine, measure, measure_command
from region import heaviest_product

sys.path.insert(0, str(Path(__file__).parent.parent))
from digest import digest_of
from forms import write_cogs, write_eopf

MEBI = 2**20
LIMITS = {"COG": 0.48, "EOPF Zarr": 0.38}
"""CPU of the whole job, at most, as a share of that of decoding the JPEG 2000 images alone."""

FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "JPEG 2000": lambda product, _: product,
    "COG": write_cogs,
    "EOPF Zarr": write_eopf,
}


def main() -> None:
    """Measure, print, save."""
    options = _options()
    product = options.product or heaviest_product(options.region)
    print(f"{product.name}\n\n{'':<40}{'CPU s':>9}{'wall s':>9}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        results = _measure(product, options.region, Path(folder))
    results = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **results}
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "forms.json"
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nSaved as {file}")


def _measure(product: Path, region: Path, folder: Path) -> dict[str, Any]:
    products = {form: write(product, folder / form) for form, write in FORMS.items()}
    alone = {form: measure(stages.decode, path) for form, path in products.items()}
    for form, measured in alone.items():
        _show(f"decoding the bands alone, {form}", measured)
    jobs = {form: _job(path, region, folder / form) for form, path in products.items()}
    for form, measured in jobs.items():
        _show(f"the whole job, {form}", measured)
    decoding = alone["JPEG 2000"].cpu_s
    ratios = {form: measured.cpu_s / decoding for form, measured in jobs.items()}
    print()
    for form, ratio in ratios.items():
        limit = f", at most {LIMITS[form]}" if form in LIMITS else ""
        print(f"CPU of the job from {form} / CPU of decoding JPEG 2000: {ratio:.2f}{limit}")
    same = {form: _content(folder / form) == _content(folder / "JPEG 2000") for form in FORMS}
    print(f"all jobs write the same metadata and LMDB: {'yes' if all(same.values()) else 'NO'}")
    return {
        "product": product.name,
        "decoding": {form: measured.as_json() for form, measured in alone.items()},
        "jobs": {form: measured.as_json() for form, measured in jobs.items()},
        "ratios": {form: round(ratio, 3) for form, ratio in ratios.items()},
        "limits": LIMITS,
        "same_content": all(same.values()),
    }


def _job(product: Path, region: Path, folder: Path) -> Measured:
    """Run the job, which sorts the map for itself, as a user's first one does."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "reben_dask.run", "--no-report", "--s2", product, "--out", folder / "out"]
    command += ["--landcover", region / "landcover.gpkg", "--countries", region / "countries.gpkg"]
    command += ["--workers", 2, "--threads", 1, "--dashboard-address", ":0"]
    return measure_command(command, folder / "log")


def _content(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in digest_of(folder / "out").items() if name.startswith(("metadata", "lmdb"))}


def _show(name: str, measured: Measured) -> None:
    print(f"{name:<40}{measured.cpu_s:>9.2f}{measured.wall_s:>9.2f}{measured.peak_bytes / MEBI:>10,.0f}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--region", type=Path, default=Path("bench-data"), help="what `reben demo --full-size` makes")
    parser.add_argument("--product", type=Path, help="the product to measure; by default the heaviest of the region")
    parser.add_argument("--scratch", type=Path, help="folder for outputs (10 GB), deleted afterwards")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
