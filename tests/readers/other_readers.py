"""Other libraries, each in its own environment, open a dataset with the lines of the README and the guide."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, MadeOnce, finished_job

from reben_dask.demo import DemoRegion

PYTHON = os.environ.get("READERS_PYTHON", "python3.11")
METADATA = "metadata.parquet"
METADATA_FLAGGED = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"

Samples = dict[str, np.ndarray]
"""Items of all samples of a split, each with axes ``(sample, …)``."""


def make_dataset(region: DemoRegion, made_once: MadeOnce) -> Path:
    """Output of a finished job on a winter tile: Sentinel-1, flagged patches, one LMDB, loose trees and samples."""
    (product,) = region.s2.glob("*20190116*UVP*")
    inputs = ("--s2", product, "--landcover", region.landcover, "--s1", region.s1, "--s1-pairs", region.s1_pairs)
    formats = [word for name in ("geotiff", "webdataset", "parquet") for word in ("--export", name)]
    return made_once("reader-run", finished_job(*inputs, *formats)) / "out"


def read_metadata(file: Path, split: str) -> pd.DataFrame:
    """Rows of a metadata file that are in a split."""
    metadata = pd.read_parquet(file)
    return metadata[metadata["split"] == split]


def find_lines(reader: str) -> str:
    """Code block of the README or the guide below the comment that names a reader."""
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/guide.md"))
    (lines,) = re.findall(rf"<!-- reader: {reader} -->\n+```python\n(.*?)```", text, re.DOTALL)
    return lines


class Reading(NamedTuple):
    """Lines that open a dataset, which they call ``dataset``, and the splits to read with them."""

    lines: str
    dataset: Path
    splits: Sequence[str]


def read_samples(reader: str, readings: Mapping[str, Reading], folder: Path) -> dict[str, dict[str, Samples]]:
    """Read samples, by the name of a reading and its split, in one process: libraries take seconds to import."""
    told = {name: (reading.lines, list(reading.splits)) for name, reading in readings.items()}
    (folder / "readings.json").write_text(json.dumps(told), encoding="utf-8")
    for name, reading in readings.items():
        (folder / name).mkdir()
        (folder / name / "dataset").symlink_to(reading.dataset)
    _run(reader, [str(Path(__file__).with_name("save_samples.py")), "readings.json"], folder)
    return {
        name: {split: dict(np.load(folder / name / f"{split}.npz")) for split in reading.splits}
        for name, reading in readings.items()
    }


def run_lines(reader: str, arguments: Sequence[str], dataset: Path, folder: Path) -> None:
    """Run the interpreter of a reader in a folder in which ``dataset`` is the dataset."""
    (folder / "dataset").symlink_to(dataset)
    _run(reader, arguments, folder)


def _run(reader: str, arguments: Sequence[str], folder: Path) -> None:
    """Run the interpreter of a reader, offline, in a folder."""
    python = _make_environment(reader)
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    command = [str(python), "-I", *arguments]
    done = subprocess.run(command, cwd=folder, env=offline, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


def _make_environment(reader: str) -> Path:
    """Create the environment of a reader with ``make`` if it is out of date, and return its interpreter."""
    environment = Path(".venv-readers", reader)
    if not shutil.which(PYTHON) or subprocess.run([PYTHON, "-c", ""], check=False).returncode:
        pytest.skip(f"{reader} needs {PYTHON}, which is not on this machine; READERS_PYTHON names another")
    settings = [f"READERS_PYTHON={PYTHON}", f"VENV={sys.prefix}"]
    subprocess.run(["make", "--silent", f"{environment}/.made", *settings], cwd=ROOT, check=True)  # noqa: S607
    return ROOT / environment / "bin" / "python"
