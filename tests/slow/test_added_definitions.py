"""Two bands and a column, each added by one line to a copy of the package: all else follows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import lmdb
import numpy as np
import pytest
import rasterio
import xarray as xr
import yaml
from conftest import ROOT, SMALL, MadeOnce
from processes import run_commands
from rasterio.windows import Window
from safetensors.numpy import load

ADDED = {
    "formats/bands.py": (
        "FURTHER_BANDS = _by_name(",
        '_sentinel2("AOT", 20, nodata=None), _sentinel2("XYZ", 60, "uint8")',
    ),
    "formats/columns.py": (
        'GEOMETRY = _column("geometry"',
        'CENTRE_X = _column("centre_x", _METRES, "Easting of the centre in metres", published=9)\n',
    ),
    "patches/candidates.py": (
        "        columns.FAILED_QUALITY: scene.",
        "        columns.CENTRE_X: grid.bounds()[:, 0] + grid.patch_m // 2,\n",
    ),
}
"""Added text by module, and the text beside which it is; a new column must also be computed."""

PRODUCT = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP_20230718T052230"
SIDE_M = 1200
TYPES = {"AOT": (20, np.uint16), "XYZ": (60, np.uint8)}


SMALL_DEMO = f"""
from pathlib import Path
from reben_dask.demo import DemoRegion
from reben_dask.demo.products import build_region
from reben_dask.demo.terrain import Layout
build_region(DemoRegion.inside(Path("demo")), layout={SMALL}, progress=lambda _: None)
"""


@dataclass(frozen=True)
class Trial:
    """A dataset of one product of the synthetic region, made by the changed package."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def reben(self, *commands: Sequence[object]) -> list[str]:
        """Outputs of commands of the changed package, in one process."""
        found = run_commands(*commands, cwd=self.folder, PYTHONPATH=str(self.folder))
        for code, said, complained in found:
            assert code == 0, said + complained
        return [said for _, said, _ in found]

    def python(self, *arguments: object) -> None:
        """Run Python with the changed package."""
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def image(self, band: str) -> Path:
        """The band in the product."""
        (image,) = (self.folder / "demo").rglob(f"{PRODUCT}.SAFE/**/*_{band}_{TYPES[band][0]}m.jp2")
        return image

    def of_patch(self, band: str, patch_id: str) -> np.ndarray:
        """The band of a patch, cut from the product."""
        side = SIDE_M // TYPES[band][0]
        x, y = map(int, patch_id.rsplit("_", 2)[1:])
        with rasterio.open(self.image(band)) as file:
            return file.read(1, window=Window(x * side, y * side, side, side))


def _make(folder: Path) -> None:
    shutil.copytree(ROOT / "reben_dask", folder / "reben_dask", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (mark, text) in ADDED.items():
        path = folder / "reben_dask" / name
        before, found, after = path.read_text(encoding="utf-8").partition(mark)
        assert found, f"{name} has no {mark!r}"
        added = f"{mark}{text}, " if mark.endswith("(") else f"{text}{mark}"
        path.write_text(before + added + after, encoding="utf-8")
    recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "reben.yaml").read_text(encoding="utf-8"))
    recipe |= {"name": "mine", "bands": [*recipe["bands"], *TYPES]}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    trial = Trial(folder)
    (folder / "demo").mkdir()
    trial.python("-c", SMALL_DEMO)
    inputs = ("--s2", f"demo/sentinel2/{PRODUCT}.SAFE", "--landcover", "demo/landcover.gpkg", "--recipe", "mine.yaml")
    cluster = ("--workers", 1, "--dashboard-address", ":0")
    trial.python("-m", "reben_dask.run", *inputs, "--out", "out", "--export", "geotiff", "--no-report", *cluster)


@pytest.fixture(scope="module")
def trial(made_once: MadeOnce) -> Trial:
    return Trial(made_once("added_definitions", _make))


@pytest.fixture(scope="module")
def lost_record(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset by artefacts, each in a folder of its own, without the run record."""
    folder, files = tmp_path_factory.mktemp("lost-record"), sorted(trial.out.glob("metadata*.parquet"))
    for name, content in {"lmdb": ["lmdb"], "trees": ["BigEarthNet-S2", "Reference_Maps"]}.items():
        (folder / name).mkdir()
        for path in [*(trial.out / part for part in content), *files]:
            (folder / name / path.name).symlink_to(path)
    (folder / "cubes.zarr").symlink_to(trial.out / "cubes.zarr")
    return folder


def test_the_dataset_is_complete_and_needs_no_run_record(trial: Trial, lost_record: Path) -> None:
    """Bands and columns of the formats are allowed for any recipe."""
    places = ["out", *(lost_record / part for part in ("lmdb/lmdb", "trees", "cubes.zarr"))]
    whole, *parts = trial.reben(*(["verify", place] for place in places))
    assert whole.endswith(" patches: complete and consistent.\n")
    for said in parts:
        assert "patches: complete and consistent" in said


def _kept(trial: Trial) -> Sequence[tuple[str, int]]:
    query = f"SELECT patch_id, centre_x FROM read_parquet('{trial.out}/metadata*.parquet') ORDER BY patch_id"  # noqa: S608
    return duckdb.sql(query).fetchall()


def test_the_column_is_in_all_tables(trial: Trial) -> None:
    kept = _kept(trial)
    with rasterio.open(trial.image("AOT")) as file:
        left = file.bounds.left
    assert kept
    for patch_id, centre_x in kept:
        assert centre_x == left + SIDE_M * int(patch_id.rsplit("_", 2)[1]) + SIDE_M // 2
    table = duckdb.sql(f"DESCRIBE SELECT * FROM '{trial.out}/patches.parquet/*.parquet'").fetchall()  # noqa: S608
    kinds = {row[0]: row[1] for row in table if row[0] in ("maxy", "centre_x")}
    assert kinds == {"maxy": "INTEGER", "centre_x": "INTEGER"}
    assert re.search(r'"name": "centre_x",[^}]*"dataType": "sc:Integer"', (trial.out / "croissant.json").read_text())


def _assert_lmdb(trial: Trial, folder: Path) -> None:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        for patch_id, _ in _kept(trial)[::8]:
            tensors = load(transaction.get(patch_id.encode()))
            assert len(tensors) == 14
            for band, (_, dtype) in TYPES.items():
                assert tensors[band].dtype == dtype
                np.testing.assert_array_equal(tensors[band], trial.of_patch(band, patch_id))


def test_bands_are_in_the_lmdb(trial: Trial) -> None:
    _assert_lmdb(trial, trial.out / "lmdb")


def _assert_cubes(trial: Trial, store: Path) -> None:
    (group,) = (path for path in store.iterdir() if path.is_dir())
    for band, (resolution, _) in TYPES.items():
        node = xr.open_zarr(group / f"r{resolution}m", mask_and_scale=False)["dn"].sel(band=band)
        for patch_id, _ in _kept(trial)[::8]:
            side = SIDE_M // resolution
            x, y = map(int, patch_id.rsplit("_", 2)[1:])
            cut = node[y * side : (y + 1) * side, x * side : (x + 1) * side].to_numpy()
            np.testing.assert_array_equal(cut, trial.of_patch(band, patch_id))


def test_bands_are_in_the_cubes(trial: Trial) -> None:
    _assert_cubes(trial, trial.out / "cubes.zarr")


def test_the_exported_tree_is_converted_with_its_bands(trial: Trial, tmp_path: Path) -> None:
    convert = ("convert", "--s2", "out/BigEarthNet-S2", "--maps", "out/Reference_Maps")
    lmdb, cubes = tmp_path / "lmdb", tmp_path / "cubes.zarr"
    *_, of_lmdb, of_cubes = trial.reben(
        [*convert, lmdb], [*convert, "--zarr", cubes], ["verify", lmdb], ["verify", cubes]
    )
    _assert_lmdb(trial, lmdb)
    _assert_cubes(trial, cubes)
    assert "patches: complete and consistent" in of_lmdb
    assert "patches: complete and consistent" in of_cubes


def test_published_datasets_need_have_neither(trial: Trial, data_dir: Path, tmp_path: Path) -> None:
    folder, lmdb, cubes = data_dir / "bigearthnet", tmp_path / "lmdb", tmp_path / "cubes.zarr"
    convert = ("convert", "--s2", folder / "BigEarthNet-S2")
    *_, of_lmdb, of_cubes, published = trial.reben(
        [*convert, lmdb],
        [*convert, "--zarr", cubes],
        *(["verify", made] for made in (lmdb, cubes, folder / "configilm_24_patches" / "BigEarthNet-V2-LMDB")),
    )
    assert ": 1 patch: complete and consistent, without " in of_lmdb
    assert ": 1 patch: complete and consistent, without " in of_cubes
    assert published.endswith(": 24 patches: complete and consistent, without reference maps.\n")
