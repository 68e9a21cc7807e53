"""Published files: tables of pairs, metadata and lists of names, against all that was ever published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio

from reben_dask.errors import InputError
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.published import SNOW, Published, published_columns, require_published
from reben_dask.job.sentinel1 import Sentinel1Inputs, open_partners
from reben_dask.sources.published.lists import read_names
from reben_dask.sources.published.metadata import metadata_files, read_metadata, require_metadata
from reben_dask.sources.published.pairs import pairs_of_tile, read_pairs, require_pairs, split_s2_names

FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
PATCHES, TILES = 549_488, 115
TILE, MGRS = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", "33UUP"
FULL = PatchGrid(32633, 300_000, 5_400_000, ShapeYX(109_800, 109_800))
S1 = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP"
V1 = "S2A_MSIL2A_20170613T101031"


@pytest.fixture(scope="module")
def published(data_dir: Path) -> pd.DataFrame:
    """All published rows, with tile, MGRS tile, column and row cut off the name at fixed places."""
    table = pd.concat([pd.read_parquet(data_dir / "bigearthnet" / name) for name in FILES], ignore_index=True)
    ids = table["patch_id"].str
    x, y = ids[-5:-3].astype(int), ids[-2:].astype(int)
    return table.assign(tile=ids[:-6], mgrs=ids[-11:-6], x=x, y=y)


@pytest.fixture(scope="module")
def all_pairs(published: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All published pairs in one table."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    published[["s2v1_name", "s1_name"]].to_csv(path, index=False)
    return path


def _write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _refused(function: Callable[[], object], path: Path, *words: str) -> None:
    """Call what must be refused in one sentence that names the file."""
    with pytest.raises(InputError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in (str(path), *words):
        assert word in message


# Pairs


@pytest.mark.slow
def test_satellite_day_tile_and_indices_tell_all_published_pairs_apart(published: pd.DataFrame) -> None:
    """The key of the name of version 2 alone, and the key of the two names in a table of pairs, are the same."""
    v1, s1 = published["s2v1_name"].str, published["s1_name"].str.rsplit("_", n=3, expand=True)
    ids = published["patch_id"].str
    wanted = pd.DataFrame({0: ids[:3], 1: ids[11:19], 2: published["mgrs"], 3: published["x"], 4: published["y"]})
    key = pd.DataFrame({0: v1[:3], 1: v1[11:19], 2: s1[1], 3: s1[2].astype(int), 4: s1[3].astype(int)})
    assert len(key) == PATCHES
    assert not wanted.duplicated().any()
    assert (key == wanted).all().all()


@pytest.mark.slow
def test_names_are_taken_apart(published: pd.DataFrame) -> None:
    for column, mgrs in (("patch_id", published["mgrs"]), ("s2v1_name", "")):
        parts = split_s2_names(published[column])
        assert (parts["scene"] == published[column].str.rsplit("_", n=2).str[0]).all()
        assert (parts["satellite"] + parts["date"] == published[column].str[:3] + published[column].str[11:19]).all()
        assert (parts["mgrs"] == mgrs).all()
        assert (parts[["x", "y"]].astype(int) == published[["x", "y"]]).all(axis=None)
    assert (
        split_s2_names(pd.Series([f"{S1}_7_5", "", None, f"{V1}_7", f"{V1}_7_5.tif"], dtype="str"))
        .isna()
        .all(axis=None)
    )


@pytest.mark.slow
def test_a_whole_table(published: pd.DataFrame, all_pairs: Path) -> None:
    pairs = read_pairs(all_pairs)
    assert pairs.columns.tolist() == ["s1_name", "s2_name"]
    assert (pairs.to_numpy() == published[["s1_name", "s2v1_name"]].to_numpy()).all()


@pytest.mark.slow
def test_every_tile_gets_its_published_pairs_back(published: pd.DataFrame, tmp_path: Path) -> None:
    tiles = 0
    for mgrs, of_square in published.groupby("mgrs"):
        path = tmp_path / f"{mgrs}.csv"
        of_square[["s2v1_name", "s1_name"]].sample(frac=1, random_state=1).to_csv(path, index=False)
        assert require_pairs(path) == len(of_square)
        for tile, rows in of_square.groupby("tile"):
            tiles += 1
            pairs = pairs_of_tile(path, str(tile), str(mgrs))
            assert len(pairs) == len(rows)
            found = pairs.loc[pd.MultiIndex.from_frame(rows[["x", "y"]])]
            for name in ("s1_name", "s2v1_name"):
                assert (found[name].to_numpy() == rows[name].to_numpy()).all(), tile
    assert tiles == TILES


@pytest.mark.slow
def test_the_table_of_all_pairs(published: pd.DataFrame, all_pairs: Path) -> None:
    assert require_pairs(all_pairs) == PATCHES
    crowded = published.groupby("mgrs")["tile"].nunique().idxmax()
    for (tile, mgrs), rows in published[published["mgrs"] == crowded].groupby(["tile", "mgrs"]):
        found = published_columns(Published(pairs=all_pairs), tile, mgrs, FULL)
        wanted = rows.set_index(rows["x"] * 91 + rows["y"])[["s1_name", "s2v1_name"]].reindex(range(91 * 91))
        pd.testing.assert_frame_equal(found, wanted, check_dtype=False)
    assert len(pairs_of_tile(all_pairs, TILE.replace("0613T", "0614T"), MGRS)) == 0
    assert len(pairs_of_tile(all_pairs, TILE.replace("S2A", "S2B"), MGRS)) == 0


@pytest.mark.parametrize("column", ["s2v1_name", "s2_name", "patch_id"])
@pytest.mark.parametrize("name", [f"{V1}_7_5", f"{V1}_07_05", f"{TILE}_07_05", f"{TILE}_7_5", f"{TILE}_007_005"])
def test_names_of_both_versions_padded_or_not(tmp_path: Path, column: str, name: str) -> None:
    path = _write(tmp_path / "pairs.csv", f"note,s1_name,{column}\r\nx,{S1}_7_5,{name}\r\n")
    assert require_pairs(path) == 1
    pairs = pairs_of_tile(path, TILE, MGRS)
    assert pairs.index.tolist() == [(7, 5)]
    assert pairs["s1_name"].tolist() == [f"{S1}_7_5"]
    assert [None if pd.isna(v1) else v1 for v1 in pairs["s2v1_name"]] == [None if TILE in name else name]


def test_published_defects_of_names(tmp_path: Path) -> None:
    """Hours without their zero, seconds beyond 59."""
    rows = [f"S2B_MSIL2A_20180204T94160_52_23,{S1}_52_23", f"S2B_MSIL2A_20180204T94160_1_2,{S1}_1_2"]
    path = _write(tmp_path / "pairs.csv", "\n".join(["s2v1_name,s1_name", *rows]))
    assert require_pairs(path) == 2
    tile = "S2B_MSIL2A_20180204T094159_N9999_R036_T33UUP"
    assert sorted(pairs_of_tile(path, tile, MGRS).index) == [(1, 2), (52, 23)]


def test_names_of_version_2_say_which_tile_is_meant(tmp_path: Path) -> None:
    """The same acquisition in two processing baselines."""
    other = TILE.replace("N9999", "N0500")
    path = _write(tmp_path / "pairs.csv", f"s2_name,s1_name\n{TILE}_07_05,{S1}_7_5\n{other}_07_05,{S1}_7_5\n")
    for tile in (TILE, other):
        assert pairs_of_tile(path, tile, MGRS).index.tolist() == [(7, 5)]


@pytest.mark.parametrize(
    "text", ["s2v1_name,s1_name\n", f"\ufeffs2v1_name,s1_name\n{V1}_7_5,{S1.replace('33', '34')}_7_5"]
)
def test_a_tile_without_pairs(tmp_path: Path, text: str) -> None:
    path = _write(tmp_path / "pairs.csv", text)
    assert require_pairs(path) == text.count("S2A")
    assert pairs_of_tile(path, TILE, MGRS).empty
    columns = published_columns(Published(pairs=path), TILE, MGRS, FULL)
    assert columns["s1_name"].isna().all()
    assert len(columns) == 8281


def test_a_patch_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    rows = [f"{V1}_7_5,{S1}_7_5", f"{V1}_7_6,{S1}_7_6", f"{V1}_07_05,{S1.replace('165043', '165108')}_7_5"]
    path = _write(tmp_path / "pairs.csv", "\n".join(["s2v1_name,s1_name", *rows]))
    _refused(lambda: pairs_of_tile(path, TILE, MGRS), path, "7, 5", TILE, "more than once")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", ()),
        (b"s2v1_name;s1_name\n", ("s2v1_name;s1_name",)),
        (b"s2,s1_name\n", ("s2, s1_name", "patch_id")),
        (b"s2v1_name,s1\n", ("s1_name",)),
        (f"s2v1_name,s1_name\n{V1}_7_5,{S1}_7_5,more\n".encode(), ()),
        (f"s2v1_name,s1_name\n{V1}_7_5,{S1}_7_5\n,{S1}_7_6\n".encode(), ("''",)),
        (f"s2v1_name,s1_name\n{V1},{S1}_7_5\n".encode(), (V1, "is not a Sentinel")),
        (f"s2v1_name,s1_name\n{V1}_7_5.tif,{S1}_7_5\n".encode(), (f"{V1}_7_5.tif", "is not a Sentinel")),
        (f"s2v1_name,s1_name\n{S1}_7_5,{V1}_7_5\n".encode(), (S1, "is not a Sentinel")),
        (f"s2v1_name,s1_name\n{V1}_7_5,thesis\n".encode(), ("thesis", "is not a Sentinel")),
        (f"s2v1_name,s1_name\n{V1}_7_5,{S1.removesuffix('_33UUP')}\n".encode(), ("165043", "is not a Sentinel")),
        ("s2v1_name,s1_name\nSüd,Tirol\n".encode("latin-1"), ()),
        ("s2v1_name,s1_name,Höhe\n".encode("latin-1"), ()),
        (bytes(range(256)), ()),
    ],
)
def test_what_is_no_table_of_pairs(tmp_path: Path, text: bytes, words: tuple[str, ...]) -> None:
    path = _write(tmp_path / "pairs.csv", text)
    _refused(lambda: require_pairs(path), path, *words)


def test_a_table_of_pairs_that_is_not_there(tmp_path: Path) -> None:
    _refused(lambda: require_pairs(tmp_path / "none.csv"), tmp_path / "none.csv")
    _refused(lambda: require_pairs(tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("route", ["pairs", "metadata"])
def test_a_real_partner_is_put_in_its_place(
    published: pd.DataFrame, all_pairs: Path, data_dir: Path, route: str
) -> None:
    """Of all partners of a real tile that are named, one is there."""
    name = f"{S1}_70_48"
    (tile,) = published.loc[published["s1_name"] == name, "tile"]
    files = {"pairs": {"pairs": all_pairs}, "metadata": {"metadata": tuple(metadata_files(data_dir / "bigearthnet"))}}
    partners = open_partners(Sentinel1Inputs(patches=str(data_dir / "bigearthnet")), Published(**files[route]), 6)
    assert partners is not None
    ((db, names, _),) = partners.strips(SimpleNamespace(name=tile, mgrs=MGRS), FULL, [range(48, 49)])
    assert names.shape == (1, 91)
    assert [(x, found) for x, found in enumerate(names[0]) if found is not None] == [(70, name)]
    expected = np.full((2, 120, 10_920), np.nan, np.float32)
    for band, polarisation in zip(expected, ("VV", "VH"), strict=True):
        with rasterio.open(next((data_dir / "bigearthnet").rglob(f"{name}_{polarisation}.tif"))) as image:
            band[:, 70 * 120 : 71 * 120] = image.read(1)
    np.testing.assert_array_equal(db, expected)


# Metadata


@pytest.mark.slow
def test_metadata_by_tile_is_what_another_program_reads(data_dir: Path, published: pd.DataFrame) -> None:
    files = metadata_files(data_dir / "bigearthnet")
    assert [file.name for file in files] == list(FILES)
    assert require_metadata(files) == PATCHES
    paths, names = [str(file) for file in files], pq.read_schema(files[0]).names
    for tile in sorted(published["tile"].unique())[::16]:
        query = f"SELECT {', '.join(names)} FROM read_parquet({paths}) WHERE starts_with(patch_id, '{tile}_')"  # noqa: S608
        wanted = duckdb.sql(f"{query} ORDER BY patch_id").df()
        found = read_metadata(files, tile=tile).sort_values("patch_id", ignore_index=True)
        assert found["labels"].map(list).tolist() == wanted["labels"].map(list).tolist()
        assert list(found) == names
        others = [name for name in names if name != "labels"]
        pd.testing.assert_frame_equal(found[others], wanted[others], check_dtype=False)


@pytest.mark.slow
def test_one_file_of_a_folder_is_enough(data_dir: Path, tmp_path: Path) -> None:
    main = data_dir / "bigearthnet" / FILES[0]
    assert metadata_files(main) == [main]
    assert metadata_files(data_dir / "bigearthnet", clear_only=True) == [main]
    (tmp_path / FILES[0]).symlink_to(main)
    assert metadata_files(tmp_path) == [tmp_path / FILES[0]]
    for path in (tmp_path / "none", tmp_path / "empty"):
        _refused(lambda path=path: metadata_files(path), path)
        path.with_name("empty").mkdir(exist_ok=True)


def test_a_tile_whose_name_another_begins_with(tmp_path: Path) -> None:
    """Ids are compared as text; a name that only begins alike is another tile's."""
    ids = [f"{TILE}_07_05", f"{TILE}X_07_05", f"{TILE}`_07_05", f"{TILE}", f"{TILE[:-1]}_07_05"]
    pd.DataFrame({"patch_id": ids}).to_parquet(tmp_path / "metadata.parquet")
    assert read_metadata([tmp_path / "metadata.parquet"], ["patch_id"], TILE)["patch_id"].tolist() == ids[:1]


def test_what_is_no_metadata(tmp_path: Path, data_dir: Path) -> None:
    text = _write(tmp_path / "metadata.parquet", "patch_id,labels\n")
    for function in (lambda: require_metadata([text]), lambda: read_metadata([text])):
        _refused(function, text, "cannot be read")
    whole = pd.read_parquet(data_dir / "bigearthnet" / "configilm_24_patches" / FILES[0])
    path = tmp_path / "part.parquet"
    whole.drop(columns=["labels", "s2v1_name"]).to_parquet(path)
    for function in (lambda: require_metadata([path]), lambda: read_metadata([path], tile=TILE)):
        _refused(function, path, "has no column labels, s2v1_name")


# Lists of names


@pytest.mark.slow
@pytest.mark.parametrize("form", ["{}\n", "{}\r\n", "{},clouds\n", '"{}"\n', "  {} \n\n"])
def test_a_list_is_text_or_csv(tmp_path: Path, published: pd.DataFrame, form: str) -> None:
    """Names as they were published, with their defects."""
    names = published["s2v1_name"].sample(500, random_state=2)
    assert names.str.contains(r"T\d{5}_").any()
    assert names.str.contains(r"[6-9]\d_\d+_\d+$").any()
    path = _write(tmp_path / "list.csv", "\ufeff" + "".join(form.format(name) for name in names))
    assert read_names(path) == frozenset(names)


def test_an_empty_list_names_nobody(tmp_path: Path) -> None:
    assert read_names(_write(tmp_path / "list.txt", "\n")) == frozenset()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{V1}_7_5\nthesis\n", ("'thesis'", "line 2")),
        (f"{V1}_7_5\n\n\n{S1}_7_5\n", (S1, "line 4")),
        (f"{V1}_7_5 {V1}_7_6\n", ("line 1",)),
        ("Südtirol".encode("latin-1"), ()),
    ],
)
def test_what_is_no_list(tmp_path: Path, text: str | bytes, words: tuple[str, ...]) -> None:
    path = _write(tmp_path / "list.txt", text)
    _refused(lambda: read_names(path), path, *words)
    _refused(lambda: read_names(tmp_path / "none"), tmp_path / "none")
    _refused(lambda: read_names(tmp_path), tmp_path)


def test_a_list_needs_something_that_says_which_patches_are_meant(tmp_path: Path) -> None:
    path = _write(tmp_path / "list.txt", f"{V1}_7_5\n")
    _refused(lambda: require_published(Published(snow_list=path)), path, "--published or --s1-pairs")


def test_a_list_needs_names_of_version_1(tmp_path: Path) -> None:
    """Beside pairs of version 2 it would match nothing, and every patch would count as clear."""
    path = _write(tmp_path / "list.txt", f"{V1}_7_5\n")
    pairs = _write(tmp_path / "pairs.csv", f"s2_name,s1_name\n{TILE}_07_05,{S1}_7_5\n")
    assert require_published(Published(pairs=pairs))
    _refused(lambda: require_published(Published(pairs=pairs, snow_list=path)), path)


@pytest.mark.slow
def test_flags_come_from_a_list_of_real_names(tmp_path: Path, data_dir: Path, published: pd.DataFrame) -> None:
    """Every patch with snow of every published tile, and another list than the metadata has."""
    snow = published[published[SNOW]]
    path = _write(tmp_path / "snow.csv", "\n".join(snow["s2v1_name"]))
    metadata = tuple(metadata_files(data_dir / "bigearthnet"))
    for tile in snow["tile"].unique()[::20]:
        rows = snow[snow["tile"] == tile]
        wanted = set(rows["x"] * 91 + rows["y"])
        for lists, expected in ({}, wanted), ({"snow_list": path}, wanted), ({"cloud_list": path}, wanted):
            columns = published_columns(Published(metadata, **lists), tile, tile[-5:], FULL)
            flag = "contains_cloud_or_shadow" if "cloud_list" in lists else SNOW
            assert set(columns.index[columns[flag]]) == expected
