"""Numbers with their nouns, and times for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reben_dask.wording import ago, counted, utc


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 seconds ago"),
        (1, "1 second ago"),
        (119, "119 seconds ago"),
        (120, "2 minutes ago"),
        (7_199, "119 minutes ago"),
        (7_200, "2 hours ago"),
        (172_799, "47 hours ago"),
        (40 * 86_400, "40 days ago"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert ago((now - timedelta(seconds=seconds)).isoformat(), now) == text


def test_times() -> None:
    assert utc("2026-11-30T02:03:29+00:00") == "2026-11-30 02:03:29 UTC"
