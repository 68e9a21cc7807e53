"""Order of the reasons for a rejection."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from reben_dask.patches.decision import REASONS, decide

ORDER = ["tile_quality", "nodata", "not_published", "too_little_labeled", "no_sentinel1"]
CASES = pd.DataFrame(list(product([False, True], repeat=5)), columns=ORDER, index=range(100, 132))


def _patches(failing: pd.DataFrame) -> pd.DataFrame:
    """Patches that fail the rules named."""
    return pd.DataFrame(
        {
            "failed_quality": failing["tile_quality"].map({True: "GEOMETRIC", False: None}).astype("str"),
            "nodata": failing["nodata"],
            "is_published": ~failing["not_published"],
            "labeled_fraction": np.where(failing["too_little_labeled"], 0.7499, 0.75),
            "s1_name": failing["no_sentinel1"].map({True: None, False: "S1A"}).astype("str"),
        }
    )


def _decide(patches: pd.DataFrame, **options: bool) -> pd.DataFrame:
    return decide(patches, labeled_fraction=0.75, comparison="at_least", **options)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("pairs_only", [False, True])
def test_the_first_rule_that_fails_gives_the_reason(*, published: bool, pairs_only: bool) -> None:
    """All 32 cases; a rule that is not asked gives no reason."""
    assert [reason for reason in REASONS if reason in ORDER] == ORDER
    asked = [
        name for name in ORDER if (published or name != "not_published") and (pairs_only or name != "no_sentinel1")
    ]
    patches = _patches(CASES)
    decided = _decide(patches if published else patches.drop(columns="is_published"), pairs_only=pairs_only)
    expected = {row: next((name for name in asked if case[name]), None) for row, case in CASES.iterrows()}
    assert {row: None if pd.isna(reason) else reason for row, reason in decided["reason"].items()} == expected
    assert decided["status"].to_dict() == {row: "rejected" if name else "kept" for row, name in expected.items()}
    assert decided[["reason", "status"]].dtypes.tolist() == ["str", "str"]


def test_a_job_without_sentinel1_has_no_such_column() -> None:
    patches = _patches(CASES[~CASES.any(axis=1)]).drop(columns=["s1_name", "is_published"])
    assert _decide(patches)["status"].tolist() == ["kept"]


def test_a_tile_that_was_not_looked_at() -> None:
    """Columns of a tile that failed its quality are null, of no particular type."""
    nulls = pd.Series([None, None], dtype=object)
    columns = {"nodata": nulls, "labeled_fraction": nulls.astype(float), "s1_name": nulls}
    patches = pd.DataFrame({"failed_quality": ["GENERAL"] * 2, "is_published": [True, False], **columns})
    assert _decide(patches, pairs_only=True)["reason"].tolist() == ["tile_quality"] * 2
