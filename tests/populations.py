"""Invented populations of locations: classes from rare to common, several in one place, and some together."""

from __future__ import annotations

import numpy as np

LANDSCAPES = 12
RAREST, COMMONEST = 140, 800_000
"""Samples of the rarest and the commonest class, among half a million locations."""


def make_population(*, units: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of each class, shape ``(unit, class)``, and of each unit: a location is seen one to five times.

    A location belongs to a landscape, which makes some classes likely together. Every other class is missing in some
    of a location's samples.
    """
    rng = np.random.default_rng(seed)
    landscape = rng.choice(LANDSCAPES, units, p=rng.dirichlet(np.full(LANDSCAPES, 3)))
    samples = rng.integers(1, 6, units)
    affinity = rng.gamma(0.4, size=(LANDSCAPES, classes)) + 0.02
    counts = np.zeros((units, classes), np.int64)
    for kind, wanted in enumerate(np.geomspace(RAREST, COMMONEST * units / 500_000, classes)):
        odds = affinity[landscape, kind]
        present = np.flatnonzero(rng.random(units) < odds * wanted / samples.mean() / odds.sum())
        seen = samples[present]
        counts[present, kind] = np.maximum(rng.binomial(seen, 0.8), 1) if kind % 2 else seen
    return counts, samples
