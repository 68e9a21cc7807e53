"""Names of patches: reBEN (v2), BigEarthNet v1, SeasoNet and Sentinel-1.

====  ======================================================  =======
kind  example                                                 padding
====  ======================================================  =======
v2    ``S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57``  zeros
v1    ``S2A_MSIL2A_20170613T101031_26_57``                    none
S1    ``S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57``        none
====  ======================================================  =======
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pyproj

from reben_dask.errors import InputError
from reben_dask.grid import PatchGrid

FIRST_PIXEL_M = 5
"""Distance from the corner of a patch to the centre of its first 10 m pixel."""

_INDEX = r"\d{1,4}"
_MGRS = r"\d{2}[A-Z]{3}"
_STRIP = r"(?:_\d{8}T\d{6})?"
"""End of the name of a tile's later data strip: the last timestamp of its product."""

_DEGREES = r"-?\d{1,3}_\d{6}"
_FIELDS = {
    "tile": rf"S2[A-D]_[0-9A-Z_]+_T(?P<mgrs>{_MGRS}){_STRIP}",
    "product": rf"S2[A-D]_[0-9A-Z]+_[0-9T]+(?:_T(?P<mgrs>{_MGRS}){_STRIP})?",
    "mgrs": rf"(?P<mgrs>{_MGRS})",
    "time": r"\d{8}T\d{6}",
    "grid": r"\d+",
    "x": f"(?P<x>{_INDEX})",
    "y": f"(?P<y>{_INDEX})",
    "xx": f"(?P<x>{_INDEX})",
    "yy": f"(?P<y>{_INDEX})",
    "lat": _DEGREES,
    "lon": _DEGREES,
}

_TILE_FIELDS = {"tile": "name", "product": "product", "mgrs": "mgrs", "time": "time"}
_STARTS = ("{tile}", "{product}", "{mgrs}_{time}", "{time}_{mgrs}")
_PLACES = ({"x", "y"}, {"xx", "yy"}, {"lat", "lon"})
_FIELD = re.compile(r"\{([^{}]*)\}")
_GROUP = re.compile(r"\(\?P<(\w+)>")
_RUN_TOGETHER = re.compile(r"\{(x|y|grid)\}(?=\{)")
_PUBLISHED = re.compile(rf"(?P<scene>S[12][A-D]_[0-9A-Z_]+)_(?P<x>{_INDEX})_(?P<y>{_INDEX})")


class TileName(NamedTuple):
    """Parts of a tile's name that patch names are made of.

    ``name`` is the product name without its last timestamp, such as ``S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP``;
    with it for a later data strip. ``product`` starts v1 names: mission, level and sensing time; then the MGRS tile if
    tiles share these.
    """

    name: str
    product: str

    @property
    def time(self) -> str:
        """Sensing time, as in the name."""
        return self.name.split("_")[2]

    @property
    def mgrs(self) -> str:
        """MGRS tile without its ``T``."""
        return mgrs_of(self.name)


def mgrs_of(tile: str) -> str:
    """MGRS tile in the name of a tile, without its ``T``."""
    return re.sub(rf"{_STRIP}$", "", tile).rpartition("_T")[2]


def tile_names(tiles: Sequence[str]) -> dict[str, TileName]:
    """Names by tile, with products that are unique among ``tiles``."""
    short = {tile: "_".join(tile.split("_")[:3]) for tile in tiles}
    times = Counter(short.values())
    return {
        tile: TileName(tile, product if times[product] == 1 else f"{product}_T{tile.rpartition('_T')[2]}")
        for tile, product in short.items()
    }


@dataclass(frozen=True, slots=True)
class PatchName:
    """Parts of a published patch name; ``str()`` gives the name back.

    ``scene`` is the text before the indices (tile, product or Sentinel-1 scene); ``x`` (eastwards) and ``y``
    (southwards) are zero-padded to ``digits``, 1 without padding.
    """

    scene: str
    x: int
    y: int
    digits: int = 1

    def __str__(self) -> str:
        return f"{self.scene}_{self.x:0{self.digits}d}_{self.y:0{self.digits}d}"


def parse_patch_name(name: str) -> PatchName:
    """Parse a published v2, v1 or Sentinel-1 patch name; :class:`InputError` if it is none of them."""
    match = _PUBLISHED.fullmatch(name)
    if match is None:
        raise InputError(
            f"{name!r} is not a patch name; expected a Sentinel scene name followed by _X_Y, "
            "such as S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57."
        )
    x, y = match["x"], match["y"]
    padded = any(len(index) > 1 and index.startswith("0") for index in (x, y))
    digits = max(len(x), len(y)) if padded else min(len(x), len(y))
    parsed = PatchName(match["scene"], int(x), int(y), digits)
    if str(parsed) != name:
        raise InputError(f"{name!r} is not a patch name: its indices {x} and {y} are padded differently.")
    return parsed


class ParsedName(NamedTuple):
    """Parts of a patch name; ``None`` if the template lacks them."""

    mgrs: str | None
    xy: tuple[int, int] | None


@dataclass(frozen=True)
class NameTemplate:
    """Names of a dataset's patches, formatted and parsed by one template.

    Parameters
    ----------
    template : str
        Name with the fields ``{tile}``, ``{product}``, ``{mgrs}``, ``{time}``, ``{grid}``, ``{x}``, ``{y}``, ``{xx}``,
        ``{yy}`` (zero-padded), ``{lat}``, ``{lon}`` (centre of the first 10 m pixel, degrees with six decimals and
        ``_`` for the point; the documented SeasoNet name lies 5 m east and south of a patch corner). ``ValueError`` if
        names would not be unique, or could not be parsed.

    Examples
    --------
    >>> NameTemplate("{tile}_{xx}_{yy}").parse("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57")
    ParsedName(mgrs='33UUP', xy=(26, 57))
    """

    template: str

    def __post_init__(self) -> None:
        if unknown := sorted(self.fields - set(_FIELDS)):
            raise ValueError(f"{{{unknown[0]}}} is not a field of a name; use {', '.join(_FIELDS)}")
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", _FIELD.sub("0", self.template)):
            raise ValueError("a name may have letters, digits, and . _ - between its fields")
        if not self.template.startswith(_STARTS):
            raise ValueError(f"a name starts with its tile: {' or '.join(_STARTS)}")
        if not any(place <= self.fields for place in _PLACES):
            raise ValueError("a name needs the position in its tile: {x} and {y}, {xx} and {yy}, or {lat} and {lon}")
        if run_together := _RUN_TOGETHER.search(self.template):
            raise ValueError(f"two patches may have one name, as {run_together[0]} has no end; add _ after it")

    @property
    def fields(self) -> frozenset[str]:
        """Fields of the template."""
        return frozenset(_FIELD.findall(self.template))

    @property
    def is_padded(self) -> bool:
        """True if both indices have the digits of the tile's largest index."""
        return {"xx", "yy"} <= self.fields and self.fields.isdisjoint({"x", "y"})

    @property
    def has_grid(self) -> bool:
        """True if names of a tile's grids differ."""
        return {"lat", "lon"} <= self.fields or "grid" in self.fields

    def names(self, tile: TileName, grid: PatchGrid, number: int = 1) -> list[str]:
        """Names of all patches of a grid, in its order; ``number`` is that of the grid, from 1."""
        if not grid.size:
            return []
        fixed = {"tile": tile.name, "product": tile.product, "mgrs": tile.mgrs, "time": tile.time, "grid": number}
        x, y = (indices.tolist() for indices in grid.indices_xy())
        places = _lonlat(grid) if "lat" in self.fields else [("", "")] * grid.size
        width = grid.digits
        return [
            self.template.format(
                **fixed, x=column, y=row, xx=f"{column:0{width}d}", yy=f"{row:0{width}d}", lat=lat, lon=lon
            )
            for column, row, (lon, lat) in zip(x, y, places, strict=True)
        ]

    def prefix(self, tile: TileName) -> str:
        """Return the common start of a tile's patch names, unique to the tile."""
        place = next(match.start() for match in _FIELD.finditer(self.template) if match[1] not in _TILE_FIELDS)
        return _FIELD.sub(lambda match: str(getattr(tile, _TILE_FIELDS[match[1]])), self.template[:place])

    def parse(self, name: str | None) -> ParsedName | None:
        """Parse a name; ``None`` if it does not match the template."""
        match = self._pattern.fullmatch(name or "")
        if match is None:
            return None
        found = match.groupdict()
        x, y = found.get("x"), found.get("y")
        if x and y and len(x) != len(y) and self.is_padded:
            return None
        return ParsedName(found.get("mgrs"), None if x is None or y is None else (int(x), int(y)))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pieces, named = _FIELD.split(self.template), set[str]()
        for place in range(1, len(pieces), 2):
            pattern = _FIELDS[pieces[place]]
            # A name may hold a field twice, but a group of an expression has its name once.
            pieces[place] = _GROUP.sub(lambda group: "(?:" if group[1] in named else group[0], pattern)
            named.update(_GROUP.findall(pattern))
        pieces[::2] = map(re.escape, pieces[::2])
        return re.compile("".join(pieces))


V2 = NameTemplate("{tile}_{xx}_{yy}")
"""Names of reBEN."""


def _lonlat(grid: PatchGrid) -> list[tuple[str, str]]:
    """Longitude and latitude of the first pixel of each patch, as in names."""
    minx, _, _, maxy = grid.bounds().T
    to_degrees = pyproj.Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    degrees = to_degrees.transform(minx + FIRST_PIXEL_M, maxy - FIRST_PIXEL_M)
    lon, lat = ([f"{degree:.6f}".replace(".", "_") for degree in axis.tolist()] for axis in degrees)
    return list(zip(lon, lat, strict=True))
