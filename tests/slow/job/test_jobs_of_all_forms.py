"""A job whose products have four forms makes the dataset of their ``.SAFE`` folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import maps_of, run_here
from digest import digest_of
from forms import write_cogs, write_eopf, zip_folder
from processes import Cluster
from serving import serving

from reben_dask.cli import main
from reben_dask.demo import DemoRegion


class Made(NamedTuple):
    """Output of the job, what it printed, and the addresses and paths of its products."""

    out: Path
    printed: str
    products: list[str]


@pytest.fixture(scope="module")
def mixed(
    small_region: DemoRegion, small_folders: list[Path], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """The products of the small region: EOPF Zarr and COGs, from disk and by HTTP, and one as it is."""
    folder = tmp_path_factory.mktemp("mixed")
    first, third, second, fourth = small_folders
    store = write_eopf(first, folder / "remote")
    packed = zip_folder(write_eopf(second, folder / "local"), folder / "zips" / "second.zarr.zip", "second.zarr/")
    items = write_cogs(third, folder / "remote"), write_cogs(fourth, folder / "items")
    failed = next(path for path in small_region.s2.glob("*.SAFE") if path not in small_folders)
    with serving(folder / "remote") as served:
        addresses = [f"{served.address}/{path.name}" for path in (store, items[0])]
        inputs = ["--s2", addresses[0], packed, failed, "--s2-stac", addresses[1], "--s2-stac", items[1].parent]
        done = run_here(*inputs, *maps_of(small_region), "--out", folder / "out", *cluster.options)
        assert done.returncode == 0, done.stderr
        yield Made(folder / "out", done.stdout, [*addresses, str(packed), str(items[1]), str(failed)])


def test_labels_pixels_and_metadata_are_the_same(mixed: Made, small_run: Path) -> None:
    """Groups of the cubes state quality indicators, and parts of the table where offsets are stated."""
    found, expected = digest_of(mixed.out), digest_of(small_run)
    kinds = ("metadata", "lmdb", "cubes.zarr/")
    same = {name for name in expected if name.startswith(kinds) and not name.startswith("cubes.zarr/S2")}
    same |= {name for name in expected if name.endswith(("/dn", "/band", "/x", "/y", "/reference_map", "/spatial_ref"))}
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}
    assert sum(name.endswith("/dn") for name in same) == 12
    assert found.keys() == expected.keys()


def test_patches_are_the_same(mixed: Made, small_run: Path) -> None:
    tables = [pd.read_parquet(out / "patches.parquet").sort_values("patch_id") for out in (mixed.out, small_run)]
    found, expected = (table.drop(columns="boa_offset_source").reset_index(drop=True) for table in tables)
    pd.testing.assert_frame_equal(found, expected)
    sources = tables[0].assign(source=tables[0]["boa_offset_source"].fillna("")).groupby("tile")["source"].unique()
    assert sorted(kind for kinds in sources for kind in kinds) == [
        "",
        "attributes",
        "attributes",
        "metadata",
        "raster:bands",
    ]


def test_the_record_names_places_and_offsets(mixed: Made) -> None:
    record = json.loads((mixed.out / "run" / "record.json").read_text())
    tiles = record["inputs"]["tiles"]
    assert sorted(tile["path"] for tile in tiles) == sorted(mixed.products)
    assert {tile["boa_add_offset"] for tile in tiles} == {-1000, None}
    (note,) = [text for text in record["warnings"] if "quality indicators" in text]
    assert note.startswith("4 tiles, such as S2A_MSIL2A_")
    assert note.endswith("in this form of the product; they count as passed.")
    assert note in mixed.printed


def test_products_at_addresses_have_an_identity(mixed: Made) -> None:
    status = CliRunner().invoke(main, ["status", str(mixed.out), "--json"])
    assert status.exit_code == 0, status.output
    assert set(json.loads(status.stdout)["dataset"].values()) == {"done"}
    again = CliRunner().invoke(main, ["verify", str(mixed.out)])
    assert again.exit_code == 0, again.output
