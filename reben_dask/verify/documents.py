"""The metadata documents of a Zarr store: each readable, and the gathered copies the same as the originals.

A group may carry the documents of everything below it, so that a reader opens one file. Readers that go to an array
directly read its own document; both must see the same thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCUMENT = "zarr.json"
_GATHERED = "consolidated_metadata"


def document_faults(group: Path, name: str, *, below: bool = True) -> Iterator[str]:
    """Compare what a group says of its members with what they say of themselves.

    Parameters
    ----------
    group : Path
        A group of a Zarr v3 store.
    name : str
        What it is called in messages.
    below : bool
        Also look at the groups in it.

    Yields
    ------
    str
        Phrases that begin with the path of a document.

    Raises
    ------
    OSError, ValueError
        If the group's own document cannot be read.
    """
    gathered = _read(group / DOCUMENT).get(_GATHERED)
    if gathered is not None:
        yield from _differences(group, name, gathered["metadata"])
    if below:
        for child in sorted(path.parent for path in group.glob(f"*/{DOCUMENT}")):
            if _is_group(child):
                yield from document_faults(child, f"{name}/{child.name}")


def _differences(group: Path, name: str, members: dict[str, Any]) -> Iterator[str]:
    for member, copy in members.items():
        try:
            original = _read(group / member / DOCUMENT)
        except (OSError, ValueError):
            yield f"{name}/{member}/{DOCUMENT} cannot be read"
            continue
        if _own(original) != _own(copy):
            yield f"{name}/{member}/{DOCUMENT} is not as {name}/{DOCUMENT} says"
    for child in sorted(path.parent for path in group.glob(f"*/{DOCUMENT}")):
        if child.name not in members:
            yield f"{name}/{child.name} is not in {name}/{DOCUMENT}"


def _is_group(folder: Path) -> bool:
    try:
        return bool(_read(folder / DOCUMENT).get("node_type") == "group")
    except ValueError:
        return False


def _own(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != _GATHERED}


def _read(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} is no JSON object")  # noqa: TRY004 - as for any other document that is none
    return document
