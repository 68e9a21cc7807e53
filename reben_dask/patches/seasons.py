"""Season of an image from the calendar month of its sensing time in UTC (DESIGN: recipes carry the months)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime


def season_of(sensing_time: datetime, seasons: Mapping[str, Sequence[int]]) -> str | None:
    """Name of the season that holds the month of ``sensing_time``.

    Parameters
    ----------
    sensing_time : datetime
        Aware; it is taken to UTC first.
    seasons : mapping of str to sequence of int
        Months (1 to 12) of each season. A month may be in none: SeasoNet leaves gaps between seasons.

    Returns
    -------
    str or None
        ``None`` where the month is in no season.
    """
    month = sensing_time.astimezone(UTC).month
    return next((name for name, months in seasons.items() if month in months), None)
