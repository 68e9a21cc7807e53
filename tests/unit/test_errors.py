"""A path that does not exist: which one may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from reben_dask.cli import main
from reben_dask.errors import missing
from reben_dask.workspace import Output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("sentinel2/T33UVP", "maps"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "maps" / "landcover.gpkg").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sentinel-2", "sentinel2"),
        ("sentinel/T33UVP", "sentinel2/T33UVP"),
        ("sentinel2/T33UPV", "sentinel2/T33UVP"),
        ("map/landcover.gpkg", "maps/landcover.gpkg"),
        ("maps/landcover.gkpg", "maps/landcover.gpkg"),
        ("maps/landcover", "maps/landcover.gpkg"),
        ("map/countries.gpkg", None),
        ("elsewhere", None),
    ],
)
def test_a_neighbour_is_suggested(folder: Path, given: str, meant: str | None) -> None:
    hint = f"; did you mean {folder / meant}?" if meant else "."
    assert missing("The map", folder / given) == f"The map {folder / given} does not exist{hint}"


def test_relative_paths_stay_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "maps")
    assert missing("The map", "landcove.gpkg").endswith("; did you mean landcover.gpkg?")
    assert missing("The map", "../sentinel3").endswith("; did you mean ../sentinel2?")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--s2", "{}/sentinel", "--landcover", "{}/maps/landcover.gpkg", "--out", "{}/out", "--dry-run"],
        ["landcover", "{}/map/landcover.gpkg", "{}/map.parquet"],
        *([command, "{}/sentinel"] for command in ("status", "verify", "report", "table")),
        ["compare", "{}/sentinel", "{}/sentinel2"],
        ["convert", "--s2", "{}/sentinel", "{}/lmdb"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_suggests(folder: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [word.format(folder) for word in arguments])
    assert result.exit_code in {1, 2}
    assert "does not exist; did you mean " in " ".join(result.output.split())


@pytest.mark.parametrize("command", ["report", "verify", "compare", "table"])
def test_a_dataset_whose_job_is_unfinished(tmp_path: Path, command: str) -> None:
    output = Output(tmp_path / "out")
    output.start({"tiles": {"A": "1"}}, {"A": "/tiles/A"})
    result = CliRunner().invoke(main, [command, str(output.root)])
    assert result.exit_code == (2 if command == "verify" else 1)
    said = f"{output.root} holds no dataset yet, but an unfinished job; `reben status {output.root}` shows its progress"
    assert said in " ".join(result.output.split())
    assert "Unfinished job: 1 tile (1 stale)." in CliRunner().invoke(main, ["status", str(output.root)]).output
