"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from reben_dask.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "tile", "0 tiles"),
        (1, "tile", "1 tile"),
        (2, "patch folder", "2 patch folders"),
        (1_234, "patch", "1,234 patches"),
        (2, "entry", "2 entries"),
        (2, "day", "2 days"),
        (3, "index", "3 indexes"),
        (3, "class", "3 classes"),
        (1_000_000, "Sentinel-2 L2A tile", "1,000,000 Sentinel-2 L2A tiles"),
    ],
)
def test_a_number_with_its_noun(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
