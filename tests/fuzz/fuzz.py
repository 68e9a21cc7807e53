"""Give a reader damaged files, one after the other: it reads them, or refuses them with an error that explains itself.

    python tests/fuzz/fuzz.py TARGET=INPUTS=FILE … [--seed S]

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
    parser = argparse.ArgumentParser(description="Give readers damaged files.")
    parser.add_argument(
        "targets", nargs="+", metavar="TARGET=INPUTS=FILE", help="a reader, and a file that is in order"
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    _limit_memory()
    warnings.simplefilter("ignore")
    for text in asked.targets:
        target, inputs, file = text.split("=", 2)
        if not _fuzz(target, Path(file), int(inputs), asked.seed):
            return 1
    return 0


def _fuzz(target: str, file: Path, inputs: int, seed: int) -> bool:
    chance = Random(f"{target} {seed}")  # noqa: S311 - to come back with the same seed
    whole, read = file.read_bytes(), reader(target, file)
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "one"
        for number in range(inputs):
            damaged = mutated(whole, chance) if number else whole
            folder.mkdir()
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            try:
                read(damaged, folder)
            except RebenError as error:
                ends["refused"] += 1
                if not number or not str(error).strip():
                    return _fail(target, damaged, number)
            except BaseException:  # noqa: BLE001 - that is what is looked for
                return _fail(target, damaged, number)
            else:
                ends["read"] += 1
            faulthandler.cancel_dump_traceback_later()
            shutil.rmtree(folder)
    print(f"{target}: {inputs:,} files, {ends['read']:,} read, {ends['refused']:,} refused")
    return True


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_BYTES, resource.RLIM_INFINITY))


def _fail(target: str, damaged: bytes, number: int) -> bool:
    kept = Path(tempfile.gettempdir()) / f"reben-fuzz-{target}-{number}"
    kept.write_bytes(damaged)
    traceback.print_exc()
    print(f"{target}: file {number} is neither read nor refused; it is kept as {kept}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
