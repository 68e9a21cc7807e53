"""Selection of images: limits of seasons, the snowy season, and the clearest image of a place, against loops."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.patches.decision import decide
from reben_dask.patches.selection import choose_images, with_choice, with_season_limits
from reben_dask.recipes import load_recipe
from reben_dask.recipes.model import Images, SeasonLimits, Snowy

PIXELS = 3600
"""SCL pixels of a patch."""

_MONTHS = load_recipe("seasonet").images
assert _MONTHS is not None
SEASONET: Images = _MONTHS
WITHOUT_SNOWY = SEASONET.model_copy(update={"snowy": None})
FRACTIONS = ("snow_fraction", "cloud_fraction", "shadow_fraction")


def _limited(season: object, snow: object, cloud: object, rule: Images = SEASONET) -> tuple[object, bool]:
    """Season and limits of a single patch of so many snowy and cloudy pixels."""
    row = {"season": [season], "snow_fraction": [snow], "cloud_fraction": [cloud]}
    patches = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in row.items()})
    judged = with_season_limits(patches.astype({"season": "str"}), rule).iloc[0]
    return (None if pd.isna(judged["season"]) else judged["season"]), bool(judged["within_limits"])


@pytest.mark.parametrize(
    ("season", "snow_px", "cloud_px", "expected"),
    [
        # Less than 1 % snow (36 of 3,600 pixels) and less than 5 % cloud (180).
        *((season, 35, 179, (season, True)) for season in ("spring", "summer", "fall")),
        *((season, 36, 0, (season, False)) for season in ("spring", "summer", "fall")),
        *((season, 0, 180, (season, False)) for season in ("spring", "summer", "fall")),
        # In winter 10 % of both (360).
        ("winter", 359, 359, ("winter", True)),
        ("winter", 359, 360, ("winter", False)),
        # From 10 % snow on it is the snowy season, in which only cloud is limited.
        ("winter", 360, 0, ("snow", True)),
        ("winter", 3600, 0, ("snow", True)),
        ("winter", 360, 179, ("snow", True)),
        ("winter", 360, 180, ("snow", False)),
        ("summer", 360, 0, ("snow", True)),
        ("summer", 359, 0, ("summer", False)),
        # Of any month.
        (None, 360, 179, ("snow", True)),
        (None, 360, 180, ("snow", False)),
        (None, 359, 0, (None, False)),
        (None, 0, 0, (None, False)),
    ],
)
def test_the_limits_of_seasonet(
    season: str | None, snow_px: int, cloud_px: int, expected: tuple[str | None, bool]
) -> None:
    assert _limited(season, snow_px / PIXELS, cloud_px / PIXELS) == expected


@pytest.mark.parametrize(
    ("season", "snow_px", "expected"),
    [("winter", 359, ("winter", True)), ("winter", 360, ("winter", False)), (None, 3600, (None, False))],
)
def test_without_a_snowy_season_snow_is_only_limited(
    season: str | None, snow_px: int, expected: tuple[str | None, bool]
) -> None:
    assert _limited(season, snow_px / PIXELS, 0.0, WITHOUT_SNOWY) == expected


@pytest.mark.parametrize(("snow", "cloud"), [(None, None), (np.nan, np.nan), (None, 0.0), (0.0, None)])
@pytest.mark.parametrize("season", ["winter", None])
def test_what_is_unknown_is_within_no_limit(season: str | None, snow: object, cloud: object) -> None:
    assert _limited(season, snow, cloud) == (season, False)


def test_snow_without_known_cloud_is_within_no_limit() -> None:
    assert _limited("winter", 1.0, None) == ("snow", False)


@pytest.mark.parametrize("percent", range(1, 101))
def test_every_whole_per_cent_is_met_exactly(percent: int) -> None:
    """A share is a quotient of pixels, a limit is a decimal: where they are equal, the limit is not kept."""
    limit = SeasonLimits(snow=percent / 100, cloud=percent / 100)
    rule = Images(limits={"winter": limit}, snowy=None)
    exactly, below = 36 * percent / PIXELS, (36 * percent - 1) / PIXELS
    assert [
        _limited("winter", snow, cloud, rule)[1] for snow, cloud in ((below, below), (exactly, 0), (0, exactly))
    ] == [
        True,
        False,
        False,
    ]
    if percent < 100:
        snowy = Images(limits={}, snowy=Snowy(season="snow", snow_from=percent / 100, cloud=percent / 100))
        assert _limited(None, exactly, below, snowy) == ("snow", True)
        assert _limited(None, below, below, snowy) == (None, False)
        assert _limited(None, exactly, exactly, snowy) == ("snow", False)


def test_limits_of_no_patches() -> None:
    """Dask asks what columns there will be with a frame that has no rows."""
    nothing = pd.DataFrame({"season": pd.Series(dtype="str"), **{name: pd.Series(dtype=float) for name in FRACTIONS}})
    judged = with_season_limits(nothing, SEASONET)
    assert judged.empty
    assert (str(judged["season"].dtype), str(judged["within_limits"].dtype)) == ("str", "bool")


def test_other_columns_and_rows_stay() -> None:
    patches = pd.DataFrame(
        {"patch_id": list("cab"), "season": pd.Series(["fall", None, "fall"], index=[5, 3, 9], dtype="str").array},
        index=[5, 3, 9],
    ).assign(snow_fraction=[0, 1, 0], cloud_fraction=0)
    before = patches.copy()
    judged = with_season_limits(patches, SEASONET)
    pd.testing.assert_frame_equal(patches, before)
    assert judged.index.tolist() == [5, 3, 9]
    assert judged["patch_id"].tolist() == list("cab")
    assert judged["season"].tolist() == ["fall", "snow", "fall"]


def test_the_reason_tells_season_and_limits_apart() -> None:
    patches = pd.DataFrame(
        {
            "season": pd.Series(["fall", "fall", None, None, "fall", None, "fall"], dtype="str"),
            "snow_fraction": [0, 0.5, 0.5, 0.0, 0.02, np.nan, np.nan],
            "cloud_fraction": [0, 0, 0.05, 0.0, 0, np.nan, np.nan],
            "failed_quality": None,
            "nodata": False,
            "labeled_fraction": 1.0,
        }
    )
    decided = decide(with_season_limits(patches, SEASONET), labeled_fraction=0, comparison="more_than")
    assert decided["season"].fillna("none").tolist() == ["fall", "snow", "snow", "none", "fall", "none", "fall"]
    assert decided["reason"].fillna("kept").tolist() == [
        *("kept", "kept", "snow_or_cloud", "no_season", "snow_or_cloud", "no_season", "no_scene_classification")
    ]


# ------------------------------------------------------------------------------------------------ choice of images

START = datetime(2018, 4, 1, tzinfo=UTC)


def _images(*rows: tuple[object, ...], columns: str = "patch_id snow cloud shadow day") -> pd.DataFrame:
    """Kept patches of one place in winter, by name, pixels of snow, cloud and shadow, and day."""
    table = pd.DataFrame(rows, columns=columns.split())
    return table.assign(
        **{f"{of}_fraction": table[of] / PIXELS for of in ("snow", "cloud", "shadow")},
        **dict.fromkeys(("x", "y"), 0),
        grid=1,
        season="winter",
        status="kept",
        reason=None,
        sensing_time=[START + timedelta(days=day) for day in table["day"]],
    )


def _taken(patches: pd.DataFrame, rule: Images = SEASONET) -> list[str]:
    return patches["patch_id"][choose_images(patches, rule)].tolist()


@pytest.mark.parametrize(
    ("images", "best"),
    [
        ([("a", 0, 10, 0, 0), ("b", 0, 9, 0, 1)], "b"),
        ([("a", 0, 0, 10, 0), ("b", 0, 0, 9, 1)], "b"),
        ([("a", 10, 0, 0, 0), ("b", 9, 0, 0, 1)], "b"),
        # All three count alike, and together.
        ([("a", 5, 5, 5, 0), ("b", 14, 0, 0, 1), ("c", 0, 0, 16, 2)], "b"),
        # Of equals the earliest, then the first name.
        ([("a", 0, 9, 0, 5), ("b", 9, 0, 0, 4), ("c", 0, 0, 9, 6)], "b"),
        ([("b", 0, 9, 0, 4), ("a", 0, 9, 0, 4)], "a"),
        # As sums of floats, 1/3600 three times is less than 3/3600.
        ([("a", 1, 1, 1, 1), ("b", 0, 3, 0, 0)], "b"),
        ([("b", 0, 0, 0, 0)], "b"),
    ],
)
def test_the_clearest_image_of_a_place(images: list[tuple[object, ...]], best: str) -> None:
    patches = _images(*images)
    assert _taken(patches) == [best]
    assert _taken(patches.iloc[::-1]) == [best]


@given(st.data())
def test_sums_of_as_many_pixels_are_equal(data: st.DataObject) -> None:
    """Two sums of three quotients may differ in their last digit; the earlier image is taken all the same."""
    total = data.draw(st.integers(0, 400))
    cuts = [sorted(data.draw(st.tuples(st.integers(0, total), st.integers(0, total)))) for _ in range(2)]
    (a, b), (c, d) = cuts
    later, earlier = ("a", a, b - a, total - b, 1), ("b", c, d - c, total - d, 0)
    assert _taken(_images(later, earlier)) == ["b"]
    clearer = ("c", c, d - c, total - d + 1, 0)
    assert _taken(_images(later, clearer)) == ["a"]


def test_snow_does_not_count_against_an_image_of_the_snowy_season() -> None:
    patches = _images(("a", 3600, 3, 0, 0), ("b", 400, 4, 0, 1))
    assert _taken(patches) == ["b"]
    assert _taken(patches.assign(season="snow")) == ["a"]
    assert _taken(patches.assign(season="snow"), WITHOUT_SNOWY) == ["b"]


@pytest.mark.parametrize("column", ["grid", "x", "y", "season"])
def test_each_place_and_season_has_an_image_of_its_own(column: str) -> None:
    patches = _images(("a", 0, 9, 0, 0), ("b", 0, 0, 0, 1))
    patches[column] = ["summer", "winter"] if column == "season" else [1, 2]
    assert _taken(patches) == ["a", "b"]


def test_a_place_may_have_no_image() -> None:
    patches = _images(("a", 0, 0, 0, 0), ("b", 0, 0, 0, 1))
    patches = patches.assign(status="rejected", reason=["nodata", "snow_or_cloud"])
    decided = with_choice(patches, SEASONET)
    assert decided["status"].tolist() == ["rejected", "rejected"]
    assert decided["reason"].tolist() == ["nodata", "snow_or_cloud"]


def test_rejected_images_do_not_compete() -> None:
    patches = _images(("a", 0, 0, 0, 0), ("b", 0, 9, 0, 1), ("c", 0, 99, 0, 2))
    patches["status"], patches["reason"] = ["rejected", "kept", "kept"], ["too_little_labeled", None, None]
    decided = with_choice(patches, SEASONET)
    assert decided["status"].tolist() == ["rejected", "kept", "rejected"]
    assert decided["reason"].fillna("").tolist() == ["too_little_labeled", "", "not_chosen"]


REASONS = (None, None, None, "tile_quality", "nodata", "no_season", "snow_or_cloud", "too_little_labeled")


@st.composite
def many_images(draw: st.DrawFn) -> pd.DataFrame:
    """Patches of up to four places, of a few images, with few different fractions: many are equal."""
    few = st.integers(0, 3)
    rows = []
    for number in range(draw(st.integers(1, 25))):
        reason = draw(st.sampled_from(REASONS))
        known = reason not in {"tile_quality", "no_season"}
        rows.append(
            {
                "patch_id": f"p{draw(st.integers(0, 9))}_{number:02d}",
                **{name: draw(st.sampled_from([1, 2])) for name in ("grid", "x")},
                "y": 0,
                "season": draw(st.sampled_from(["winter", "summer", "snow"])) if reason != "no_season" else None,
                "status": "rejected" if reason else "kept",
                "reason": reason,
                "sensing_time": START + timedelta(days=draw(few)),
                **{name: draw(few) / PIXELS if known else np.nan for name in FRACTIONS},
            }
        )
    return pd.DataFrame(rows).astype({"season": "str", "reason": "str"})


def _expected(patches: pd.DataFrame) -> set[str]:
    """The clearest of each place and season, found by comparing every image with every other, in whole pixels."""
    best: dict[tuple[object, ...], tuple[tuple[object, ...], str]] = {}
    for row in patches.to_dict("records"):
        if row["status"] != "kept":
            continue
        snow, cloud, shadow = (Fraction(round(PIXELS * row[name]), PIXELS) for name in FRACTIONS)
        unclear = cloud + shadow + (0 if row["season"] == "snow" else snow)
        key, rank = (row["grid"], row["x"], row["season"]), (unclear, row["sensing_time"], row["patch_id"])
        best[key] = min(best.get(key, (rank, row["patch_id"])), (rank, row["patch_id"]))
    return {name for _, name in best.values()}


@given(many_images(), st.randoms(use_true_random=False))
def test_the_choice_is_that_of_a_loop_and_may_be_repeated(patches: pd.DataFrame, random: object) -> None:
    expected = _expected(patches)
    decided = with_choice(patches, SEASONET)
    assert set(decided["patch_id"][decided["status"] == "kept"]) == expected
    for before, after in zip(patches.to_dict("records"), decided.to_dict("records"), strict=True):
        if before["status"] == "rejected":
            assert after["reason"] == before["reason"]
        else:
            assert (after["status"] == "kept") == (before["patch_id"] in expected)
            assert pd.isna(after["reason"]) if after["status"] == "kept" else after["reason"] == "not_chosen"
    pd.testing.assert_frame_equal(with_choice(decided, SEASONET), decided)
    shuffled = decided.sample(frac=1, random_state=random.randrange(2**32))  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(with_choice(shuffled, SEASONET).sort_index(), decided)


def test_an_image_more_may_change_an_earlier_choice() -> None:
    """A repeated selection reconsiders patches that an earlier one rejected or kept."""
    first = with_choice(_images(("a", 0, 9, 0, 0), ("b", 0, 8, 0, 1)), SEASONET)
    assert first["status"].tolist() == ["rejected", "kept"]
    more = pd.concat([first, _images(("c", 0, 7, 0, 2))], ignore_index=True)
    assert with_choice(more, SEASONET)["status"].tolist() == ["rejected", "rejected", "kept"]
    fewer = first[first["patch_id"] == "a"]
    assert with_choice(fewer, SEASONET)["status"].tolist() == ["kept"]


def test_choice_among_no_images() -> None:
    nothing = _images(("a", 0, 0, 0, 0)).iloc[:0]
    assert with_choice(nothing, SEASONET).empty
