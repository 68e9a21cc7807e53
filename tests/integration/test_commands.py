"""The commands beside the job, as a user starts them; and the lines that show their progress."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import geopandas as gpd
import lmdb
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from shapely import box

from reben_dask.cli import main
from reben_dask.formats.lmdb import Shard, ShardIndex
from reben_dask.progress import TITLES, Cell, StageProgress, console

PROGRAM = "python -m reben_dask"
COMMANDS = [
    *("fetch", "run", "l2a", "status", "convert", "verify", "report", "table", "statistics", "compare"),
    *("train", "evaluate", "leaderboard", "landcover", "lmdb", "config", "demo"),
]
POZNAN = Path("landcover") / "clc2018_poznan_3035.gpkg"
RICO = Path("bigearthnet") / "rico_hdl_reference_lmdb"
CONFIGILM = Path("bigearthnet") / "configilm_24_patches" / "BigEarthNet-V2-LMDB"


def _reben(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: starting one takes longer than most commands."""
    with contextlib.chdir(cwd or Path.cwd()):
        done = CliRunner(env={"COLUMNS": None}).invoke(main, list(map(str, arguments)), prog_name=PROGRAM)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def test_help_of_commands_is_not_cut() -> None:
    lines = [line.split(maxsplit=1) for line in _reben("--help").stdout.partition("Commands:")[2].splitlines() if line]
    assert [name for name, _ in lines] == COMMANDS
    assert not [text for _, text in lines if text.endswith("...") or len(text) > 46]


def _refused(*arguments: object) -> str:
    """One-line error of a command."""
    done = _reben(*arguments)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 1, done.stderr
    message = done.stderr.strip()
    assert message.startswith("Error: ")
    assert "\n" not in message
    assert not message.endswith("..")
    assert "This should not happen" not in message
    return message


def _content(folder: Path) -> list[tuple[bytes, bytes]]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return [(bytes(key), bytes(value)) for key, value in transaction.cursor()]


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Attributes of the files in a folder that rewriting would change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


# Finding a command


def test_help_lists_the_commands_in_the_order_of_their_use() -> None:
    done = _reben("--help")
    assert done.returncode == 0
    listed = done.stdout.split("Commands:\n")[1]
    assert re.findall(r"^  (\w+)  +\w", listed, re.MULTILINE) == COMMANDS
    assert "merge" in _reben("lmdb", "--help").stdout


@pytest.mark.parametrize(
    "command", [["fetch"], ["run"], ["l2a"], ["convert"], ["landcover"], ["lmdb", "merge"]], ids=" ".join
)
def test_help_has_an_example(command: list[str]) -> None:
    done = _reben(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    usage, _, example = done.stdout.partition("Example")
    assert usage.startswith(f"Usage: python -m reben_dask {' '.join(command)} ")
    assert f"\n  reben {' '.join(command)} " in example.replace("\n    ", "\n  ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("landcvoer", "landcover"), ("lmbd", "lmdb"), ("deom", "demo"), ("rnu", "run"), ("run2", "run")],
)
def test_a_typo_is_met_with_the_command_that_was_meant(typed: str, meant: str) -> None:
    done = _reben(typed, "--option", "value")
    assert done.returncode == 2
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in done.stderr


def test_a_name_like_none_of_them() -> None:
    done = _reben("xyz")
    assert done.returncode == 2
    assert "No such command 'xyz'." in done.stderr
    assert "Did you mean" not in done.stderr


@pytest.mark.parametrize("typed", ["mrege", "xyz"])
def test_a_typo_below_a_command(typed: str) -> None:
    done = _reben("lmdb", typed, "a", "b")
    assert done.returncode == 2
    assert f"No such command '{typed}'." in done.stderr
    assert "lmdb --help" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["landcover"], ["landcover", "a"], ["lmdb", "merge"], ["lmdb", "merge", "a"]])
def test_what_is_missing_is_named(arguments: list[str]) -> None:
    done = _reben(*arguments)
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
    assert "Usage:" in done.stderr


# reben landcover


@pytest.fixture(scope="module")
def sorted_map(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The sorted map of Poznan, in a folder that did not exist, and what the command said."""
    folder = tmp_path_factory.mktemp("landcover") / "new"
    done = _reben("landcover", data_dir / POZNAN, folder / "poznan.parquet")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in folder.iterdir()] == ["poznan.parquet"]
    return folder / "poznan.parquet", done.stdout


def test_landcover_says_what_it_read_and_wrote(data_dir: Path, sorted_map: tuple[Path, str]) -> None:
    path, said = sorted_map
    said = " ".join(said.split())
    for words in (str(data_dir / POZNAN), "EPSG:3035", "Code_18", f"{path}: 1,521 polygons"):
        assert words in said


def test_the_sorted_map_is_the_map(data_dir: Path, sorted_map: tuple[Path, str]) -> None:
    original = gpd.read_file(data_dir / POZNAN)
    made = gpd.read_parquet(sorted_map[0]).sort_values("order", ignore_index=True)
    assert made.crs == original.crs
    assert made["order"].tolist() == list(range(1521))
    assert made["code"].tolist() == original["Code_18"].astype(int).tolist()
    assert made.geometry.geom_equals_exact(original.force_2d(), 0).all()
    few = gpd.read_parquet(sorted_map[0], bbox=tuple(original.geometry[7].bounds))
    assert 7 in few["order"].tolist()
    assert len(few) < 1521


def test_a_run_accepts_the_sorted_map(data_dir: Path, sorted_map: tuple[Path, str], tmp_path: Path) -> None:
    before = _state(sorted_map[0].parent)
    arguments = ["--s2", data_dir / "mini", "--landcover", sorted_map[0], "--out", tmp_path / "out", "--dry-run"]
    done = _reben("run", *arguments)
    assert done.returncode == 0, done.stderr
    assert "1,521 polygons" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert _state(sorted_map[0].parent) == before


def test_landcover_again_changes_nothing(data_dir: Path, sorted_map: tuple[Path, str]) -> None:
    before = _state(sorted_map[0].parent)
    done = _reben("landcover", data_dir / POZNAN, sorted_map[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert "1,521 polygons" in done.stdout
    assert _state(sorted_map[0].parent) == before


def test_landcover_with_a_relative_path_and_a_column(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "landcover" / "clc_lanjaron_original_25830.gpkg"
    done = _reben("landcover", source, "here.parquet", "--code-column", "code_18", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(gpd.read_parquet(tmp_path / "here.parquet")) == 136


@pytest.mark.parametrize("kind", ["missing", "text", "folder", "countries", "no system", "no code", "cut short"])
def test_landcover_refuses_what_is_no_map(data_dir: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source.gpkg"
    square = gpd.GeoDataFrame({"Code_18": ["211"]}, geometry=[box(0, 0, 1, 1)], crs=3035)
    if kind == "text":
        source.write_text("no map")
    elif kind == "folder":
        source.mkdir()
    elif kind == "countries":
        shutil.copyfile(data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg", source)
    elif kind == "no system":
        source = tmp_path / "source.shp"
        square.to_file(source)
        source.with_suffix(".prj").unlink()
    elif kind == "no code":
        square.assign(Code_18=None).to_file(source)
    elif kind == "cut short":
        content = (data_dir / POZNAN).read_bytes()
        source.write_bytes(content[: len(content) // 2])
    assert str(source) in _refused("landcover", source, tmp_path / "out" / "map.parquet")
    assert not (tmp_path / "out" / "map.parquet").exists()
    assert list(tmp_path.glob("out/.*")) == []


def test_landcover_refuses_a_column_that_is_not_there(data_dir: Path, tmp_path: Path) -> None:
    message = _refused("landcover", data_dir / POZNAN, tmp_path / "out", "--code-column", "Cod_18")
    assert "did you mean Code_18?" in message
    assert list(tmp_path.iterdir()) == []


def test_landcover_says_that_a_map_is_sorted_already(sorted_map: tuple[Path, str], tmp_path: Path) -> None:
    message = _refused("landcover", sorted_map[0], tmp_path / "out.parquet")
    assert "sorted" in message.replace(str(sorted_map[0]), "")


@pytest.mark.parametrize("kind", ["other map", "text", "empty folder", "below a file"])
def test_landcover_leaves_what_is_at_its_place(data_dir: Path, tmp_path: Path, kind: str) -> None:
    place = out = tmp_path / "out.parquet"
    if kind == "other map":
        lanjaron = data_dir / "landcover" / "clc2018_lanjaron_3035.gpkg"
        assert _reben("landcover", lanjaron, place).returncode == 0
    elif kind == "empty folder":
        place.mkdir()
    else:
        place.write_text("mine")
        out = place / "map.parquet" if kind == "below a file" else place
    before = _state(tmp_path)
    assert str(place) in _refused("landcover", data_dir / POZNAN, out)
    assert _state(tmp_path) == before


# reben lmdb merge


def test_merge_of_real_environments(data_dir: Path, tmp_path: Path) -> None:
    done = _reben("lmdb", "merge", data_dir / RICO, data_dir / CONFIGILM, tmp_path / "new" / "merged")
    assert (done.returncode, done.stderr) == (0, "")
    assert "50 entries of 2 environments" in " ".join(done.stdout.split())
    assert "50 of 50" in done.stdout
    expected = sorted([*_content(data_dir / RICO), *_content(data_dir / CONFIGILM)])
    assert _content(tmp_path / "new" / "merged") == expected
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["merged"]


def test_merge_of_a_folder_of_shards(data_dir: Path, tmp_path: Path) -> None:
    for name, source in (("part-00000-of-00002", RICO), ("part-00001-of-00002", CONFIGILM)):
        shutil.copytree(data_dir / source, tmp_path / "lmdb" / name, copy_function=shutil.copyfile)
    shards = [Shard(path.name, None, None, 0, 0) for path in sorted((tmp_path / "lmdb").iterdir())]
    ShardIndex((), tuple(shards)).write(tmp_path / "lmdb")
    done = _reben("lmdb", "merge", "lmdb", "merged", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "merged: 50 entries of 2 environments" in done.stdout
    assert len(_content(tmp_path / "merged")) == 50


@pytest.mark.parametrize("kind", ["missing", "text", "twice", "cut short", "damaged inside", "damaged index"])
def test_merge_refuses_what_it_cannot_read(data_dir: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    file = source / "data.mdb"
    if kind != "missing":
        shutil.copytree(data_dir / RICO, source, copy_function=shutil.copyfile)
        content = file.read_bytes()
        damaged = {"text": b"text", "cut short": content[: len(content) // 2], "damaged inside": content[:8192] * 37}
        file.write_bytes(damaged.get(kind, content))
    if kind == "damaged index":
        (source / "index.json").write_text('{"shards": [')
    sources = [source, source] if kind == "twice" else [source, data_dir / CONFIGILM]
    assert str(source) in _refused("lmdb", "merge", *sources, tmp_path / "merged")
    assert {path.name for path in tmp_path.iterdir()} <= {"source"}


def test_merge_refuses_two_values_of_one_key(data_dir: Path, tmp_path: Path) -> None:
    key, value = _content(data_dir / RICO)[0]
    with lmdb.open(str(tmp_path / "copy"), map_size=2**21) as copy, copy.begin(write=True) as transaction:
        transaction.put(key, value[::-1])
    message = _refused("lmdb", "merge", data_dir / RICO, tmp_path / "copy", tmp_path / "merged")
    assert key.decode() in message
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize("kind", ["file", "folder", "below a file"])
def test_merge_leaves_what_is_at_its_place(data_dir: Path, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "merged"
    if kind == "folder":
        place.mkdir()
    else:
        place.write_text("mine")
    before = _state(tmp_path)
    out = place / "merged" if kind == "below a file" else place
    assert str(place) in _refused("lmdb", "merge", data_dir / RICO, out)
    assert _state(tmp_path) == before


# What is printed


@pytest.mark.parametrize("name", ["with [red] brackets [/]", "12:100:30"], ids=["brackets", "colons"])
def test_paths_are_printed_as_they_are(data_dir: Path, tmp_path: Path, name: str) -> None:
    done = _reben("lmdb", "merge", data_dir / RICO, name, cwd=tmp_path)
    assert done.returncode == 0
    assert f"{name}: 2 entries of 1 environment\n" in done.stdout


def test_lines_are_not_broken_where_there_is_no_terminal(data_dir: Path, tmp_path: Path) -> None:
    done = _reben("lmdb", "merge", data_dir / RICO, tmp_path / ("x" * 200))
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == f"{tmp_path / ('x' * 200)}: 2 entries of 1 environment"


def _lines(file: io.StringIO) -> list[str]:
    return file.getvalue().splitlines()


@settings(deadline=None)
@given(steps=st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_progress_without_a_terminal_is_few_lines_and_ends_at_the_end(steps: list[int]) -> None:
    total = sum(steps) or 1
    file = io.StringIO()
    with StageProgress(Console(file=file, width=120), {"merge": total}) as progress:
        for step in steps:
            progress.advance("merge", step)
        progress.finish("merge")
        progress.advance("merge", 5)
    lines = _lines(file)
    assert 1 <= len(lines) <= 10
    assert lines[-1] == f"Merge LMDB: {total:,} of {total:,}"
    done = [int(re.findall(r": ([\d,]+) of", line)[0].replace(",", "")) for line in lines]
    assert done == sorted(set(done))


def test_a_stage_whose_size_is_known_later() -> None:
    file = io.StringIO()
    with StageProgress(Console(file=file, width=120), {"landcover": 0, "merge": 2}) as progress:
        progress.finish("landcover")
        progress.start("landcover", 4)
        progress.advance("landcover", 4)
        progress.advance("merge")
    assert _lines(file) == [f"{TITLES['landcover']}: 4 of 4", f"{TITLES['merge']}: 1 of 2"]


def test_a_stage_that_was_not_known_before() -> None:
    file = io.StringIO()
    with StageProgress(Console(file=file, width=120), {}) as progress:
        advance = progress.stage("merge", 3)
        advance(1)
        advance(2)
    assert _lines(file) == [f"{TITLES['merge']}: {done} of 3" for done in (1, 3)]


def test_progress_from_many_threads() -> None:
    file = io.StringIO()
    with StageProgress(Console(file=file, width=120), {"merge": 800}) as progress, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: progress.advance("merge"), range(800)))
    assert sorted(_lines(file)) == sorted(f"Merge LMDB: {done} of 800" for done in range(80, 801, 80))


def test_progress_on_a_terminal_is_a_bar() -> None:
    file = io.StringIO()
    with StageProgress(Console(file=file, width=120, force_terminal=True), {"merge": 50}) as progress:
        progress.advance("merge", 50)
    assert "50/50" in file.getvalue()
    assert "50 of 50" not in file.getvalue()


def test_colours_that_a_notebook_asks_for_are_not_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not console().is_terminal


class _Handle:
    """Stand-in for IPython's handle of an updatable output."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.drawn.append(data["text/plain"])


def test_bars_of_a_notebook_are_drawn_when_they_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = _Handle()
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    file = io.StringIO()
    with StageProgress(Console(file=file, width=120), {"landcover": 0, "merge": 60_000}, Cell()) as progress:
        for _ in range(600):
            progress.advance("merge", 100)
    assert len(handle.drawn) == 31
    assert handle.drawn[0] == f"{'Merge LMDB':<26}{'░' * 30}    100 of 60,000"
    assert handle.drawn[-1] == f"{'Merge LMDB':<26}{'█' * 30} 60,000 of 60,000"
    assert not file.getvalue()
