"""Figures of a report in cases that the demo region does not have."""

from __future__ import annotations

from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from matplotlib.collections import PolyCollection

from reben_dask.analysis.legend import corine_legend
from reben_dask.drawing import STRATEGY_COLOURS, house_style, image_bytes
from reben_dask.report.examples import Example, natural_colour
from reben_dask.report.figures import (
    NARROW,
    WIDE,
    draw_classes,
    draw_examples,
    draw_funnel,
    draw_histograms,
    draw_label_numbers,
    draw_seconds,
)
from reben_dask.report.maps import draw_tiles, shows_countries


def _place(epsg: int, minx: int, name: str) -> dict[str, object]:
    edges = {"minx": minx, "miny": 7_000_000, "maxx": minx + 109_800, "maxy": 7_109_800}
    return {"name": name, "epsg": epsg, **edges, "candidates": 10, "kept": 5, "images": 1}


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_map_of_tiles_on_both_sides_of_180_degrees(width: float) -> None:
    places = pd.DataFrame([_place(32660, 600_000, "T60WWT"), _place(32601, 400_000, "T01WCN")])
    land = gpd.GeoSeries([shapely.box(170, 60, 179, 66), shapely.box(10, 45, 15, 50)], crs=4326)
    with house_style():
        figure = draw_tiles(places, land, width=width)
    axes = figure.axes[0]
    assert np.ptp(axes.get_xlim()) < 1_500_000
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert {"180°", "178.5°W"} <= set(labels)
    assert len([drawn for drawn in axes.collections if isinstance(drawn, PolyCollection)]) >= 2
    assert not shows_countries(places, land.iloc[1:])


def test_a_funnel_of_nothing_and_long_times() -> None:
    for width in (WIDE, NARROW):
        with house_style():
            assert draw_funnel([("candidates", 0)], 0, width=width).get_figwidth() == width
            assert draw_seconds({"tiles": 9_000.0}, width=width).axes[0].get_xlabel() == "Wall time (h)"


STEPS = [("candidates", 320), ("a pixel of the patch is NODATA in at least one band", 9)]
CLASSES = ["Natural grassland and sparsely vegetated areas", "Moors, heathland and sclerophyllous vegetation"]


def _examples() -> list[Example]:
    codes = np.repeat(np.array([111, 243, 322, 999], np.uint16), 3_600).reshape(120, 120)
    row = {"labels": CLASSES, "sensing_time": pd.Timestamp("2018-07-25")}
    return [Example(row, "", np.zeros((120, 120, 3)), codes)] * 5


DRAWN = {
    "histograms": lambda width: draw_histograms(
        pd.DataFrame(
            [(band, split, value, 9) for band in ("B04", "VH") for split in ("train", None) for value in (1, 9_000)],
            columns=["band", "split", "value", "pixels"],
        ),
        width=width,
    ),
    "funnel": lambda width: draw_funnel(STEPS, 311, width=width),
    "classes": lambda width: draw_classes(
        pd.DataFrame(dict.fromkeys(["train", "validation", "test", "all"], 4), CLASSES),
        pd.Series(dict.fromkeys(["train", "validation", "test"], 7)),
        width=width,
    ),
    "examples": lambda width: draw_examples(_examples(), bright=False, legend=corine_legend(), width=width),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_no_text_is_cut(name: str, kind: Literal["svg", "png"]) -> None:
    """Text is laid out once, and has the same place in both kinds of files."""
    with house_style():
        figure = DRAWN[name](WIDE)
        image_bytes(figure, kind)
        figure.set_dpi(72 if kind == "svg" else 200)
        figure.draw_without_rendering()
        drawn = figure.get_tightbbox()
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= figure.get_figwidth()
    assert drawn.y1 <= figure.get_figheight()


def test_rows_of_examples_are_close_together() -> None:
    with house_style():
        figure = draw_examples(_examples(), bright=False, legend=corine_legend())
        figure.draw_without_rendering()
    above, below = (figure.axes[place].get_position() for place in (0, 5))
    assert above.y0 - below.y1 < 0.2 * above.height


def test_patches_in_no_split_are_drawn() -> None:
    numbers = pd.DataFrame({"train": [3], "validation": [0], "test": [1], "all": [6]}, index=[2])
    with house_style():
        legend = draw_label_numbers(numbers).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["train", "test", "in no split"]


def test_png_files_are_wide_and_the_same_every_time() -> None:
    with house_style():
        one, two = (image_bytes(draw_funnel([("candidates", 3)], 3, width=NARROW), "png") for _ in range(2))
    assert one == two
    assert int.from_bytes(one[16:20]) >= 1920


def test_natural_colour_of_pixels_without_data() -> None:
    reflectance = np.full((2, 2, 3), 0.26)
    reflectance[0, 0] = np.nan
    for bright in (False, True):
        pixels = natural_colour(reflectance, bright=bright)
        assert (pixels[0, 0] == 0).all()
        assert (pixels[1] == 255).all()


def test_a_strategy_has_a_colour_of_its_own() -> None:
    assert len(set(STRATEGY_COLOURS.values())) == len(STRATEGY_COLOURS) == 4
