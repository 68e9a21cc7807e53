"""Words for numbers and times."""

from __future__ import annotations

from datetime import datetime

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def counted(number: int, noun: str) -> str:
    """Format a number with its noun in singular or plural; only the last word is inflected.

    Examples
    --------
    >>> counted(1, "patch"), counted(2_000, "patch"), counted(0, "entry")
    ('1 patch', '2,000 patches', '0 entries')
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}{'es' if noun.endswith(('ch', 'x', 's')) else 's'}"


def utc(moment: str) -> str:
    """Format a time in ISO 8601, UTC.

    Examples
    --------
    >>> utc("2026-11-30T02:03:29+00:00")
    '2026-11-30 02:03:29 UTC'
    """
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S} UTC"


def ago(moment: str, now: datetime) -> str:
    """Format the time passed since a time in ISO 8601, in its largest whole unit.

    Examples
    --------
    >>> ago("2026-11-30T02:03:29+00:00", datetime.fromisoformat("2026-11-30T04:03:28+00:00"))
    '119 minutes ago'
    >>> ago("2026-11-30T02:03:29+00:00", datetime.fromisoformat("2026-11-30T02:03:30+00:00"))
    '1 second ago'
    """
    seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    # Two of a unit tell more than one of the next.
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= 2 * size), _UNITS[-1])
    return f"{counted(seconds // size, unit)} ago"
