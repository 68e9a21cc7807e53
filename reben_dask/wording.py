"""Words for numbers."""

from __future__ import annotations


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
