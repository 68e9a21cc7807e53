"""Every tree layout: what the writer exports is read by rasterio, passes verification, and damage to it is found.

A layout is covered as soon as its module is in ``formats/trees``.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import xarray as xr
from verifying import problems_of, verified

from reben_dask.formats.bands import BANDS, S1_BANDS
from reben_dask.formats.trees import LAYOUTS, TreeLayout
from reben_dask.nomenclature import load_nomenclature
from reben_dask.recipes import Recipe
from reben_dask.stores.trees import ARCHIVE_SUFFIX, join_parts, patch_folders, write_parts, write_tables, write_tree

KEPT = ("cubes.zarr", "lmdb", "patches.parquet", "stac", "statistics.json")
EVERY = 7
"""One patch of so many is compared pixel by pixel."""


@dataclass(frozen=True)
class Exported:
    """A dataset with the trees, archives and tables of a layout."""

    out: Path
    layout: TreeLayout
    rows: list[dict[str, Any]]

    def images(self) -> Iterator[tuple[str, Any, Path, dict[str, Any]]]:
        """Tree, ending, path and row of each image, as the layout declares them."""
        for tree in self.layout.trees:
            for folder in sorted(path for path in (self.out / tree.name).rglob("*") if any(path.glob("*.tif"))):
                (row,) = (row for row in self.rows if row[tree.name_column] == folder.name)
                for path in sorted(folder.glob("*.tif")):
                    yield tree.name, tree.specs[path.stem.removeprefix(f"{folder.name}_")], path, row


def _export(run: Path, out: Path, name: str) -> Exported:
    record = json.loads((run / "run" / "record.json").read_text(encoding="utf-8"))
    recipe = Recipe.model_validate({**record["recipe"], "tree": name})
    layout = recipe.tree_layout(load_nomenclature(recipe.nomenclature), has_sentinel1=True)
    (out / "run").mkdir(parents=True)
    for path in (*map(run.joinpath, KEPT), *run.glob("metadata*.parquet")):
        (out / path.name).symlink_to(path)
    parts = sorted((run / "patches.parquet").glob("*.parquet"))
    for tree in layout.trees:
        (out / tree.name).mkdir()
        for part in parts:
            write_tree(patch_folders(run / "cubes.zarr", part, tree), out)
            write_parts(patch_folders(run / "cubes.zarr", part, tree), out.with_name("parts"), part.stem)
        join_parts(out.with_name("parts"), tree.name, out / f"{tree.name}{ARCHIVE_SUFFIX}")
    write_tables(layout, parts, out)
    trees = [name for tree in layout.trees for name in (tree.name, f"{tree.name}{ARCHIVE_SUFFIX}")]
    record |= {"recipe": recipe.model_dump(mode="json"), "exports": [*trees, *layout.tables]}
    (out / "run" / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return Exported(out, layout, pq.read_table(run / "patches.parquet", filters=[("status", "=", "kept")]).to_pylist())


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def exported(request: pytest.FixtureRequest, tile_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return _export(tile_run, tmp_path_factory.mktemp(request.param) / "out", request.param)


# Sound


def test_it_passes_in_its_dataset(exported: Exported) -> None:
    report = verified(exported.out, full=True)
    assert report.verdict().endswith("patches: complete and consistent.")
    titles = [check.title for check in report.checks]
    written = {path for tree in exported.layout.trees for path in (tree.name,) if any((exported.out / path).iterdir())}
    assert written
    assert {*written, *(f"{name}{ARCHIVE_SUFFIX}" for name in written)} <= {*titles}


def _alone(exported: Exported, folder: Path) -> Path:
    """Links to trees and tables, and the run record, without the dataset."""
    folder.mkdir()
    for name in ("run", *(tree.name for tree in exported.layout.trees), *exported.layout.tables):
        (folder / name).symlink_to(exported.out / name)
    # A record makes a dataset of its folder.
    (folder / "run").rename(folder.parent / "run")
    return folder


def test_it_passes_alone(exported: Exported, tmp_path: Path) -> None:
    report = verified(_alone(exported, tmp_path / "trees"))
    assert report.problems == 0, report.verdict()
    assert report.patches == len(exported.rows)
    if exported.layout.table_files:
        assert "Tables of the trees" in {check.title for check in report.checks}


def test_archives_hold_the_same_bytes(exported: Exported) -> None:
    for tree in exported.layout.trees:
        with pa.input_stream(str(exported.out / f"{tree.name}{ARCHIVE_SUFFIX}"), compression="zstd") as stream:
            content = io.BytesIO(stream.read())
        with tarfile.open(fileobj=content) as archive:
            members = {info.name: archive.extractfile(info).read() for info in archive if info.isreg()}
        files = (path for path in (exported.out / tree.name).rglob("*") if path.is_file())
        assert members == {path.relative_to(exported.out).as_posix(): path.read_bytes() for path in files}


def _stored(out: Path, row: dict[str, Any], band: str) -> np.ndarray:
    """Pixels of a patch in the cubes, as xarray reads them."""
    node = f"r{BANDS[band].resolution_m}m" if band in BANDS else "s1" if band in S1_BANDS else band
    group = row["tile"] if row["grid"] == 1 else f"{row['tile']}/grid{row['grid']}"
    with xr.open_zarr(out / "cubes.zarr", group=f"{group}/{node}", chunks=None, mask_and_scale=False) as cube:
        (image,) = (array for array in cube.data_vars.values() if array.ndim > 1)
        chosen = image if image.ndim == 2 else image.sel({image.dims[0]: band})
        inside = (
            (chosen.x > row["minx"]) & (chosen.x < row["maxx"]),
            (chosen.y > row["miny"]) & (chosen.y < row["maxy"]),
        )
        return chosen.isel(x=inside[0].to_numpy(), y=inside[1].to_numpy()).to_numpy()


def test_rasterio_reads_what_the_layout_declares(exported: Exported) -> None:
    stored = {*BANDS, *S1_BANDS, "reference_map"}
    images = list(exported.images())
    chosen = {path.parent.name for _, _, path, _ in images[:: EVERY * 12]}
    compared = 0
    for _, spec, path, row in images:
        if path.parent.name not in chosen:
            continue
        with rasterio.open(path) as image:
            assert set(image.dtypes) == {spec.dtype}
            assert (image.count, image.nodata, image.crs.to_epsg()) == (len(spec.bands), spec.nodata, row["epsg"])
            assert tuple(image.bounds) == (row["minx"], row["miny"], row["maxx"], row["maxy"])
            for number, band in enumerate(spec.bands, start=1):
                if band.name in stored:
                    np.testing.assert_array_equal(image.read(number), _stored(exported.out, row, band.name))
                    compared += 1
    declared = {band.name for tree in exported.layout.trees for spec in tree.specs.values() for band in spec.bands}
    assert compared > 0 or declared.isdisjoint(stored)


# Damaged


def _cut(path: Path, _: TreeLayout) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _shift(path: Path, _: TreeLayout) -> None:
    with rasterio.open(path) as image:
        pixels, profile = image.read(), image.profile
    path.unlink()
    with rasterio.open(path, "w", **{**profile, "transform": profile["transform"].translation(7, 7)}) as image:
        image.write(pixels)


def _change_pixel(path: Path, _: TreeLayout) -> None:
    with rasterio.open(path) as image:
        pixels, profile = image.read(), image.profile
    pixels[0, 0, 0] += 1
    path.unlink()
    with rasterio.open(path, "w", **profile) as image:
        image.write(pixels)


DAMAGE: dict[str, tuple[Callable[[Path, TreeLayout], object], str]] = {
    "cut short": (_cut, ""),
    "missing": (lambda path, _: path.unlink(), ""),
    "shifted": (_shift, ""),
    "folder of another name": (lambda path, _: path.parent.rename(f"{path.parent}9"), "Nothing left over in the trees"),
    "further image": (lambda path, _: path.with_name(f"{path.stem}2.tif").write_bytes(path.read_bytes()), ""),
    "pixel": (_change_pixel, "Zarr pixels as in the trees"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_an_image_is_found(exported: Exported, tmp_path: Path, name: str) -> None:
    damage, title = DAMAGE[name]
    tree, _, path, _ = next(exported.images())
    out = tmp_path / "out"
    out.mkdir()
    for other in exported.out.iterdir():
        if other.name != tree:
            (out / other.name).symlink_to(other)
    for source in (exported.out / tree).rglob("*"):
        copy = out / source.relative_to(exported.out)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            # Only the damaged folder is a copy.
            copy.write_bytes(source.read_bytes()) if source.parent == path.parent else copy.symlink_to(source)
    damage(out / path.relative_to(exported.out), exported.layout)
    assert (title or tree) in problems_of(out, full=True)


@pytest.mark.slow
def test_damage_to_documents_and_tables_is_found(exported: Exported, tmp_path: Path) -> None:
    for number, name in enumerate(exported.layout.table_files):
        out = tmp_path / str(number)
        out.mkdir()
        for other in exported.out.iterdir():
            if other.name != name.partition("/")[0]:
                (out / other.name).symlink_to(other)
        for file in exported.layout.table_files:
            if not (out / file).exists():
                (out / file).parent.mkdir(exist_ok=True)
                (out / file).write_bytes((exported.out / file).read_bytes() + b"x\n" * (file == name))
        assert name in problems_of(out)["Tables of the trees as in the patch table"]
    documented = [(tree, ending) for tree in exported.layout.trees for ending in tree.document_names]
    for tree, ending in documented:
        document = next((exported.out / tree.name).rglob(f"*_{ending}"))
        content = document.read_bytes()
        try:
            document.write_bytes(b"{}")
            assert document.name in problems_of(exported.out)[tree.name]
        finally:
            document.write_bytes(content)
