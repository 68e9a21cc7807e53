"""What a dataset is made from, in a form that tells one job from another.

An origin is a mapping, as JSON knows it, of aspects of a job: its recipe, its tiles, its map, and so on. Paths are not
part of it, as data that have moved are the same data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

Origin = dict[str, Any]

HASHED_BYTES = 64 * 2**20
"""Files up to this size are known by their content; larger ones, by size and time of modification."""

TILES = "tiles"
"""The aspect whose parts are told one by one."""

_SHOWN = 3


def digest_of(content: Any) -> str:
    """Digest of something that JSON knows, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_identity(path: Path) -> dict[str, Any]:
    """What tells a file from others and from later versions of it."""
    status = path.stat()
    if status.st_size > HASHED_BYTES:
        return {"name": path.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any], unfinished: Container[str] = ()) -> list[str]:
    """Phrases that say in what two origins differ; none if they are the same.

    Parameters
    ----------
    earlier, now : Origin
        The origins.
    unfinished : container of str
        Tiles that may have changed, as nothing is made from them yet.
    """
    found = []
    of_tiles = {
        name: now.get(TILES, {}).get(name) if name in unfinished else identity
        for name, identity in earlier.get(TILES, {}).items()
    }
    earlier = {**earlier, TILES: of_tiles}
    for aspect in dict.fromkeys((*earlier, *now)):
        if earlier.get(aspect) == now.get(aspect):
            continue
        if aspect == TILES:
            found.append(_tiles(earlier[TILES], now.get(TILES, {})))
        else:
            found.append(f"another {aspect}")
    return found


def _tiles(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    kinds = {
        "more": [name for name in now if name not in earlier],
        "missing": [name for name in earlier if name not in now],
        "changed": [name for name in now if name in earlier and earlier[name] != now[name]],
    }
    phrases = [f"{len(names):,} {kind} ({_few(names)})" for kind, names in kinds.items() if names]
    return f"other tiles: {', '.join(phrases)}"


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + ", …" * (len(names) > _SHOWN)
