"""Labels that patches gain and lose, against Python's own sets."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from reben_dask.analysis.differences import label_changes
from reben_dask.analysis.patch_set import LabelSets


def _encoded(sets: list[set[str]], classes: list[str]) -> LabelSets:
    return LabelSets(tuple(classes), np.array([[name in one for name in classes] for one in sets], bool))


def _names(count: int, start: int = 0) -> list[str]:
    return [f"class {number:02d}" for number in range(start, start + count)]


def _sets(names: list[str], count: int, seed: int) -> list[set[str]]:
    random = np.random.default_rng(seed)
    return [{name for name in names if random.random() < random.random() ** 2} for _ in range(count)]


@pytest.mark.parametrize("classes", [1, 43])
def test_another_class_list_keeps_what_it_has_by_name(classes: int) -> None:
    names = _names(classes)
    sets = _sets(names, 40, 2)
    other = [*reversed(names[::2]), "new", *_names(5, start=80)]
    moved = _encoded(sets, names).recoded(other)
    assert moved.classes == tuple(other)
    assert [{other[code] for code in np.flatnonzero(row)} for row in moved.carried] == [
        one & set(other) for one in sets
    ]


def test_changes_between_class_lists_that_overlap() -> None:
    """Every number of the three tables, counted patch by patch."""
    ours, theirs = _names(43), ["merged", *_names(25, start=30)]
    a, b = _sets(ours, 300, 3), _sets(theirs, 300, 4)
    b[:100] = [one & set(theirs) for one in a[:100]]
    a[100], b[100] = set(), set()
    found = label_changes(_encoded(a, ours), _encoded(b, theirs))

    shared = set(ours) & set(theirs)
    for column, known in (("all classes", set(ours) | set(theirs)), ("classes of both lists", shared)):
        kinds = Counter(
            ("lost and gained labels" if one - other and other - one else
             "only lost labels" if one - other else "only gained labels" if other - one else "same labels")
            for one, other in ((x & known, y & known) for x, y in zip(a, b, strict=True))
        )  # fmt: skip
        assert found.patches[column].to_dict() == {kind: kinds[kind] for kind in found.patches.index}
        assert found.patches[column].sum() == 300
    assert found.patches.loc["same labels", "classes of both lists"] > 100

    assert found.classes.index.tolist() == sorted(set(ours) | set(theirs))
    for name, row in found.classes.iterrows():
        both = sum(name in x and name in y for x, y in zip(a, b, strict=True))
        in_a, in_b = (sum(name in one for one in sets) for sets in (a, b))
        expected = "both" if name in shared else "A" if name in ours else "B"
        assert row.tolist() == [expected, in_a, in_b, both, in_a - both, in_b - both]

    changes = Counter(pair for x, y in zip(a, b, strict=True) for pair in product(x - y, y - x))
    assert {(row.lost, row.gained): row.patches for row in found.pairs.itertuples()} == changes
    assert found.pairs["patches"].is_monotonic_decreasing
    for row in found.pairs.sample(20, random_state=1).itertuples():
        either = sum(row.lost in x - y or row.gained in y - x for x, y in zip(a, b, strict=True))
        assert row.share == row.patches / either


def test_a_class_that_goes_by_another_name_has_a_share_of_one() -> None:
    a, b = [{"wood"}, {"wood", "lake"}, {"lake"}], [{"forest"}, {"forest", "lake"}, {"lake"}]
    pairs = label_changes(_encoded(a, ["lake", "wood"]), _encoded(b, ["forest", "lake"])).pairs
    assert pairs.to_dict("records") == [{"lost": "wood", "gained": "forest", "patches": 2, "share": 1.0}]


def test_no_changes() -> None:
    labels = _encoded([{"a"}, set()], ["a", "b"])
    found = label_changes(labels, labels)
    assert found.patches["all classes"].tolist() == [2, 0, 0, 0]
    assert found.pairs.empty
