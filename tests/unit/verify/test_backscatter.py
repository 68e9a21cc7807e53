"""Sentinel-1 pixels without backscatter in what `reben verify` reads: a fault, or a note about a reproduction."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest

from reben_dask.formats.bands import POLARISATIONS
from reben_dask.formats.cube import CubeLayout
from reben_dask.formats.dataset import FORMAT, RUN, RecordedInputs, RecordedMap, RunRecord
from reben_dask.formats.lmdb import encode_bands
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import load_nomenclature
from reben_dask.recipes import load_recipe
from reben_dask.stores.cubes import consolidate_store, create_cube, create_store, write_s1_strip
from reben_dask.stores.lmdb import new_environment
from reben_dask.verify import Report, Settings, verify

S1 = "S1A_IW_GRDH_1SDV_20180724T165131_33UVP_0_{y}"
GRID = PatchGrid(32633, 600_000, 5_400_000, ShapeYX(4 * 1200, 1200))
GAPS = {1: [np.nan, -10.0], 2: [0.0, 0.0], 3: [0.0, -10.0]}
"""By row of the grid: values of one pixel in both polarisations; the last is backscatter."""


def _backscatter(y: int) -> np.ndarray:
    db = np.full((2, 120, 120), -12, np.float32)
    db[:, 30, 40] = GAPS.get(y, [-17.0, -10.0])
    return db


def _lmdb(folder: Path) -> None:
    with new_environment(folder, 2**21) as environment, environment.begin(write=True) as transaction:
        for y in range(4):
            value = encode_bands(dict(zip(POLARISATIONS, _backscatter(y), strict=True)))
            transaction.put(S1.format(y=y).encode(), value)


def _cubes(folder: Path) -> None:
    layout = CubeLayout("T1", GRID, {}, {}, POLARISATIONS, has_map=False)
    create_store(folder, {})
    create_cube(folder, layout)
    write_s1_strip(folder, layout, range(4), np.concatenate([_backscatter(y) for y in range(4)], axis=1))
    consolidate_store(folder, 1)


def _record(folder: Path, published: tuple[str, ...]) -> None:
    recipe, classes = load_recipe("reben"), load_nomenclature("bigearthnet19")
    record = RunRecord(
        format=FORMAT,
        finished="2026-01-01T00:00:00",
        recipe=recipe.model_dump(mode="json"),
        classes=classes.classes,
        class_of_code=classes.class_of,
        inputs=RecordedInputs(tiles=(), landcover=RecordedMap(), published=published),
    )
    (folder / RUN).mkdir()
    record.write(folder / RUN)


@pytest.mark.parametrize("published", [(), ("metadata.parquet",), None])
@pytest.mark.parametrize("kind", ["lmdb", "cubes.zarr"])
def test_gaps_are_faults_unless_they_were_published(
    tmp_path: Path, kind: str, published: tuple[str, ...] | None
) -> None:
    {"lmdb": _lmdb, "cubes.zarr": _cubes}[kind](tmp_path / kind)
    if published is not None:
        _record(tmp_path, published)
    report = Report()
    deque(verify(tmp_path / kind, [], Settings(full=True), report), maxlen=0)
    (check,) = (check for check in report.checks if check.title in {"Backscatter in the LMDB", "Zarr pixels"})
    if published == ():
        assert check.problems == 2
        assert all("has 1 pixel without backscatter" in text for text in check.examples)
        assert [text.split()[0].rsplit("_", 1)[1] for text in check.examples] == ["1", "2"]
    else:
        assert check.problems == 0
        assert check.notes == ["2 patches with pixels without backscatter (NaN, infinite or 0), as published"]
