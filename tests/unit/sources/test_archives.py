"""Archives of published trees: the same patches as in the folder, and names and sizes in them are not trusted."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import rasterio
from published_trees import EPSG, MAPS, S1, S2, TILE, ULX, ULY, pixels_of, write_patch, write_tree
from results import error_of

from reben_dask.formats.bands import ImageKind
from reben_dask.sources.published.archives import decode_patch, find_archived_patches, is_archive, read_archive
from reben_dask.sources.published.trees import IMAGES

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
COMPRESSED = {".tar": None, ".tar.zst": "zstd", ".tar.gz": "gzip"}
CELLS = [(1, 2), (12, 3)]
NAMES = [f"{TILE}_{x:02d}_{y:02d}" for x, y in CELLS]


def _write(path: Path, content: bytes) -> Path:
    suffix = "".join(path.suffixes[-2:]) if path.name.count(".") > 1 else path.suffix
    with pa.output_stream(str(path), compression=COMPRESSED[suffix]) as stream:
        stream.write(content)
    return path


def _tar(*members: tuple[str, bytes], archive_format: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=archive_format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def _members(root: Path, above: str = "") -> list[tuple[str, bytes]]:
    return [(above + str(path.relative_to(root)), path.read_bytes()) for path in sorted(root.rglob("*.tif"))]


@pytest.fixture
def maps(tmp_path: Path) -> list[tuple[str, bytes]]:
    """Members of an archive of two reference maps."""
    return _members(write_tree(tmp_path / "maps", MAPS, CELLS))


def _names(path: Path, kind: ImageKind = MAPS) -> list[str]:
    return [archived.patch.name for archived in read_archive(path, kind)]


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("made", FORMATS)
@pytest.mark.parametrize("above", ["BigEarthNet-S2/", "./BigEarthNet-S2/"])
def test_patches_of_every_kind_of_archive(tmp_path: Path, name: str, made: str, above: str) -> None:
    members = _members(write_tree(tmp_path / "tree", S2, CELLS), above)
    path = _write(tmp_path / f"S2{name}", _tar(*members, archive_format=FORMATS[made]))
    found = {archived.patch.name: decode_patch(archived) for archived in read_archive(path, S2)}
    assert sorted(found) == NAMES
    for patch, images in found.items():
        assert list(images) == list(IMAGES[S2])
        for band, pixels in images.items():
            assert (pixels == pixels_of(S2, patch, band)).all()


def test_places_are_those_of_the_files(tmp_path: Path) -> None:
    path = _write(tmp_path / "S2.tar", _tar(*_members(write_tree(tmp_path / "tree", S2, CELLS))))
    tree, places = find_archived_patches([path], S2)
    assert [patch.name for patch in tree.patches] == NAMES
    for (x, y), patch in zip(CELLS, tree.patches, strict=True):
        assert places[patch] == (EPSG, ULX + 1200 * x, ULY - 1200 * y)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a.tar", True), ("a.TAR.ZST", True), ("a.tgz", True), ("a.zip", False), ("tar", False), ("a.zst", False)],
)
def test_archives_are_known_by_name(name: str, *, is_one: bool) -> None:
    assert is_archive(Path("folder", name)) == is_one


def test_a_member_is_no_path(tmp_path: Path, maps: list[tuple[str, bytes]]) -> None:
    """Whatever folders a name goes through, nothing is written, and the patch is the last folder."""
    (_, content), (_, other) = maps
    first, second = (f"{name}/{name}_reference_map.tif" for name in NAMES)
    path = _write(tmp_path / "maps.tar", _tar((f"../../{first}", content), (f"/etc/{second}", other)))
    before = sorted(tmp_path.rglob("*"))
    # Hidden folders are skipped, as they are in a tree, and ".." is one of them.
    assert _names(path) == NAMES[1:]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        f"{NAMES[0]}_reference_map.tif",
        f"{NAMES[0]}/{NAMES[1]}_reference_map.tif",
        f"{NAMES[0]}/{NAMES[0]}_B02.tif",
        f"{NAMES[0]}/{NAMES[0]}_labels_metadata.json",
        f"__MACOSX/{NAMES[0]}/._{NAMES[0]}_reference_map.tif",
        f".Trash/{NAMES[0]}/{NAMES[0]}_reference_map.tif",
        f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_1_2/{NAMES[0]}_reference_map.tif",
        "S2/" + "x" * 300,
    ],
)
def test_other_members_are_skipped(tmp_path: Path, maps: list[tuple[str, bytes]], name: str) -> None:
    path = _write(tmp_path / "maps.tar", _tar((name, b"other"), *maps, (name, b"other")))
    assert _names(path) == NAMES


def test_an_archive_without_patches(tmp_path: Path, maps: list[tuple[str, bytes]]) -> None:
    path = _write(tmp_path / "maps.tar", _tar(*maps))
    assert error_of(lambda: _names(path, S1)).startswith(f"No patches of Sentinel-1 found in {path}; expected folders")


def test_an_archive_that_does_not_exist(tmp_path: Path, maps: list[tuple[str, bytes]]) -> None:
    path = _write(tmp_path / "maps.tar", _tar(*maps))
    near = tmp_path / "map.tar"
    assert error_of(lambda: _names(near)) == f"The archive {near} does not exist; did you mean {path}?"


def _announcing(size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda good: good[:700], "is cut short in"),
        (lambda good: good[: -(-len(good.rstrip(bytes(1))) // 512) * 512], "ends without the mark of its end"),
        (lambda good: good[:100] + b"9" + good[101:], "has a damaged header"),
        (lambda good: good + good, "continues after the mark of its end"),
        (lambda good: _announcing(2**40, tarfile.GNUTYPE_LONGNAME) + good, "is cut short in|a name of"),
        (lambda good: _announcing(100_000, tarfile.XHDTYPE) + bytes(100_352) + good, "a name of 100,000 bytes"),
        (lambda good: _announcing(512, tarfile.GNUTYPE_SPARSE) + bytes(512) + good, "holds the sparse file 'x'"),
    ],
)
def test_a_damaged_archive_is_named(
    tmp_path: Path, maps: list[tuple[str, bytes]], spoil: Callable[[bytes], bytes], message: str
) -> None:
    path = _write(tmp_path / "maps.tar", spoil(_tar(*maps)))
    found = error_of(lambda: _names(path))
    assert found.startswith(f"The archive {path} ")
    assert any(part in found for part in message.split("|"))
    assert found.endswith("download it again.")


@pytest.mark.parametrize("name", [".tar.zst", ".tar.gz"])
def test_a_compressed_archive_that_is_cut_short(tmp_path: Path, maps: list[tuple[str, bytes]], name: str) -> None:
    path = _write(tmp_path / f"maps{name}", _tar(*maps))
    path.write_bytes(path.read_bytes()[:-99])
    assert error_of(lambda: _names(path)).startswith(f"The archive {path} ")


def test_files_too_large_for_an_image_are_not_read(tmp_path: Path, maps: list[tuple[str, bytes]]) -> None:
    name = maps[0][0]
    path = _write(tmp_path / "maps.tar.zst", _tar((name, bytes(2**24)), maps[1]))
    first, second = read_archive(path, MAPS)
    assert first.files == {"reference_map": "has 16,777,216 bytes, which is not an image of a patch"}
    assert error_of(lambda: decode_patch(first)) == (
        f"{NAMES[0]}_reference_map.tif in {path} has 16,777,216 bytes, which is not an image of a patch; "
        "download the archive again."
    )
    assert decode_patch(second)["reference_map"].shape == (120, 120)


def test_images_that_are_missing_or_twice(tmp_path: Path, maps: list[tuple[str, bytes]]) -> None:
    bands = _members(write_tree(tmp_path / "s2", S2, CELLS[:1]))
    path = _write(tmp_path / "S2.tar", _tar(*bands[:5], *bands[6:]))
    expected = f"1 of 1 patches of Sentinel-2 in {path} are incomplete: {NAMES[0]} lacks B06"
    assert error_of(lambda: find_archived_patches([path], S2)).startswith(expected)
    (archived,) = read_archive(path, S2)
    assert error_of(lambda: decode_patch(archived)).startswith(f"{NAMES[0]} in {path} lacks B06")
    twice = _write(tmp_path / "maps.tar", _tar(*maps, maps[0]))
    assert f"The patch {NAMES[0]} in {twice} comes for the second time" in error_of(
        lambda: find_archived_patches([twice], MAPS)
    )


def test_an_image_of_another_size(tmp_path: Path) -> None:
    folder = write_patch(tmp_path / "maps", MAPS, NAMES[0])
    file = folder / f"{NAMES[0]}_reference_map.tif"
    with rasterio.open(file) as opened:
        profile, pixels = opened.profile, opened.read(1)
    with rasterio.open(file, "w", **{**profile, "height": 60}) as opened:
        opened.write(pixels[:60], 1)
    path = _write(tmp_path / "maps.tar", _tar(*_members(tmp_path / "maps")))
    (archived,) = read_archive(path, MAPS)
    expected = f"{NAMES[0]}_reference_map.tif in {path} has 60 x 120 pixels of type uint16, where patches of this kind"
    assert error_of(lambda: decode_patch(archived)).startswith(expected)


def test_progress_is_in_megabytes(tmp_path: Path, maps: list[tuple[str, bytes]]) -> None:
    path = _write(tmp_path / "maps.tar", _tar(*maps, ("other", bytes(3_000_000))))
    steps: list[int] = []
    assert len(list(read_archive(path, MAPS, steps.append))) == 2
    assert sum(steps) == path.stat().st_size // 10**6 == 3
