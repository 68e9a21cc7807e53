"""Damaging files at random, by a seed: what disks, networks and people do to them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_WORDS = (
    b"<", b">", b"&", b"]]>", b"<!DOCTYPE a>", b"&amp;", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n", b",",
    b";", b'"', b"'", b":", b"- ", b"{", b"}", b"[", b"..", b"/", b"\\", b"-1", b"0", b"1e999", b"NaN", b"true",
    b"9" * 40, b"\xc3\xa9", b"\xf0\x9f\x9b\xb0", b"!!python/object:os.system", b"%s%n", b"A" * 3000,
)  # fmt: skip
_MOST = 6


def mutated(content: bytes, chance: Random) -> bytes:
    """The content with one to six things done to it."""
    for _ in range(chance.randint(1, _MOST)):
        content = chance.choice(_WAYS)(content, chance)
    return content


def _flip(content: bytes, chance: Random) -> bytes:
    if not content:
        return content
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def _overwrite(content: bytes, chance: Random) -> bytes:
    start, stop = _range(content, chance)
    return content[:start] + chance.randbytes(stop - start) + content[stop:]


def _zero(content: bytes, chance: Random) -> bytes:
    start, stop = _range(content, chance)
    return content[:start] + bytes(stop - start) + content[stop:]


def _drop(content: bytes, chance: Random) -> bytes:
    start, stop = _range(content, chance)
    return content[:start] + content[stop:]


def _repeat(content: bytes, chance: Random) -> bytes:
    start, stop = _range(content, chance)
    return content[:stop] + content[start:stop] * chance.randint(1, 3) + content[stop:]


def _cut(content: bytes, chance: Random) -> bytes:
    return content[: chance.randint(0, len(content))]


def _insert(content: bytes, chance: Random) -> bytes:
    place = chance.randint(0, len(content))
    return content[:place] + chance.choice(_WORDS) + content[place:]


def _range(content: bytes, chance: Random) -> tuple[int, int]:
    start = chance.randint(0, len(content))
    return start, min(len(content), start + chance.choice((1, 2, 4, 16, 64, 512)))


_WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip, _flip, _overwrite, _zero, _drop, _repeat, _cut, _insert, _insert
)  # fmt: skip
