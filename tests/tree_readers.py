"""Readers of the trees of BigEarthNet v1 and SeasoNet, written from what is known of the published ones.

Nothing of the package is used.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from rasterio.crs import CRS

Image = np.ndarray

V1_S2, V1_S1, V1_MAPS = "BigEarthNet-v1.0", "BigEarthNet-S1-v1.0", "Reference_Maps-v1.0"
V1_KEYS = {
    V1_S2: (("ulx", "uly", "lrx", "lry"), ("tile_source", "acquisition_date")),
    V1_S1: (("ulx", "uly", "lrx", "lly"), ("corresponding_s2_patch", "scene_source", "acquisition_time")),
}
V1_TIMES = {V1_S2: ("acquisition_date", "%Y-%m-%d %H:%M:%S"), V1_S1: ("acquisition_time", "%Y-%m-%dT%H:%M:%S")}

SEASONET_BANDS = {
    "10m_RGB": ("B04", "B03", "B02"),
    "10m_IR": ("B08",),
    "20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "60m": ("B01", "B09"),
}
SEASONET_HEADER = "Index,Season,Grid,Latitude,Longitude,Satellite,Year,Month,Day,Hour,Minute,Second,Clouds,Snow,Classes"
"""The first columns of the published ``meta.csv``; attributes of places and ``Path`` follow."""


@dataclass(frozen=True)
class File:
    """A GeoTIFF: pixels ``(band, y, x)``, corner and tags."""

    pixels: Image
    epsg: int
    bounds: tuple[int, int, int, int]
    nodata: float | None
    dtype: str
    compression: str | None

    @classmethod
    def read(cls, path: Path) -> File:
        with rasterio.open(path) as image:
            (dtype,) = set(image.dtypes)
            bounds = tuple(map(int, image.bounds))
            assert bounds == tuple(image.bounds)
            compression = image.compression and image.compression.value
            return cls(image.read(), image.crs.to_epsg(), bounds, image.nodata, dtype, compression)


@dataclass(frozen=True)
class V1Patch:
    """A patch folder of version 1."""

    tree: str
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def document(self) -> dict[str, Any]:
        """The JSON file, with its keys in the order of the published ones."""
        document = json.loads((self.folder / f"{self.name}_labels_metadata.json").read_text(encoding="utf-8"))
        corners, own = V1_KEYS[self.tree]
        assert tuple(document) == ("labels", "coordinates", "projection", *own)
        assert tuple(document["coordinates"]) == corners
        assert all(type(edge) is int for edge in document["coordinates"].values())
        return document

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        left, top, right, bottom = self.document["coordinates"].values()
        return left, bottom, right, top

    @property
    def epsg(self) -> int:
        return CRS.from_wkt(self.document["projection"]).to_epsg()

    @property
    def time(self) -> datetime:
        key, form = V1_TIMES[self.tree]
        return datetime.strptime(self.document[key], form).replace(tzinfo=UTC)

    @cached_property
    def images(self) -> dict[str, File]:
        """Images by band."""
        found = sorted(self.folder.glob("*.tif"))
        assert all(path.stem.startswith(f"{self.name}_") for path in found)
        return {path.stem.removeprefix(f"{self.name}_"): File.read(path) for path in found}

    @property
    def others(self) -> set[str]:
        """Names of files that are neither images nor the JSON file."""
        names = {path.name for path in self.folder.iterdir() if path.suffix != ".tif"}
        return names - {f"{self.name}_labels_metadata.json"}


def read_v1(root: Path, tree: str) -> dict[str, V1Patch]:
    """Patches of one tree by name: they lie side by side."""
    return {folder.name: V1Patch(tree, folder) for folder in sorted((root / tree).iterdir())}


def read_v1_list(root: Path, name: str) -> list[tuple[str, str]]:
    """Pairs of one set."""
    lines = (root / f"bigearthnet-{name}.csv").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split(",")) for line in lines]


@dataclass(frozen=True)
class SeasoNetPatch:
    """A patch folder of SeasoNet."""

    folder: Path

    def file(self, name: str) -> File:
        return File.read(self.folder / f"{self.folder.name}_{name}.tif")

    @cached_property
    def bands(self) -> dict[str, File]:
        """Images by their names; each has its bands."""
        images = {name: self.file(name) for name in SEASONET_BANDS}
        assert {name: len(image.pixels) for name, image in images.items()} == {
            name: len(bands) for name, bands in SEASONET_BANDS.items()
        }
        return images

    @cached_property
    def classes(self) -> File:
        """Numbers of classes."""
        return self.file("labels")


@dataclass(frozen=True)
class SeasoNet:
    """The whole tree."""

    root: Path

    @cached_property
    def meta(self) -> pd.DataFrame:
        """``meta.csv``, all as text."""
        text = (self.root / "meta.csv").read_text(encoding="utf-8")
        header, *rows = csv.reader(text.splitlines())
        assert ",".join(header).startswith(f"{SEASONET_HEADER},")
        assert "Path" in header
        return pd.DataFrame(rows, columns=header, dtype=object)

    def split(self, name: str) -> list[int]:
        """Rows of one set."""
        lines = (self.root / "splits" / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        return [int(line) for line in lines if lines != ["Index"]]

    def patches(self) -> Iterator[tuple[pd.Series, SeasoNetPatch]]:
        """Rows with their patches."""
        for _, row in self.meta.iterrows():
            yield row, SeasoNetPatch(self.root / row["Path"])


CLC_OF_SEASONET = (
    *(111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142, 211, 221, 222, 231, 311, 312, 313, 321, 322, 324),
    *(331, 332, 333, 411, 412, 421, 423, 511, 512, 521, 522, 523),
)
"""CORINE codes of the classes 1 to 33."""

SEASONET_CLASSES = (
    "Continuous urban fabric",
    "Discontinuous urban fabric",
    "Industrial or commercial units",
    "Road and rail networks and associated land",
    "Port areas",
    "Airports",
    "Mineral extraction sites",
    "Dump sites",
    "Construction sites",
    "Green urban areas",
    "Sport and leisure facilities",
    "Non-irrigated arable land",
    "Vineyards",
    "Fruit trees and berry plantations",
    "Pastures",
    "Broad-leaved forest",
    "Coniferous forest",
    "Mixed forest",
    "Natural grasslands",
    "Moors and heathland",
    "Transitional woodland/shrub",
    "Beaches, dunes, sands",
    "Bare rock",
    "Sparsely vegetated areas",
    "Inland marshes",
    "Peat bogs",
    "Salt marshes",
    "Intertidal flats",
    "Water courses",
    "Water bodies",
    "Coastal lagoons",
    "Estuaries",
    "Sea and ocean",
)
"""Names of the classes 1 to 33."""
