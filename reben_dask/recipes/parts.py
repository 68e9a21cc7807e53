"""Parts of a recipe: the choices that belong together, and what they rule out."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Comparison = Literal["at_least", "more_than"]
Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
SclValue = Annotated[int, Field(ge=0, le=11)]

_WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")


def plain_name(name: str) -> str:
    """Give a name back that may be that of a column and of a folder.

    Raises
    ------
    ValueError
        If it has anything but small letters, digits, ``-`` and ``_``.
    """
    if not _WORD.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain name; use small letters, digits, - and _")
    return name


class Part(BaseModel):
    """A part of a recipe: immutable, and without room for keys that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LabeledFraction(Part):
    """How much of a patch must carry a label, and whether exactly that much is enough."""

    threshold: Fraction
    comparison: Comparison


class Sky(Part):
    """SCL values that count as snow, cloud and shadow, and the share from which on a patch is listed apart, if any."""

    snow: tuple[SclValue, ...]
    cloud: tuple[SclValue, ...]
    shadow: tuple[SclValue, ...]
    flag_from: float | None = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _counts_each_value_once(self) -> Self:
        values = [*self.snow, *self.cloud, *self.shadow]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"the SCL value {twice[0]} is named twice, and its pixels would count twice")
        return self


class SkyLimits(Part):
    """Shares of a patch below which snow and cloud must stay."""

    snow: Fraction
    cloud: Fraction


class Snowy(Part):
    """A season of its own for patches with at least so much snow, whatever their month, and not too much cloud."""

    season: str
    snow_from: Share
    cloud: Fraction

    @field_validator("season")
    @classmethod
    def _is_a_plain_word(cls, season: str) -> str:
        return plain_name(season)


class Images(Part):
    """Which images of a place are taken: in each season the clearest one within the limits."""

    limits: dict[str, SkyLimits]
    snowy: Snowy | None = None


class Sentinel1(Part):
    """Whether a patch without a Sentinel-1 partner is rejected, and how far apart in time partners may be."""

    required: bool
    max_days: float = Field(gt=0)


class Attribute(Part):
    """A column of another polygon layer; each patch takes the value of the polygon that covers most of it."""

    column: str = Field(min_length=1)
