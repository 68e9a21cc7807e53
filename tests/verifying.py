"""Whole verifications for tests to look at, and data to verify: tables to change, published patches, and copies."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import rasterio
from rasterio.transform import from_origin
from safetensors.numpy import load

from reben_dask.formats.columns import METADATA_SCHEMA, PUBLISHED_METADATA
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.nomenclature import load_nomenclature
from reben_dask.verify import Report, Settings, verify

SAMPLE = Path("bigearthnet") / "configilm_24_patches"
TREES = ("BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps")
TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
SCENE = "S1B_IW_GRDH_1SDV_20170612T165809"
PLACES = ((27, 56), (27, 57), (34, 69))
S2, S1 = f"{TILE}_27_56", f"{SCENE}_33UUP_27_56"
AT = {
    "BigEarthNet-S2": f"BigEarthNet-S2/{TILE}/{S2}",
    "BigEarthNet-S1": f"BigEarthNet-S1/{SCENE}/{S1}",
    "Reference_Maps": f"Reference_Maps/{TILE}/{S2}",
}

Rows = list[dict[str, Any]]
Findings = dict[str, str]
"""Part of the text of a finding, by the title of its check."""


def verified(path: Path, *metadata: Path, **settings: bool) -> Report:
    """The report of a verification that has come to its end."""
    report = Report()
    deque(verify(path, metadata, Settings(**settings), report), maxlen=0)
    return report


def problems_of(path: Path, *metadata: Path, **settings: bool) -> Findings:
    """Examples of the problems of each check that has any."""
    checks = verified(path, *metadata, **settings).checks
    return {check.title: "; ".join(check.examples) for check in checks if check.problems}


def assert_found(path: Path, findings: Findings, **settings: bool) -> None:
    """Make sure that a verification has these findings, and no problems in other checks."""
    problems = problems_of(path, **settings)
    assert problems.keys() == findings.keys(), problems
    assert not {title: problems[title] for title, text in findings.items() if text not in problems[title]}


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of everything in a folder."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in (folder, *folder.rglob("*"))}


def change_rows(path: Path, change: Callable[[Rows], object]) -> None:
    """Write a Parquet file again with other rows."""
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def with_copies(out: Path, folder: Path, copied: Sequence[str], *, left_out: Sequence[str] = ()) -> Path:
    """The dataset again, with copies of what is to be damaged, and links to the rest."""
    folder.mkdir()
    for path in out.iterdir():
        if path.name in left_out:
            continue
        if path.name not in copied:
            (folder / path.name).symlink_to(path)
        elif path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy(path, folder / path.name)
    return folder


def published_row(data_dir: Path, ending: str) -> dict[str, Any]:
    """The first row of the published metadata whose patch id ends so."""
    table = pq.read_table(data_dir / "bigearthnet" / METADATA_FILE)
    return table.filter(pc.ends_with(table["patch_id"], ending)).slice(0, 1).to_pylist()[0]


def write_image(path: Path, pixels: np.ndarray, **changed: Any) -> None:
    """Write a file of a tree; ``changed`` options of rasterio beside those of the published files."""
    height, width = pixels.shape
    usual = {"nodata": None if pixels.dtype == np.float32 else 0, "crs": "EPSG:32633"}
    profile = {**usual, "transform": from_origin(300_000, 5_400_000, 1200 / width, 1200 / height), **changed}
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"height": height, "width": width, "count": 1, "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as image:
        image.write(pixels, 1)


def write_published_trees(data_dir: Path, folder: Path) -> Path:
    """Write three published patches as trees, with maps of their labels, and their metadata."""
    code_of = {name: code for code, name in load_nomenclature("bigearthnet19").class_of.items()}
    rows = pq.read_table(data_dir / SAMPLE / METADATA_FILE, columns=list(PUBLISHED_METADATA)).to_pylist()
    rows = [row for row in rows if row["patch_id"] in {f"{TILE}_{x}_{y}" for x, y in PLACES}]
    with (
        lmdb.open(str(data_dir / SAMPLE / "BigEarthNet-V2-LMDB"), readonly=True, lock=False) as environment,
        environment.begin() as transaction,
    ):
        for row in rows:
            s2, s1 = row["patch_id"], row["s1_name"]
            for parent, name in ((folder / TREES[0] / TILE, s2), (folder / TREES[1] / SCENE, s1)):
                for band, pixels in load(transaction.get(name.encode())).items():
                    write_image(parent / name / f"{name}_{band}.tif", pixels)
            codes = np.resize(np.array([999, *(code_of[label] for label in row["labels"])], np.uint16), (120, 120))
            write_image(folder / TREES[2] / TILE / s2 / f"{s2}_reference_map.tif", codes, compress="deflate")
    pq.write_table(pa.Table.from_pylist(rows, METADATA_SCHEMA), folder / METADATA_FILE)
    pq.write_table(METADATA_SCHEMA.empty_table(), folder / FLAGGED_METADATA_FILE)
    return folder
