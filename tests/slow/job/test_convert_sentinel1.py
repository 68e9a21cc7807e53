"""Sentinel-1 in a converted Zarr store: each patch where its partner is, as what was published says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
import zarr
from click.testing import CliRunner, Result
from published_trees import EPSG, MAPS, S1, S2, TILE, ULX, ULY, pixels_of, write_images, write_patch
from safetensors.numpy import load

from reben_dask.cli.convert import convert
from reben_dask.errors import InputError, OutputError
from reben_dask.formats.bands import POLARISATIONS
from reben_dask.job.convert import task_runner
from reben_dask.job.convert_cubes import CubePlan, convert_to_cubes, plan_cubes
from reben_dask.sources.published.pairs import Pairs, open_pairs
from reben_dask.sources.published.tiles import LeftOut, Place, Tile, add_partners
from reben_dask.sources.published.trees import PublishedPatch, PublishedTree, find_patches
from reben_dask.workspace import Workspace

METADATA = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
SCENE = "S1A_IW_GRDH_1SDV_20170613T165043"
V1 = "S2A_MSIL2A_20170613T101031"
EAST = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UWP"
EASTERN = (499_980, 5_400_000)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(convert, [*map(str, arguments), "--workers", "1", "--zarr"])


def _table(path: Path, pairs: Sequence[tuple[str, str]] | pd.DataFrame) -> Path:
    pd.DataFrame(pairs).set_axis(["s2v1_name", "s1_name"], axis=1).to_csv(path, index=False)
    return path


def _trees(root: Path) -> list[PublishedTree]:
    kinds = {"s2": S2, "maps": MAPS, "s1": S1}
    return [find_patches(root / name, kind) for name, kind in kinds.items() if (root / name).is_dir()]


def _plan(trees: Sequence[PublishedTree], pairs: Pairs | None = None) -> CubePlan:
    with task_runner(0) as run:
        return plan_cubes(trees, run, pairs)


def _write(plan: CubePlan, store: Path) -> int:
    with task_runner(0) as run:
        return convert_to_cubes(plan, store, run)


def _partners(plan: CubePlan) -> dict[str, list[str]]:
    """Names of Sentinel-1 patches by the name of the other."""
    return {
        images[0].name: names
        for block in plan.blocks
        for _, _, images in block.patches
        if (names := [image.name for image in images if image.kind is S1])
    }


def _rasters(folder: Path) -> tuple[np.ndarray, rasterio.Affine, int]:
    """Both polarisations of a patch, and where it lies."""
    images = []
    for polarisation in ("VV", "VH"):
        with rasterio.open(folder / f"{folder.name}_{polarisation}.tif") as file:
            images.append(file.read(1))
    return np.stack(images), file.transform, file.crs.to_epsg()


def _shards(store: Path) -> set[tuple[str, str]]:
    """Group and place of each file with pixels of Sentinel-1."""
    files = (path.relative_to(store).parts for path in store.glob("*/s1/db/c/*/*/*"))
    return {(parts[0], "/".join(parts[4:])) for parts in files}


# Published files


def test_pairs_of_version_1(data_dir: Path, tmp_path: Path) -> None:
    """Each file of Sentinel-1 says itself whose partner it is."""
    trees = data_dir / "bigearthnet-v1"
    roots = ("--s2", trees / "BigEarthNet-S2-Example", "--s1", trees / "BigEarthNet-S1-Example")
    result = _run(*roots, "--pairs", data_dir / "bigearthnet", tmp_path / "c.zarr")
    assert result.exit_code == 0, result.output
    assert "Note" not in result.output
    whole = xr.open_datatree(tmp_path / "c.zarr", engine="zarr")
    shards = set()
    for folder in (trees / "BigEarthNet-S1-Example").iterdir():
        described = json.loads((folder / f"{folder.name}_labels_metadata.json").read_text())
        scene, x, y = described["corresponding_s2_patch"].rsplit("_", 2)
        expected, place, epsg = _rasters(folder)
        origin = place.c - int(x) * 1200, place.f + int(y) * 1200
        group = f"{scene}_{epsg}_{origin[0]:.0f}_{origin[1]:.0f}"
        shards |= {(group, f"{band}/{int(y) // 13}/{int(x) // 13}") for band in range(2)}
        plain = xr.open_zarr(tmp_path / "c.zarr", group=f"{group}/s1")
        for node in (whole[group]["s1"].to_dataset(), plain):
            assert set(node.data_vars) == {"db"}
            assert node["db"].dims == ("polarisation", "y", "x")
            assert node["polarisation"].to_numpy().tolist() == ["VV", "VH"]
            assert node["db"].rio.crs.to_epsg() == epsg
            assert node["db"].rio.transform() == rasterio.Affine(10, 0, origin[0], 0, -10, origin[1])
            here = node["db"].sel(x=slice(place.c, place.c + 1200), y=slice(place.f, place.f - 1200)).to_numpy()
            assert here.dtype == np.float32
            assert here.tobytes() == expected.tobytes()
        assert set(whole[group]) == {"r10m", "r20m", "r60m", "s1"}
        bands = whole[group]["r10m"]["dn"].sel(x=slice(place.c, place.c + 1200), y=slice(place.f, place.f - 1200))
        assert bands.to_numpy().all()
    assert _shards(tmp_path / "c.zarr") == shards


def test_published_files_of_different_places(data_dir: Path, tmp_path: Path) -> None:
    trees = data_dir / "bigearthnet"
    roots = ("--s2", trees / "BigEarthNet-S2", "--maps", trees / "Reference_Maps", "--s1", trees / "BigEarthNet-S1")
    result = _run(*roots, "--pairs", trees / METADATA[0], "--pairs", trees / METADATA[1], tmp_path / "c.zarr")
    assert result.exit_code == 0, result.output
    partner, lonely = f"{SCENE}_33UUP_70_48", f"{TILE}_75_43"
    why = "left out, as their partners are not in the trees"
    assert f"Note: 1 of 1 Sentinel-1 patches are {why}; such as {partner}.\n" in result.output
    assert f"Note: 2 of 2 patches have no Sentinel-1 partner, and are NaN there; such as {lonely}.\n" in result.output
    assert result.output.count("Note") == 2
    assert set(zarr.open_group(tmp_path / "c.zarr")[TILE]) == {"r10m", "r20m", "r60m", "reference_map", "s1"}
    assert _shards(tmp_path / "c.zarr") == set()


@pytest.fixture(scope="module")
def sample(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees of 24 published pairs, with the pixels of an LMDB, at invented places."""
    root = tmp_path_factory.mktemp("sample")
    place = str(data_dir / "bigearthnet" / "configilm_24_patches" / "BigEarthNet-V2-LMDB")
    with lmdb.open(place, readonly=True, lock=False) as environment, environment.begin() as transaction:
        for key, value in transaction.cursor():
            kind, tree = (S1, "s1") if key.startswith(b"S1") else (S2, "s2")
            write_images(root / tree, kind, key.decode(), load(value), origin=(ULX, ULY), epsg=EPSG)
    return root


@pytest.fixture(scope="module")
def published(data_dir: Path) -> pd.DataFrame:
    folder = data_dir / "bigearthnet" / "configilm_24_patches"
    return pd.concat([pd.read_parquet(folder / name) for name in METADATA], ignore_index=True)


def test_pairs_of_version_2_from_a_table_with_names_of_version_1(
    sample: Path, published: pd.DataFrame, tmp_path: Path
) -> None:
    """Without one of the pairs, and without a patch of another."""
    unnamed, alone = published.iloc[3], published.iloc[20]
    s2, s1 = _trees(sample)
    assert len(s2.patches) == len(s1.patches) == len(published) == 24
    s2 = replace(s2, patches=[patch for patch in s2.patches if patch.name != alone.patch_id])
    rows = published.drop(unnamed.name)
    plan = _plan([s2, s1], open_pairs([_table(tmp_path / "pairs.csv", rows[["s2v1_name", "s1_name"]])]))
    assert plan.left_out.unnamed == (unnamed.s1_name,)
    assert plan.left_out.alone == (alone.s1_name,)
    assert plan.left_out.unpaired == (unnamed.patch_id,)
    assert _write(plan, tmp_path / "c.zarr") == 2
    for row in published.itertuples():
        tile, x, y = row.patch_id[:-6], int(row.patch_id[-5:-3]), int(row.patch_id[-2:])
        db = zarr.open_array(tmp_path / "c.zarr" / tile / "s1" / "db", mode="r")
        found = db[:, y * 120 : (y + 1) * 120, x * 120 : (x + 1) * 120]
        if row.patch_id in {unnamed.patch_id, alone.patch_id}:
            assert np.isnan(found).all()
        else:
            assert found.tobytes() == _rasters(sample / "s1" / row.s1_name)[0].tobytes()


@pytest.mark.parametrize("column", ["patch_id", "s2v1_name"], ids=["trees of version 2", "trees of version 1"])
@pytest.mark.parametrize("known", ["metadata", "patch_id", "s2v1_name"])
def test_every_patch_of_the_busiest_day_finds_its_published_partner(
    data_dir: Path, tmp_path: Path, column: str, known: str
) -> None:
    """As if all of its files were there, each tile at a place of its own."""
    rows = pd.concat([pd.read_parquet(data_dir / "bigearthnet" / name) for name in METADATA], ignore_index=True)
    days = rows["patch_id"].str[:19]
    rows = rows[days == days.value_counts().index[0]].sample(4_000, random_state=1)
    places = {
        mgrs: Place(EPSG, 100_000 * number, 0) for number, mgrs in enumerate(rows["patch_id"].str[-11:-6].unique())
    }
    tiles = [Tile(mgrs, place, {}) for mgrs, place in places.items()]
    assert len(tiles) > 2
    of_mgrs = {tile.name: tile for tile in tiles}
    for row in rows.itertuples():
        _, mgrs, x, y = row.patch_id.rsplit("_", 3)
        of_mgrs[mgrs[1:]].patches[int(x), int(y)] = (PublishedPatch(S2, "", getattr(row, column)),)

    def find_places(patches: Sequence[PublishedPatch]) -> dict[PublishedPatch, Place]:
        parts = {patch: patch.name.split("_") for patch in patches}
        return {patch: places[mgrs].moved(int(x), int(y)) for patch, (*_, mgrs, x, y) in parts.items()}

    path = tmp_path / "pairs.csv"
    if known == "metadata":
        path = data_dir / "bigearthnet"
    else:
        rows[[known, "s1_name"]].to_csv(path, index=False)
    sentinel1 = [PublishedPatch(S1, "", name) for name in rows["s1_name"]]
    left_out = add_partners(tiles, sentinel1, open_pairs([path]), find_places)
    found = [[image.name for image in images] for tile in tiles for images in tile.patches.values()]
    assert dict(found) == dict(zip(rows[column], rows["s1_name"], strict=True))
    assert left_out == LeftOut()


# Invented files


@pytest.mark.parametrize("name", [f"{V1}_7_5", f"{TILE}_07_05", f"{TILE}_7_5"])
@pytest.mark.parametrize("named", [f"{V1}_7_5", f"{V1}_07_05", f"{TILE}_07_05", f"{TILE}_7_5"])
def test_names_of_both_versions_padded_or_not(tmp_path: Path, name: str, named: str) -> None:
    write_patch(tmp_path / "maps", MAPS, name)
    write_patch(tmp_path / "s1", S1, f"{SCENE}_33UUP_7_5")
    pairs = open_pairs([_table(tmp_path / "pairs.csv", [(named, f"{SCENE}_33UUP_7_5")])])
    assert _partners(_plan(_trees(tmp_path), pairs)) == {name: [f"{SCENE}_33UUP_7_5"]}


@pytest.mark.parametrize("names", [(f"{TILE}_07_05", f"{EAST}_07_05"), (f"{V1}_7_5", f"{V1[:-1]}2_7_5")])
@pytest.mark.parametrize("named", [(f"{TILE}_07_05", f"{EAST}_07_05"), (f"{V1}_7_5", f"{V1[:-1]}2_7_5")])
def test_tiles_of_one_day_are_told_apart(tmp_path: Path, names: tuple[str, str], named: tuple[str, str]) -> None:
    radar = f"{SCENE}_33UUP_7_5", f"{SCENE}_33UWP_7_5"
    for number, origin in enumerate([(ULX, ULY), EASTERN]):
        write_patch(tmp_path / "maps", MAPS, names[number], origin=origin)
        write_patch(tmp_path / "s1", S1, radar[number], origin=origin)
    pairs = open_pairs([_table(tmp_path / "pairs.csv", list(zip(named, radar, strict=True)))])
    expected = {name: [partner] for name, partner in zip(names, radar, strict=True)}
    trees = _trees(tmp_path)
    assert _partners(_plan(trees, pairs)) == expected
    # Neither takes the other's place.
    trees[0] = replace(trees[0], patches=[patch for patch in trees[0].patches if patch.name == names[1]])
    plan = _plan(trees, pairs)
    assert _partners(plan) == {names[1]: expected[names[1]]}
    assert plan.left_out == LeftOut(alone=radar[:1])


def test_dates_of_a_tile_may_share_a_partner(tmp_path: Path) -> None:
    names = [f"{TILE}_07_05", f"{TILE.replace('0613T', '0616T')}_07_05"]
    for name in names:
        write_patch(tmp_path / "maps", MAPS, name)
    write_patch(tmp_path / "s1", S1, f"{SCENE}_33UUP_7_5")
    pairs = open_pairs([_table(tmp_path / "pairs.csv", [(name, f"{SCENE}_33UUP_7_5") for name in names])])
    plan = _plan(_trees(tmp_path), pairs)
    assert _partners(plan) == {name: [f"{SCENE}_33UUP_7_5"] for name in names}
    assert plan.left_out == LeftOut()


def test_two_partners_of_one_patch(tmp_path: Path) -> None:
    radar = [f"{SCENE}_33UUP_7_5", f"{SCENE.replace('T165043', 'T165108')}_33UUP_7_5"]
    write_patch(tmp_path / "maps", MAPS, f"{TILE}_07_05")
    for name in radar:
        write_patch(tmp_path / "s1", S1, name)
    pairs = open_pairs([_table(tmp_path / f"{name}.csv", [(f"{V1}_7_5", name)]) for name in radar])
    expected = f"two Sentinel-1 patches for {TILE}_07_05, {radar[0]} and {radar[1]}; remove one"
    with pytest.raises(InputError, match=expected):
        _plan(_trees(tmp_path), pairs)


@pytest.mark.parametrize("named", [f"{V1}_7_5", f"{TILE}_07_05"])
@pytest.mark.parametrize(
    ("where", "there"),
    [({"origin": (ULX + 10, ULY)}, r"\(308410, 5394000\) of EPSG:32633"), ({"epsg": 32634}, "of EPSG:32634, not")],
)
def test_a_partner_that_lies_elsewhere(tmp_path: Path, named: str, where: Mapping[str, object], there: str) -> None:
    write_patch(tmp_path / "maps", MAPS, f"{TILE}_07_05")
    write_patch(tmp_path / "s1", S1, f"{SCENE}_33UUP_7_5", **where)
    pairs = open_pairs([_table(tmp_path / "pairs.csv", [(named, f"{SCENE}_33UUP_7_5")])])
    expected = f"^{SCENE}_33UUP_7_5 does not lie where its partner {TILE}_07_05 lies: .+ {there}"
    with pytest.raises(InputError, match=expected):
        _plan(_trees(tmp_path), pairs)


def test_sentinel_1_alone(tmp_path: Path) -> None:
    where = {f"{SCENE}_33UUP": (ULX, ULY), f"{SCENE}_33UWP": EASTERN, f"{SCENE[:-1]}4_33UUP": (ULX, ULY)}
    for scene, origin in where.items():
        write_patch(tmp_path / "s1" / scene, S1, f"{scene}_7_5", origin=origin)
    result = _run("--s1", tmp_path / "s1", tmp_path / "c.zarr")
    assert result.exit_code == 0, result.output
    store = zarr.open_group(tmp_path / "c.zarr", mode="r")
    assert set(store) == set(where)
    for scene, (ulx, uly) in where.items():
        assert set(store[scene]) == {"s1"}
        node = xr.open_zarr(tmp_path / "c.zarr", group=f"{scene}/s1")
        assert node["polarisation"].to_numpy().tolist() == list(POLARISATIONS)
        assert node["db"].rio.transform()[:6] == (10, 0, ulx, 0, -10, uly)
        found = node["db"][:, 600:720, 840:960].to_numpy()
        expected = np.stack([pixels_of(S1, f"{scene}_7_5", band) for band in POLARISATIONS])
        assert found.tobytes() == expected.tobytes()
    assert len(_shards(tmp_path / "c.zarr")) == 2 * len(where)


def test_a_damaged_file_of_sentinel_1_is_asked_for_again(tmp_path: Path) -> None:
    pairs = []
    for x in (0, 40, 80):
        write_patch(tmp_path / "maps", MAPS, f"{TILE}_{x:02d}_05")
        write_patch(tmp_path / "s1", S1, f"{SCENE}_33UUP_{x}_5")
        pairs.append((f"{V1}_{x}_5", f"{SCENE}_33UUP_{x}_5"))
    command = ["--maps", tmp_path / "maps", "--s1", tmp_path / "s1", "--pairs", _table(tmp_path / "pairs.csv", pairs)]
    path = next(tmp_path.rglob(f"{SCENE}_33UUP_40_5_VV.tif"))
    intact = path.read_bytes()
    path.write_bytes(intact[:-40])
    result = _run(*command, tmp_path / "c.zarr")
    assert result.exit_code == 1
    assert f"Error: {path} cannot be decoded" in result.stderr
    path.write_bytes(intact)
    plan = _plan(_trees(tmp_path), open_pairs([_table(tmp_path / "other.csv", pairs)]))
    with pytest.raises(OutputError, match="unfinished conversion of other inputs"):
        _write(plan, tmp_path / "c.zarr")
    # What is written already is not asked for again; what the pairs say now is.
    written = next(tmp_path.rglob(f"{SCENE}_33UUP_80_5_VV.tif"))
    written.write_bytes(written.read_bytes()[:-40])
    _table(tmp_path / "pairs.csv", pairs[1:])
    result = _run(*command, tmp_path / "c.zarr")
    assert result.exit_code == 0, result.output
    assert not Workspace(tmp_path / "c.zarr").building.exists()
    db = zarr.open_array(tmp_path / "c.zarr" / TILE / "s1" / "db", mode="r")
    for x in (40, 80):
        expected = np.stack([pixels_of(S1, f"{SCENE}_33UUP_{x}_5", band) for band in POLARISATIONS])
        assert db[:, 600:720, x * 120 : (x + 1) * 120].tobytes() == expected.tobytes()
    assert np.isnan(db[:, 600:720, :120]).all()


# Pairs


def test_metadata_without_partners(tmp_path: Path) -> None:
    """As a job writes it for a region of its own."""
    rows = {"patch_id": [f"{TILE}_07_05", f"{TILE}_07_06"], "s2v1_name": [None, None]}
    pd.DataFrame({**rows, "s1_name": [f"{SCENE}_33UUP_7_5", None]}).to_parquet(tmp_path / METADATA[0])
    for path in (tmp_path, tmp_path / METADATA[0]):
        assert open_pairs([path]).table.to_numpy().tolist() == [[f"{SCENE}_33UUP_7_5", f"{TILE}_07_05"]]


@pytest.mark.parametrize(
    "name", ["none", "none.csv", "none.parquet", "empty", "text.csv", "text.parquet", "few.parquet"]
)
def test_what_says_nothing_about_pairs(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    for kind in ("csv", "parquet"):
        (tmp_path / f"text.{kind}").write_text("s2v1_name,s1_name\nthesis,none\n")
    pd.DataFrame({"patch_id": [f"{TILE}_07_05"]}).to_parquet(tmp_path / "few.parquet")
    result = _run("--s2", "s2", "--s1", "s1", "--pairs", tmp_path / name, tmp_path / "c.zarr")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert str(tmp_path / name) in result.stderr
    assert "This should not happen" not in result.stderr


@pytest.mark.parametrize("rows", ["", f"{V1}_7_5,\n", f"{V1}_8_5,{SCENE}_33UUP_8_5\n"])
def test_pairs_of_other_patches(tmp_path: Path, rows: str) -> None:
    write_patch(tmp_path / "maps", MAPS, f"{TILE}_07_05")
    write_patch(tmp_path / "s1", S1, f"{SCENE}_33UUP_7_5")
    (tmp_path / "pairs.csv").write_text(f"s2v1_name,s1_name\n{rows}")
    plan = _plan(_trees(tmp_path), open_pairs([tmp_path / "pairs.csv"]))
    assert plan.left_out == LeftOut(unnamed=(f"{SCENE}_33UUP_7_5",), unpaired=(f"{TILE}_07_05",))


def test_without_pairs_nothing_is_planned(tmp_path: Path) -> None:
    write_patch(tmp_path / "maps", MAPS, f"{TILE}_07_05")
    write_patch(tmp_path / "s1", S1, f"{SCENE}_33UUP_7_5")
    with pytest.raises(InputError, match="Sentinel-1 patches cannot be matched with the others"):
        _plan(_trees(tmp_path))
