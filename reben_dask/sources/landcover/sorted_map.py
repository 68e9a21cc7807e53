"""Sorted maps: spatially compact GeoParquet parts, with a description beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from reben_dask.errors import InputError
from reben_dask.nomenclature import Nomenclature, code_order, nomenclature_path
from reben_dask.sources.landcover.vector_map import LandcoverMap, open_landcover
from reben_dask.sources.vector_files import geo_metadata, split_layer
from reben_dask.wording import counted

if TYPE_CHECKING:
    import dask_geopandas

DESCRIPTION_FILE = "_landcover.json"
"""Starts with an underscore, so that readers of Parquet folders ignore it."""

COLUMNS = ("code", "order", "geometry")


@dataclass(frozen=True)
class SortedMap:
    """Sorted map in a folder, written by :func:`~reben_dask.sources.landcover.sort_landcover`."""

    folder: Path

    @property
    def path(self) -> str:
        """The folder, as a string."""
        return str(self.folder)

    @cached_property
    def description(self) -> dict[str, Any]:
        """Content of the description file."""
        try:
            description: dict[str, Any] = json.loads((self.folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
            if description["version"] == 1:
                return description
        except (ValueError, KeyError, TypeError):
            pass
        raise InputError(
            f"{self.folder / DESCRIPTION_FILE} is damaged, or of another version of this program; "
            "convert the map again with: reben landcover"
        )

    @property
    def crs(self) -> str:
        """Coordinate reference system."""
        return str(self.description["crs"])

    @property
    def polygons(self) -> int:
        """Number of polygons."""
        return int(self.description["polygons"])

    @property
    def record(self) -> dict[str, Any]:
        """Entry of the map in a run record."""
        copied = {"about": self.description.get("about", ""), "source": self.description["source"]}
        return {"path": self.path, "crs": self.crs, "polygons": self.polygons, **copied}

    @property
    def layer(self) -> str:
        """Layer of the source."""
        return str(self.description["source"]["layer"])

    @property
    def code_column(self) -> str:
        """Column of the source with the class codes."""
        return str(self.description["source"]["code_column"])

    @property
    def left_out(self) -> int:
        """Rows of the source without a polygon."""
        return int(self.description["left_out"])

    @property
    def bounds(self) -> tuple[float, ...] | None:
        """``(minx, miny, maxx, maxy)`` of the polygons in ``crs``; ``None`` if empty."""
        bounds = self.description["bounds"]
        return tuple(bounds) if bounds else None

    @cached_property
    def parts(self) -> list[Path]:
        """Files of the parts, in the order of the partitions of :attr:`frame`."""
        return sorted(self.folder.glob("part-*.parquet"))

    @cached_property
    def spatial_partitions(self) -> gpd.GeoSeries:
        """Bounds of each part as a polygon, in ``crs``, from its footer; empty for a part without polygons."""
        return gpd.GeoSeries([_bounds_of(part) for part in self.parts], crs=self.crs)

    @cached_property
    def frame(self) -> dask_geopandas.GeoDataFrame:
        """Map as a lazy frame with ``spatial_partitions``, one partition per part.

        Columns ``code`` (uint16, or text if one is not a whole number from 1 to 65535), ``order`` (int64, row in the
        source) and ``geometry``.
        """
        import dask_geopandas  # noqa: PLC0415 - takes a second, which a job does not need to spend

        options = {"columns": list(COLUMNS), "split_row_groups": False, "gather_spatial_partitions": False}
        frame = dask_geopandas.read_parquet(list(map(str, self.parts)), **options)
        frame.spatial_partitions = self.spatial_partitions
        return frame

    @property
    def codes(self) -> dict[str, Mapping[str, int]]:
        """``rows`` and ``first_row`` of each code."""
        return dict(self.description["codes"])


def _bounds_of(part: Path) -> shapely.Polygon:
    _, geometry = geo_metadata(pq.ParquetFile(part))
    bounds = geometry.get("bbox", [np.nan])
    return shapely.Polygon() if np.isnan(bounds).any() else shapely.box(*bounds)


def read_polygons(parts: Sequence[Path], *boxes: tuple[float, float, float, float]) -> gpd.GeoDataFrame:
    """Read the polygons whose own bounds intersect a box, ``(minx, miny, maxx, maxy)`` in the system of the map.

    ``parts`` holds at least one part. Columns: ``code`` (uint16 or text), ``order`` (int64) and ``geometry``. Other row
    groups are not decoded.
    """
    # GeoPandas takes several files at once, and then makes the reference system, which takes 30 ms, only once.
    near = [gpd.read_parquet(list(parts), columns=list(COLUMNS), bbox=box) for box in boxes]
    found = pd.concat(near, ignore_index=True).drop_duplicates("order", ignore_index=True)
    pa.default_memory_pool().release_unused()  # 50 MB for a full tile
    return found


def is_sorted_landcover(path: str | Path) -> bool:
    """Test if a path is a sorted map."""
    return (Path(path) / DESCRIPTION_FILE).is_file()


def open_any_landcover(
    path: str, *, layer: str | None = None, code_column: str | None = None
) -> LandcoverMap | SortedMap:
    """Open a sorted map as it is, and any other as :func:`~reben_dask.sources.landcover.open_landcover` does."""
    file, named = (path, layer) if layer is not None else split_layer(path)
    if not is_sorted_landcover(file):
        return open_landcover(file, layer=named, code_column=code_column)
    found = SortedMap(Path(file))
    if named not in (None, found.layer):
        raise InputError(
            f"The sorted map {file} holds the layer {found.layer}, not {named}; sort that one with: reben landcover"
        )
    return found


def require_known_codes(
    landcover: LandcoverMap | SortedMap, found: Mapping[str, Mapping[str, int]], nomenclature: Nomenclature, name: str
) -> None:
    """Raise :class:`InputError` with all codes of a map that a nomenclature does not know, and the lines to add.

    ``found`` has ``rows`` and ``first_row`` of each code; ``name`` is the nomenclature as a recipe names it.
    """
    unknown = nomenclature.unknown_codes(found)
    if not unknown:
        return
    counts = [f"{code} ({counted(found[code]['rows'], 'row')}, first {found[code]['first_row']})" for code in unknown]
    lines = ", ".join(f'"{code},"' for code in unknown)
    path = nomenclature_path(name)
    where = (
        f"to {path}" if name.endswith(".csv") else f"to a copy of {path}, and give that as nomenclature in the recipe"
    )
    raise InputError(
        f"The land-cover map {landcover.record['source']['name']} has codes (column {landcover.code_column}) that the "
        f"nomenclature {nomenclature.name} does not know: {', '.join(counts)}. Add the lines {lines}, each with its "
        f"class after the comma, or without one where a code has no label, {where}."
    )


def part_name(number: int) -> str:
    """File name of a part."""
    return f"part-{number:05d}.parquet"


def write_description(
    folder: Path,
    source: LandcoverMap,
    codes: Mapping[str, Mapping[str, int]],
    extent: tuple[float, ...],
    left_out: int,
    content: str,
) -> None:
    """Describe the parts in a folder; ``codes`` maps each code to its ``rows`` and ``first_row``.

    ``content`` is that of :func:`~reben_dask.sources.landcover.vector_map.content_digest`.
    """
    polygons = sum(count["rows"] for count in codes.values()) - left_out
    description = {
        "version": 1,
        "source": source.identity,
        "about": source.about,
        "content": content,
        "crs": source.crs,
        "polygons": polygons,
        "left_out": left_out,
        "bounds": extent if polygons else None,
        "codes": {code: dict(codes[code]) for code in sorted(codes, key=code_order)},
    }
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
