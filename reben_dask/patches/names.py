"""Names of patches: reBEN (v2), BigEarthNet v1 and Sentinel-1.

The names differ only in what stands before the indices and in their padding:

=========  ====================================================  =========
kind       example                                               padding
=========  ====================================================  =========
v2         ``S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57``  zeros
v1         ``S2A_MSIL2A_20170613T101031_26_57``                  none
S1         ``S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57``      none
=========  ====================================================  =========
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reben_dask.errors import InputError

_NAME = re.compile(r"(?P<scene>S[12][A-D]_[0-9A-Z_]+)_(?P<x>\d{1,4})_(?P<y>\d{1,4})")


@dataclass(frozen=True, slots=True)
class PatchName:
    """The parts of a patch name; ``str()`` gives the name back.

    Parameters
    ----------
    scene : str
        What stands before the indices: the tile (v2), or the product or scene (v1, Sentinel-1).
    x, y : int
        Column (eastwards) and row (southwards) of the patch in its tile.
    digits : int
        Width to which the indices are padded with zeros; 1 for names without padding.
    """

    scene: str
    x: int
    y: int
    digits: int = 1

    def __str__(self) -> str:
        return f"{self.scene}_{self.x:0{self.digits}d}_{self.y:0{self.digits}d}"


def parse_patch_name(name: str) -> PatchName:
    """Take a published patch name apart.

    Raises
    ------
    InputError
        If ``name`` does not end in two indices after a Sentinel-1 or Sentinel-2 scene name.
    """
    match = _NAME.fullmatch(name)
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


def patch_ids(tile: str, x: list[int], y: list[int], digits: int) -> list[str]:
    """Names of the patches ``(x, y)`` of a tile, in the order given."""
    return [str(PatchName(tile, column, row, digits)) for column, row in zip(x, y, strict=True)]
