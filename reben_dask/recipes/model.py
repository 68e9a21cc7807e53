"""The typed model of a recipe: what may be chosen, and within which limits."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Comparison = Literal["at_least", "more_than"]
Band = Literal["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
QualityIndicator = Literal["FORMAT_CORRECTNESS", "GENERAL", "GEOMETRIC", "RADIOMETRIC", "SENSOR", "L2A"]
Share = Annotated[float, Field(gt=0, lt=1)]
SclValue = Annotated[int, Field(ge=0, le=11)]
Month = Annotated[int, Field(ge=1, le=12)]


class _Part(BaseModel):
    """A part of a recipe: immutable, and without room for keys that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LabeledFraction(_Part):
    """How much of a patch must carry a label, and whether exactly that much is enough."""

    threshold: float = Field(ge=0, le=1)
    comparison: Comparison


class GeographicSplit(_Part):
    """Concentric squares of each tile; ``validation`` and ``test`` are shares of its area."""

    strategy: Literal["geographic"]
    validation: Share
    test: Share

    @model_validator(mode="after")
    def _leaves_room_for_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test is {self.validation + self.test:g}, which leaves nothing to train on")
        return self


class Sky(_Part):
    """SCL values that count as snow, cloud and shadow, and the share from which on a patch is flagged."""

    snow: tuple[SclValue, ...]
    cloud: tuple[SclValue, ...]
    shadow: tuple[SclValue, ...]
    flag_from: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _counts_each_value_once(self) -> Self:
        values = [*self.snow, *self.cloud, *self.shadow]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"the SCL value {twice[0]} is named twice, and its pixels would count twice")
        return self


class Sentinel1(_Part):
    """Whether a patch without a Sentinel-1 partner is rejected, and how far apart in time partners may be."""

    required: bool
    max_days: float = Field(gt=0)


class Recipe(_Part):
    """Everything that makes one dataset differ from another.

    See ``reben.yaml`` in this folder, which explains each key where it stands.
    """

    name: str
    title: str
    patch_size_m: int = Field(gt=0, multiple_of=60)
    bands: tuple[Band, ...] = Field(min_length=1)
    harmonize: bool
    quality_indicators: tuple[QualityIndicator, ...]
    nomenclature: str
    labeled_fraction: LabeledFraction
    split: GeographicSplit
    seasons: dict[str, tuple[Month, ...]]
    sky: Sky
    sentinel1: Sentinel1
    countries: tuple[str, ...] | None = None

    @field_validator("name")
    @classmethod
    def _is_a_plain_word(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError(f"{name!r} is not a plain name; use small letters, digits, - and _")
        return name

    @field_validator("bands")
    @classmethod
    def _names_each_band_once(cls, bands: tuple[Band, ...]) -> tuple[Band, ...]:
        if len(set(bands)) < len(bands):
            raise ValueError(f"a band is named twice in {', '.join(bands)}")
        return bands

    @field_validator("seasons")
    @classmethod
    def _gives_each_month_to_one_season(cls, seasons: dict[str, tuple[Month, ...]]) -> dict[str, tuple[Month, ...]]:
        months = [month for span in seasons.values() for month in span]
        if twice := sorted({month for month in months if months.count(month) > 1}):
            raise ValueError(f"month {twice[0]} belongs to more than one season")
        return seasons

    def __dask_tokenize__(self) -> tuple[str, str]:
        return ("Recipe", self.model_dump_json())
