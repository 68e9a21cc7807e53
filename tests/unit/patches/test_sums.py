"""Sums of patches and their statistics, against NumPy and scikit-learn over all pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from reben_dask.formats.bands import Band, ImageKind
from reben_dask.formats.statistics import SPLIT_KEYS, BandStatistics, Statistics
from reben_dask.nomenclature import Nomenclature
from reben_dask.patches import statistics as module
from reben_dask.patches.statistics import BandSums, Sums, describe_sums
from reben_dask.stores.statistics import merge_sums, write_sums

SPLITS = ("train", "validation", "test", None)
CLASSES = Nomenclature("three", {1: "a", 2: "b", 3: "b", 4: "c", 5: None})
Patch = tuple[str | None, dict[str, np.ndarray]]


def _patch(seed: int) -> Patch:
    """Patch with nodata, in one of the splits; the band B09 has few values."""
    random = np.random.default_rng(seed)
    images: dict[str, np.ndarray] = {
        "B04": random.choice(np.array([0, 1, 700, 65_535], np.uint16), (6, 6)),
        "B09": random.integers(0, 3, (2, 2), np.uint16),
        "VV": random.normal(-12, 5, (6, 6)).astype(np.float32),
        "VH": random.normal(-20, 200, (6, 6)).astype(np.float32),
        "reference_map": random.integers(1, 7, (6, 6)).astype(np.uint16),
    }
    images["VV"][0, :3] = [np.nan, np.inf, -np.inf]
    images["VH"][1, 1] = np.nan
    images["VV"][2, :2] = images["VH"][2, 0] = 0
    return SPLITS[seed % 4], images


def _sums(patches: Sequence[Patch]) -> Sums:
    sums = Sums()
    for split, images in patches:
        sums.add(split, images, ["a", "c"] if split else ["b"])
    return sums


def _pixels(patches: Sequence[Patch], name: str) -> np.ndarray:
    """Valid pixels of a band."""
    values = np.concatenate([images[name].ravel() for _, images in patches])
    if name not in {"VV", "VH"}:
        return values[values != 0]
    pair = np.array([[images[other].ravel() for _, images in patches] for other in ("VV", "VH")]).reshape(2, -1)
    return values[np.isfinite(pair).all(axis=0) & (pair != 0).any(axis=0)]


def _assert_equal(found: BandStatistics, pixels: np.ndarray) -> None:
    exact = pixels.astype(np.float64)
    assert (found.count, found.min, found.max) == (pixels.size, pixels.min(), pixels.max())
    assert (found.mean, found.std) == pytest.approx((exact.mean(), exact.std()), rel=1e-12)
    percentiles = np.percentile(exact, [1, 50, 99], method="inverted_cdf").tolist()
    # Beyond the bins of dB, only minimum and maximum are known.
    near = np.clip(percentiles, -327.68, 327.67) if pixels.dtype == np.float32 else percentiles
    limit = 0.0051 if pixels.dtype == np.float32 else 0
    assert [found.p01, found.p50, found.p99] == pytest.approx(near, abs=limit)


def test_statistics_are_those_of_numpy_over_all_pixels() -> None:
    patches = [_patch(seed) for seed in range(23)]
    found = describe_sums(_sums(patches), CLASSES.classes, CLASSES)
    assert list(found.bands) == ["B04", "B09", "VV", "VH"]
    for name, of_split in found.bands.items():
        assert tuple(of_split) == SPLIT_KEYS
        for split, statistics in of_split.items():
            _assert_equal(statistics, _pixels([patch for patch in patches if split in {patch[0], "all"}], name))


def test_weights_are_those_of_scikit_learn() -> None:
    patches = [_patch(seed) for seed in range(7)]
    found = describe_sums(_sums(patches), (*CLASSES.classes, "never"), CLASSES).classes
    codes = np.concatenate([images["reference_map"].ravel() for _, images in patches])
    labels = np.array([CLASSES.class_of.get(code) or "" for code in codes.tolist()])
    weights = compute_class_weight("balanced", classes=np.array(CLASSES.classes), y=labels[labels != ""])
    for name, weight in zip(CLASSES.classes, weights, strict=True):
        assert (found[name].pixels, found[name].weight) == (int((labels == name).sum()), pytest.approx(weight))
    assert [found[name].patches for name in "abc"] == [6, 1, 6]
    assert found["never"].model_dump() == {"pixels": 0, "patches": 0, "weight": None}


def test_without_maps_pixels_of_classes_are_not_known() -> None:
    sums = Sums()
    sums.add("train", {"B04": np.ones((2, 2), np.uint16)}, ["a"])
    assert describe_sums(sums, ("a",), CLASSES).classes["a"].model_dump() == {
        "pixels": None,
        "patches": 1,
        "weight": None,
    }


def test_no_valid_pixels() -> None:
    sums = Sums()
    sums.add(None, {"B04": np.zeros((2, 2), np.uint16), "VV": np.full((2, 2), np.nan, np.float32)})
    for of_split in describe_sums(sums, (), None).bands.values():
        assert {statistics.count for statistics in of_split.values()} == {0}
        assert all(statistics.mean is None is statistics.max for statistics in of_split.values())


@given(order=st.permutations(range(9)), cuts=st.sets(st.integers(1, 8)), block=st.sampled_from([40, 2**18]))
def test_sums_are_equal_bit_for_bit_in_any_order_and_division(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: set[int], block: int
) -> None:
    patches = [_patch(seed) for seed in range(9)]
    wanted = describe_sums(_sums(patches), CLASSES.classes, CLASSES)
    folder, files = tmp_path_factory.mktemp("sums"), list[Path]()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "BLOCK_PX", block)
        for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 9], strict=True):
            files.append(folder / f"{start}.npz")
            write_sums(files[-1], _sums([patches[number] for number in order[start:stop]]))
        assert describe_sums(merge_sums(files), CLASSES.classes, CLASSES) == wanted


@pytest.mark.parametrize("values", [[3, 3, 3], [65_535] * 1000 + [1], [*range(1, 202)]])
def test_exact_moments(values: list[int]) -> None:
    sums = BandSums(Band("B04", ImageKind.S2, 10, "uint16", 0))
    sums.add(np.array(values, np.uint16))
    _assert_equal(sums.statistics(), np.array(values, np.uint16))


def test_constant_backscatter_has_no_deviation() -> None:
    sums = Sums()
    for value in (-12.3456, -12.3456):
        sums.add("train", {"VV": np.full((120, 120), value, np.float32)})
    found = describe_sums(sums, (), None).bands["VV"]["train"]
    assert (found.std, found.p50) == (pytest.approx(0, abs=1e-6), pytest.approx(-12.35, abs=0.0051))
    assert found.min == found.max == np.float32(-12.3456)


def test_file_is_read_back(tmp_path: Path) -> None:
    found = describe_sums(_sums([_patch(0)]), CLASSES.classes, CLASSES)
    found.write(tmp_path / "statistics.json")
    assert Statistics.read(tmp_path) == found
