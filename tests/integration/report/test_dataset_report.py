"""The page of a dataset: numbers counted by DuckDB, pixels read by zarr, colours of the published legend."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from pages import Tag, counts, linked, pixels, read_page, table, tables

from reben_dask.analysis.legend import corine_legend, map_colours
from reben_dask.cli import main
from reben_dask.patches.decision import REASONS

FIGURES = {"funnel", "classes", "labels", "tiles", "splits", "examples", "sky", "histograms", "dates", "seconds"}
SETS = ", ".join(f"count(*) FILTER (split = '{split}')" for split in ("train", "validation", "test"))

OFFICIAL = """
111 230-000-077 112 255-000-000 121 204-077-242 122 204-000-000 123 230-204-204 124 230-204-230 131 166-000-204
132 166-077-000 133 255-077-255 141 255-166-255 142 255-230-255 211 255-255-168 212 255-255-000 213 230-230-000
221 230-128-000 222 242-166-077 223 230-166-000 231 230-230-077 241 255-230-166 242 255-230-077 243 230-204-077
244 242-204-166 311 128-255-000 312 000-166-000 313 077-255-000 321 204-242-077 322 166-255-128 323 166-230-077
324 166-242-000 331 230-230-230 332 204-204-204 333 204-255-204 334 000-000-000 335 166-230-204 411 166-166-255
412 077-077-255 421 204-204-255 422 230-230-255 423 166-166-230 511 000-204-242 512 128-242-230 521 000-255-166
522 166-255-230 523 230-242-255 999 255-255-255
"""
"""The legend that comes with the CORINE data (clc_legend.csv: CLC_CODE, RGB), and white where there is no polygon."""
RGB = {int(code): tuple(map(int, rgb.split("-"))) for code, rgb in re.findall(r"(\d{3}) ([\d-]{11})", OFFICIAL)}


@pytest.fixture(scope="module")
def page(small_run: Path) -> Tag:
    """The page that the job has made."""
    return read_page(small_run / "report" / "index.html")


def _asked(out: Path, query: str) -> list[tuple[Any, ...]]:
    parts = f"read_parquet('{out}/patches.parquet/*.parquet')"
    given = f"patches AS (SELECT * FROM {parts}), kept AS (SELECT * FROM patches WHERE status = 'kept')"  # noqa: S608
    return duckdb.sql(f"WITH {given} {query}").fetchall()


def _report(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["report", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def _refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["report", *map(str, arguments)])
    assert result.exit_code == 1
    assert "This should not happen" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("caption", "key"),
    [
        ("Kept patches by number of labels", "len(labels)"),
        ("Kept patches by country", "country"),
        ("Kept patches by season", "season"),
        ("Kept patches by day", "strftime(timezone('UTC', sensing_time), '%Y-%m-%d')"),
    ],
)
def test_tables_of_kept_patches(page: Tag, small_run: Path, caption: str, key: str) -> None:
    rows = _asked(small_run, f"SELECT {key} AS key, {SETS}, count(*) FROM kept GROUP BY key")  # noqa: S608
    assert counts(table(page, caption)) == {str(name): list(numbers) for name, *numbers in rows}


def test_table_one(page: Tag, small_run: Path) -> None:
    query = f"SELECT label, {SETS}, count(*) FROM (SELECT unnest(labels) AS label, split FROM kept) GROUP BY 1"  # noqa: S608
    expected = {name: list(numbers) for name, *numbers in _asked(small_run, query)}
    expected["(all patches)"] = list(_asked(small_run, f"SELECT {SETS}, count(*) FROM kept")[0])  # noqa: S608
    assert counts(table(page, "Patches with each class")) == expected


def test_funnel_and_tiles(page: Tag, small_run: Path) -> None:
    lost = dict(_asked(small_run, "SELECT reason, count(*) FROM patches WHERE reason IS NOT NULL GROUP BY reason"))
    numbers = _asked(small_run, "SELECT count(*), (SELECT count(*) FROM kept) FROM patches")[0]
    flags = ("contains_seasonal_snow", "contains_cloud_or_shadow")
    apart = [_asked(small_run, f"SELECT count(*) FROM kept WHERE {flag}")[0][0] for flag in flags]  # noqa: S608
    words = {
        "Candidates": numbers[0],
        **{f"rejected: {REASONS[reason]}": count for reason, count in lost.items()},
        "Kept": numbers[1],
        **{f"flagged: {name}": count for name, count in zip(("snow", "cloud or shadow"), apart, strict=True) if count},
    }
    assert apart[0] > 0
    shown = {name: (int(count), share) for name, count, share in table(page, "Candidate patches by outcome")[1:]}
    assert shown == {name: (count, f"{count / numbers[0]:.1%}") for name, count in words.items()}
    tiles = _asked(small_run, "SELECT tile, count(*), count(*) FILTER (status = 'kept') FROM patches GROUP BY tile")
    found = {row[0]: (int(row[2]), int(row[3])) for row in table(page, "Candidate and kept patches")[1:]}
    assert found == {tile: (candidates, kept) for tile, candidates, kept in tiles}
    facts = dict(zip((term.text for term in page.all("dt")), (value.text for value in page.all("dd")), strict=True))
    assert (facts["Candidates"], facts["Kept patches"]) == tuple(map(str, numbers))
    assert facts["Tiles"] == "4, 1 rejected"


def test_the_map_has_the_countries_of_the_job(page: Tag) -> None:
    assert "Country borders are from the job's country layer." in page.text


def test_examples_are_the_patches_in_the_store(page: Tag, small_run: Path) -> None:
    """Reference maps in the published colours; the first example has unlabelled pixels; labels as in the table."""
    store = zarr.open_group(small_run / "cubes.zarr", mode="r")
    rows = {
        name: (tile, x, y, labels, fraction, snow, cloud)
        for name, tile, x, y, labels, fraction, snow, cloud in _asked(
            small_run,
            "SELECT patch_id, tile, x, y, labels, labeled_fraction, contains_seasonal_snow, contains_cloud_or_shadow "
            "FROM kept",
        )
    }
    samples = page.all("article")
    names = [sample.all("h3")[0].text for sample in samples]
    assert len(set(names)) == len(names) > 6
    assert rows[names[0]][4] < 1
    apart = [any(rows[name][5:]) for name in names]
    assert apart == sorted(apart)
    assert {rows[name][5] for name in names} == {True, False}
    for sample, name in zip(samples, names, strict=True):
        tile, x, y, labels, *_ = rows[name]
        natural, mapped = sample.all("img")
        window = np.s_[y * 120 : y * 120 + 120, x * 120 : x * 120 + 120]
        codes = store[f"{tile}/reference_map/reference_map"][window]
        expected = np.array([RGB[code] for code in codes.ravel().tolist()], np.uint8).reshape(120, 120, 3)
        np.testing.assert_array_equal(pixels(mapped), expected, name)
        dn = store[f"{tile}/r10m/dn"][:][(slice(None), *window)]
        bands = store[f"{tile}/r10m/band"][:].tolist()
        red, green, blue = (dn[bands.index(band)].astype(float) for band in ("B04", "B03", "B02"))
        shown = pixels(natural).astype(float)
        for channel, band in enumerate((red, green, blue)):
            order = np.argsort(band, axis=None)
            assert (np.diff(shown[..., channel].ravel()[order]) >= 0).all(), "a brighter pixel is shown darker"
        (line,) = [tag for tag in sample.all("p") if tag.attributes["class"] == "labels"]
        assert line.text == f"Labels: {'; '.join(labels)}"
        legend = [item.text.strip() for item in sample.all("li")]
        assert sorted(int(text.split()[0]) for text in legend if text[0].isdigit()) == [
            code for code in np.unique(codes).tolist() if code != 999
        ]


@pytest.mark.slow
def test_the_same_dataset_gives_the_same_bytes(small_run: Path, tmp_path: Path) -> None:
    """Again, from a place where there is nothing but the table, the cubes, the statistics and the record."""
    out = linked(small_run, tmp_path / "out")
    assert str(out / "report" / "index.html") in _report(out)
    for path in sorted((out / "report").rglob("*.*")):
        made = small_run / "report" / path.relative_to(out / "report")
        assert path.read_bytes() == made.read_bytes(), path.name
    pictures = {path.name for path in (out / "report" / "figures").iterdir()}
    assert pictures == {f"{Path(name).stem}.{kind}" for name in pictures for kind in ("png", "svg")}
    assert {Path(name).stem for name in pictures} == FIGURES


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_drawn")
def test_real_pixels_and_countries(mini_run: Path, tmp_path: Path) -> None:
    out = linked(mini_run, tmp_path / "out")
    _report(out)
    page = read_page(out / "report" / "index.html")
    assert not [caption for caption in tables(page) if caption.startswith("Kept patches by country")]
    assert "None of the countries of the recipe in ne_110m_admin_0_ten_countries.gpkg reaches into" in page.text
    assert len(page.all("article")) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_drawn")
def test_nothing_secret_is_told(small_run: Path, tmp_path: Path) -> None:
    out = linked(small_run, tmp_path / "out")
    record = json.loads((out / "run" / "record.json").read_text())
    record["inputs"]["countries"] = "https://user:hunter2@example.org/countries.gpkg?signature=hunter2"
    record["inputs"]["landcover"]["source"]["name"] = "s3://key:hunter2@bucket/map.gpkg#hunter2"
    record["inputs"]["pairs"] = "/home/somebody/pairs.csv"
    record["inputs"]["sentinel1"] = "published patches in /home/somebody/BigEarthNet-S1"
    record["inputs"]["tiles"][0]["path"] = "/home/somebody/one.SAFE"
    record["recipe"]["nomenclature"] = "/home/somebody/mine.csv"
    record["warnings"] = [
        "https://user:hunter2@example.org/a?b=hunter2 is slow",
        "<b>bold</b> & so on",
        "/home/somebody/map.gpkg: 1/2 of it",
    ]
    record["recipe"]["title"] = "<script>alert('x')</script> & \"co\""
    (out / "run" / "record.json").write_text(json.dumps(record))
    _report(out)
    text = (out / "report" / "index.html").read_text()
    assert "hunter2" not in text
    assert "somebody" not in text
    assert "<script" not in text
    page = read_page(out / "report" / "index.html")
    assert page.all("h1")[0].text == "out"
    assert page.all("p")[1].text == f"Built with the recipe {record['recipe']['title']}"
    inputs = {name: value for name, value, *_ in table(page, "Recipe and inputs")}
    assert inputs["Countries"] == "https://example.org/countries.gpkg"
    assert inputs["Land cover"].startswith("s3://bucket/map.gpkg, layer ")
    assert (inputs["Pairs"], inputs["Sentinel-1"]) == ("pairs.csv", "published patches in BigEarthNet-S1")
    assert [row[1] for row in table(page, "Warnings of the job")[1:]] == [
        "https://example.org/a is slow",
        record["warnings"][1],
        "map.gpkg: 1/2 of it",
    ]
    assert "its country layer is no longer on this machine" in page.text


@pytest.mark.usefixtures("nothing_is_drawn")
def test_what_is_missing_is_left_out(small_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "patches.parquet").symlink_to(small_run / "patches.parquet")
    _report(out)
    page = read_page(out / "report" / "index.html")
    assert "has no record of its run" in page.text
    assert "cubes.zarr is no longer in the dataset" in page.text
    assert not page.all("article")
    assert table(page, "Patches with each class")


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_drawn")
def test_a_damaged_record_is_named(small_run: Path, tmp_path: Path) -> None:
    out = linked(small_run, tmp_path / "out")
    (out / "run" / "record.json").write_text("{")
    _report(out)
    (note,) = [tag.text for tag in read_page(out / "report" / "index.html").all("p") if "damaged" in tag.text]
    assert note.startswith("The run record out/run/record.json is damaged")


def test_a_dataset_that_keeps_nothing(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "patches.parquet").mkdir(parents=True)
    part = next((small_run / "patches.parquet").glob("*_T33UVP.parquet"))
    rows = duckdb.sql(f"SELECT * REPLACE ('rejected' AS status, coalesce(reason, 'nodata') AS reason) FROM '{part}'")  # noqa: S608
    rows.write_parquet(str(tmp_path / "out" / "patches.parquet" / part.name))
    _report(tmp_path / "out")
    page = read_page(tmp_path / "out" / "report" / "index.html")
    assert "No patch was kept" in page.text
    assert "Kept" in {row[0] for row in table(page, "Candidate patches by outcome")}


def test_what_is_in_the_way_stays(small_run: Path, tmp_path: Path) -> None:
    out = linked(small_run, tmp_path / "out")
    (out / "report").mkdir()
    (out / "report" / "thesis.txt").write_text("mine")
    assert "holds thesis.txt, which is not part of a report" in _refused(out)
    assert (out / "report" / "thesis.txt").read_text() == "mine"
    assert "is not a dataset of this program" in _refused(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_colours_are_the_official_ones() -> None:
    legend = {code: tuple(bytes.fromhex(entry.colour[1:])) for code, entry in corine_legend().entries.items()}
    assert {**legend, 999: (255, 255, 255)} == RGB
    codes = np.array([[111, 999], [523, 777]], np.uint16)
    assert map_colours(codes).tolist() == [[list(RGB[111]), [255] * 3], [list(RGB[523]), [127] * 3]]


def test_every_table_has_a_caption_of_its_own(page: Tag) -> None:
    assert len(tables(page)) == len(page.all("table")) > 8
