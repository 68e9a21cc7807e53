"""Columns of the patch table and of the published metadata.

Schemas, the checks of :mod:`reben_dask.verify`, the Croissant fields, the tables in ``docs/data.md`` and the ``meta``
of the Dask frame derive from these constants. To add a column of the patch table, add a line where it belongs in the
order; ``published=9`` makes it the ninth of the metadata files, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TABLE_CRS = "EPSG:4326"
"""Coordinate system of ``geometry`` and ``bbox``."""

CLASSES_KEY = b"reben:classes"
"""Key of the Parquet metadata that holds the class names, as a JSON list in alphabetical order."""

EXTRA_LABELS, EXTRA_SPLITS = "labels_", "split_"
"""Prefixes of the columns that a recipe adds for further region thresholds and further splits."""

SPLITS = ("train", "validation", "test")
"""Names of the splits, in the order of tables and figures."""

UNASSIGNED = "no split"
"""Heading of patches in no split, in tables and figures."""

KEPT, REJECTED = "kept", "rejected"


class Column(str):
    """Name of a column, with its Arrow type and its meaning in one phrase.

    ``published`` is its position in the metadata files, from 1; ``None`` for columns of the patch table alone.
    ``optional`` columns are null where a job has no input for them.
    """

    __slots__ = ("description", "optional", "published", "type")
    type: pa.DataType
    description: str
    published: int | None
    optional: bool

    def __new__(
        cls, name: str, type_: pa.DataType, description: str, *, published: int | None = None, optional: bool = False
    ) -> Self:
        """Create a column."""
        column = super().__new__(cls, name)
        column.type, column.description = type_, description
        column.published, column.optional = published, optional
        return column

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return (str, (str(self),))


_TEXT, _TEXTS, _FRACTION, _BOOL = pa.string(), pa.list_(pa.string()), pa.float64(), pa.bool_()
_INDEX, _METRES = pa.int32(), pa.int32()
_TIME = pa.timestamp("us", tz="UTC")
BBOX_TYPE = pa.struct([(edge, pa.float64()) for edge in ("xmin", "ymin", "xmax", "ymax")])

_TABLE: list[Column] = []


def _column(name: str, type_: pa.DataType, description: str, **where: Any) -> Column:
    """Define the next column of the patch table."""
    _TABLE.append(Column(name, type_, description, **where))
    return _TABLE[-1]


PATCH_ID = _column("patch_id", _TEXT, "Name of the Sentinel-2 patch, and its key in the LMDB", published=1)
TILE = _column("tile", _TEXT, "Product name without its last timestamp")
GRID = _column("grid", _INDEX, "Number of the patch grid, from 1")
X = _column("x", _INDEX, "Column of the patch in its grid, eastwards from 0")
Y = _column("y", _INDEX, "Row of the patch in its grid, southwards from 0")
STATUS = _column("status", _TEXT, "kept or rejected")
REASON = _column("reason", _TEXT, "First rule that rejects the patch; null if it is kept")
LABELS = _column("labels", _TEXTS, "Class names in the reference map, sorted", published=2)
LABELED_FRACTION = _column("labeled_fraction", _FRACTION, "Share of 10 m pixels whose code carries a label")
SPLIT = _column("split", _TEXT, "train, validation or test", published=3)
COUNTRY = _column("country", _TEXT, "Country nearest to the patch", published=4)
SEASON = _column("season", _TEXT, "Season of the sensing time, as defined by the recipe")
SENSING_TIME = _column("sensing_time", _TIME, "Sensing time of the product, UTC")
BOA_ADD_OFFSET = _column(
    "boa_add_offset",
    _INDEX,
    "Offset in DN that remains to be added to the stored DN; 0 if already applied, null if the source states none",
    optional=True,
)
BOA_OFFSET_SOURCE = _column(
    "boa_offset_source",
    _TEXT,
    "Source of the offset: metadata, attributes, raster:bands or pixels",
    optional=True,
)
SNOW_FRACTION = _column("snow_fraction", _FRACTION, "Share of 20 m pixels classified as snow")
CLOUD_FRACTION = _column("cloud_fraction", _FRACTION, "Share of 20 m pixels classified as cloud")
SHADOW_FRACTION = _column("shadow_fraction", _FRACTION, "Share of 20 m pixels classified as cloud shadow")
SNOW = _column("contains_seasonal_snow", _BOOL, "Fully covered by seasonal snow", published=7)
CLOUD = _column("contains_cloud_or_shadow", _BOOL, "Fully covered by cloud or cloud shadow", published=8)
S1_NAME = _column(
    "s1_name", _TEXT, "Name of the Sentinel-1 partner, and its key in the LMDB", published=5, optional=True
)
S2V1_NAME = _column("s2v1_name", _TEXT, "Name of the patch in BigEarthNet v1", published=6, optional=True)
FAILED_QUALITY = _column("failed_quality", _TEXT, "Quality indicator that the tile failed")
NODATA = _column("nodata", _BOOL, "True if a pixel of any band is NODATA")
EPSG = _column("epsg", _INDEX, "Coordinate reference system of the exact bounds (UTM)")
MINX = _column("minx", _METRES, "Western edge in metres, in the system epsg")
MINY = _column("miny", _METRES, "Southern edge in metres")
MAXX = _column("maxx", _METRES, "Eastern edge in metres")
MAXY = _column("maxy", _METRES, "Northern edge in metres")
GEOMETRY = _column("geometry", pa.binary(), "Footprint, WKB in EPSG:4326")
BBOX = _column("bbox", BBOX_TYPE, "Bounds of the footprint in EPSG:4326 (GeoParquet 1.1 covering)")

PATCH_TABLE: tuple[Column, ...] = tuple(_TABLE)
"""Columns of every patch table, in order; those of a recipe follow."""

METADATA: tuple[Column, ...] = tuple(sorted(filter(lambda c: c.published, PATCH_TABLE), key=lambda c: c.published or 0))
"""Columns of the metadata files that this program writes, in order."""

PUBLISHED_METADATA = METADATA[:8]
"""Columns of the metadata files that reBEN publishes, in order."""

IS_PUBLISHED = Column("is_published", _BOOL, "True if the patch is in the published metadata")
IS_DUPLICATE = Column("is_duplicate", _BOOL, "True if an earlier data strip of the acquisition has all its pixels")
WITHIN_LIMITS = Column("within_limits", _BOOL, "True if snow and cloud are within the limits of the season")
OVERLAP_PX = Column("contested_px", pa.int32(), "Pixels that several polygons of the map cover")
S1_GAPS = Column("s1_gaps", _BOOL, "True if the Sentinel-1 partner is kept despite pixels without valid backscatter")
INTERMEDIATE = (IS_PUBLISHED, IS_DUPLICATE, WITHIN_LIMITS, OVERLAP_PX, S1_GAPS)
"""Columns of the patch frame that the patch table does not keep."""

BOUNDS = (MINX, MINY, MAXX, MAXY)
FLAGS = (SNOW, CLOUD)
"""Flags of kept patches that are listed separately."""

OBSERVED_IN_SCL = (SNOW_FRACTION, CLOUD_FRACTION, SHADOW_FRACTION, *FLAGS)
"""Columns from the scene classification of a tile."""

IN_GRID = (GRID, X, Y)
"""Order of a tile's patches in which each chunk of a cube is decoded once."""


def extra_column(name: str) -> Column:
    """Describe a column that a recipe adds: a list of class names (``labels_…``), a split (``split_…``) or text."""
    if name.startswith(EXTRA_LABELS):
        return Column(name, _TEXTS, f"Class names by the region threshold {name.removeprefix(EXTRA_LABELS)}")
    if name.startswith(EXTRA_SPLITS):
        return Column(name, _TEXT, f"Split by the strategy {name.removeprefix(EXTRA_SPLITS)}")
    return Column(name, _TEXT, "Attribute of another layer at the centre of the patch")


def label_columns_of(extra_labels: Iterable[str] = ()) -> list[Column]:
    """Columns from the reference map of a tile, with those that a recipe adds."""
    return [LABELS, LABELED_FRACTION, *map(extra_column, extra_labels), OVERLAP_PX]


def schema(columns: Iterable[Column]) -> pa.Schema:
    """Arrow schema of columns."""
    return pa.schema([(str(column), column.type) for column in columns])


def patch_table_schema(extra: Sequence[str] = ()) -> pa.Schema:
    """Arrow schema of a patch table with the columns that a recipe adds."""
    return schema([*PATCH_TABLE, *map(extra_column, extra)])


PATCH_TABLE_SCHEMA = schema(PATCH_TABLE)
METADATA_SCHEMA = schema(METADATA)
"""Columns and types of the metadata files; readers need the flags as real bools."""


def empty_frame(names: Iterable[Column]) -> pd.DataFrame:
    """Frame without rows, as the ``meta`` of a Dask frame."""
    return pd.DataFrame({str(name): pd.Series(dtype=pandas_type(name)) for name in names})


def pandas_type(column: Column) -> Any:
    """Type of a column in pandas."""
    kind = column.type
    if pa.types.is_string(kind):
        return "str"
    if column.optional and pa.types.is_integer(kind):
        return pd.Int32Dtype()
    return object if pa.types.is_nested(kind) or pa.types.is_binary(kind) else kind.to_pandas_dtype()


def flagged(rows: Any) -> Any:
    """Test one patch (mapping) or several (table, frame) for snow, cloud or shadow flags; null counts as false."""
    if isinstance(rows, pa.Table):
        snow, cloud = (pc.fill_null(rows[flag], fill_value=False) for flag in FLAGS)
        return pc.or_(snow, cloud)
    if isinstance(rows, pd.DataFrame):
        return rows[SNOW].eq(other=True) | rows[CLOUD].eq(other=True)
    return any(rows.get(flag) is True for flag in FLAGS)


def fill_flags(table: pa.Table) -> pa.Table:
    """Replace null flags by false."""
    for flag in FLAGS:
        filled = pc.fill_null(table[flag], fill_value=False)
        table = table.set_column(table.schema.get_field_index(flag), pa.field(flag, flag.type), filled)
    return table


def encode_classes(classes: Iterable[str]) -> dict[bytes, bytes]:
    """Parquet metadata with the class names of a table."""
    return {CLASSES_KEY: json.dumps(list(classes)).encode()}


def decode_classes(metadata: Mapping[bytes, bytes] | None) -> tuple[str, ...] | None:
    """Class names in the Parquet metadata of a table, or ``None``; ``ValueError`` if they are not a JSON list."""
    listed = (metadata or {}).get(CLASSES_KEY)
    return None if listed is None else tuple(map(str, json.loads(listed)))
