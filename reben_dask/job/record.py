"""The run record: enough to know later what was made, from what, with what, and how long it took."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import rasterio
import yaml

from reben_dask import __version__
from reben_dask.formats.dataset import FAILURES, ORIGIN, RECORD_FILE
from reben_dask.job.plan import Plan
from reben_dask.job.tally import total
from reben_dask.output.origin import Origin
from reben_dask.sources.sentinel2 import Tile

RECIPE_FILE = "recipe.yaml"
COUNTS_FILE = "counts.csv"
REPORT_FILE = "performance.html"

_LIBRARIES = ("dask", "distributed", "dask-geopandas", "geopandas", "lmdb", "numpy", "pandas", "pyarrow")
_LIBRARIES_OF_PIXELS = ("rasterio", "safetensors", "shapely", "xarray", "zarr")


@dataclass(frozen=True)
class Run:
    """What a record says of how a dataset was made.

    Parameters
    ----------
    origin : Origin
        What it is made from, in a form that tells it from other jobs.
    failures : sequence of dict
        Tiles that were set aside: ``tile``, ``error`` and ``tries``.
    seconds : dict of str to float
        Wall time of each step of the last attempt.
    workers : str
        One line about the cluster.
    """

    origin: Origin
    failures: Sequence[Mapping[str, Any]]
    seconds: Mapping[str, float]
    workers: str


def write_record(folder: Path, plan: Plan, tallies: pd.DataFrame, run: Run) -> dict[str, Any]:
    """Write the record of a finished job into ``folder``: ``record.json``, ``recipe.yaml`` and ``counts.csv``."""
    failed = {str(failure["tile"]) for failure in run.failures}
    record = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": plan.recipe.model_dump(mode="json"),
        "classes": list(plan.nomenclature.classes),
        "class_of_code": {str(code): name for code, name in sorted(plan.nomenclature.class_of.items())},
        "inputs": {
            "tiles": [_tile_record(tile) for tile in plan.tiles if tile.name not in failed],
            "landcover": plan.landcover.record,
            "countries": plan.countries,
            "layers": dict(plan.layers),
            "sentinel1": plan.partners.describe() if plan.partners else None,
            "published": [str(path) for path in plan.published.metadata],
            **{name: _path(getattr(plan.published, name)) for name in ("pairs", "snow_list", "cloud_list")},
        },
        FAILURES: [{name: failure[name] for name in ("tile", "error", "tries")} for failure in run.failures],
        "exports": list(plan.export_names),
        "warnings": list(plan.warnings),
        "counts": _counts(tallies),
        "seconds": {stage: round(value, 3) for stage, value in run.seconds.items()},
        "workers": run.workers,
        "versions": _versions(),
        ORIGIN: run.origin,
    }
    _write(folder / RECORD_FILE, json.dumps(record, indent=2, ensure_ascii=False))
    _write(folder / RECIPE_FILE, yaml.safe_dump(record["recipe"], sort_keys=False, allow_unicode=True))
    ordered = tallies.sort_values(["tile", "measure", "key", "split"])
    _write(folder / COUNTS_FILE, ordered.to_csv(index=False, lineterminator="\n"))
    return record


def _tile_record(tile: Tile) -> dict[str, Any]:
    size = [pixels * 10 for pixels in tile.shape_yx[10]]
    return {"tile": tile.name, "path": str(tile.path), "metadata_sha256": tile.metadata_sha256, "size_m_yx": size}


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _counts(tallies: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {str(measure): total(tallies, str(measure)) for measure in sorted(set(tallies["measure"]))}


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in (*_LIBRARIES, *_LIBRARIES_OF_PIXELS)}
    return {
        "reben_dask": __version__,
        "python": platform.python_version(),
        "gdal": rasterio.__gdal_version__,
        **libraries,
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
