"""Names of patches as a template gives them: what all names of a tile begin with, and what a name tells."""

from __future__ import annotations

import re
from functools import cached_property
from typing import NamedTuple

from reben_dask.errors import InputError
from reben_dask.formats.names import V2, TileName, mgrs_of, parse_patch_name

UNKNOWN = ""
"""Template of names of which nobody knows how they are made; it reads none."""

_FIELD = re.compile(r"\{(\w+)\}")
_DEGREES = r"-?\d{1,3}_\d{6}"
_INDEX = r"\d{1,4}"
_PATTERNS = {
    "tile": r"S2[A-D]_[0-9A-Z_]+_T(?P<mgrs>\d{2}[A-Z]{3})",
    "product": r"S2[A-D]_[0-9A-Z]+_[0-9T]+(?:_T(?P<mgrs>\d{2}[A-Z]{3}))?",
    "mgrs": r"(?P<mgrs>\d{2}[A-Z]{3})",
    "time": r"\d{8}T\d{6}",
    "grid": r"\d+",
    "x": f"(?P<x>{_INDEX})",
    "y": f"(?P<y>{_INDEX})",
    "xx": f"(?P<x>{_INDEX})",
    "yy": f"(?P<y>{_INDEX})",
    "lat": _DEGREES,
    "lon": _DEGREES,
}
_GROUP = re.compile(r"\(\?P<(\w+)>")
_OF_TILE = {"tile": "name", "product": "product", "mgrs": "mgrs", "time": "time"}
_PLACES = ("grid", "x", "y", "xx", "yy", "lat", "lon")


class Told(NamedTuple):
    """What the name of a patch tells; ``None`` where it does not.

    Parameters
    ----------
    mgrs : str or None
        MGRS tile, without its ``T``.
    place : (int, int) or None
        Column and row of the patch.
    """

    mgrs: str | None
    place: tuple[int, int] | None


class NamePattern:
    """Names of the Sentinel-2 patches of a dataset.

    Parameters
    ----------
    template : str
        How patches are named; see :func:`reben_dask.formats.names.patch_ids`.
    """

    def __init__(self, template: str) -> None:
        self.template = template

    def beginning(self, tile: TileName) -> str:
        """What the names of all patches of a tile begin with, and no other names."""
        place = next((match.start() for match in _FIELD.finditer(self.template) if match[1] in _PLACES), None)
        return _FIELD.sub(lambda match: str(getattr(tile, _OF_TILE[match[1]])), self.template[:place])

    def read(self, name: str | None) -> Told | None:
        """What a name tells; ``None`` for one that is not made from the template."""
        if self.template == V2.template:
            return _read_published(name)
        match = self._pattern.fullmatch(name or "")
        if match is None:
            return None
        told = match.groupdict()
        place = None if told.get("x") is None or told.get("y") is None else (int(told["x"]), int(told["y"]))
        return Told(told.get("mgrs"), place)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pieces, named = _FIELD.split(self.template), set[str]()
        for place in range(1, len(pieces), 2):
            pattern = _PATTERNS[pieces[place]]
            # A name may tell a thing twice, but a group has its name once.
            pieces[place] = _GROUP.sub(lambda group: "(?:" if group[1] in named else group[0], pattern)
            named.update(_GROUP.findall(pattern))
        pieces[::2] = map(re.escape, pieces[::2])
        return re.compile("".join(pieces))


def _read_published(name: str | None) -> Told | None:
    try:
        parsed = parse_patch_name(name or "")
    except InputError:
        return None
    if not parsed.scene.startswith("S2"):
        return None
    return Told(mgrs_of(parsed.scene) if "_T" in parsed.scene else None, (parsed.x, parsed.y))
