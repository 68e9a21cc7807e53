"""Patch names, against every name that was ever published."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.errors import InputError
from reben_dask.formats.names import V2, NameTemplate, ParsedName, PatchName, TileName, parse_patch_name, tile_names
from reben_dask.grid import PatchGrid, ShapeYX

FULL = PatchGrid(32633, 300_000, 5_400_000, ShapeYX(109_800, 109_800))
KINDS = ["patch_id", "s1_name", "s2v1_name"]
FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
V2_SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"

SCENES = st.one_of(
    st.from_regex(r"S2[A-D]_MSIL2A_[0-9]{8}T[0-9]{6}_N9999_R[0-9]{3}_T[0-9]{2}[A-Z]{3}", fullmatch=True),
    st.from_regex(r"S2[AB]_MSIL2A_[0-9]{8}T[0-9]{5,6}", fullmatch=True),
    st.from_regex(r"S1[A-D]_IW_GRDH_1SDV_[0-9]{8}T[0-9]{6}_[0-9]{2}[A-Z]{3}", fullmatch=True),
)


@pytest.fixture(scope="module")
def published(data_dir: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(data_dir / "bigearthnet" / name, columns=KINDS) for name in FILES])


@pytest.fixture(scope="module")
def indices(published: pd.DataFrame) -> list[tuple[int, int]]:
    """Column and row of every published patch, cut off its v2 name at fixed places."""
    last = published["patch_id"].str[-5:]
    return list(zip(last.str[:2].astype(int), last.str[3:].astype(int), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_published_name_comes_back(published: pd.DataFrame, indices: list[tuple[int, int]], kind: str) -> None:
    names = published[kind].tolist()
    parsed = [parse_patch_name(name) for name in names]
    assert len(parsed) == 549_488
    assert [str(name) for name in parsed] == names
    assert [(name.x, name.y) for name in parsed] == indices


@pytest.mark.slow
def test_published_ids_are_rebuilt_from_tile_and_indices(
    published: pd.DataFrame, indices: list[tuple[int, int]]
) -> None:
    tiles = published["patch_id"].str[:-6]
    assert tiles.nunique() == 115
    assert tiles.str[-5:].nunique() == 54
    x, y = (list(axis) for axis in zip(*indices, strict=True))
    wanted = published["patch_id"].to_numpy()
    for tile, rows in tiles.reset_index(drop=True).groupby(tiles.to_numpy()).groups.items():
        ids = V2.names(TileName(tile, ""), FULL)
        assert [ids[x[row] * FULL.shape_yx.y + y[row]] for row in rows] == wanted[rows].tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{V2_SCENE}_26_57", PatchName(V2_SCENE, 26, 57, 2)),
        (f"{V2_SCENE}_00_00", PatchName(V2_SCENE, 0, 0, 2)),
        (f"{V2_SCENE}_05_90", PatchName(V2_SCENE, 5, 90, 2)),
        (f"{V2_SCENE}_0_7", PatchName(V2_SCENE, 0, 7, 1)),
        (f"{V2_SCENE}_007_123", PatchName(V2_SCENE, 7, 123, 3)),
        ("S2B_MSIL2A_20170924T93020_69_24", PatchName("S2B_MSIL2A_20170924T93020", 69, 24, 2)),
        ("S2A_MSIL2A_20170617T113321_4_55", PatchName("S2A_MSIL2A_20170617T113321", 4, 55, 1)),
        (
            "S1A_IW_GRDH_1SDV_20170617T064724_29UPU_4_5",
            PatchName("S1A_IW_GRDH_1SDV_20170617T064724_29UPU", 4, 5, 1),
        ),
    ],
)
def test_the_parts_of_a_name(name: str, expected: PatchName) -> None:
    assert parse_patch_name(name) == expected
    assert str(expected) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "thesis",
        V2_SCENE,
        f"{V2_SCENE}_26",
        f"{V2_SCENE}_26_",
        f"{V2_SCENE}__57",
        f"{V2_SCENE}_26_57_",
        f"{V2_SCENE}_26-57",
        f"{V2_SCENE}_-1_57",
        f"{V2_SCENE}_26_5a",
        f"{V2_SCENE}_26_12345",
        f"{V2_SCENE}_26_57.tif",
        f" {V2_SCENE}_26_57",
        f"{V2_SCENE}_26_57\n",
        f"{V2_SCENE}/../x_26_57",
        f"{V2_SCENE.lower()}_26_57",
        "S3A_MSIL2A_20170613T101031_26_57",
        "S2_26_57",
        "_26_57",
    ],
)
def test_what_is_no_patch_name(name: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_patch_name(name)
    message = str(caught.value)
    assert message.startswith(f"{name!r} is not a patch name; expected a Sentinel scene name followed by _X_Y")
    assert f"{V2_SCENE}_26_57." in message
    assert "\n" not in message


@pytest.mark.parametrize("indices", ["05_123", "5_05", "005_05", "00_0", "0_00", "0123_45"])
def test_indices_are_padded_alike(indices: str) -> None:
    with pytest.raises(InputError, match="are padded differently"):
        parse_patch_name(f"{V2_SCENE}_{indices}")


@given(SCENES, st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 4))
def test_names_come_back(scene: str, x: int, y: int, padding: int) -> None:
    digits = max(padding, len(str(max(x, y)))) if padding else 1
    name = f"{scene}_{str(x).zfill(digits)}_{str(y).zfill(digits)}"
    parsed = parse_patch_name(name)
    assert str(parsed) == name
    assert (parsed.scene, parsed.x, parsed.y) == (scene, x, y)


@given(st.text(max_size=60) | st.from_regex(r"S2A_[0-9A-Z_]{0,9}_\d{1,5}_\d{1,5}"))
def test_anything_else_is_refused_or_comes_back(text: str) -> None:
    try:
        parsed = parse_patch_name(text)
    except InputError as error:
        assert repr(text) in str(error)  # noqa: PT017
    else:
        assert str(parsed) == text


def _grid(columns: int, rows: int, offset_m: int = 0) -> PatchGrid:
    return PatchGrid(32632, 399_960, 6_000_000, ShapeYX(1200 * rows + 600, 1200 * columns + 600), offset_m=offset_m)


TILE = TileName("S2A_MSIL2A_20180418T104021_N0206_R008_T32UME", "S2A_MSIL2A_20180418T104021")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{tile}_{xx}_{yy}", "S2A_MSIL2A_20180418T104021_N0206_R008_T32UME_01_19"),
        ("{tile}_{x}_{y}", "S2A_MSIL2A_20180418T104021_N0206_R008_T32UME_1_19"),
        ("{product}_{x}_{y}", "S2A_MSIL2A_20180418T104021_1_19"),
        ("{mgrs}_{time}_g{grid}_{xx}_{yy}", "32UME_20180418T104021_g2_01_19"),
        ("{mgrs}_{time}_{lat}_{lon}", "32UME_20180418T104021_53_928425_7_503876"),
    ],
)
def test_templates_of_names(template: str, expected: str) -> None:
    """The last is the name that SeasoNet's documentation shows."""
    grid = _grid(20, 20, offset_m=600)
    names = NameTemplate(template)
    assert names.names(TILE, grid, 2)[1 * grid.shape_yx.y + 19] == expected
    assert expected.startswith(names.prefix(TILE))
    mgrs = "32UME" if "{product}" not in template else None
    assert names.parse(expected) == ParsedName(mgrs, None if "{lat}" in template else (1, 19))


def test_tiles_of_one_product_are_told_apart() -> None:
    tiles = [f"S2A_MSIL2A_20170613T101031_N9999_R022_T{mgrs}" for mgrs in ("33UUP", "33UVP")]
    alone = "S2B_MSIL2A_20170613T101031_N9999_R022_T33UUP"
    names = tile_names([*tiles, alone])
    assert [names[tile].product for tile in (*tiles, alone)] == [
        "S2A_MSIL2A_20170613T101031_T33UUP",
        "S2A_MSIL2A_20170613T101031_T33UVP",
        "S2B_MSIL2A_20170613T101031",
    ]


TILES = ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", "S2A_MSIL2A_20170613T101031_N9999_R022_T33UVP")
TEMPLATES = (
    "{tile}_{xx}_{yy}",
    "{product}_{x}_{y}",
    "{mgrs}_{time}_{lat}_{lon}",
    "{time}_{mgrs}_{grid}_{y}_{x}",
    "{tile}.{grid}.{x}.{y}_{mgrs}_{xx}",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_names_are_parsed_as_they_are_formatted(template: str) -> None:
    pattern, names = NameTemplate(template), tile_names(TILES)
    grid = PatchGrid(32633, 490_680, 5_400_000, ShapeYX(14_400, 15_600), offset_m=600)
    made = {tile: pattern.names(names[tile], grid, 2) for tile in TILES}
    places = list(zip(*(indices.tolist() for indices in grid.indices_xy()), strict=True))
    for tile, ids in made.items():
        parsed = [pattern.parse(name) for name in ids]
        assert [name.xy for name in parsed if name] == ([None] * grid.size if "{lat}" in template else places)
        assert {name.mgrs for name in parsed if name} <= {names[tile].mgrs, None}
        prefix = pattern.prefix(names[tile])
        assert [name for others in made.values() for name in others if name.startswith(prefix)] == ids


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", [None, "", "mine", "S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57", TILES[0]])
def test_other_names_are_not_parsed(template: str, name: str | None) -> None:
    assert NameTemplate(template).parse(name) is None


@pytest.mark.parametrize("indices", ["05_123", "5_05", "26_5"])
def test_padded_names_have_indices_of_one_width(indices: str) -> None:
    assert V2.parse(f"{V2_SCENE}_{indices}") is None
