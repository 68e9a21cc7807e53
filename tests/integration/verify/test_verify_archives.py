"""Verification of archives: sound ones pass, nothing is unpacked, and each kind of damage is found and named."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from verifying import (
    AT,
    S1,
    S2,
    SCENE,
    TILE,
    TREES,
    assert_found,
    listing,
    problems_of,
    verified,
    with_copies,
    write_published_trees,
)

from reben_dask.cli.verify import verify as command
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE

MTIME = 1_704_067_200
FRAME_BYTES = 100_000
ARCHIVES = tuple(f"{tree}.tar.zst" for tree in TREES)
B05 = f"{AT['BigEarthNet-S2']}/{S2}_B05.tif"
VV = f"{AT['BigEarthNet-S1']}/{S1}_VV.tif"

Member = tuple[tarfile.TarInfo, bytes]
Members = list[Member]


def _member(name: str, content: bytes = b"", **changed: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o644, MTIME
    for field, value in changed.items():
        setattr(info, field, value)
    return info, content


def _members(trees: Path, tree: str) -> Members:
    """Files of a tree as an archive has them."""
    paths = sorted((trees / tree).rglob("*.tif"))
    return [_member(path.relative_to(trees).as_posix(), path.read_bytes()) for path in paths]


def _tar(members: Iterable[Member], form: int = tarfile.USTAR_FORMAT) -> bytes:
    blocks = [
        info.tobuf(form) + content + bytes(-len(content) % 512) if info.isreg() else info.tobuf(form)
        for info, content in members
    ]
    return b"".join([*blocks, bytes(1024)])


def _compress(content: bytes, frame_bytes: int = FRAME_BYTES) -> bytes:
    codec = pa.Codec("zstd")
    starts = range(0, len(content), frame_bytes)
    return b"".join(codec.compress(content[start : start + frame_bytes], asbytes=True) for start in starts)


def _read(archive: Path) -> Members:
    with pa.input_stream(str(archive), compression="zstd") as stream:
        content = io.BytesIO(stream.read())
    with tarfile.open(fileobj=content) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


@pytest.fixture(scope="module")
def trees(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_trees(data_dir, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def sound(trees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives of three published patches, and their metadata."""
    folder = tmp_path_factory.mktemp("archives")
    for tree, archive in zip(TREES, ARCHIVES, strict=True):
        (folder / archive).write_bytes(_compress(_tar(_members(trees, tree))))
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        shutil.copy(trees / name, folder)
    return folder


@pytest.fixture
def archives(sound: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "archives"))


# Sound archives


def test_all_archives_of_a_folder(archives: Path) -> None:
    before = listing(archives.parent)
    done = CliRunner().invoke(command, [str(archives), "--full", "--digest"])
    assert done.exit_code == 0, done.output
    assert done.output.endswith(": 3 patches: complete and consistent.\n")
    assert done.output.count("3 patch folders") == 3
    for archive in ARCHIVES:
        assert f"{hashlib.sha256((archives / archive).read_bytes()).hexdigest()}  {archive}\n" in done.output
    assert listing(archives.parent) == before


@pytest.mark.parametrize(("number", "without"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))])
def test_one_archive(archives: Path, number: int, without: tuple[int, int]) -> None:
    titles = ("Sentinel-2", "Sentinel-1", "reference maps")
    first, second = (titles[other] for other in without)
    report = verified(archives / ARCHIVES[number])
    assert report.verdict() == f"3 patches: complete and consistent, without {first} and {second}."
    (archives / METADATA_FILE).rename(archives / "mine.parquet")
    (archives / FLAGGED_METADATA_FILE).unlink()
    report = verified(archives / ARCHIVES[number])
    assert report.verdict() == f"3 patches: complete and consistent, without metadata and {first} and {second}."
    assert problems_of(archives / ARCHIVES[number], archives / "mine.parquet") == {}


def test_archives_beside_trees(archives: Path, trees: Path) -> None:
    shutil.copytree(trees / TREES[1], archives / TREES[1])
    (archives / ARCHIVES[1]).unlink()
    report = verified(archives)
    assert report.verdict() == "3 patches: complete and consistent."
    assert [check.title for check in report.checks if check.title.startswith((*TREES, "Nothing"))] == [
        TREES[1],
        "Nothing left over in the trees",
        ARCHIVES[0],
        ARCHIVES[2],
        "Nothing left over in the archives",
    ]


def test_an_empty_archive_of_what_need_not_be_there(archives: Path) -> None:
    (archives / ARCHIVES[1]).write_bytes(_compress(_tar([])))
    assert verified(archives).verdict() == "3 patches: complete and consistent, without Sentinel-1."


@pytest.mark.parametrize("frame_bytes", [509, 10_000, 2**26])
def test_frames_end_anywhere(archives: Path, trees: Path, frame_bytes: int) -> None:
    (archives / ARCHIVES[1]).write_bytes(_compress(_tar(_members(trees, TREES[1])), frame_bytes))
    assert problems_of(archives) == {}


# Damaged members


def _at(members: Members, name: str) -> int:
    return next(number for number, (info, _) in enumerate(members) if info.name == name)


def _change(name: str, **changed: Any) -> Callable[[Members], None]:
    def damage(members: Members) -> None:
        for field, value in changed.items():
            setattr(members[_at(members, name)][0], field, value)

    return damage


def _content(name: str, change: Callable[[bytes], bytes]) -> Callable[[Members], None]:
    def damage(members: Members) -> None:
        number = _at(members, name)
        members[number] = _member(name, change(members[number][1]))

    return damage


def _insert(name: str, content: bytes = b"", **changed: Any) -> Callable[[Members], None]:
    return lambda members: members.insert(_at(members, B05), _member(name, content, **changed))


def _drop(text: str) -> Callable[[Members], None]:
    def damage(members: Members) -> None:
        members[:] = [member for member in members if text not in member[0].name]

    return damage


def _swap(first: str, second: str) -> Callable[[Members], None]:
    def damage(members: Members) -> None:
        one, two = _at(members, first), _at(members, second)
        members[one], members[two] = members[two], members[one]

    return damage


def _repeat(members: Members) -> None:
    """The whole folder of a patch again, after the next one."""
    members[24:24] = members[:12]


def _rotate(members: Members) -> None:
    """The first patch last."""
    members[:] = [*members[12:], *members[:12]]


LEFT_OVER, NODATA = "Nothing left over in the archives", "No NODATA in the archives"
DAMAGE: dict[str, tuple[Callable[[Members], object], str, str]] = {
    "absolute path": (_insert(f"/{B05}"), LEFT_OVER, f"'/{B05}' in the archive of BigEarthNet-S2"),
    "path upwards": (_insert(f"BigEarthNet-S2/../{S2}/x.tif"), LEFT_OVER, "'BigEarthNet-S2/../"),
    "path with dots": (_insert(f"./{B05}"), LEFT_OVER, f"'./{B05}'"),
    "path of other depth": (_insert("BigEarthNet-S2/x.tif"), LEFT_OVER, "'BigEarthNet-S2/x.tif'"),
    "path of another tree": (_insert(VV), LEFT_OVER, f"'{VV}' in the archive of BigEarthNet-S2"),
    "path that a terminal obeys": (_insert("\x1b[31m/x"), LEFT_OVER, "'\\x1b[31m/x'"),
    "link": (_insert("x", type=tarfile.LNKTYPE, linkname="/etc/passwd"), ARCHIVES[0], "'x' is a link"),
    "symbolic link": (_insert(S2, type=tarfile.SYMTYPE, linkname="/"), ARCHIVES[0], f"'{S2}' is a symbolic link"),
    "device": (_insert("null", type=tarfile.CHRTYPE), ARCHIVES[0], "'null' is a device"),
    "pipe": (_insert("pipe", type=tarfile.FIFOTYPE), ARCHIVES[0], "'pipe' is a pipe"),
    "folder": (_insert("BigEarthNet-S2", type=tarfile.DIRTYPE), ARCHIVES[0], "'BigEarthNet-S2' is a folder"),
    "file twice": (_insert(B05, b"II*\0"), ARCHIVES[0], f"{S2}/{S2}_B05.tif occurs twice"),
    "patch twice": (_repeat, ARCHIVES[0], f"{S2} occurs twice"),
    "order of files": (
        _swap(B05, B05.replace("B05", "B06")),
        ARCHIVES[0],
        f"{S2}_B05.tif comes after {S2}_B06.tif",
    ),
    "order of patches": (_rotate, ARCHIVES[0], f"{S2} comes after {TILE}_34_69"),
    "owner": (_change(B05, uid=1000), ARCHIVES[0], f"{B05} has the uid 1000, not 0"),
    "group": (_change(B05, gname="staff"), ARCHIVES[0], f"{B05} has the gname 'staff', not ''"),
    "mode": (_change(B05, mode=0o755), ARCHIVES[0], f"{B05} has the mode 493, not 420"),
    "time": (_change(B05, mtime=0), ARCHIVES[0], f"{B05} has the mtime 0, not {MTIME}"),
    "file missing": (_drop(f"{S2}_B05"), ARCHIVES[0], f"{S2} has no {S2}_B05.tif"),
    "file of another band": (
        _insert(B05.replace("B05", "B04x"), b"x"),
        ARCHIVES[0],
        f"{S2} also holds {S2}_B04x.tif",
    ),
    "file of another kind": (_insert(f"{AT['BigEarthNet-S2']}/a.json", b"{}"), ARCHIVES[0], f"{S2} also holds a.json"),
    "patch missing": (_drop(S2), ARCHIVES[0], f"{S2} is missing"),
    "patch left over": (
        _insert(f"BigEarthNet-S2/{TILE}/{TILE}_27_56x/a.tif"),
        LEFT_OVER,
        f"BigEarthNet-S2/{TILE}/{TILE}_27_56x",
    ),
    "patch of another tile": (
        _insert(f"BigEarthNet-S2/T34/{S2}/a.tif"),
        LEFT_OVER,
        f"T34/{S2}, which belongs elsewhere",
    ),
    "large file": (
        _content(B05, lambda content: content + bytes(2**20)),
        ARCHIVES[0],
        f"{S2}_B05.tif has 1,056,148 bytes, which is not an image of a patch",
    ),
    "no image": (_content(B05, lambda _: b"II*\0"), ARCHIVES[0], f"{S2}_B05.tif cannot be decoded ("),
    "empty file": (_content(B05, lambda _: b""), ARCHIVES[0], f"{S2}_B05.tif is empty"),
    "image cut short": (
        _content(B05, lambda content: content[:4_000]),
        ARCHIVES[0],
        f"{S2}_B05.tif cannot be decoded (",
    ),
    "zeros": (_content(B05, lambda content: content[:-200] + bytes(200)), NODATA, f"{S2} in B05"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_members(archives: Path, trees: Path, name: str) -> None:
    damage, title, text = DAMAGE[name]
    members = _members(trees, TREES[0])
    damage(members)
    (archives / ARCHIVES[0]).write_bytes(_compress(_tar(members)))
    before = listing(archives.parent)
    problems = problems_of(archives)
    assert text in problems[title]
    assert set(problems) <= {title, ARCHIVES[0]}
    assert listing(archives.parent) == before


def test_labels_are_those_of_the_map(archives: Path, trees: Path) -> None:
    members = _members(trees, TREES[2])
    contents = [content for _, content in members]
    (archives / ARCHIVES[2]).write_bytes(
        _compress(_tar(_member(info.name, content) for (info, _), content in zip(members, contents[::-1], strict=True)))
    )
    assert f"{S2}: only the map has " in problems_of(archives)["Labels as in the maps of the archives"]


def test_patches_of_several_tiles_in_one_scene(archives: Path, trees: Path) -> None:
    """Those of Sentinel-1 come tile after tile, but scene after scene."""
    members = _members(trees, TREES[1])
    members.sort(key=lambda member: f"{SCENE}_33UUP_27_57" not in member[0].name)
    (archives / ARCHIVES[1]).write_bytes(_compress(_tar(members)))
    assert problems_of(archives) == {}
    early = SCENE.replace("S1B", "S1A")
    members.append(_member(f"BigEarthNet-S1/{early}/{early}_33UUP_1_1/a.tif"))
    (archives / ARCHIVES[1]).write_bytes(_compress(_tar(members)))
    assert f"{early}_33UUP_1_1 comes after {SCENE}_33UUP_34_69" in problems_of(archives)[ARCHIVES[1]]


# Damaged archives


def _flip(content: bytes) -> bytes:
    return content[:10] + bytes([content[10] ^ 1]) + content[11:]


def _sized(octal: bytes) -> Callable[[bytes], bytes]:
    """The first member says that it is of another size."""

    def damage(tar: bytes) -> bytes:
        header = bytearray(tar[:512])
        header[124:136] = octal
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header) + tar[512:]

    return damage


TARS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut in a member": (lambda tar: tar[:20_000], "is cut short in 'BigEarthNet-S2/"),
    "cut between members": (lambda tar: tar[:-1024], "ends without the mark of its end"),
    "nothing": (lambda _: b"", "ends without the mark of its end"),
    "header": (_flip, "has a damaged header (bad checksum)"),
    "no tar": (lambda tar: b"PAR1" * len(tar), "has a damaged header"),
    "size beyond the end": (_sized(b"77777777777\0"), "is cut short in 'BigEarthNet-S2/"),
    "size below nothing": (_sized(b"\xff" * 12), "has a damaged header (a member of -1 bytes)"),
    "more after the end": (lambda tar: tar + tar, "continues after the mark of its end"),
}


@pytest.mark.parametrize("name", TARS)
def test_damaged_tars(archives: Path, trees: Path, name: str) -> None:
    damage, text = TARS[name]
    (archives / ARCHIVES[0]).write_bytes(_compress(damage(_tar(_members(trees, TREES[0])))))
    assert text in problems_of(archives)[ARCHIVES[0]]


STREAMS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda stream: stream[: len(stream) // 2], "Truncated compressed stream"),
    "cut at its end": (lambda stream: stream[:-1], "Truncated compressed stream"),
    "garbage behind": (lambda stream: stream + b"garbage", "ZSTD decompress failed"),
    "not compressed": (lambda _: bytes(4096), "ZSTD decompress failed"),
    "empty": (lambda _: b"", "ends without the mark of its end"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_damaged_streams(archives: Path, name: str) -> None:
    damage, text = STREAMS[name]
    path = archives / ARCHIVES[0]
    path.write_bytes(damage(path.read_bytes()))
    done = CliRunner().invoke(command, [str(archives)])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert text in problems_of(archives)[ARCHIVES[0]]


def test_a_folder_in_place_of_an_archive(archives: Path) -> None:
    (archives / ARCHIVES[0]).unlink()
    (archives / ARCHIVES[0]).mkdir()
    assert problems_of(archives)[ARCHIVES[0]]


@pytest.mark.parametrize(("form", "kind"), [(tarfile.GNU_FORMAT, "L"), (tarfile.PAX_FORMAT, "x")])
def test_other_formats_are_named_and_not_read(archives: Path, trees: Path, form: int, kind: str) -> None:
    members = [
        _member(info.name.replace("/", "/x" * 80 + "/", 1), content) for info, content in _members(trees, TREES[0])
    ]
    (archives / ARCHIVES[0]).write_bytes(_compress(_tar(members, form)))
    assert f"of another format than ustar (a member of the type '{kind}')" in problems_of(archives)[ARCHIVES[0]]


# In a dataset


@pytest.fixture
def dataset(tile_run: Path, tmp_path: Path) -> Path:
    """A finished dataset with archives alone."""
    return with_copies(tile_run, tmp_path / "out", ARCHIVES, left_out=TREES)


def test_a_sample_or_all_pixels_of_archives(dataset: Path) -> None:
    rows = sum(pq.read_metadata(dataset / name).num_rows for name in (METADATA_FILE, FLAGGED_METADATA_FILE))
    for full in (False, True):
        checks = {check.title: check for check in verified(dataset, full=full).checks}
        compared = checks["Zarr pixels as in the archives"]
        assert (compared.count == 3 * rows) == full
        assert compared.count


def test_one_pixel_of_an_archive(dataset: Path) -> None:
    members = _read(dataset / ARCHIVES[0])
    info, content = members[14]
    members[14] = _member(info.name, content[:-1] + bytes([content[-1] ^ 1]))
    (dataset / ARCHIVES[0]).write_bytes(_compress(_tar(members)))
    (dataset / ARCHIVES[2]).unlink()
    patch_id, band = info.name.split("/")[2], info.name[-7:-4]
    exports = {"Exports of the run": "is missing"}
    differing = {"Zarr pixels as in the archives": f"{patch_id} differs in {band}", ARCHIVES[2]: "is missing"}
    assert_found(dataset, {**exports, **differing}, full=True)
