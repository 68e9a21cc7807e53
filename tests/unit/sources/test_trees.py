"""Finding published patches: all of them, in order, and an error for whatever is not as it was published."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.errors import InputError
from reben_dask.formats.bands import ImageKind
from reben_dask.sources.published import trees
from reben_dask.sources.published.trees import IMAGES, PublishedPatch, find_patches, walk_patch_folders

S2, S1, MAPS = ImageKind.S2, ImageKind.S1, ImageKind.MAP

TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
SCENE = "S1A_IW_GRDH_1SDV_20170613T165043"
V1 = "S2A_MSIL2A_20170613T101031"


def _patch(parent: Path, name: str, kind: ImageKind = MAPS, *, without: tuple[str, ...] = ()) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    for band in IMAGES[kind]:
        if band not in without:
            (folder / f"{name}_{band}.tif").touch()
    return folder


def _names(root: Path, kind: ImageKind = MAPS) -> list[str]:
    return [patch.name for patch in find_patches(root, kind).patches]


@pytest.mark.parametrize(
    ("folder", "kind", "names"),
    [
        ("bigearthnet/BigEarthNet-S2", S2, [f"{TILE}_75_43"]),
        ("bigearthnet/BigEarthNet-S1", S1, [f"{SCENE}_33UUP_70_48"]),
        ("bigearthnet/Reference_Maps", MAPS, [f"{TILE}_26_57"]),
        (f"bigearthnet/BigEarthNet-S2/{TILE}", S2, [f"{TILE}_75_43"]),
        ("bigearthnet", MAPS, None),
        ("bigearthnet-v1", S2, 6),
        ("bigearthnet-v1/BigEarthNet-S1-Example", S1, 6),
    ],
)
def test_published_trees(data_dir: Path, folder: str, kind: ImageKind, names: list[str] | int | None) -> None:
    if names is None:
        # One above the maps, where Sentinel-2 patches have no reference map in their folders.
        with pytest.raises(
            InputError, match=f"1 of 2 patches of reference maps in .+ are incomplete: {TILE}_75_43 lacks"
        ):
            find_patches(data_dir / folder, kind)
        return
    tree = find_patches(data_dir / folder, kind)
    found = [patch.name for patch in tree.patches]
    assert found == names if isinstance(names, list) else len(found) == names
    for patch in tree.patches:
        assert patch.kind is kind
        assert all(Path(patch.path(image)).is_file() for image in IMAGES[kind])


@given(
    cells=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), unique=True, min_size=1, max_size=30),
    depth=st.integers(0, 3),
    shuffle=st.randoms(use_true_random=False),
)
def test_patches_at_any_depth_come_in_the_order_of_their_names(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[int, int]], depth: int, shuffle: random.Random
) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = [f"{V1}_{x}_{y}" for x, y in cells]
    for name in names:
        _patch(root.joinpath(*(shuffle.choice(["a", "b"]) for _ in range(depth))), name)
    assert _names(root) == sorted(names)


def test_more_patches_than_are_looked_at_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "FOLDERS_AT_ONCE", 2)
    names = [f"{TILE}_{x:02d}_{y:02d}" for x in range(4) for y in range(5)]
    for name in names:
        _patch(tmp_path / TILE, name)
    assert _names(tmp_path) == names


def test_what_is_no_patch_is_passed_over(tmp_path: Path) -> None:
    folder = _patch(tmp_path / TILE, f"{TILE}_01_02")
    _patch(tmp_path / ".trash", f"{TILE}_01_03")
    _patch(tmp_path / SCENE, f"{SCENE}_33UUP_1_2", S1)
    (tmp_path / "README.md").touch()
    (tmp_path / TILE / f"{TILE}_09_09").touch()
    (folder / f"{TILE}_01_02_labels_metadata.json").touch()
    (folder / "preview").mkdir()
    assert _names(tmp_path) == [f"{TILE}_01_02"]
    assert _names(tmp_path, S1) == [f"{SCENE}_33UUP_1_2"]


def test_patches_that_miss_bands_are_named(tmp_path: Path) -> None:
    _patch(tmp_path, f"{V1}_1_1", S2)
    _patch(tmp_path, f"{V1}_1_2", S2, without=("B8A", "B02"))
    _patch(tmp_path, f"{V1}_1_3", S2, without=tuple(IMAGES[S2]))
    with pytest.raises(InputError) as error:
        find_patches(tmp_path, S2)
    assert str(error.value) == (
        f"2 of 3 patches of Sentinel-2 in {tmp_path} are incomplete: {V1}_1_2 lacks B02, B8A; "
        f"{V1}_1_3 lacks all files. Download them again, or remove their folders."
    )
    for y in range(4, 9):
        _patch(tmp_path, f"{V1}_1_{y}", S2, without=("B01",))
    with pytest.raises(InputError, match=r"^7 of 8 .+_1_4 lacks B01 and 4 more\. "):
        find_patches(tmp_path, S2)


def test_a_folder_is_no_band(tmp_path: Path) -> None:
    folder = _patch(tmp_path, f"{V1}_1_1", without=("reference_map",))
    (folder / f"{V1}_1_1_reference_map.tif").mkdir()
    with pytest.raises(InputError, match=f"{V1}_1_1 lacks reference_map"):
        find_patches(tmp_path, MAPS)


def test_a_band_is_named_after_its_own_folder(tmp_path: Path) -> None:
    folder = _patch(tmp_path, f"{V1}_1_1")
    folder.rename(tmp_path / f"{V1}_1_2")
    with pytest.raises(InputError, match=f"{V1}_1_2 lacks reference_map"):
        find_patches(tmp_path, MAPS)


def test_a_patch_in_two_places(tmp_path: Path) -> None:
    for place in ("a", "b"):
        _patch(tmp_path / place, f"{V1}_1_1")
    with pytest.raises(InputError, match=f"The patch {V1}_1_1 is in .+ twice, in 'a' and 'b'"):
        find_patches(tmp_path, MAPS)


@pytest.mark.parametrize("where", ["missing", "file", "empty", "other"])
def test_where_there_is_nothing(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    _patch(tmp_path / "other", f"{V1}_1_1", S2)
    nothing = "No patches of Sentinel-1 found in .+ such as S1A"
    expected = {"missing": "tree of Sentinel-1 .+ does not exist", "file": "tree of Sentinel-1 .+ is not a folder"}
    with pytest.raises(InputError, match=expected.get(where, nothing)):
        find_patches(tmp_path / where, S1)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scandir = _patch(tmp_path / "a", f"{V1}_1_1"), os.scandir

    def refuse(path: str) -> object:
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=f"{V1}_1_1 cannot be read"):
        find_patches(tmp_path, MAPS)


# Links


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    _patch(tmp_path / "real" / TILE, f"{TILE}_01_02")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    tree = find_patches(tmp_path / "link", MAPS)
    assert tree.root == str(tmp_path / "link")
    assert tree.patches == [PublishedPatch(MAPS, str(tmp_path / "link" / TILE), f"{TILE}_01_02")]


def test_links_in_a_circle(tmp_path: Path) -> None:
    folder = _patch(tmp_path / TILE, f"{TILE}_01_02")
    (tmp_path / TILE / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "again").symlink_to(tmp_path / TILE)
    (folder / "round").symlink_to(folder)
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    assert _names(tmp_path) == [f"{TILE}_01_02"]


@pytest.mark.parametrize("level", ["tile", "patch", "file"])
def test_a_link_that_leads_out_of_the_tree(tmp_path: Path, level: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    folder = _patch(outside / TILE, f"{TILE}_01_02")
    (root / TILE).mkdir(parents=True)
    if level == "tile":
        (root / TILE).rmdir()
        (root / TILE).symlink_to(outside / TILE)
    elif level == "patch":
        (root / TILE / folder.name).symlink_to(folder)
    else:
        (root / TILE / folder.name).mkdir()
        name = f"{folder.name}_reference_map.tif"
        (root / TILE / folder.name / name).symlink_to(folder / name)
    with pytest.raises(InputError, match=f"is a link that leads out of {root}, to {outside}"):
        find_patches(root, MAPS)


def test_files_may_be_links_within_the_tree(tmp_path: Path) -> None:
    folder = _patch(tmp_path / TILE, f"{TILE}_01_02", without=("reference_map",))
    (tmp_path / "annex").mkdir()
    (tmp_path / "annex" / "content").touch()
    (folder / f"{TILE}_01_02_reference_map.tif").symlink_to(tmp_path / "annex" / "content")
    assert _names(tmp_path) == [f"{TILE}_01_02"]


# The walk


def test_patch_folders_of_any_name_with_their_files(tmp_path: Path) -> None:
    for name, files in {"grid1/b_1": ["b.tif", "b.json"], "grid1/a_1": [], "c_1": [".hidden", "c.tif"]}.items():
        (tmp_path / name).mkdir(parents=True)
        for file in files:
            (tmp_path / name / file).touch()
    (tmp_path / "c_1" / "below").mkdir()
    found = [
        (folder.path, folder.is_patch, folder.folders, sorted(folder.files))
        for folder in walk_patch_folders(tmp_path, lambda name, _: name.endswith("_1"))
    ]
    grid = str(tmp_path / "grid1")
    assert [(path, is_patch, files) for path, is_patch, _, files in found] == [
        (str(tmp_path), False, []),
        (f"{tmp_path}/c_1", True, ["c.tif"]),
        (grid, False, []),
        (f"{grid}/a_1", True, []),
        (f"{grid}/b_1", True, ["b.json", "b.tif"]),
    ]
    assert [sorted(folders) for _, _, folders, _ in found] == [["c_1", "grid1"], ["below"], ["a_1", "b_1"], [], []]
