"""Split strategies as a recipe chooses them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reben_dask.recipes.parts import Part, Share


class _Shares(Part):
    """``validation`` and ``test`` as shares of the whole; the rest is for training."""

    validation: Share
    test: Share

    @model_validator(mode="after")
    def _leaves_room_for_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test is {self.validation + self.test:g}, which leaves nothing to train on")
        return self


class GeographicSplit(_Shares):
    """Concentric squares of each tile; the shares are those of its area."""

    strategy: Literal["geographic"]


class RandomSplit(_Shares):
    """Each patch for itself, by a hash of its name."""

    strategy: Literal["random"]
    seed: int


class GridSplit(Part):
    """Blocks of ``block`` x ``block`` patches in a fixed pattern, 2:1:1; neighbours are in different sets."""

    strategy: Literal["grid"]
    block: int = Field(gt=0)


class StratifiedSplit(_Shares):
    """Blocks of ground of ``block_m`` metres, all images of a place in one set, with equal shares of each class.

    A patch that touches blocks of different sets is in no set.
    """

    strategy: Literal["stratified"]
    block_m: float = Field(gt=0, le=1_000_000)
    seed: int


TileSplit = Annotated[GeographicSplit | RandomSplit | GridSplit, Field(discriminator="strategy")]
"""Strategies that need to know nothing but the tile."""

Split = Annotated[GeographicSplit | RandomSplit | GridSplit | StratifiedSplit, Field(discriminator="strategy")]
