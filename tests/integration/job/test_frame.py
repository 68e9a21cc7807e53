"""The public lazy frames: nothing is computed early, and what is computed is what a job writes."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path

import dask
import distributed
import geopandas
import pandas as pd
import pytest
from distributed import Client

import reben_dask as rb
from reben_dask.demo import DemoRegion
from reben_dask.errors import InputError
from reben_dask.sources import sentinel2
from reben_dask.training import close_environments

COLUMNS = ["nodata", "snow_fraction", "contains_cloud_or_shadow", "labeled_fraction", "split", "status", "reason"]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the environments afterwards: LMDB opens a path once in a process."""
    yield
    close_environments()


@pytest.fixture(scope="module")
def landcover(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> rb.Dataset:
    return rb.open_landcover(small_region.landcover, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def written(small_run: Path) -> pd.DataFrame:
    """Patches of the tiles that the job has read."""
    table = geopandas.read_parquet(small_run / "patches.parquet").set_index("patch_id").sort_index()
    return table[table["failed_quality"].isna()]


@pytest.mark.usefixtures("nothing_computes")
def test_the_public_face_is_lazy(small_region: DemoRegion, small_run: Path, tmp_path: Path) -> None:
    """Anything that Dask is asked to compute here is an error."""
    landcover = rb.open_landcover(small_region.landcover, cache=tmp_path)
    labelled = rb.label(rb.patches(small_region.s2), landcover)
    assert labelled.npartitions == 5
    assert labelled.spatial_partitions is not None
    product = sentinel2.find_products([small_region.s2])[1]
    assert rb.open_tile(product)["r10m"]["dn"].chunks
    dataset = rb.open_dataset(small_run)
    assert dataset.patches.npartitions == 5
    assert len(dataset.cubes.children) == 4
    samples = dataset.samples(split="train")
    assert dataset.patch(samples.patch_ids[0])["r10m"]["dn"].sizes == {"band": 4, "y": 120, "x": 120}


def test_labels_and_decisions_are_those_of_a_job(
    small_region: DemoRegion, landcover: rb.Dataset, written: pd.DataFrame
) -> None:
    frame = rb.label(rb.patches(small_region.s2), landcover)
    with dask.config.set(scheduler="threads"):
        found = frame.compute().set_index("patch_id").loc[written.index]
    for name in COLUMNS:
        pd.testing.assert_series_equal(found[name], written[name], check_dtype=False)
    assert [list(labels) for labels in found["labels"]] == [list(labels) for labels in written["labels"]]
    assert found.geometry.geom_equals(written.geometry).all()
    computed = found.reset_index().dtypes
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        str(name): str(kind) for name, kind in computed.items()
    }


@pytest.mark.slow
def test_some_patches_with_a_column_of_ones_own(
    small_region: DemoRegion, landcover: rb.Dataset, written: pd.DataFrame
) -> None:
    frame = rb.patches(small_region.s2)
    eastern = frame[frame["x"] >= 2].assign(km=frame["minx"] / 1000)
    eastern.spatial_partitions = frame.spatial_partitions
    with dask.config.set(scheduler="threads"):
        found = rb.label(eastern, landcover).compute().set_index("patch_id")
    expected = written[written["x"] >= 2]
    assert [list(labels) for labels in found["labels"].loc[expected.index]] == [
        list(labels) for labels in expected["labels"]
    ]
    assert (found["km"] * 1000 == found["minx"]).all()


def test_frames_without_places_are_refused(small_region: DemoRegion, landcover: rb.Dataset) -> None:
    frame = rb.patches(small_region.s2)
    with pytest.raises(InputError, match="land-cover frame has no spatial_partitions, which Dask drops"):
        rb.label(frame, landcover.map_partitions(lambda part: part))
    with pytest.raises(InputError, match="have no column nodata; make them with"):
        rb.label(frame.drop(columns="nodata"), landcover)


def test_a_patch_that_does_not_exist(small_run: Path) -> None:
    dataset = rb.open_dataset(small_run)
    name = dataset.samples().patch_ids[0]
    with pytest.raises(InputError, match=f"has no patch x{name}; did you mean {name}"):
        dataset.patch(f"x{name}")


@pytest.mark.slow
def test_an_open_client_computes(small_region: DemoRegion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No further cluster is started, and the client stays open."""
    clusters: list[object] = []
    start = distributed.LocalCluster.__init__

    def count(self: distributed.LocalCluster, *arguments: object, **options: object) -> None:
        clusters.append(self)
        start(self, *arguments, **options)

    monkeypatch.setattr(distributed.LocalCluster, "__init__", count)
    product = sentinel2.find_products([small_region.s2])[1]
    with Client(n_workers=1, threads_per_worker=2, dashboard_address=":0") as client:
        out = rb.build(tmp_path / "out", s2=product, landcover=small_region.landcover)
        assert client.status == "running"
        address = client.scheduler.address
    assert len(clusters) == 1
    assert rb.open_dataset(out).record.workers == f"those of the client's scheduler at {address}"


def test_the_examples_of_the_package_run(small_region: DemoRegion, small_run: Path) -> None:
    done = doctest.testmod(rb, globs={"region": small_region, "out": small_run})
    assert done.attempted >= 8
    assert done.failed == 0
