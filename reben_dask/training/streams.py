"""Samples shard by shard, for storage that is slow at single patches: object storage, HTTP, and Zarr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from reben_dask.training.samples import Sample, Samples


def stream(
    samples: Samples,
    size: int,
    *,
    seed: int | Sequence[int] | None = None,
    buffer_shards: int = 4,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Sample]:
    """Yield all samples once in batches, reading whole shards.

    Shards are taken in random order; ``buffer_shards`` of them are held in memory at a time, and their patches are
    shuffled together. A full shard of a Zarr store has 169 patches: 46 MB with twelve bands.

    Parameters
    ----------
    samples : Samples
    size : int
        Patches per batch; the last one may have fewer.
    seed : int or sequence of int, optional
        Seed to shuffle with, reproducibly; by default shards and their patches keep their order.
    buffer_shards : int
        Shards in memory.
    part : tuple of int
        Number of this part of the shards, from 0, and number of all parts. All parts take the same seed.

    Yields
    ------
    dict
        Arrays of :meth:`Samples.batch`.
    """
    parts: list[Sample] = []
    missing = size
    for held, numbers in _windows(samples, seed, buffer_shards, part):
        rest = numbers
        while len(rest):
            now, rest = rest[:missing], rest[missing:]
            parts.append(held.batch(now))
            missing -= len(now)
            if not missing:
                yield _join(parts)
                parts, missing = [], size
    if parts:
        yield _join(parts)


def _windows(
    samples: Samples, seed: int | Sequence[int] | None, buffer_shards: int, part: tuple[int, int]
) -> Iterator[tuple[Samples, npt.NDArray[np.int64]]]:
    """Yield samples with some shards in memory, and the numbers of their patches, shuffled."""
    random = None if seed is None else np.random.default_rng(seed)
    shards = samples.shards()
    order = np.arange(len(shards)) if random is None else random.permutation(len(shards))
    mine = order[part[0] :: part[1]]
    for start in range(0, len(mine), buffer_shards):
        numbers = np.concatenate([shards[place] for place in mine[start : start + buffer_shards]])
        yield samples.holding(numbers), numbers if random is None else random.permutation(numbers)


def _join(parts: Sequence[Sample]) -> Sample:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
