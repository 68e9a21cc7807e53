"""Statistics of datasets, against NumPy over all pixels; the same from the job, the LMDB and the cubes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client
from verifying import SAMPLE, assert_found, with_copies

import reben_dask as rb
from reben_dask.analysis.statistics import find_statistics
from reben_dask.cli import main
from reben_dask.demo import DemoRegion

RUNS = ("small_run", "tile_run", pytest.param("grids_run", marks=pytest.mark.slow))
"""Runs with an LMDB filled tile by tile, with Sentinel-1 and shards, and with two grids and splits over all tiles."""


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def _clear_patches(out: Path) -> list[dict[str, Any]]:
    parts = sorted((out / "patches.parquet").glob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part, partitioning=None).to_pylist()]
    flags = ("contains_seasonal_snow", "contains_cloud_or_shadow")
    return [row for row in rows if row["status"] == "kept" and not any(row[flag] for flag in flags)]


def _image(out: Path, row: dict[str, Any], array: str, place: int) -> np.ndarray:
    group = row["tile"] if row["grid"] == 1 else f"{row['tile']}/grid{row['grid']}"
    pixels = zarr.open_array(out / "cubes.zarr" / group / array, mode="r")
    side, x, y = pixels.chunks[-1], row["x"], row["y"]
    window = (slice(side * y, side * (y + 1)), slice(side * x, side * (x + 1)))
    return np.asarray(pixels[(place, *window)] if pixels.ndim == 3 else pixels[window])


@pytest.mark.parametrize(
    ("band", "array", "place"),
    [("B04", "r10m/dn", 2), ("B12", "r20m/dn", 5), ("B01", "r60m/dn", 0), ("VH", "s1/db", 1)],
)
def test_bands_are_those_of_numpy(run: Path, band: str, array: str, place: int) -> None:
    found = json.loads((run / "statistics.json").read_text())["bands"]
    assert ("VH" in found) == (run.parent.name == "tile-run")
    rows = _clear_patches(run)
    for split, values in found.get(band, {}).items():
        images = [_image(run, row, array, place) for row in rows if split in {row["split"], "all"}]
        if not images:
            assert values == {"count": 0, **dict.fromkeys(("mean", "std", "min", "max", "p01", "p50", "p99"))}
            continue
        pixels = np.stack(images).astype(np.float64)
        assert (values["count"], values["min"], values["max"]) == (pixels.size, pixels.min(), pixels.max())
        assert (values["mean"], values["std"]) == pytest.approx((pixels.mean(), pixels.std()), rel=1e-12)
        percentiles = np.percentile(pixels, [1, 50, 99], method="inverted_cdf")
        limit = 0.0051 if band == "VH" else 0
        assert [values[key] for key in ("p01", "p50", "p99")] == pytest.approx(percentiles.tolist(), abs=limit)


def test_classes_are_those_of_maps_and_labels(run: Path) -> None:
    found = json.loads((run / "statistics.json").read_text())["classes"]
    record = json.loads((run / "run" / "record.json").read_text())
    rows = _clear_patches(run)
    codes = np.stack([_image(run, row, "reference_map/reference_map", 0) for row in rows])
    assert list(found) == record["classes"]
    for name, values in found.items():
        of_class = [int(code) for code, label in record["class_of_code"].items() if label == name]
        assert values["pixels"] == np.isin(codes, of_class).sum()
        assert values["patches"] == sum(name in row["labels"] for row in rows)
    occurring = [values for values in found.values() if values["pixels"]]
    labelled = sum(values["pixels"] for values in occurring)
    for values in found.values():
        weight = labelled / (len(occurring) * values["pixels"]) if values["pixels"] else None
        assert values["weight"] == (weight and pytest.approx(weight))


def test_statistics_are_the_same_from_every_store(run: Path) -> None:
    steps: list[int] = []
    wanted = rb.open_dataset(run).statistics
    for store in ("lmdb", "cubes.zarr"):
        assert find_statistics(run / store, lambda _: steps.append) == wanted
    kept = sum(pq.read_metadata(path).num_rows for path in run.glob("metadata*.parquet"))
    assert sum(steps) == kept + len(_clear_patches(run))


def test_command(tile_run: Path, tmp_path: Path) -> None:
    """And a dataset whose statistics were lost."""
    for name in ("lmdb", "metadata.parquet", "run"):
        (tmp_path / name).symlink_to(tile_run / name)
    done = CliRunner().invoke(main, ["statistics", str(tmp_path), "--out", str(tmp_path / "made.json")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "made.json").read_bytes() == (tile_run / "statistics.json").read_bytes()
    lines = [line.split() for line in done.output.splitlines()]
    found = json.loads((tmp_path / "made.json").read_text())
    for band, of_split in found["bands"].items():
        shown = {line[1]: line[2] for line in lines if line[:1] == [band]}
        assert shown == {split: f"{of['count']:,}" for split, of in of_split.items() if of["count"]}
    assert "nan" not in done.output
    assert "None" not in done.output


def test_published_lmdb_without_maps(data_dir: Path) -> None:
    found = find_statistics(data_dir / SAMPLE / "BigEarthNet-V2-LMDB")
    rows = pq.read_table(data_dir / SAMPLE / "metadata.parquet")
    assert found.bands["B02"]["all"].count == found.bands["VV"]["all"].count == rows.num_rows * 14_400
    labels = [label for labels in rows["labels"].to_pylist() for label in labels]
    assert {name: of.patches for name, of in found.classes.items() if of.patches} == {
        name: labels.count(name) for name in labels
    }


def test_errors(tile_run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(tile_run / "lmdb", tmp_path / "lmdb")
    cases = {
        "nowhere": "The path",
        "empty": "holds neither statistics.json, nor an LMDB, nor cubes.zarr.",
        "lmdb": "has no metadata.parquet in its folder or the one above",
    }
    for name, text in cases.items():
        done = CliRunner().invoke(main, ["statistics", str(tmp_path / name)])
        assert done.exit_code == 1
        assert text in done.output


@pytest.mark.slow
def test_full_verification_compares_with_all_pixels(tile_run: Path, tmp_path: Path) -> None:
    trees = [path.name for path in tile_run.iterdir() if path.name.startswith(("BigEarthNet", "Reference"))]
    out = with_copies(tile_run, tmp_path / "out", ["statistics.json"], left_out=trees)
    content = json.loads((out / "statistics.json").read_text())
    content["bands"]["B05"]["train"]["mean"] += 1e-9
    content["bands"]["VV"]["all"] |= {"std": None}
    content["classes"]["Pastures"]["weight"] = 1.0
    (out / "statistics.json").write_text(json.dumps(content))
    assert_found(out, {"Statistics": "statistics.json VV all has no std"})
    for text in ("has the B05 train mean ", "has the VV all std None, not ", "has the Pastures weight 1.0, not "):
        assert_found(out, {"Statistics": text}, full=True)
    content["bands"]["VV"]["all"] |= {"std": 0.0, "p50": 99.0}
    (out / "statistics.json").write_text(json.dumps(content))
    assert_found(out, {"Statistics": "VV all has a minimum, mean, percentiles and maximum that are not in order ("})


@pytest.mark.slow
def test_many_sums_are_joined_in_groups(
    small_region: DemoRegion, tile_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reben_dask.job.run.SUMS_PER_TASK", 2)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        out = rb.build(
            tmp_path / "out",
            s2=[*small_region.s2.glob("*20180725*UVP*")],
            landcover=small_region.landcover,
            countries=small_region.countries,
            s1=small_region.s1,
            s1_pairs=small_region.s1_pairs,
            lmdb_shards=5,
            client=client,
        )
    assert len([*(out / "lmdb").glob("*/data.mdb")]) == 5
    assert (out / "statistics.json").read_bytes() == (tile_run / "statistics.json").read_bytes()
