"""One job on tiles of two UTM zones that see the same ground, in two grids each, against the oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import oracle
import protocols
import pyproj
import pytest
import shapely
from acquisitions import Place, acquire_elsewhere
from building import build
from click.testing import CliRunner
from datasets import Dataset
from distributed import Client

from reben_dask.cli.verify import verify
from reben_dask.demo import DemoRegion
from reben_dask.job.plan import make_plan
from reben_dask.recipes import Recipe, load_recipe

BANDS = ("B01", "B05")
PROTOCOL = replace(protocols.SEASONET_PROTOCOL, bands=BANDS)
SIDE_PX = 336
FOREIGN = 32632


@pytest.fixture(scope="module")
def dataset(small_region: DemoRegion, small_folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The western tile of the small region in summer, and part of it as a tile of the zone to its west."""
    folder = tmp_path_factory.mktemp("zones")
    summer = next(path for path in small_folders if "20180725" in path.name and "T33UVP" in path.name)
    home = oracle.open_product(summer)
    to_foreign = pyproj.Transformer.from_crs(home.epsg, FOREIGN, always_xy=True)
    ulx, uly = (round(metres / 20) * 20 for metres in to_foreign.transform(home.ulx + 1000, home.uly - 900))
    place = Place("32UQU", FOREIGN, ulx, uly)
    images = ("B01_60m", "B05_20m", "B02_10m", "SCL_20m")
    folders = [summer, acquire_elsewhere(summer, folder, place, SIDE_PX, images)]
    changes = {"bands": BANDS, "attributes": {}, "countries": None}
    dump = load_recipe("seasonet").model_dump(mode="json")
    changes["split"] = dump["split"] | {"validation": 0.3, "test": 0.3, "block_m": 4800}
    plan = make_plan(
        s2=list(map(str, folders)),
        landcover=str(small_region.landcover),
        countries=str(small_region.countries),
        recipe=Recipe.model_validate(dump | changes),
    )
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        out = build(client, plan, folder / "out")
    maps = (small_region.landcover, small_region.countries)
    patches = [patch for product in folders for patch in oracle.patches_of(product, *maps, PROTOCOL)]
    chosen = protocols.choose(patches, protocols.SEASONET_CHOICE)
    return Dataset(out, "", {patch.patch_id: patch for patch in chosen})


def test_the_cases_that_matter_are_there(dataset: Dataset) -> None:
    """Patches of both zones are kept, and overlap ground of the other."""
    assert Counter((patch.epsg, patch.grid) for patch in dataset.kept.values()).keys() == {
        (epsg, grid) for epsg in (32633, FOREIGN) for grid in (1, 2)
    }
    assert len(dataset.patches) == 4**2 + 3**2 + 2**2 + 2**2
    footprints = dataset.table.set_index("epsg")["geometry"]
    foreign = shapely.union_all(footprints.loc[FOREIGN].to_numpy())
    assert shapely.union_all(footprints.loc[32633].to_numpy()).contains(foreign)


def test_every_candidate_and_column(dataset: Dataset) -> None:
    datasets.expect_every_candidate(dataset)
    datasets.expect_columns(dataset)


def test_the_table_has_one_system_and_bounds_have_their_own(dataset: Dataset) -> None:
    assert dataset.table.crs.to_epsg() == 4326
    datasets.expect_footprints(dataset)
    # Seen from the other zone's meridian the squares of its patches are turned.
    turned = dataset.table[dataset.table["epsg"] == FOREIGN].geometry
    upper = [shapely.get_coordinates(square)[:, 1] for square in turned]
    assert min(np.ptp(np.sort(latitudes)[-2:]) for latitudes in upper) > 1e-4


def test_every_pixel_of_both_zones(dataset: Dataset) -> None:
    datasets.expect_cubes(dataset)
    for grid in (1, 2):
        datasets.expect_places_of_cubes(dataset, grid)


def test_metadata_and_lmdb(dataset: Dataset) -> None:
    datasets.expect_metadata(dataset)
    datasets.expect_lmdb(dataset)


def test_the_dataset_is_verified(dataset: Dataset) -> None:
    done = CliRunner().invoke(verify, [str(dataset.out), "--full"])
    assert done.exit_code == 0, done.output


def test_no_ground_of_two_zones_is_in_two_sets(dataset: Dataset) -> None:
    datasets.expect_no_ground_in_two_sets(dataset)
    for epsg in (32633, FOREIGN):
        sets = {row["split"] for row in dataset.rows.values() if row["epsg"] == epsg}
        assert {None} < sets
