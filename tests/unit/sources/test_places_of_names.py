"""Corners of tiles from their MGRS names, against published corners."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from reben_dask.errors import InputError
from reben_dask.sources.published.places import named_patches, sensing_days, tile_corner


def test_corners_of_published_tiles(data_dir: Path) -> None:
    origins = pd.read_csv(data_dir / "bigearthnet" / "tile_origins.csv")
    assert len(origins) == 22
    for row in origins.itertuples():
        assert tile_corner(row.mgrs[1:]) == (row.epsg, row.ox, row.oy)


@pytest.mark.parametrize(
    ("mgrs", "corner"),
    [
        # Of the names of SeasoNet, then by hand: Sydney (33.9 S) lies at 334 km E, 6,251 km N.
        ("32UME", (32632, 399_960, 6_000_000)),
        ("32TMT", (32632, 399_960, 5_300_040)),
        ("56HLH", (32756, 300_000, 6_300_000)),
        ("21JYN", (32721, 699_960, 7_300_020)),
        ("19KER", (32719, 499_980, 7_600_020)),
        ("60WWT", (32660, 499_980, 7_300_020)),
    ],
)
def test_corners_elsewhere(mgrs: str, corner: tuple[int, int, int]) -> None:
    assert tile_corner(mgrs) == corner


@pytest.mark.parametrize("mgrs", ["33UIP", "33UAP", "61UUP", "33AUP", "33UUW"])
def test_no_such_square(mgrs: str) -> None:
    with pytest.raises(InputError, match=f"{mgrs} is not the name of an MGRS square"):
        tile_corner(mgrs)


def test_days_of_names_of_all_versions() -> None:
    """Published names of version 1 may lack the zero of the hour, and have 60 seconds or more."""
    names = [
        "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
        "S2B_MSIL2A_20180525T94031_70_35",
        "32UME_20180418T104021_53_928425_7_503876",
    ]
    assert [f"{day:%Y-%m-%d}" for day in sensing_days(pd.Series(names))] == ["2017-06-13", "2018-05-25", "2018-04-18"]


@pytest.mark.parametrize("end", ["_91_0", "_0_91", "_1", ""])
def test_positions_outside_a_tile_are_refused(end: str) -> None:
    name = f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP{end}"
    with pytest.raises(InputError, match=f"{name}' is not the name of a patch"):
        named_patches(pd.Series(["S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_90_90", name]))
