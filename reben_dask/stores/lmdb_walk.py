"""Walk over an LMDB environment in a process of its own, which a damaged file may end.

LMDB trusts its file: a flipped bit in the tree above the values may end the process (an assertion, or memory that is
not mapped) instead of raising an error.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lmdb


def find_damage(folder: Path, *, values: bool = True) -> str | None:
    """Look for damage that may end a process that reads an environment.

    Parameters
    ----------
    folder : Path
        Folder of the environment.
    values : bool
        Also check that each value ends within the file, which reads its last page.

    Returns
    -------
    str or None
        A phrase; ``None`` if all entries can be read, in the order of their keys.
    """
    # -P: modules beside this one must not shadow others.
    command = [sys.executable, "-P", __file__, str(folder), "values" if values else "keys"]
    walk = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this module
    if walk.returncode == 0:
        return None
    return walk.stdout or f"reading it ends the process (exit code {walk.returncode})"


def _walk(folder: Path, *, values: bool) -> str:
    with (
        lmdb.open(str(folder), readonly=True, lock=False, create=False, readahead=False) as environment,
        environment.begin(buffers=True) as transaction,
    ):
        tree = environment.stat()
        if (folder / "data.mdb").stat().st_size < (environment.info()["last_pgno"] + 1) * tree["psize"]:
            return "it is cut short"
        found, last, cursor = 0, b"", transaction.cursor()
        while cursor.next():
            key = bytes(cursor.key())
            if found == tree["entries"] or not last < key or len(key) > environment.max_key_size():
                return f"entry {found + 1:,} is not a key in order"
            if values and (value := cursor.value()):
                value[-1]
            found, last = found + 1, key
    return "" if found == tree["entries"] else f"it has {found:,} entries instead of {tree['entries']:,}"


if __name__ == "__main__":
    try:
        damage = _walk(Path(sys.argv[1]), values=sys.argv[2] == "values")
    except lmdb.Error as error:
        damage = str(error)
    sys.stdout.write(damage)
    sys.exit(bool(damage))
