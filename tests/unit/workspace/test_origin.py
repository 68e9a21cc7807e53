"""In what two jobs differ, in words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reben_dask.workspace import Origin, differences, digest_of, file_identity

EARLIER: Origin = {"recipe": "r", "land-cover map": "m", "tiles": {"A": "1", "B": "2", "C": "3"}}


@pytest.mark.parametrize(
    ("change", "unfinished", "said"),
    [
        ({}, (), []),
        ({"recipe": "s"}, (), ["another recipe"]),
        ({"recipe": "s", "land-cover map": "n"}, (), ["another recipe", "another land-cover map"]),
        ({"Sentinel-1": "x"}, (), ["another Sentinel-1"]),
        ({"Sentinel-1": None}, (), []),
        ({"tiles": {"C": "3", "A": "1", "B": "2"}}, (), []),
        ({"tiles": EARLIER["tiles"] | {"D": "4"}}, (), ["other tiles: 1 more (D)"]),
        ({"tiles": {"A": "1", "B": "2"}}, (), ["other tiles: 1 missing (C)"]),
        ({"tiles": {"A": "1", "B": "9", "C": "3"}}, (), ["other tiles: 1 changed (B)"]),
        ({"tiles": {"A": "1", "B": "9", "D": "3"}}, (), ["other tiles: 1 more (D), 1 missing (C), 1 changed (B)"]),
        ({"tiles": {}}, (), ["other tiles: 3 missing (A, B, C)"]),
        ({"tiles": {f"{n:04}": "" for n in range(1000)} | EARLIER["tiles"]}, (), ["1,000 more (0000, 0001, 0002, …)"]),
        ({"recipe": "s", "tiles": {"A": "1"}}, (), ["another recipe", "other tiles: 2 missing (B, C)"]),
        # Nothing is made yet from an unfinished tile; but that there is one has been said.
        ({"tiles": {"A": "1", "B": "9", "C": "3"}}, ("B",), []),
        ({"tiles": {"A": "9", "B": "9", "C": "3"}}, ("B",), ["other tiles: 1 changed (A)"]),
        ({"tiles": {"A": "1", "C": "3"}}, ("B",), ["other tiles: 1 missing (B)"]),
        ({"tiles": EARLIER["tiles"] | {"D": "4"}}, ("B", "D"), ["other tiles: 1 more (D)"]),
    ],
)
def test_differences(change: dict[str, Any], unfinished: Sequence[str], said: list[str]) -> None:
    found = differences(EARLIER, EARLIER | change, unfinished)
    assert [phrase.removeprefix("other tiles: ") for phrase in found] == [
        phrase.removeprefix("other tiles: ") for phrase in said
    ]


def test_an_aspect_that_was_not_known_then() -> None:
    assert differences({"tiles": {}}, EARLIER | {"tiles": {}}) == ["another recipe", "another land-cover map"]
    assert differences({}, {"tiles": {"A": "1"}}) == ["other tiles: 1 more (A)"]
    assert differences({"tiles": {"A": "1"}}, {}) == ["other tiles: 1 missing (A)"]


def test_the_order_of_keys_is_no_difference_and_that_of_lists_is() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert len({digest_of(each) for each in ([1, 2], [2, 1], ["1", "2"], {"1": 2}, None, "", [])}) == 7


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    file, copy = tmp_path / "a" / "map", tmp_path / "b" / "map"
    for path in (file, copy):
        path.parent.mkdir()
        path.write_text("polygons")
    assert file_identity(file) == file_identity(copy)
    os.utime(copy, (0, 0))
    assert file_identity(file) == file_identity(copy)
    copy.write_text("polygonz")
    assert file_identity(file) != file_identity(copy)
