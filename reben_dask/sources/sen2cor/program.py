"""Program ``L2A_Process`` of sen2cor: its installation, and one run over one product.

Its exit statuses are undocumented, so success is judged by its output. It fails if its output exists, so each run gets
new folders.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from reben_dask.errors import InputError, ProgramError, missing
from reben_dask.formats.bands import PUBLISHED_BANDS
from reben_dask.sources.sen2cor import guard
from reben_dask.sources.sen2cor.products import Level1C
from reben_dask.sources.sentinel2 import read_tile

PROGRAM = "L2A_Process"
OLDEST_VERSION = (2, 8)
"""First version with ``--output_dir``."""

_VERSION = re.compile(r"\(Sen2Cor\)\.?\s+Version:?\s+(\d+)\.(\d+)(?:\.(\d+))?", re.IGNORECASE)
_GIPP = "sen2cor/cfg/L2A_GIPP.xml"
_HELP_TIMEOUT_S = 120
_LINE_CHARACTERS = 300


class Installation(NamedTuple):
    """Installation of sen2cor on a machine."""

    program: str
    """Path of ``L2A_Process``."""
    version: str
    """Version, such as ``02.11.00``."""
    gipp: bytes | None
    """Configuration ``L2A_GIPP.xml`` that the installation brings, if there is exactly one."""


@dataclass(frozen=True)
class Correction:
    """Settings of all runs; workers see the paths."""

    program: str
    gipp: Path
    scratch: Path
    """Folder for the runs, on the disk of the results."""
    logs: Path
    timeout_s: float


def inspect_program(given: str | None) -> Installation:
    """Inspect the installation on this machine.

    Parameters
    ----------
    given : str or None
        Path of ``L2A_Process``, or of the folder of the installation; by default the program is looked up on ``PATH``.

    Raises
    ------
    InputError
        If there is none, or its version is unknown or too old.
    """
    program = _find_program(given)
    try:
        done = subprocess.run(  # noqa: S603 - the user's program
            [program, "--help"],
            env=guard.clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_HELP_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{program} --help does not run ({error}); give the {PROGRAM} of sen2cor.") from None
    found = _VERSION.search((done.stdout + done.stderr).decode(errors="replace"))
    if found is None:
        raise InputError(f"{program} --help names no version of sen2cor; give the {PROGRAM} of sen2cor.")
    version = tuple(int(number or 0) for number in found.groups())
    text = ".".join(f"{number:02d}" for number in version)
    if version < OLDEST_VERSION:
        oldest = ".".join(f"{number:02d}" for number in OLDEST_VERSION)
        raise InputError(f"{program} is sen2cor {text}, and {oldest} or newer is needed; install 02.11.00.")
    configurations = sorted(Path(program).resolve().parent.parent.glob(f"lib/**/{_GIPP}"))
    return Installation(program, text, configurations[0].read_bytes() if len(configurations) == 1 else None)


def _find_program(given: str | None) -> str:
    if given is None:
        if found := shutil.which(PROGRAM):
            return os.path.abspath(found)  # noqa: PTH100 - links stay as they are
        raise InputError(f"{PROGRAM} of sen2cor is not on PATH; install sen2cor, and give its folder (--sen2cor).")
    path = Path(given).absolute()
    if path.is_dir():
        path = path / "bin" / PROGRAM
    if not path.is_file():
        raise InputError(missing(f"The program {PROGRAM}", path))
    if not os.access(path, os.X_OK):
        raise InputError(f"{path} is not executable; give the {PROGRAM} of sen2cor.")
    return str(path)


def correct(product: Level1C, settings: Correction) -> Path:
    """Correct a product; return the L2A product, in a folder of this run.

    Raises
    ------
    ProgramError
        If sen2cor fails; another run may succeed.
    InputError
        If it does not end in time.
    """
    folder = settings.scratch / f"{product.name}-{uuid4().hex[:8]}"
    made, work = folder / "made", folder / "work"
    log = settings.logs / f"{product.name}.log"
    try:
        for path in (made, work, settings.logs):
            path.mkdir(parents=True, exist_ok=True)
        options = ["--output_dir", str(made), "--work_dir", str(work), "--GIP_L2A", str(settings.gipp)]
        source = _with_folders(product, folder)
        status = _run([settings.program, *options, str(source)], work, log, settings.timeout_s)
        return _result(product, made, log, status, settings.timeout_s)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _with_folders(product: Level1C, folder: Path) -> Path:
    """Path of the product; of a copy made of links, if empty folders have to be added."""
    if not product.missing_folders:
        return product.path
    copy = folder / product.path.name
    shutil.copytree(product.path, copy, copy_function=os.symlink)
    for name in product.missing_folders:
        (copy / name).mkdir(parents=True)
    return copy


def _run(command: list[str], work: Path, log: Path, timeout_s: float) -> int | None:
    """Run a command under the guard, its output appended to ``log``; return its status, ``None`` after a time-out."""
    with log.open("ab") as output:
        output.write(f"\n{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {platform.node()}: {' '.join(command)}\n".encode())
        output.flush()
        guarded = subprocess.Popen(  # noqa: S603 - the user's program
            [sys.executable, "-I", str(guard.__file__), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=work,
        )
        try:
            return guarded.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # The guard ends the program, if it still runs.
            if guarded.stdin:
                guarded.stdin.close()
            guarded.wait()


def _result(product: Level1C, made: Path, log: Path, status: int | None, timeout_s: float) -> Path:
    """L2A product of a run; an error if it did not succeed."""
    if status is None:
        raise InputError(
            f"sen2cor did not correct {product.name} within {timeout_s / 3600:,.4g} h and was killed; see {log}, and "
            "give a longer --timeout, or run the same command again."
        )
    if status:
        raise ProgramError(f"sen2cor ended with status {status} on {product.name} ({_last_line(log)}); see {log}.")
    products = sorted(made.glob("*.SAFE"))
    if len(products) != 1:
        count = f"{len(products)} products" if products else "no product"
        raise ProgramError(f"sen2cor ended with status 0 on {product.name}, but made {count}; see {log}.")
    try:
        tile = read_tile(products[0])
        tile.require(tuple(PUBLISHED_BANDS))
    except (InputError, OSError) as error:
        raise ProgramError(
            f"sen2cor ended with status 0 on {product.name}, but its product is not complete ({error}); see {log}."
        ) from None
    return products[0]


def _last_line(log: Path) -> str:
    with log.open("rb") as lines:
        last = next(iter(deque((line for line in lines if line.strip()), 1)), b"")
    return last.decode(errors="replace").strip()[:_LINE_CHARACTERS]
