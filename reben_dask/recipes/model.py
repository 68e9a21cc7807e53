"""The typed model of a recipe: what may be chosen, and within which limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from reben_dask.formats.names import V2, NameTemplate
from reben_dask.recipes.parts import Attribute, Images, LabeledFraction, Part, Sentinel1, Sky, plain_name
from reben_dask.recipes.splits import Split, StratifiedSplit, TileSplit

Band = Literal["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
QualityIndicator = Literal["FORMAT_CORRECTNESS", "GENERAL", "GEOMETRIC", "RADIOMETRIC", "SENSOR", "L2A"]
Tree = Literal["bigearthnet-v2", "bigearthnet-v1", "seasonet"]
Month = Annotated[int, Field(ge=1, le=12)]
Pixels = Annotated[int, Field(ge=0)]
Offset = Annotated[int, Field(ge=0, multiple_of=60)]


class Recipe(Part):
    """Everything that makes one dataset differ from another.

    See ``README.md`` in this folder, which explains each key.
    """

    name: str
    title: str
    patch_size_m: int = Field(gt=0, multiple_of=60)
    grid_offsets_m: tuple[Offset, ...] = Field(default=(0,), min_length=1)
    patch_name: str = V2.template
    bands: tuple[Band, ...] = Field(min_length=1)
    harmonize: bool
    quality_indicators: tuple[QualityIndicator, ...]
    nomenclature: str
    labeled_fraction: LabeledFraction
    region_thresholds_px: dict[str, Pixels] = Field(default={"all": 0}, min_length=1)
    split: Split
    more_splits: dict[str, TileSplit] = Field(default={})
    seasons: dict[str, tuple[Month, ...]]
    sky: Sky
    images: Images | None = None
    sentinel1: Sentinel1
    countries: tuple[str, ...] | None = None
    attributes: dict[str, Attribute] = Field(default={})
    tree: Tree = "bigearthnet-v2"

    @field_validator("name")
    @classmethod
    def _is_a_plain_word(cls, name: str) -> str:
        return plain_name(name)

    @field_validator("more_splits", "attributes", "region_thresholds_px", "seasons")
    @classmethod
    def _has_plain_names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            plain_name(name)
        return named

    @field_validator("bands")
    @classmethod
    def _names_each_band_once(cls, bands: tuple[Band, ...]) -> tuple[Band, ...]:
        if len(set(bands)) < len(bands):
            raise ValueError(f"a band is named twice in {', '.join(bands)}")
        return bands

    @field_validator("grid_offsets_m")
    @classmethod
    def _shifts_each_grid_differently(cls, offsets: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(offsets)) < len(offsets):
            raise ValueError("two grids have the same offset, and would be one")
        return offsets

    @field_validator("patch_name")
    @classmethod
    def _names_tile_and_place(cls, template: str) -> str:
        NameTemplate(template)
        return template

    @field_validator("seasons")
    @classmethod
    def _gives_each_month_to_one_season(cls, seasons: dict[str, tuple[Month, ...]]) -> dict[str, tuple[Month, ...]]:
        months = [month for span in seasons.values() for month in span]
        if twice := sorted({month for month in months if months.count(month) > 1}):
            raise ValueError(f"month {twice[0]} belongs to more than one season")
        return seasons

    @model_validator(mode="after")
    def _tells_grids_apart(self) -> Self:
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
        pixels = (self.patch_size_m // 10) ** 2
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
        if rule and rule.block_m < 4 * self.patch_size_m:
            raise ValueError(
                f"split.block_m is {rule.block_m:g}, less than four patches of {self.patch_size_m} m; most "
                "patches would touch several blocks"
            )
        return self

    @property
    def all_seasons(self) -> tuple[str, ...]:
        """Names of all seasons, that of snowy images included."""
        snowy = self.images and self.images.snowy
        return (*self.seasons, *((snowy.season,) if snowy else ()))

    @property
    def split_of_all_tiles(self) -> StratifiedSplit | None:
        """The split, if no tile can be split without knowing all others."""
        return self.split if isinstance(self.split, StratifiedSplit) else None

    @property
    def extra_labels(self) -> tuple[str, ...]:
        """Columns of labels besides the first, one for each further threshold of region size."""
        return tuple(f"labels_{name}" for name in list(self.region_thresholds_px)[1:])

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns that the recipe adds to the patch table."""
        return (*self.extra_labels, *(f"split_{name}" for name in self.more_splits), *self.attributes)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return ("Recipe", self.model_dump_json())
