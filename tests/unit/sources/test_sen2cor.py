"""Runs of sen2cor over one product: what succeeds, what is an error, and what is left of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from processes import wait_for
from stand_in import StandIn, install, write_l1c

from reben_dask.errors import InputError, ProgramError
from reben_dask.sources.sen2cor import Correction, Level1C, correct, find_l1c, guard, inspect_program
from reben_dask.sources.sentinel2 import read_tile

NAME = "S2A_MSIL1C_20180725T100031_N0206_R122_T33UVP_20180725T120000"
OTHER = NAME.replace("20180725T100031", "20180730T100031")
TILE = "S2A_MSIL2A_20180725T100031_N9999_R122_T33UVP"
LONG_S = 600


@pytest.fixture
def stand_in(small_folders: list[Path], tmp_path: Path) -> StandIn:
    return install(tmp_path / "sen2cor", small_folders[0])


def _settings(stand_in: StandIn, folder: Path, timeout_s: float = LONG_S) -> Correction:
    return Correction(str(stand_in.program), stand_in.gipp, folder / "scratch", folder / "logs", timeout_s)


# Products


def test_products_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    first, second = write_l1c(tmp_path / "a" / "b", NAME), write_l1c(tmp_path / "c", OTHER)
    (tmp_path / "a" / f"{NAME}.zip").touch()
    old = tmp_path / "S2A_OPER_PRD_MSIL1C_PDMC_20161122T194206.SAFE"
    write_l1c(tmp_path, old.stem)
    products, notes = find_l1c([tmp_path, tmp_path / "c"])
    assert products == [Level1C(first), Level1C(second)]
    assert [product.tile for product in products] == [TILE, TILE.replace("20180725T", "20180730T")]
    (note,) = notes
    assert note.startswith(f"Skipped 2 L1C products that sen2cor cannot read ({NAME}.zip, {old.name}): zip files,")


def test_folders_without_products_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No Sentinel-2 L1C product found in .*; expected \.SAFE folders"):
        find_l1c([tmp_path])
    with pytest.raises(InputError, match=r"The Sentinel-2 L1C path .* does not exist"):
        find_l1c([tmp_path / "nowhere"])


@pytest.mark.parametrize("drop", [["DATASTRIP/DS/QI_DATA", "GRANULE/L1C/AUX_DATA", "HTML"], ["HTML"]], ids=len)
def test_dropped_empty_folders_are_restored_in_a_copy(stand_in: StandIn, tmp_path: Path, drop: Sequence[str]) -> None:
    product = Level1C(write_l1c(tmp_path / "l1c", NAME, drop=drop))
    assert product.missing_folders == sorted(drop)
    assert read_tile(correct(product, _settings(stand_in, tmp_path))).name == TILE
    assert product.missing_folders == sorted(drop)  # the input is left alone


# Program


def test_an_installation_is_found_by_its_folder_its_program_or_on_path(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(stand_in.program.parent), prepend=os.pathsep)
    found = [inspect_program(given) for given in (None, str(stand_in.root), str(stand_in.program))]
    assert found == [(str(stand_in.program), "02.11.00", stand_in.gipp.read_bytes())] * 3


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2.5.5", "is sen2cor 02.05.05, and 02.08 or newer is needed"),
        ("unknown", "names no version of sen2cor"),
    ],
)
def test_versions_that_cannot_be_used(small_folders: list[Path], tmp_path: Path, version: str, message: str) -> None:
    made = install(tmp_path / "old", small_folders[0], version)
    with pytest.raises(InputError, match=message):
        inspect_program(str(made.root))


def test_programs_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="L2A_Process of sen2cor is not on PATH"):
        inspect_program(None)
    with pytest.raises(InputError, match="does not exist"):
        inspect_program(str(tmp_path))
    (tmp_path / "L2A_Process").write_text("text")
    with pytest.raises(InputError, match="is not executable"):
        inspect_program(str(tmp_path / "L2A_Process"))
    (tmp_path / "L2A_Process").chmod(0o755)
    with pytest.raises(InputError, match="--help does not run"):
        inspect_program(str(tmp_path / "L2A_Process"))


# Runs


def test_a_good_run(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONHOME", "LD_LIBRARY_PATH", "CDSE_PASSWORD"):
        monkeypatch.setenv(name, "of the caller")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    product = Level1C(write_l1c(tmp_path / "l1c", NAME))
    made = correct(product, _settings(stand_in, tmp_path))
    assert (read_tile(made).name, made.name[:-5]) == (TILE, f"{TILE}_20260101T000000")
    (run,) = stand_in.noted()
    assert run["input"] == str(product.path)
    assert run["gipp"] == hashlib.sha256(stand_in.gipp.read_bytes()).hexdigest()
    plain = {name for name in run["environment"] if not name.lower().endswith("_proxy")}
    assert plain <= {*guard.KEPT, "PATH", "LC_ALL", "LC_CTYPE"}
    assert run["environment"]["https_proxy"] == "http://proxy:3128"
    here, work, out = run["folders"]
    assert here == work != out
    assert not Path(work).exists()
    assert "Application terminated successfully" in (tmp_path / "logs" / f"{NAME}.log").read_text()


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("fails", r"sen2cor ended with status 1 on .* \(L2A_Process: ERROR: no valid DEM\); see .*\.log\."),
        ("crashes", "sen2cor ended with status 139 on "),
        ("nothing", "sen2cor ended with status 0 on .*, but made no product"),
        ("empty", "sen2cor ended with status 0 on .*, but its product is not complete .*has no image of B01"),
    ],
)
def test_runs_that_fail_leave_only_their_log(stand_in: StandIn, tmp_path: Path, behaviour: str, message: str) -> None:
    stand_in.tell({NAME: [behaviour]})
    with pytest.raises(ProgramError, match=message):
        correct(Level1C(write_l1c(tmp_path / "l1c", NAME)), _settings(stand_in, tmp_path))
    assert list((tmp_path / "scratch").iterdir()) == []
    assert behaviour in (tmp_path / "logs" / f"{NAME}.log").read_text()


def test_two_runs_do_not_meet(stand_in: StandIn, tmp_path: Path) -> None:
    """A run fails where there is output already."""
    product, settings = Level1C(write_l1c(tmp_path / "l1c", NAME)), _settings(stand_in, tmp_path)
    assert correct(product, settings) != correct(product, settings)


def test_a_run_that_hangs_is_ended_with_its_children(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.tell({NAME: ["hangs"]})
    product = Level1C(write_l1c(tmp_path / "l1c", NAME))
    with pytest.raises(InputError, match=r"did not correct .* within 0\.0002778 h and was killed; see "):
        correct(product, _settings(stand_in, tmp_path, timeout_s=1))
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not any(_is_running(pid) for pids in stand_in.noted("hanging") for pid in pids)


def test_a_program_ends_with_its_worker(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.tell({NAME: ["hangs"]})
    product, out = write_l1c(tmp_path / "l1c", NAME), tmp_path / "made"
    out.mkdir()
    command = [stand_in.program, "--output_dir", out, "--GIP_L2A", stand_in.gipp, product]
    guarded = [sys.executable, "-I", guard.__file__, *map(str, command)]
    worker = subprocess.Popen([sys.executable, "-c", WORKER, *guarded], stdin=subprocess.DEVNULL)
    try:
        ((program, child),) = wait_for(lambda: stand_in.noted("hanging"))
        assert _is_running(program)
        worker.kill()
        wait_for(lambda: not (_is_running(program) or _is_running(child)))
    finally:
        worker.kill()
        worker.wait()


WORKER = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE).wait()"


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
