"""Give a reader damaged files, one after the other: it reads them, or refuses them with an error that explains itself.

    python tests/fuzz/fuzz.py TARGET FILE [--inputs N] [--seed S]

Ends with status 1 at the first file at which anything else happens, and leaves it beside the program's output. The
process may only take so much more memory than it has, and ends with the stacks of its threads if a file takes minutes.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

from mutate import mutated
from targets import reader

from reben_dask.errors import RebenError

MORE_BYTES = 2 * 2**30
HANG_S = 120


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Give a reader damaged files.")
    parser.add_argument("target")
    parser.add_argument("file", type=Path, help="a file that is in order")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    _limit_memory()
    warnings.simplefilter("ignore")
    chance = Random(f"{asked.target} {asked.seed}")  # noqa: S311 - to come back with the same seed
    whole, read = asked.file.read_bytes(), reader(asked.target, asked.file)
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "one"
        for number in range(asked.inputs):
            damaged = mutated(whole, chance) if number else whole
            folder.mkdir()
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            try:
                read(damaged, folder)
            except RebenError as error:
                ends["refused"] += 1
                if not number or not str(error).strip():
                    return _fail(asked.target, damaged, number)
            except BaseException:  # noqa: BLE001 - that is what is looked for
                return _fail(asked.target, damaged, number)
            else:
                ends["read"] += 1
            faulthandler.cancel_dump_traceback_later()
            shutil.rmtree(folder)
    print(f"{asked.target}: {asked.inputs:,} files, {ends['read']:,} read, {ends['refused']:,} refused")
    return 0


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_BYTES, resource.RLIM_INFINITY))


def _fail(target: str, damaged: bytes, number: int) -> int:
    kept = Path(tempfile.gettempdir()) / f"reben-fuzz-{target}-{number}"
    kept.write_bytes(damaged)
    traceback.print_exc()
    print(f"{target}: file {number} is neither read nor refused; it is kept as {kept}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
