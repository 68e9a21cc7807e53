"""From published trees to an LMDB: the bytes of rico-hdl, and nothing is lost by whatever interrupts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import dask
import lmdb
import numpy as np
import psutil
import pytest
import rasterio
from click.testing import CliRunner, Result
from distributed import Client
from processes import wait_for
from published_trees import MAPS, S1, S2, TILE, TREES, pixels_of, write_patch, write_tree
from results import refusal

from reben_dask.cli.convert import convert
from reben_dask.errors import ClusterError, InputError, OutputError
from reben_dask.formats.lmdb import encode_bands, encode_reference_map
from reben_dask.job import convert as conversion
from reben_dask.job import scheduling
from reben_dask.job.convert import task_runner
from reben_dask.sources.published.trees import IMAGES, PublishedTree, find_patches
from reben_dask.workspace import Workspace

S2_KEY = f"{TILE}_75_43"
S1_KEY = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48"
MAP_KEY = f"{TILE}_26_57_reference_map"


def _content(path: Path) -> dict[str, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {key.decode(): value for key, value in transaction.cursor()}


def _building(destination: Path) -> Path:
    return Workspace(destination).building


def _write(trees: list[PublishedTree], destination: Path, advance: Callable[[int], None] = lambda _: None) -> int:
    with task_runner(sum(len(tree.patches) for tree in trees), 2) as run:
        return conversion.convert_to_lmdb(trees, destination, run, advance)


@pytest.fixture
def on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a task for each patch on a cluster, as if trees were large."""
    monkeypatch.setattr(conversion, "SMALL", 0)
    monkeypatch.setattr(conversion, "PATCHES_PER_TASK", 1)


def _convert(*arguments: object) -> Result:
    return CliRunner().invoke(convert, [*map(str, arguments), "--workers", "2"])


def _refused(*arguments: object) -> str:
    return refusal(_convert(*arguments))


@pytest.fixture
def maps(tmp_path: Path) -> PublishedTree:
    """Ten reference maps."""
    cells = [(x, y) for x in range(2) for y in range(5)]
    return find_patches(write_tree(tmp_path / "maps", MAPS, cells), MAPS)


def _expected(tree: PublishedTree) -> dict[str, bytes]:
    return {
        f"{patch.name}_reference_map": encode_reference_map(pixels_of(MAPS, patch.name, "reference_map"))
        for patch in tree.patches
    }


def _file(tree: PublishedTree, number: int) -> Path:
    patch = tree.patches[number]
    return Path(patch.path("reference_map"))


# Published files


def test_the_reference_database_of_rico_hdl(data_dir: Path, tmp_path: Path) -> None:
    trees = data_dir / "bigearthnet"
    result = _convert("--s2", trees / "BigEarthNet-S2", "--s1", trees / "BigEarthNet-S1", tmp_path / "lmdb")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'lmdb'}: 2 entries" in result.output
    reference = _content(trees / "rico_hdl_reference_lmdb")
    assert list(reference) == [S1_KEY, S2_KEY]
    assert _content(tmp_path / "lmdb") == reference


def test_the_options_of_rico_hdl(data_dir: Path, tmp_path: Path) -> None:
    trees = data_dir / "bigearthnet"
    options = ("--bigearthnet-s1-dir", trees / "BigEarthNet-S1", "--bigearthnet-s2-dir", trees / "BigEarthNet-S2")
    more = ("--bigearthnet-reference-maps-dir", trees / "Reference_Maps", "--num-workers", 1)
    result = _convert(*options, *more, "--target-dir", tmp_path / "new" / "lmdb")
    assert result.exit_code == 0, result.output
    content = _content(tmp_path / "new" / "lmdb")
    with rasterio.open(next((trees / "Reference_Maps").rglob("*.tif"))) as file:
        expected = encode_reference_map(file.read(1))
    assert content == {**_content(trees / "rico_hdl_reference_lmdb"), MAP_KEY: expected}
    assert len(expected) == 28_880


def test_pairs_of_version_1(data_dir: Path, tmp_path: Path) -> None:
    trees = data_dir / "bigearthnet-v1"
    roots = {"--s2": trees / "BigEarthNet-S2-Example", "--s1": trees / "BigEarthNet-S1-Example"}
    result = _convert(*(word for pair in roots.items() for word in pair), tmp_path / "lmdb")
    assert result.exit_code == 0, result.output
    expected = {}
    for folder in (folder for root in roots.values() for folder in root.iterdir()):
        bands = {}
        for path in folder.glob("*.tif"):
            with rasterio.open(path) as file:
                bands[path.stem.removeprefix(f"{folder.name}_")] = file.read(1)
        expected[folder.name] = encode_bands(bands)
    assert len(expected) == 12
    assert "S2B_MSIL2A_20170924T93020_69_24" in expected
    assert _content(tmp_path / "lmdb") == expected


# Invented files


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [False, True])
def test_all_trees_in_one_environment(tmp_path: Path, request: pytest.FixtureRequest, *, cluster: bool) -> None:
    if cluster:
        request.getfixturevalue("on_a_cluster")
    roots = {name: tmp_path / name for name in TREES}
    write_tree(roots["s2"], S2, [(1, 2), (12, 3)])
    write_tree(roots["maps"], MAPS, [(1, 2), (12, 3), (90, 90)])
    write_patch(roots["s1"], S1, "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_1_2")
    result = _convert(*(word for name, root in roots.items() for word in (f"--{name}", root)), tmp_path / "lmdb")
    assert result.exit_code == 0, result.output
    expected = {}
    for kind in (S1, S2, MAPS):
        for patch in find_patches(next(roots[name] for name, other in TREES.items() if other is kind), kind).patches:
            images = {band: pixels_of(kind, patch.name, band) for band in IMAGES[kind]}
            if kind is MAPS:
                expected[f"{patch.name}_reference_map"] = encode_bands({"Data": images["reference_map"]})
            else:
                expected[patch.name] = encode_bands(images)
    content = _content(tmp_path / "lmdb")
    assert content == expected
    held = sum(map(len, content.values()))
    with lmdb.open(str(tmp_path / "lmdb"), readonly=True, lock=False, map_size=0) as environment:
        assert held < environment.info()["map_size"] < 2 * held + 2 * 2**20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lmdb", "maps", "s1", "s2"]


# Interruptions

KILLED_AT = """
import os, psutil, signal, sys
from pathlib import Path
from reben_dask.formats.bands import ImageKind
from reben_dask.job import convert as conversion
from reben_dask.job import scheduling
from reben_dask.sources.published.trees import find_patches

if __name__ == "__main__":
    root, destination, stop = sys.argv[1:]
    conversion.SMALL, conversion.PATCHES_PER_TASK = 0, 1
    written = 0

    def advance(more):
        global written
        written += more
        if written == int(stop):
            print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    with conversion.task_runner(1, 2) as run:
        trees = [find_patches(Path(root), ImageKind.MAP)]
        conversion.convert_to_lmdb(trees, Path(destination), run, advance)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 4, 10])
def test_a_killed_conversion_goes_on_where_it_stopped(tmp_path: Path, maps: PublishedTree, stop: int) -> None:
    destination, script = tmp_path / "lmdb", tmp_path / "killed.py"
    script.write_text(KILLED_AT)
    done = subprocess.run(
        [sys.executable, script, maps.root, destination, str(stop)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    workers = [psutil.Process(int(pid)) for pid in done.stdout.split() if psutil.pid_exists(int(pid))]
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert not destination.exists()
    there = _content(_building(destination) / "lmdb")
    # Tasks may have ended of which nothing was heard yet.
    assert len(there) >= stop
    for number, patch in enumerate(maps.patches):
        if f"{patch.name}_reference_map" in there:
            # Nobody will ask for it again.
            _file(maps, number).write_bytes(b"")
    steps: list[int] = []
    assert _write([maps], destination, steps.append) == 10
    assert steps[0] == len(there)
    assert sum(steps) == 10
    assert _content(destination) == _expected(maps)
    assert not _building(destination).exists()


def test_damaged_files_are_named_and_nothing_else_is_lost(tmp_path: Path, maps: PublishedTree) -> None:
    destination = tmp_path / "lmdb"
    intact = {number: _file(maps, number).read_bytes() for number in (0, 7)}
    _file(maps, 0).write_bytes(intact[0][:-99])
    message = _refused("--maps", maps.root, destination)
    assert f"Error: {_file(maps, 0)} cannot be decoded (" in message
    assert str(_building(destination)) in message
    _file(maps, 7).write_bytes(b"")
    assert len(_content(_building(destination) / "lmdb")) == 9
    message = _refused("--maps", maps.root, destination)
    assert str(_file(maps, 0)) in message
    assert not destination.exists()
    for number, content in intact.items():
        _file(maps, number).write_bytes(content)
    result = _convert("--maps", maps.root, destination)
    assert result.exit_code == 0, result.output
    assert _content(destination) == _expected(maps)


def test_several_damaged_files_are_counted(tmp_path: Path, maps: PublishedTree) -> None:
    for number in (3, 4, 5):
        _file(maps, number).write_bytes(b"")
    with pytest.raises(InputError, match=r"^3 of 10 entries could not be made; the first: .+ cannot be decoded"):
        _write([maps], tmp_path / "lmdb")
    assert len(_content(_building(tmp_path / "lmdb") / "lmdb")) == 7


def test_a_conversion_of_which_nothing_can_be_made_ends_early(
    tmp_path: Path, maps: PublishedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "FAILURES", 2)
    monkeypatch.setattr(conversion, "PATCHES_PER_TASK", 1)
    for number in range(10):
        _file(maps, number).write_bytes(b"")
    with pytest.raises(InputError, match=r"^2 of 10 entries"):
        _write([maps], tmp_path / "lmdb")


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.zeros((119, 120), np.uint16), "119 x 120 pixels of type uint16"),
        (np.zeros((120, 120), np.uint8), "120 x 120 pixels of type uint8"),
    ],
)
def test_an_image_that_is_not_of_its_kind(tmp_path: Path, maps: PublishedTree, pixels: np.ndarray, found: str) -> None:
    path = _file(maps, 2)
    kind = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 1, "dtype": pixels.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", **kind, crs=32633, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)
    ) as f:
        f.write(pixels, 1)
    with pytest.raises(InputError, match=f"{path} has {found}, where .+ have 120 x 120 of type uint16"):
        _write([maps], tmp_path / "lmdb")


# What is in the way


def _interrupt(destination: Path, tree: PublishedTree) -> None:
    """Leave a conversion of which only the last entry is missing."""
    last = _file(tree, len(tree.patches) - 1)
    content = last.read_bytes()
    last.write_bytes(b"")
    with pytest.raises(InputError, match=f"^{last} cannot be decoded"):
        _write([tree], destination)
    last.write_bytes(content)


def test_the_same_folder_for_something_else(tmp_path: Path, maps: PublishedTree) -> None:
    _interrupt(tmp_path / "lmdb", maps)
    other = find_patches(write_tree(tmp_path / "other", MAPS, [(1, 1)]), MAPS)
    expected = r"\.lmdb\.converting holds an unfinished conversion of other inputs"
    with pytest.raises(OutputError, match=expected):
        _write([other], tmp_path / "lmdb")
    (_building(tmp_path / "lmdb") / "state" / "origin.json").write_text("{")
    with pytest.raises(OutputError, match=expected):
        _write([maps], tmp_path / "lmdb")


def test_a_tree_that_has_shrunk_or_grown_since(tmp_path: Path, maps: PublishedTree) -> None:
    _interrupt(tmp_path / "lmdb", maps)
    shrunk = PublishedTree(MAPS, maps.root, maps.patches[1:])
    with pytest.raises(OutputError, match="holds entries that are no longer in the inputs"):
        _write([shrunk], tmp_path / "lmdb")
    write_tree(tmp_path / "maps", MAPS, [(80, 80)])
    grown = find_patches(Path(maps.root), MAPS)
    steps: list[int] = []
    assert _write([grown], tmp_path / "lmdb", steps.append) == 11
    assert steps == [9, 2]
    assert _content(tmp_path / "lmdb") == _expected(grown)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"x" * 9_999, r"cannot be written \(.+\); delete it\."), (None, r"is damaged \(it is cut short\); delete it\.")],
)
def test_a_damaged_beginning(tmp_path: Path, maps: PublishedTree, content: bytes | None, message: str) -> None:
    _interrupt(tmp_path / "lmdb", maps)
    data = _building(tmp_path / "lmdb") / "lmdb" / "data.mdb"
    data.write_bytes(content or data.read_bytes()[:-4096])
    with pytest.raises(OutputError, match=f"The unfinished LMDB {data.parent} {message}"):
        _write([maps], tmp_path / "lmdb")


def test_one_conversion_at_a_time(tmp_path: Path, maps: PublishedTree) -> None:
    with Workspace(tmp_path / "lmdb").resumed({}), pytest.raises(OutputError, match="Another job is writing to"):
        _write([maps], tmp_path / "lmdb")


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_exists_is_not_touched(tmp_path: Path, maps: PublishedTree, what: str) -> None:
    destination = tmp_path / "lmdb"
    if what == "folder":
        destination.mkdir()
    elif what == "file":
        destination.write_text("mine")
    else:
        destination.symlink_to(tmp_path / "nowhere")
    before = destination.lstat()
    assert "exists; give a new folder" in _refused("--maps", maps.root, destination)
    assert destination.lstat() == before
    assert not _building(destination).exists()


def test_a_destination_that_cannot_be_made(tmp_path: Path, maps: PublishedTree) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written (Not a directory)" in _refused("--maps", maps.root, tmp_path / "file" / "lmdb")


def test_network_disks(tmp_path: Path, maps: PublishedTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "is_on_network_disk", lambda _: True)
    assert "lies on a network disk, where LMDB must not be written" in _refused("--maps", maps.root, tmp_path / "lmdb")
    assert not _building(tmp_path / "lmdb").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out"], "Give at least one tree: --s2, --s1 or --maps."),
        (["--s2", "s2"], "Missing argument 'OUT'."),
        (["--s2", "s2", "--target-dir", "a", "b"], "Give OUT once"),
        (["--s2", "s2", "--s1", "s1", "--zarr", "out"], "add --pairs, with metadata.parquet or a table of pairs."),
        (["--maps", "maps", "--s1", "s1", "--zarr", "out"], "add --pairs, with metadata.parquet"),
        (["--s1", "s1", "--pairs", "p", "--zarr", "out"], "--pairs needs --zarr, --s1, and --s2 or --maps"),
        (["--s2", "s2", "--s1", "s1", "--pairs", "p", "out"], "--pairs needs --zarr, --s1, and --s2 or --maps"),
        (["--s2", "s2", "--workers", "0", "out"], "0 is not in the range"),
    ],
)
def test_what_the_command_is_not_given(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(convert, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("on_a_cluster")
def test_a_worker_that_is_killed_again_and_again(
    tmp_path: Path, maps: PublishedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "_write_values", _end)
    # Else the scheduler tries four workers.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        pytest.raises(ClusterError, match="run the same command again to resume, with fewer --workers"),
    ):
        _write([maps], tmp_path / "lmdb")


def _end(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_paused_workers_are_explained_by_options_of_this_command(
    tmp_path: Path, maps: PublishedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "SMALL", 0)
    monkeypatch.setattr(scheduling, "_LOOK_S", 0.05)
    monkeypatch.setattr(scheduling, "WORKERS_TIMEOUT_S", 0.2)
    cluster = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with Client(**cluster, memory_limit="1MB") as client:
        wait_for(lambda: {worker["status"] for worker in client.scheduler_info()["workers"].values()} == {"paused"})
        monkeypatch.setattr(conversion, "connect", lambda _: nullcontext(client))
        with pytest.raises(ClusterError, match=r"paused .+ fewer --workers") as raised:
            _write([maps], tmp_path / "lmdb")
    assert "--threads" not in str(raised.value)
