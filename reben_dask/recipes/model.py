"""Typed model of a recipe: its keys, and their limits."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from reben_dask.formats.bands import (
    BAND_RESOLUTION_M,
    BANDS,
    LEVEL_BANDS,
    MAP_RESOLUTION_M,
    QUALITY_INDICATORS,
    BackscatterScale,
    Level,
    by_resolution,
    shared_array,
)
from reben_dask.formats.columns import EXTRA_LABELS, EXTRA_SPLITS, LABELS
from reben_dask.formats.names import V2, NameTemplate
from reben_dask.formats.sample_shards import SampleContents
from reben_dask.formats.stac import CatalogueContents
from reben_dask.formats.trees import DEFAULT_LAYOUT, LAYOUTS, Contents, TreeLayout, make_layout
from reben_dask.nomenclature import Nomenclature

if TYPE_CHECKING:
    BandName: TypeAlias = str
    QualityIndicator: TypeAlias = str
    TreeName: TypeAlias = str
else:
    BandName = Literal[tuple(BANDS)]
    QualityIndicator = Literal[QUALITY_INDICATORS]
    TreeName = Literal[tuple(LAYOUTS)]

PIXEL_M = math.lcm(*BAND_RESOLUTION_M.values())
"""Length in metres that is a whole number of pixels in each band."""

MIN_BLOCK_PATCHES = 4
"""Minimum side of a spatial block in patches; smaller blocks would hold few whole patches."""

MAX_BLOCK_M = 1_000_000

EVERY_PIXEL = {"all": 0}
"""Single region threshold with which every pixel counts."""

Comparison = Literal["at_least", "more_than"]
Overlaps = Literal["keep", "drop", "first"]
Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
SclValue = Annotated[int, Field(ge=0, le=11)]
Month = Annotated[int, Field(ge=1, le=12)]
Pixels = Annotated[int, Field(ge=0)]
Offset = Annotated[int, Field(ge=0, multiple_of=PIXEL_M)]

_WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")


def _plain_name(name: str) -> str:
    """Validate a name that may be that of a column and of a folder."""
    if not _WORD.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain name; use small letters, digits, - and _")
    return name


def _first_twice(values: Sequence[Any]) -> Any:
    """Smallest value that occurs more than once, or ``None``."""
    return min((value for value in values if values.count(value) > 1), default=None)


class Part(BaseModel):
    """Part of a recipe: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LabeledFraction(Part):
    """Share of a patch that must carry a label, and whether exactly that share is enough."""

    threshold: Fraction
    comparison: Comparison


class SclClasses(Part):
    """SCL values of snow, cloud and shadow, and the share from which a patch is flagged, if any."""

    snow: tuple[SclValue, ...]
    cloud: tuple[SclValue, ...]
    shadow: tuple[SclValue, ...]
    flag_from: float | None = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _counts_each_value_once(self) -> Self:
        twice = _first_twice([*self.snow, *self.cloud, *self.shadow])
        if twice is not None:
            raise ValueError(f"the SCL value {twice} is named twice, and its pixels would count twice")
        return self


class SeasonLimits(Part):
    """Exclusive upper limits on the shares of snow and cloud."""

    snow: Fraction
    cloud: Fraction


class Snowy(Part):
    """Season for patches with at least a share of snow and less than one of cloud, in any month."""

    season: str
    snow_from: Share
    cloud: Fraction

    @field_validator("season")
    @classmethod
    def _is_a_plain_word(cls, season: str) -> str:
        return _plain_name(season)


class Images(Part):
    """Selection of images: the clearest one of each location and season, within the limits."""

    limits: dict[str, SeasonLimits]
    snowy: Snowy | None = None


class Sentinel1(Part):
    """Rejection of patches without a Sentinel-1 partner, the maximum time between partners, and the images' scale."""

    required: bool
    max_days: float = Field(gt=0)
    scale: BackscatterScale = "db"


class Attribute(Part):
    """Column of another polygon layer; each patch takes the value that covers most of it."""

    column: str = Field(min_length=1)


class _Shares(Part):
    """Shares of ``validation`` and ``test``; the rest is for training."""

    validation: Share
    test: Share

    @property
    def shares(self) -> dict[str, float]:
        """Share of the patches that each split should have."""
        return {"train": 1 - self.validation - self.test, "validation": self.validation, "test": self.test}

    @model_validator(mode="after")
    def _leaves_room_for_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test is {self.validation + self.test:g}, which leaves nothing to train on")
        return self


class GeographicSplit(_Shares):
    """Concentric squares of each tile; the shares are those of its area."""

    strategy: Literal["geographic"]


class RandomSplit(_Shares):
    """Random split by a hash of patch names."""

    strategy: Literal["random"]
    seed: int


class GridSplit(Part):
    """Blocks of ``block`` x ``block`` patches in a fixed pattern, 2:1:1; neighbours are in different splits."""

    strategy: Literal["grid"]
    block: int = Field(gt=0)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the patches that each split should have."""
        return {"train": 0.5, "validation": 0.25, "test": 0.25}


class StratifiedSplit(_Shares):
    """Spatial blocks of ``block_m`` metres, all images of a location in one split, with equal shares of each class.

    A patch that spans blocks of several splits is in no split.
    """

    strategy: Literal["stratified"]
    block_m: float = Field(gt=0, le=MAX_BLOCK_M)
    seed: int


TileSplit = Annotated[GeographicSplit | RandomSplit | GridSplit, Field(discriminator="strategy")]

Split = Annotated[GeographicSplit | RandomSplit | GridSplit | StratifiedSplit, Field(discriminator="strategy")]


class Recipe(Part):
    """Choices in which datasets differ; ``README.md`` in this folder explains each key."""

    name: str
    title: str
    level: Level = "L2A"
    patch_size_m: int = Field(gt=0, multiple_of=PIXEL_M)
    grid_offsets_m: tuple[Offset, ...] = Field(default=(0,), min_length=1)
    patch_name: str = V2.template
    bands: tuple[BandName, ...] = Field(min_length=1)
    harmonize: bool
    quality_indicators: tuple[QualityIndicator, ...]
    nomenclature: str
    labeled_fraction: LabeledFraction
    region_thresholds_px: dict[str, Pixels] = Field(default=EVERY_PIXEL, min_length=1)
    split: Split
    more_splits: dict[str, TileSplit] = Field(default={})
    overlaps: Overlaps = "keep"
    seasons: dict[str, tuple[Month, ...]]
    sky: SclClasses
    images: Images | None = None
    sentinel1: Sentinel1
    countries: tuple[str, ...] | None = None
    country_max_distance_m: float | None = Field(default=100_000, gt=0)
    attributes: dict[str, Attribute] = Field(default={})
    tree: TreeName = DEFAULT_LAYOUT

    @field_validator("name")
    @classmethod
    def _is_a_plain_word(cls, name: str) -> str:
        return _plain_name(name)

    @field_validator("more_splits", "attributes", "region_thresholds_px", "seasons")
    @classmethod
    def _has_plain_names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            _plain_name(name)
        return named

    @field_validator("bands")
    @classmethod
    def _names_bands_that_fit_together(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        if _first_twice(bands) is not None:
            raise ValueError(f"a band is named twice in {', '.join(bands)}")
        for of_resolution in by_resolution(bands).values():
            shared_array(of_resolution)
        return bands

    @field_validator("grid_offsets_m")
    @classmethod
    def _shifts_each_grid_differently(cls, offsets: tuple[int, ...]) -> tuple[int, ...]:
        if _first_twice(offsets) is not None:
            raise ValueError("two grids have the same offset, and would be one")
        return offsets

    @field_validator("patch_name")
    @classmethod
    def _names_tile_and_place(cls, template: str) -> str:
        return NameTemplate(template).template

    @field_validator("seasons")
    @classmethod
    def _gives_each_month_to_one_season(cls, seasons: dict[str, tuple[Month, ...]]) -> dict[str, tuple[Month, ...]]:
        twice = _first_twice([month for span in seasons.values() for month in span])
        if twice is not None:
            raise ValueError(f"month {twice} belongs to more than one season")
        return seasons

    @model_validator(mode="after")
    def _fits_its_level(self) -> Self:
        if other := [band for band in self.bands if band not in LEVEL_BANDS[self.level]]:
            raise ValueError(f"bands has {other[0]}, which products of level {self.level} do not have")
        if self.level == "L1C" and self.images:
            raise ValueError("images chooses by snow and cloud, and level L1C has no scene classification")
        return self

    @model_validator(mode="after")
    def _grids_have_distinct_names(self) -> Self:
        if len(self.grid_offsets_m) > 1 and not NameTemplate(self.patch_name).has_grid:
            raise ValueError(
                f"patch_name is {self.patch_name!r}, and patches of {len(self.grid_offsets_m)} grids would have the "
                "same names; add {grid}, or {lat} and {lon}"
            )
        if too_far := [offset for offset in self.grid_offsets_m if offset >= self.patch_size_m]:
            raise ValueError(
                f"grid_offsets_m has {too_far[0]}, which is not less than patch_size_m, {self.patch_size_m}"
            )
        return self

    @model_validator(mode="after")
    def _has_room_for_regions(self) -> Self:
        pixels = (self.patch_size_m // MAP_RESOLUTION_M) ** 2
        for name, smallest in self.region_thresholds_px.items():
            if smallest > pixels:
                raise ValueError(
                    f"region_thresholds_px.{name} is {smallest}, more than the {pixels} pixels of a patch; no class "
                    "would ever count"
                )
        return self

    @model_validator(mode="after")
    def _limits_each_season(self) -> Self:
        if self.images and (other := set(self.seasons) ^ set(self.images.limits)):
            raise ValueError(f"the season {min(other)!r} is in only one of seasons and images.limits")
        if self.images and self.images.snowy and self.images.snowy.season in self.seasons:
            raise ValueError(f"images.snowy.season is {self.images.snowy.season!r}, which is one of seasons already")
        return self

    @model_validator(mode="after")
    def _divides_ground_into_blocks(self) -> Self:
        rule = self.split_of_all_tiles
        if rule and rule.block_m < MIN_BLOCK_PATCHES * self.patch_size_m:
            raise ValueError(
                f"split.block_m is {rule.block_m:g}, less than four patches of {self.patch_size_m} m; most "
                "patches would span several blocks"
            )
        return self

    @property
    def all_seasons(self) -> tuple[str, ...]:
        """Names of all seasons, including that of snowy images."""
        snowy = self.images and self.images.snowy
        return (*self.seasons, *((snowy.season,) if snowy else ()))

    @property
    def split_of_all_tiles(self) -> StratifiedSplit | None:
        """The split, if it depends on all tiles."""
        return self.split if isinstance(self.split, StratifiedSplit) else None

    @property
    def extra_labels(self) -> tuple[str, ...]:
        """Label columns of further region thresholds."""
        return tuple(EXTRA_LABELS + name for name in list(self.region_thresholds_px)[1:])

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns that the recipe adds to the patch table."""
        return (*self.extra_labels, *(EXTRA_SPLITS + name for name in self.more_splits), *self.attributes)

    def tree_layout(self, nomenclature: Nomenclature, *, has_sentinel1: bool) -> TreeLayout:
        """Make the layout of an export; :class:`RecipeError` if the dataset does not fit it."""
        contents = Contents(
            nomenclature=nomenclature,
            bands=self.bands,
            seasons=self.all_seasons,
            labels=(LABELS, *self.extra_labels),
            attributes={name: attribute.column for name, attribute in self.attributes.items()},
            countries=self.countries,
            has_sentinel1=has_sentinel1,
        )
        return make_layout(self.tree, contents)

    def sample_contents(self, nomenclature: Nomenclature, *, has_sentinel1: bool) -> SampleContents:
        """Return columns and images of exported samples; :class:`RecipeError` if a column has the name of an image."""
        return SampleContents(self.bands, nomenclature.classes, self.extra_columns, has_sentinel1)

    def catalogue(self, nomenclature: Nomenclature, *, has_sentinel1: bool) -> CatalogueContents:
        """Return the facts that the catalogue of a dataset depends on."""
        return CatalogueContents(
            dataset=self.name,
            title=self.title,
            classes=nomenclature.classes,
            bands=self.bands,
            patch_m=self.patch_size_m,
            extra_columns=self.extra_columns,
            has_sentinel1=has_sentinel1,
        )

    def __dask_tokenize__(self) -> tuple[str, str]:
        return ("Recipe", self.model_dump_json())
