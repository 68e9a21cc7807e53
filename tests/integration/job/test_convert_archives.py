"""From archives to an LMDB or a Zarr store: what the unpacked folder gives, and a restart skips what is done."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from digest import contents_of_store, lmdb_digest
from published_trees import MAPS, S1, S2, TILE, TREES, write_patch, write_tree
from results import refusal

from reben_dask.cli.convert import convert
from reben_dask.job import convert as conversion
from reben_dask.sources.published import archives as archives_module
from reben_dask.workspace import Workspace

CELLS = [(1, 2), (12, 3), (13, 3), (90, 90)]
OTHER = "S2B_MSIL2A_20180507T100029_N9999_R122_T33UXU"
SCENE = "S1A_IW_GRDH_1SDV_20170613T165043"


def _convert(*arguments: object) -> Result:
    return CliRunner().invoke(convert, [*map(str, arguments), "--workers", "1"])


def _pack(root: Path, archive: Path, *names: str) -> Path:
    """Pack the files of a tree, those of the given tiles or all, as GNU tar does."""
    compression = "zstd" if archive.suffix == ".zst" else None
    with (
        pa.output_stream(str(archive), compression=compression) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for name in names or [path.name for path in sorted(root.iterdir())]:
            tar.add(root / name, f"{root.name}/{name}")
    return archive


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """Trees of all kinds: two tiles, of which one has Sentinel-1 partners."""
    found = {name: tmp_path / f"tree-{name}" for name in TREES}
    for name, kind in (("s2", S2), ("maps", MAPS)):
        write_tree(found[name], kind, CELLS)
        write_tree(found[name], kind, CELLS[:2], tile=OTHER)
    for x, y in CELLS[:3]:
        write_patch(found["s1"] / SCENE, S1, f"{SCENE}_33UUP_{x}_{y}")
    pairs = "".join(f"{TILE}_{x:02d}_{y:02d},{SCENE}_33UUP_{x}_{y}\n" for x, y in CELLS[:3])
    (tmp_path / "pairs.csv").write_text(f"s2v1_name,s1_name\n{pairs}")
    return found


def _archives(roots: dict[str, Path], *, split: bool) -> dict[str, list[Path]]:
    """Archives of the trees; of Sentinel-2 two if it is split."""
    folder = roots["s2"].parent
    found = {name: [_pack(root, folder / f"{name}.tar.zst")] for name, root in roots.items() if name != "s2"}
    parts = [(TILE,), (OTHER,)] if split else [()]
    return {
        "s2": [_pack(roots["s2"], folder / f"s2-{number}.tar", *part) for number, part in enumerate(parts)],
        **found,
    }


def _words(given: dict[str, list[Path]]) -> list[object]:
    return [word for name, paths in given.items() for path in paths for word in (f"--{name}", path)]


def _damaged(content: bytes, name: str) -> bytes:
    """Overwrite the first block of a file in an archive, which follows those of its long name and of its header."""
    start = content.index(name.encode()) // 512 * 512 + 1024
    return content[:start] + bytes(512) + content[start + 512 :]


@pytest.mark.parametrize("split", [False, True])
def test_an_lmdb_is_that_of_the_folders(tmp_path: Path, roots: dict[str, Path], *, split: bool) -> None:
    given = _archives(roots, split=split)
    folders = _convert(*_words({name: [root] for name, root in roots.items()}), tmp_path / "folders")
    archives = _convert(*_words(given), tmp_path / "archives")
    assert (folders.exit_code, archives.exit_code) == (0, 0), archives.output
    assert f"{tmp_path / 'archives'}: 15 entries" in archives.output
    assert lmdb_digest(tmp_path / "archives") == lmdb_digest(tmp_path / "folders")
    assert not Workspace(tmp_path / "archives").building.exists()


def test_folders_and_archives_together(tmp_path: Path, roots: dict[str, Path]) -> None:
    given = _archives(roots, split=False)
    mixed = {"s2": [roots["s2"]], "maps": given["maps"]}
    assert _convert(*_words(mixed), tmp_path / "mixed").exit_code == 0
    assert _convert("--s2", roots["s2"], "--maps", roots["maps"], tmp_path / "folders").exit_code == 0
    assert lmdb_digest(tmp_path / "mixed") == lmdb_digest(tmp_path / "folders")


@pytest.mark.slow
def test_a_zarr_store_is_that_of_the_folders(tmp_path: Path, roots: dict[str, Path]) -> None:
    given, pairs = _archives(roots, split=True), ("--pairs", tmp_path / "pairs.csv", "--zarr")
    folders = _convert(*_words({name: [root] for name, root in roots.items()}), *pairs, tmp_path / "folders.zarr")
    archives = _convert(*_words(given), *pairs, tmp_path / "archives.zarr")
    mixed = _convert(*_words({**given, "s2": [roots["s2"]]}), *pairs, tmp_path / "mixed.zarr")
    assert {result.exit_code for result in (folders, archives, mixed)} == {0}, archives.output + mixed.output
    note = f"Note: 3 of 6 patches have no Sentinel-1 partner, and are NaN there; such as {TILE}_90_90."
    assert all(note in result.output for result in (folders, archives, mixed))
    expected = contents_of_store(tmp_path / "folders.zarr")
    assert contents_of_store(tmp_path / "archives.zarr") == expected
    assert contents_of_store(tmp_path / "mixed.zarr") == expected


def test_a_restart_reads_the_archive_again_and_skips_what_is_done(
    tmp_path: Path, roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "PATCHES_PER_TASK", 1)
    (path,) = _archives(roots, split=False)["s2"]
    content = path.read_bytes()
    # One image of the second patch is damaged; the others are written.
    path.write_bytes(_damaged(content, f"{TILE}_12_03_B05.tif"))
    message = refusal(_convert("--s2", path, tmp_path / "lmdb"))
    assert f"Error: {TILE}_12_03_B05.tif in {path} cannot be decoded" in message
    assert str(Workspace(tmp_path / "lmdb").building) in message
    path.write_bytes(content)
    decoded = []

    def decode(archived: archives_module.ArchivedPatch) -> object:
        decoded.append(archived.patch.name)
        return archives_module.decode_patch(archived)

    monkeypatch.setattr(conversion, "decode_patch", decode)
    assert _convert("--s2", path, tmp_path / "lmdb").exit_code == 0
    assert decoded == [f"{TILE}_12_03"]
    monkeypatch.undo()
    assert _convert("--s2", roots["s2"], tmp_path / "folders").exit_code == 0
    assert lmdb_digest(tmp_path / "lmdb") == lmdb_digest(tmp_path / "folders")


@pytest.mark.slow
def test_a_restart_of_a_zarr_store_writes_the_other_blocks(tmp_path: Path, roots: dict[str, Path]) -> None:
    (path,) = _archives(roots, split=False)["s2"]
    content = path.read_bytes()
    path.write_bytes(_damaged(content, f"{TILE}_12_03_B05.tif"))
    message = refusal(_convert("--s2", path, "--zarr", tmp_path / "c.zarr"))
    assert f"{TILE}_12_03_B05.tif in {path} cannot be decoded" in message
    assert "1 of 4 blocks of patches could not be written" in message
    markers = Workspace(tmp_path / "c.zarr").state.done("blocks")
    assert len(markers) == 3
    path.write_bytes(content)
    assert _convert("--s2", path, "--zarr", tmp_path / "c.zarr").exit_code == 0
    assert _convert("--s2", roots["s2"], "--zarr", tmp_path / "folders.zarr").exit_code == 0
    assert contents_of_store(tmp_path / "c.zarr") == contents_of_store(tmp_path / "folders.zarr")


def test_an_archive_that_is_cut_short_keeps_what_was_read(
    tmp_path: Path, roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "PATCHES_PER_TASK", 1)
    (path,) = _archives(roots, split=False)["s2"]
    path.write_bytes(path.read_bytes()[:-300_000])
    message = refusal(_convert("--s2", path, tmp_path / "lmdb"))
    assert f"The archive {path} is cut short in" in message
    assert "run the same command again to resume" in message
    # Another size is another archive.
    path.write_bytes(path.read_bytes()[:-512])
    assert "holds an unfinished conversion of other inputs" in refusal(_convert("--s2", path, tmp_path / "lmdb"))


@pytest.mark.parametrize("options", [(), ("--zarr",)])
def test_a_patch_that_two_archives_hold(tmp_path: Path, roots: dict[str, Path], options: tuple[str, ...]) -> None:
    (path,) = _archives(roots, split=False)["maps"]
    again = _pack(roots["maps"], tmp_path / "again.tar")
    message = refusal(_convert("--maps", path, "--maps", again, *options, tmp_path / "out"))
    assert f"in {again} comes for the second time" in message
    assert not (tmp_path / "out").exists()


def test_a_folder_beside_archives_of_one_kind(tmp_path: Path, roots: dict[str, Path]) -> None:
    archive = _pack(roots["maps"], tmp_path / "maps.tar")
    result = _convert("--maps", roots["maps"], "--maps", archive, tmp_path / "out")
    assert result.exit_code == 2
    assert "Give --maps one folder, or archives (.tar, .tar.zst, .tar.gz) only." in result.stderr
