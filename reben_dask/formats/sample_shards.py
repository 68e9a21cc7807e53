"""Samples in shards by split, for reading as a stream: tar files of WebDataset, or Parquet files of Hugging Face.

``webdataset/train-00000-of-00003.tar`` has a member ``<patch_id>.<image>.npy`` for each image of a patch, and
``<patch_id>.json`` with its columns; names of images are in lower case, because WebDataset lower-cases extensions.
``parquet/train-00000-of-00003.parquet`` has a row for each patch, with an uncompressed GeoTIFF in the column of each
image, which Hugging Face opens as an image. Images are at native resolution. Each kept patch is in one group: its
split, or :data:`NO_SPLIT`; flagged patches are in :data:`FLAGGED`, whatever their split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import pyarrow as pa
from pyarrow import types

from reben_dask.errors import RecipeError
from reben_dask.formats.bands import BANDS, REFERENCE_MAP, S1_BANDS, Band, ImageKind
from reben_dask.formats.columns import (
    BOUNDS,
    EPSG,
    FLAGS,
    METADATA,
    SPLIT,
    SPLITS,
    Column,
    encode_classes,
    extra_column,
    flagged,
    schema,
)

PATCHES_PER_SHARD = 1_000
"""Limit of a file: 200 MB of Sentinel-2, 320 MB with Sentinel-1."""

ROWS_PER_GROUP = 100
"""Rows of a row group, which writers and readers hold in memory: 30 MB."""

FLAGGED, NO_SPLIT = "flagged", "no_split"
GROUPS = (*SPLITS, NO_SPLIT, FLAGGED)
"""Groups of patches, in the order of their files."""

INDEX_FILE = "samples.json"
"""File beside tar files: classes, and patches of each file."""

FEATURES_KEY = b"huggingface"
"""Key of the Parquet metadata in which Hugging Face looks for the types of columns."""

DOCUMENT = "json"
"""Ending of the member with the columns of a patch."""

_FILE = re.compile(rf"({'|'.join(GROUPS)})-(\d{{5}})-of-(\d{{5}})")
_IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FEATURE_TYPES = {"string": "string", "bool": "bool", "int32": "int32", "double": "float64"}


class ShardForm(NamedTuple):
    """Kind of files; also the folder of the dataset that holds them."""

    name: str
    suffix: str
    description: str
    media_type: str


WEBDATASET = ShardForm("webdataset", ".tar", "Samples by split for WebDataset, as .npy and JSON", "application/x-tar")
PARQUET = ShardForm(
    "parquet", ".parquet", "Samples by split for Hugging Face, a row with images per patch", "application/x-parquet"
)
SHARD_FORMS = {form.name: form for form in (WEBDATASET, PARQUET)}
"""Forms by the name of their export, which is that of their folder."""


class ShardFile(NamedTuple):
    """Parts of the name of a file."""

    group: str
    number: int
    files: int
    """Number of files of the group."""

    def __str__(self) -> str:
        return f"{self.group}-{self.number:05d}-of-{self.files:05d}"

    @classmethod
    def parse(cls, stem: str) -> Self | None:
        """Parse a name without its suffix; ``None`` if it is that of another file."""
        match = _FILE.fullmatch(stem)
        return match and cls(match[1], int(match[2]), int(match[3]))


def group_of(row: Mapping[str, Any]) -> str:
    """Group of a kept patch, from its row."""
    return FLAGGED if flagged(row) else row[SPLIT] or NO_SPLIT


def member_name(patch_id: str, image: str) -> str:
    """Name of the member with an image of a patch."""
    return f"{patch_id}.{image.lower()}.npy"


@dataclass(frozen=True)
class SampleContents:
    """Columns and images of the samples of a dataset.

    Raises
    ------
    RecipeError
        If a column of the recipe has the name of an image.
    """

    bands: tuple[str, ...]
    """Bands of Sentinel-2."""
    classes: tuple[str, ...]
    extra_columns: tuple[str, ...] = ()
    """Columns that the recipe adds to the patch table."""
    has_sentinel1: bool = False

    def __post_init__(self) -> None:
        if both := sorted({*self.columns} & {*self.images}):
            raise RecipeError(f"The recipe has a column {both[0]}, which is the name of an image; choose another name.")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of a sample, those of the metadata files first."""
        return (*METADATA, EPSG, *BOUNDS, *map(extra_column, self.extra_columns))

    @property
    def images(self) -> dict[str, Band]:
        """Images of a sample by name: bands, polarisations, reference map."""
        s2 = {name: band for name, band in BANDS.items() if name in self.bands}
        return {**s2, **(S1_BANDS if self.has_sentinel1 else {}), REFERENCE_MAP.name: REFERENCE_MAP}

    @property
    def kinds(self) -> tuple[ImageKind, ...]:
        """Kinds of images."""
        return tuple(dict.fromkeys(band.kind for band in self.images.values()))

    def values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Columns of a sample as JSON values, from a row of the patch table; flags that are null are false."""
        return {str(name): row[name] is True if name in FLAGS else row[name] for name in self.columns}

    @property
    def schema(self) -> pa.Schema:
        """Schema of the Parquet files, with the class list and the types of Hugging Face in its metadata."""
        images = [(name, _IMAGE_TYPE) for name in self.images]
        features = {str(column): _feature(column.type) for column in self.columns}
        features |= {name: {"_type": "Image"} for name in self.images}
        described = json.dumps({"info": {"features": features}}).encode()
        fields = [*schema(self.columns), *(pa.field(*image) for image in images)]
        return pa.schema(fields, {FEATURES_KEY: described, **encode_classes(self.classes)})


def _feature(kind: pa.DataType) -> Any:
    """Type of a column for Hugging Face; a list of one type is read by all versions of its library."""
    if types.is_list(kind):
        return [_feature(kind.value_type)]
    return {"dtype": _FEATURE_TYPES[str(kind)], "_type": "Value"}
