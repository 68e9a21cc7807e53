"""What the values of a dataset must be: bands, types, sizes and classes, as its run record or the format says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from reben_dask.errors import InputError
from reben_dask.patches.grid import PATCH_SIDE_M
from reben_dask.patches.nomenclature import Nomenclature, load_nomenclature
from reben_dask.patches.reference_map import MAP_RESOLUTION_M
from reben_dask.sources.sentinel1 import POLARISATIONS
from reben_dask.sources.sentinel2.bands import BAND_RESOLUTION_M
from reben_dask.stores.cube_layout import RADAR_RESOLUTION_M

RECORD = Path("run") / "record.json"
DEFAULT_NOMENCLATURE = "bigearthnet19"


class Kind(Enum):
    """What a patch consists of."""

    S2 = "Sentinel-2"
    S1 = "Sentinel-1"
    MAP = "reference maps"


@dataclass(frozen=True)
class Layer:
    """One image of a patch: its type, and its side in pixels of ``resolution_m`` metres."""

    dtype: str
    side_px: int
    resolution_m: int

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.side_px, self.side_px)


@dataclass(frozen=True)
class Expected:
    """What each patch of a dataset must consist of.

    Parameters
    ----------
    bands : tuple of str
        Sentinel-2 bands.
    patch_m : int
        Side of a patch in metres.
    nomenclature : Nomenclature
        How labels are read off a reference map.
    labels_may_be_empty : bool
        Whether patches without any label are kept.
    """

    bands: tuple[str, ...]
    patch_m: int
    nomenclature: Nomenclature
    labels_may_be_empty: bool = False

    @cached_property
    def layers(self) -> dict[Kind, dict[str, Layer]]:
        """Images of each kind by name; that of a reference map is named ``Data``, as in an LMDB."""
        return {
            Kind.S2: {band: self._layer("uint16", BAND_RESOLUTION_M[band]) for band in sorted(self.bands)},
            Kind.S1: {name: self._layer("float32", RADAR_RESOLUTION_M) for name in POLARISATIONS},
            Kind.MAP: {"Data": self._layer("uint16", MAP_RESOLUTION_M)},
        }

    def bands_of(self, resolution_m: int) -> list[str]:
        """Bands of one resolution, in the order of their names."""
        return [name for name, layer in self.layers[Kind.S2].items() if layer.resolution_m == resolution_m]

    @property
    def resolutions_m(self) -> list[int]:
        """Pixel sizes of the bands in metres, ascending."""
        return sorted({layer.resolution_m for layer in self.layers[Kind.S2].values()})

    def _layer(self, dtype: str, resolution_m: int) -> Layer:
        return Layer(dtype, self.patch_m // resolution_m, resolution_m)


def published() -> Expected:
    """What the published dataset consists of: twelve bands, patches of 1200 m, nineteen classes."""
    return Expected(tuple(BAND_RESOLUTION_M), PATCH_SIDE_M, load_nomenclature(DEFAULT_NOMENCLATURE))


def read_record(path: Path) -> dict[str, Any]:
    """Read a run record.

    Raises
    ------
    InputError
        If the file is not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise InputError(f"{path} is not a run record.")
    return record


def expected_of(record: Mapping[str, Any]) -> Expected:
    """What the patches of a run must consist of.

    Parameters
    ----------
    record : mapping
        The run record.

    Raises
    ------
    InputError
        If the record does not tell bands, patch size, threshold and classes.
    """
    try:
        recipe, rule = record["recipe"], record["recipe"]["labeled_fraction"]
        class_of = {int(code): None if name is None else str(name) for code, name in record["class_of_code"].items()}
        expected = Expected(
            bands=tuple(recipe["bands"]),
            patch_m=int(recipe["patch_size_m"]),
            nomenclature=Nomenclature(str(recipe["nomenclature"]), class_of),
            labels_may_be_empty=rule["threshold"] == 0 and rule["comparison"] == "at_least",
        )
        sides = [layer.side_px for layer in expected.layers[Kind.S2].values()]
    except (AttributeError, KeyError, TypeError, ValueError):
        sides = []
    if not sides or min(sides) < 1:
        raise InputError("The run record does not tell bands, patch size, labelled fraction and classes.")
    return expected


def find_record(folders: Sequence[Path]) -> Path | None:
    """The run record in the first of some folders that has one."""
    return next((folder / RECORD for folder in folders if (folder / RECORD).is_file()), None)
