"""Verification of GeoTIFF trees: published files are sound, and each kind of damage is found and named."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.transform import from_origin
from verifying import (
    AT,
    S1,
    S2,
    TILE,
    TREES,
    Findings,
    assert_found,
    problems_of,
    published_row,
    verified,
    write_image,
    write_published_trees,
)

from reben_dask.cli.verify import verify as command
from reben_dask.formats.columns import METADATA_SCHEMA
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE

B05 = f"{AT['BigEarthNet-S2']}/{S2}_B05.tif"
VV = f"{AT['BigEarthNet-S1']}/{S1}_VV.tif"
MAP = f"{AT['Reference_Maps']}/{S2}_reference_map.tif"


@pytest.fixture(scope="module")
def published(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_trees(data_dir, tmp_path_factory.mktemp("published"))


@pytest.fixture
def trees(published: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(published, tmp_path / "trees"))


# Sound trees


def test_published_files(data_dir: Path, tmp_path: Path) -> None:
    """One patch of each tree, from three places: by themselves they are as they must be."""
    for tree in TREES:
        shutil.copytree(data_dir / "bigearthnet" / tree, tmp_path / tree)
    report = verified(tmp_path, full=True)
    assert report.verdict() == "1 patch: complete and consistent, without metadata."
    assert [check.title for check in report.checks] == [
        "Metadata files",
        *TREES,
        "Nothing left over in the trees",
        "No NODATA in the trees",
        "Backscatter in the trees",
    ]


def test_published_files_with_their_metadata(data_dir: Path, tmp_path: Path) -> None:
    """The labels of the published row are those of the published map."""
    shutil.copytree(data_dir / "bigearthnet" / "Reference_Maps", tmp_path / "Reference_Maps")
    row = published_row(data_dir, "T33UUP_26_57")
    pq.write_table(pa.Table.from_pylist([row], METADATA_SCHEMA), tmp_path / METADATA_FILE)
    report = verified(tmp_path / "Reference_Maps", tmp_path / METADATA_FILE)
    assert report.verdict() == "1 patch: complete and consistent, without Sentinel-2 and Sentinel-1."
    pq.write_table(
        pa.Table.from_pylist([{**row, "labels": row["labels"][1:]}], METADATA_SCHEMA), tmp_path / METADATA_FILE
    )
    problems = problems_of(tmp_path / "Reference_Maps", tmp_path / METADATA_FILE)
    assert problems == {
        "Labels as in the maps of the trees": f"{row['patch_id']}: only the map has {row['labels'][0]}",
    }


@pytest.mark.parametrize("full", [False, True])
def test_everything_there(trees: Path, full: bool) -> None:  # noqa: FBT001
    arguments = [str(trees), *(["--full"] if full else [])]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert done.output.endswith(": 3 patches: complete and consistent.\n")
    assert done.output.count("3 patch folders") == 3


def test_trees_that_are_not_there(trees: Path) -> None:
    shutil.rmtree(trees / "BigEarthNet-S1")
    assert verified(trees).verdict() == "3 patches: complete and consistent, without Sentinel-1."
    one = verified(trees / "BigEarthNet-S2").verdict()
    assert one == "3 patches: complete and consistent, without Sentinel-1 and reference maps."


def test_hidden_files_and_files_of_other_kinds_are_nobodys_business(trees: Path) -> None:
    for path in (
        ".DS_Store",
        AT["BigEarthNet-S2"] + f"/{S2}_labels.json",
        MAP + ".aux.xml",
        f"Reference_Maps/{TILE}/.x",
    ):
        (trees / path).write_text("{}")
    assert problems_of(trees) == {}


# Damage


def _change(file: str, **changed: Any) -> Callable[[Path], None]:
    """Write a file anew, with other pixels or another profile."""

    def damage(trees: Path) -> None:
        with rasterio.open(trees / file) as image:
            pixels, usual = image.read(1), {name: image.profile[name] for name in ("nodata", "crs", "transform")}
        alter = changed.get("pixels", lambda pixels: pixels)
        profile = {name: value for name, value in changed.items() if name != "pixels"}
        (trees / file).unlink()
        write_image(trees / file, alter(pixels), **{**usual, **profile})

    return damage


def _cut(trees: Path) -> None:
    content = (trees / MAP).read_bytes()
    (trees / MAP).write_bytes(content[: len(content) // 2])


def _move(source: str, destination: str) -> Callable[[Path], None]:
    def damage(trees: Path) -> None:
        (trees / destination).parent.mkdir(parents=True, exist_ok=True)
        (trees / source).rename(trees / destination)

    return damage


def _copy(source: str, destination: str) -> Callable[[Path], None]:
    return lambda trees: shutil.copy(trees / source, trees / destination)


WIDE = {"pixels": lambda pixels: np.zeros((60, 61), np.uint16) + pixels[:, :1]}
SHIFTED = {"transform": from_origin(300_010, 5_400_000, 20, 20)}
COARSE = {"transform": from_origin(300_000, 5_400_000, 10, 10)}
CLEARED: dict[str, Callable[[np.ndarray], np.ndarray]] = {"pixels": lambda pixels: np.full_like(pixels, 999)}
UNKNOWN: dict[str, Callable[[np.ndarray], np.ndarray]] = {"pixels": lambda pixels: np.full_like(pixels, 0)}

LEFT_OVER = "Nothing left over in the trees"
DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "file missing": (lambda trees: (trees / B05).unlink(), TREES[0], f"{S2} has no {S2}_B05.tif"),
    "radar missing": (lambda trees: (trees / VV).unlink(), TREES[1], f"{S1} has no {S1}_VV.tif"),
    "map missing": (lambda trees: (trees / MAP).unlink(), TREES[2], f"{S2} has no {S2}_reference_map.tif"),
    "file left over": (_copy(B05, B05.replace("B05", "B10")), TREES[0], f"{S2} also holds {S2}_B10.tif"),
    "type": (
        _change(B05, pixels=lambda p: p.astype(np.int16)),
        TREES[0],
        f"{S2}_B05.tif has the type int16, not uint16",
    ),
    "type of radar": (
        _change(VV, pixels=lambda p: p.astype(np.float64), nodata=None),
        TREES[1],
        "has the type float64, not float32",
    ),
    "shape": (_change(B05, **WIDE), TREES[0], f"{S2}_B05.tif has the shape (1, 60, 61), not (1, 60, 60)"),
    "nodata tag": (_change(B05, nodata=None), TREES[0], "B05.tif has the nodata tag None, not 0"),
    "nodata tag of radar": (_change(VV, nodata=-99), TREES[1], "VV.tif has the nodata tag -99.0, not None"),
    "no system": (_change(B05, crs=None), TREES[0], "B05.tif has no coordinate reference system"),
    "other system": (_change(B05, crs="EPSG:32634"), TREES[0], "B05.tif does not cover the square of the others"),
    "shifted": (_change(B05, **SHIFTED), TREES[0], "B05.tif does not cover the square of the others"),
    "pixel size": (
        _change(B05, **COARSE),
        TREES[0],
        "B05.tif has the pixel axes (10.0, 0, 0, -10.0), not (20, 0, 0, -20)",
    ),
    "no image": (lambda trees: (trees / B05).write_bytes(b"II*\0"), TREES[0], f"{S2}_B05.tif cannot be decoded ("),
    "empty file": (lambda trees: (trees / B05).write_bytes(b""), TREES[0], f"{S2}_B05.tif is empty"),
    "cut short": (lambda trees: os.truncate(trees / B05, 4_000), TREES[0], f"{S2}_B05.tif cannot be decoded ("),
    "map cut short": (_cut, TREES[2], f"{S2}_reference_map.tif cannot be decoded ("),
    "no label": (_change(MAP, **CLEARED), "Labels as in the maps of the trees", f"{S2}: only the metadata have "),
    "unknown code": (
        _change(MAP, **UNKNOWN),
        "Labels as in the maps of the trees",
        f"{S2}: its map holds the unknown code 0",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files(trees: Path, name: str) -> None:
    damage, title, text = DAMAGE[name]
    damage(trees)
    assert_found(trees, {title: text})
    assert problems_of(trees)[title].startswith((S2, S1))


PLACES: dict[str, tuple[Callable[[Path], object], Findings]] = {
    **{
        f"other patch in {tree}": (
            _move(AT[tree], AT[tree].replace("27_56", "27_99")),
            {tree: f"{Path(AT[tree]).name} is missing", LEFT_OVER: AT[tree].replace("27_56", "27_99")},
        )
        for tree in TREES
    },
    "folder of another tile": (
        _move(AT[TREES[0]], AT[TREES[0]].replace("T33UUP/", "T34VER/")),
        {TREES[0]: f"{S2} is missing", LEFT_OVER: f"{TREES[0]}/{TILE[:-6]}T34VER/{S2}, which belongs elsewhere"},
    ),
    "file beside the folders": (
        lambda trees: (trees / TREES[1] / "index.tif").write_bytes(b""),
        {LEFT_OVER: f"{TREES[1]}/index.tif"},
    ),
    "folder missing": (
        lambda trees: shutil.rmtree(trees / AT[TREES[1]]),
        {TREES[1]: f"{S1} is missing"},
    ),
    "nodata": (
        _change(B05, pixels=lambda pixels: np.where(np.arange(60) == 5, 0, pixels).astype(np.uint16)),
        {"No NODATA in the trees": f"{S2} in B05"},
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_folders_and_pixels(trees: Path, name: str) -> None:
    damage, findings = PLACES[name]
    damage(trees)
    assert_found(trees, findings)


# Digests


def test_digests_are_those_of_sha256sum(trees: Path) -> None:
    digests = verified(trees, digest=True).digests
    assert set(digests) == {*TREES, METADATA_FILE, FLAGGED_METADATA_FILE}
    for tree in TREES:
        listing = "find * -name '*.tif' | LC_ALL=C sort | xargs sha256sum | sha256sum"
        done = subprocess.run(listing, shell=True, cwd=trees / tree, capture_output=True, text=True, check=True)  # noqa: S602
        assert digests[tree] == done.stdout.split()[0]
    assert digests[METADATA_FILE] == hashlib.sha256((trees / METADATA_FILE).read_bytes()).hexdigest()
