"""``reben compare``: tables counted by DuckDB, distances by shapely and along the ellipsoid, plots by their lines."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import PIL.Image
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from click.testing import CliRunner, Result
from patch_tables import dataset
from results import printed, refusal
from rich.console import Console

from reben_dask.analysis import results
from reben_dask.analysis.correlation import spatial_correlation
from reben_dask.analysis.differences import compare_datasets
from reben_dask.analysis.patch_set import read_patch_set
from reben_dask.analysis.plots import draw_correlation
from reben_dask.cli import main

RENAMED = {"Arable land": "Non-irrigated arable land"}
KEY = "USING (epsg, minx, maxy, side, sensing_time)"
TABLES = {"patches", "reasons", "label_changes", "classes", "class_pairs", "splits", "split_correlation", "correlogram"}
PARQUET = {"matched_patches", "nearest_training"}


def _compare(*arguments: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, ["compare", *map(str, arguments)])


def _printed(*arguments: object, **environment: str) -> str:
    return printed(_compare(*arguments, **environment))


def _refused(*arguments: object) -> str:
    return refusal(_compare(*arguments))


def _rows(out: Path) -> str:
    """A subquery for DuckDB."""
    return f"(SELECT *, maxx - minx AS side FROM read_parquet('{out}/patches.parquet/*.parquet', union_by_name=true))"  # noqa: S608


def _asked(query: str) -> list[tuple[object, ...]]:
    return duckdb.sql(query).fetchall()


def _read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False)


@pytest.fixture(scope="module")
def other(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo dataset as another recipe might make it: v1 names, other classes, a random split, and less of it."""
    parts = sorted((small_run / "patches.parquet").glob("*.parquet"))
    rows = pd.concat([pq.read_table(part, partitioning=None).to_pandas() for part in parts[1:]], ignore_index=True)
    number = np.arange(len(rows))
    kept = rows["status"] == "kept"
    names = rows["tile"].str.extract(r"(S2._MSIL2A_\d+T\d+).*_T(\w+)$").agg("_".join, axis=1)
    rows["patch_id"] = [f"{name}_{x}_{y}" for name, x, y in zip(names, rows["x"], rows["y"], strict=True)]
    rows["labels"] = [
        labels
        if labels is None
        else sorted({RENAMED.get(name, name) for name in labels} - ({"Pastures"} if row % 3 == 0 else set()))
        for row, labels in enumerate(rows["labels"])
    ]
    rejected = kept & (number % 20 == 0)
    rows.loc[rejected, ["status", "reason"]] = ["rejected", "no_sentinel1"]
    rows.loc[number % 31 == 7, "sensing_time"] += pd.Timedelta(seconds=1)
    rows.loc[number % 37 == 5, ["minx", "maxx"]] += 600
    rows["split_geographic"] = rows["split"]
    rows["split"] = rows["split_random"] = np.random.default_rng(1).choice(["train", "validation", "test"], len(rows))
    rows["side"] = rows["maxx"] - rows["minx"]
    classes = sorted({name for labels in rows["labels"].dropna() for name in labels} | {"Airports"})
    columns = ["patch_id", "tile", "status", "reason", "labels", "split", "split_geographic", "split_random"]
    columns += ["sensing_time", "epsg", "minx", "maxy", "side"]
    return dataset(tmp_path_factory.mktemp("other") / "v1", rows[columns], classes)  # fmt: skip


@pytest.fixture(scope="module")
def compared(small_run: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The tables of the comparison of both, and what it printed; piped, in a terminal that is said to be narrow."""
    folder = tmp_path_factory.mktemp("compared") / "new" / "tables"
    return folder, _printed(small_run, other, "--out", folder, COLUMNS="30")


# What two datasets have in common


def test_patches_in_both_and_in_one(compared: tuple[Path, str], small_run: Path, other: Path) -> None:
    folder, printed = compared
    assert {path.name for path in folder.iterdir()} == {f"{name}.csv" for name in TABLES} | {
        f"{name}.parquet" for name in PARQUET
    }
    joined = f"{_rows(small_run)} a FULL JOIN {_rows(other)} b {KEY}"
    for row in _read(folder, "patches").itertuples(index=False):
        kept = "kept" if row.patches == "kept" else "%"
        here, there = (f"coalesce({side}.status, '') LIKE '{kept}' AND {side}.patch_id IS NOT NULL" for side in "ab")
        cases = (here, there, f"{here} AND {there}", f"{here} AND NOT ({there})", f"{there} AND NOT ({here})")
        counts = _asked(f"SELECT {', '.join(f'count(*) FILTER ({case})' for case in cases)} FROM {joined}")[0]  # noqa: S608
        assert tuple(row)[1:] == counts
        assert all(f"{count:,}" in printed for count in counts)
        assert min(counts) > 0
    for name, one, another in (("A", small_run, other), ("B", other, small_run)):
        expected = dict(
            _asked(
                "SELECT CASE WHEN b.patch_id IS NULL THEN 'no_candidate' ELSE b.reason END, count(*) "  # noqa: S608
                f"FROM {_rows(one)} a LEFT JOIN {_rows(another)} b {KEY} "
                "WHERE a.status = 'kept' AND coalesce(b.status, '') != 'kept' GROUP BY ALL"
            )
        )
        reasons = _read(folder, "reasons")
        assert reasons[reasons["kept in"] == name].set_index("reason")["patches"].to_dict() == expected
        query = (
            f"SELECT count(*) FROM {_rows(one)} WHERE (epsg, minx, maxy, side, sensing_time) NOT IN "  # noqa: S608
            f"(SELECT (epsg, minx, maxy, side, sensing_time) FROM {_rows(another)}) AND "
            f"(epsg, minx, maxy, side) IN (SELECT (epsg, minx, maxy, side) FROM {_rows(another)})"
        )
        count = _asked(query)[0][0]
        assert f"{count:,} of the candidates only in {name} match a location of" in printed


def test_matched_patches_with_the_labels_of_both(compared: tuple[Path, str], small_run: Path, other: Path) -> None:
    found = f"read_parquet('{compared[0] / 'matched_patches.parquet'}')"
    expected = f"{_rows(small_run)} a JOIN {_rows(other)} b {KEY}"
    columns = ("patch_id", "status", "reason", "split")
    ours = ", ".join(f"{side}.{name}" for side in "ab" for name in columns)
    theirs = ", ".join(f"{name}_{side}" for side in "ab" for name in columns)
    labels = ", ".join(f"coalesce({side}.labels, [])" for side in "ab")
    key = "epsg, minx, maxy, side, epoch_us(sensing_time)"
    listed = _asked(f"SELECT {key}, {theirs}, labels_a, labels_b FROM {found} ORDER BY ALL")  # noqa: S608
    assert listed == _asked(f"SELECT {key}, {ours}, {labels} FROM {expected} ORDER BY ALL")  # noqa: S608
    assert len(listed) > 50


def test_labels_class_by_class(compared: tuple[Path, str], small_run: Path, other: Path) -> None:
    both = (
        f"(SELECT a.labels AS a, b.labels AS b FROM {_rows(small_run)} a JOIN {_rows(other)} b {KEY} "  # noqa: S608
        "WHERE a.status = 'kept' AND b.status = 'kept')"
    )
    table = _read(compared[0], "classes").set_index("class")
    lists = table["class list"]
    assert lists[lists == "A"].index.tolist() == ["Arable land"]
    assert lists[lists == "B"].index.tolist() == ["Airports", "Non-irrigated arable land"]
    for name, row in table.iterrows():
        here, there = (f"list_contains({side}, '{name}')" for side in "ab")
        cases = (here, there, f"{here} AND {there}", f"{here} AND NOT {there}", f"{there} AND NOT {here}")
        counts = _asked(f"SELECT {', '.join(f'count(*) FILTER ({case})' for case in cases)} FROM {both}")[0]  # noqa: S608
        assert tuple(row.iloc[1:]) == counts
    same, same_shared = _asked(
        "SELECT count(*) FILTER (list_sort(a) = list_sort(b)), "  # noqa: S608
        "count(*) FILTER (list_filter(list_sort(a), lambda x: x != 'Arable land') = "
        f"list_filter(list_sort(b), lambda x: x NOT IN ('Airports', 'Non-irrigated arable land'))) FROM {both}"
    )[0]
    changes = _read(compared[0], "label_changes").set_index("labels")
    assert changes.loc["same labels"].tolist() == [same, same_shared]
    assert 0 < same < same_shared
    pairs = _read(compared[0], "class_pairs")
    assert pairs.iloc[0].tolist()[:2] == ["Arable land", "Non-irrigated arable land"]
    assert pairs.iloc[0]["share"] == 1
    assert "100%" in compared[1]


def test_splits_of_both(compared: tuple[Path, str], small_run: Path, other: Path) -> None:
    table = _read(compared[0], "splits").set_index("split in A")
    counts = {
        (a, b): count
        for a, b, count in _asked(
            f"SELECT a.split, b.split, count(*) FROM {_rows(small_run)} a JOIN {_rows(other)} b {KEY} "  # noqa: S608
            "WHERE a.status = 'kept' AND b.status = 'kept' GROUP BY ALL"
        )
    }
    splits = ("train", "validation", "test")
    assert {(a, b): table.loc[a, b] for a in splits for b in splits} == counts
    assert table.loc["all", "all"] == sum(counts.values())


# Spatial correlation between splits


def _by_hand(out: Path, split: str) -> pd.DataFrame:
    """For each test patch by name: distance along the ellipsoid, contact, and labels of all equally near patches."""
    rows = duckdb.sql(f"SELECT patch_id, labels, {split} AS s, minx, maxy FROM {_rows(out)} WHERE status = 'kept'").df()  # noqa: S608
    squares = [shapely.box(x, y - 1200, x + 1200, y) for x, y in rows[["minx", "maxy"]].to_numpy()]
    centres = gpd.GeoSeries([square.centroid for square in squares], crs=32633).to_crs(4326)
    train, geod = rows.index[rows["s"] == "train"].tolist(), pyproj.Geod(ellps="WGS84")
    found = {}
    for row in rows.index[rows["s"] == "test"]:
        one = np.full(len(train), centres.x[row]), np.full(len(train), centres.y[row])
        along = geod.inv(*one, centres.x[train].to_numpy(), centres.y[train].to_numpy())[2]
        met = [squares[other] for other in train if squares[row].intersects(squares[other])]
        contact = "apart" if not met else "touching"
        if any(squares[row].overlaps(square) or squares[row].equals(square) for square in met):
            contact = "overlapping"
        mine = set(rows["labels"][row])
        near = [set(rows["labels"][train[k]]) for k in np.flatnonzero(along < along.min() + 1e-3)]
        similar = {round(len(mine & yours) / len(mine | yours), 9) for yours in near}
        found[rows["patch_id"][row]] = (along.min(), contact, similar)
    return pd.DataFrame.from_dict(found, orient="index", columns=["distance", "contact", "similar"])


@pytest.mark.parametrize(
    ("letter", "title", "column"),
    [("A", "split", "split"), ("B", "random (split)", "split_random"), ("B", "geographic", "split_geographic")],
)
def test_test_patches_and_their_nearest_training_patches(
    compared: tuple[Path, str], small_run: Path, other: Path, letter: str, title: str, column: str
) -> None:
    expected = _by_hand(small_run if letter == "A" else other, column)
    nearest = pd.read_parquet(compared[0] / "nearest_training.parquet")
    chosen = nearest[(nearest["dataset"] == letter) & (nearest["split"] == title)]
    chosen = chosen.set_index("patch_id")
    assert sorted(chosen.index) == sorted(expected.index)
    expected = expected.loc[chosen.index]
    np.testing.assert_allclose(chosen["distance_m"], expected["distance"], rtol=1e-7, atol=1e-3)
    assert chosen["contact"].tolist() == expected["contact"].tolist()
    assert all(round(one, 9) in some for one, some in zip(chosen["jaccard"], expected["similar"], strict=True))

    measures = _read(compared[0], "split_correlation").set_index(["dataset", "split"]).loc[letter, title]
    assert measures["test patches"] == len(chosen)
    assert measures["touch or overlap a training patch"] == (chosen["contact"] != "apart").mean()
    assert measures["overlap a training patch"] == (chosen["contact"] == "overlapping").mean()
    for name, share in {"minimum": 0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "maximum": 1}.items():
        assert measures[f"distance {name}"] == pytest.approx(chosen["distance_m"].quantile(share))
    assert measures["Jaccard nearest"] == pytest.approx(chosen["jaccard"].mean())
    assert f"{measures['Jaccard nearest']:.3f}" in compared[1]


def test_random_splits_are_near_and_geographic_ones_are_not(compared: tuple[Path, str]) -> None:
    measures = _read(compared[0], "split_correlation").set_index(["dataset", "split"])
    random, geographic = measures.loc["B", "random (split)"], measures.loc["B", "geographic"]
    assert random["touch or overlap a training patch"] > 0.9
    # With four patches along a tile, most test patches adjoin the train frame.
    assert geographic["touch or overlap a training patch"] < 0.7
    assert random["above chance"] > geographic["above chance"]


def test_a_dataset_by_itself(other: Path, tmp_path: Path, compared: tuple[Path, str]) -> None:
    printed = _printed(other, "--out", tmp_path / "alone")
    assert "Split in A" not in printed
    assert {path.stem for path in (tmp_path / "alone").iterdir()} == {
        "split_correlation",
        "correlogram",
        "nearest_training",
    }
    for name in ("split_correlation", "correlogram"):
        both, alone = (_read(folder, name).drop(columns="dataset") for folder in (compared[0], tmp_path / "alone"))
        assert (
            alone.to_csv(index=False).splitlines()
            == both.to_csv(index=False).splitlines()[:1] + (both.tail(len(alone)).to_csv(index=False).splitlines()[1:])
        )


def test_the_same_comparison_gives_the_same_bytes(
    small_run: Path, other: Path, tmp_path: Path, compared: tuple[Path, str]
) -> None:
    _printed(small_run, other, "--out", tmp_path / "again", "--plot", tmp_path / "one.svg")
    _printed(small_run, other, "--plot", tmp_path / "two.svg")
    for path in compared[0].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


# What the user reads


@pytest.mark.parametrize("width", [20, 60, 200])
def test_no_number_is_cut_in_any_terminal(small_run: Path, other: Path, compared: tuple[Path, str], width: int) -> None:
    """Names may go over several lines; numbers and the words of names are whole."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, no_color=True, width=width, soft_wrap=True, markup=False)
    datasets = {"A": read_patch_set(small_run), "B": read_patch_set(other)}
    for line in results.describe_datasets(datasets):
        console.print(line, highlight=False)
    results.show(console, results.difference_tables(compare_datasets(*datasets.values())))
    found = {name: spatial_correlation(one) for name, one in datasets.items()}
    results.show(console, results.correlation_tables(found))
    printed = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert "…" not in printed
    assert sorted(re.findall(r"[\w.,%'-]+", printed)) == sorted(
        re.findall(r"[\w.,%'-]+", compared[1].split("\n" + str(compared[0]))[0])
    )


def test_piped_tables_have_a_line_for_each_row(compared: tuple[Path, str]) -> None:
    name = "Land principally occupied by agriculture, with significant areas of natural vegetation"
    assert any(re.match(rf"{name} +both( +[\d,]+){{5}}\s*$", line) for line in compared[1].splitlines())


# Plots


@pytest.mark.parametrize("together", [False, True])
def test_the_plot_shows_what_the_tables_say(small_run: Path, other: Path, *, together: bool) -> None:
    paths = {"reben": small_run, "v1": other} if together else {"v1": other}
    found = {name: spatial_correlation(read_patch_set(path)) for name, path in paths.items()}
    figure = draw_correlation(found)
    left, right = figure.axes
    steps = {line.get_label(): line for line in left.lines}
    for name, correlation in found.items():
        for split in correlation.splits:
            prefix = f"{name}, " * together
            touching = (split.nearest.contact > 0).mean()
            line = steps[f"{prefix}{split.title}: {touching:.0%}"]
            distance, share = (np.asarray(values, float) for values in line.get_data())
            for value in np.unique(split.nearest.distance_m):
                expected = (split.nearest.distance_m <= value + 1e-6).mean()
                assert share[distance <= value / 1000 + 1e-9].max() == pytest.approx(expected, abs=1e-3)
        curve = next(line for line in right.lines if line.get_label() == f"{prefix}pairs of patches at a distance")
        np.testing.assert_allclose(curve.get_ydata(), correlation.correlogram["jaccard"])
    drawn = [line for line in left.lines if line.get_label() in {text.get_text() for text in figure.legends[0].texts}]
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn}
    assert len(drawn) == len(looks) == sum(len(one.splits) for one in found.values())
    assert all(axes.get_ylim()[0] == 0 and axes.get_xlabel().endswith("(km)") for axes in (left, right))
    assert (left.get_ylim()[1], right.get_yticks().max()) == (1, 1)
    figure.draw_without_rendering()
    legend = right.get_legend().get_window_extent()
    assert legend.y0 > max(right.transData.transform(line.get_xydata())[:, 1].max() for line in right.lines)
    assert all(0 <= edge <= figure.bbox.width for edge in figure.legends[0].get_window_extent().intervalx)


def test_names_that_matplotlib_would_take_for_its_own(other: Path) -> None:
    found = spatial_correlation(read_patch_set(other))
    labels = [text.get_text() for text in draw_correlation({"_a$b$": found, "c": found}).legends[0].texts]
    assert labels[0].startswith(r"a\$b\$, random (split): ")
    assert len(labels) == 2 * len(found.splits)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".PNG"])
def test_a_plot_is_an_image(other: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"splits{suffix}"
    printed = _printed(other, "--plot", path)
    assert str(path) in printed
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    if suffix == ".svg":
        assert ET.parse(path).getroot().tag.endswith("svg")  # noqa: S314 - our own
    else:
        with PIL.Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width > 2 * image.height > 1500
            assert len(image.convert("RGB").getcolors(1 << 24)) > 50


# Published metadata


def test_a_dataset_is_compared_with_published_metadata(data_dir: Path, tmp_path: Path) -> None:
    """A rebuilt dataset of the 24 published patches: one less, another label, sensing times with milliseconds."""
    published = data_dir / "bigearthnet" / "configilm_24_patches"
    rows = read_patch_set(published)
    names = np.array(rows.labels.classes)
    labels = [names[presence].tolist() for presence in rows.labels.carried]
    labels[3] = sorted({*labels[3]} ^ {"Marine waters"})
    rebuilt = rows.patches.assign(labels=labels, sensing_time=rows.patches["sensing_time"] + pd.Timedelta("26ms"))
    dataset(tmp_path / "rebuilt", rebuilt.iloc[1:].astype({"tile": str}), rows.labels.classes)
    _printed(tmp_path / "rebuilt", published, "--out", tmp_path / "tables")
    patches = _read(tmp_path / "tables", "patches").set_index("patches")
    assert patches.loc["kept"].tolist() == [23, 24, 23, 0, 1]
    changes = _read(tmp_path / "tables", "label_changes").set_index("labels")["all classes"]
    assert changes["same labels"] == 22
    assert changes.sum() == 23


# What cannot be compared


def test_what_is_refused_before_anything_is_read(small_run: Path, tmp_path: Path) -> None:
    assert "ends in .pdf" in _refused(tmp_path / "none", "--plot", tmp_path / "a.pdf")
    (tmp_path / "a.png").mkdir()
    assert "is a folder" in _refused(tmp_path / "none", "--plot", tmp_path / "a.png")
    assert f"{tmp_path} exists" in _refused(tmp_path / "none", "--out", tmp_path)
    assert "is not a dataset of this program" in _refused(small_run, tmp_path)
    result = _compare()
    assert result.exit_code == 2
    assert "OUT_A" in result.stderr


def _small(folder: Path, **columns: object) -> Path:
    rows = pd.DataFrame(
        {"minx": [500_000, 501_200], "maxy": 5_400_000, "labels": [["a"], ["b"]], "split": ["train", "test"]}
    )
    return dataset(folder, rows.assign(**columns), ["a", "b"])


def test_datasets_of_different_places_say_what_they_cover(small_run: Path, tmp_path: Path) -> None:
    message = _refused(small_run, _small(tmp_path / "far", epsg=32629))
    longitudes = gpd.read_parquet(small_run / "patches.parquet").bounds[["minx", "maxx"]].mean(axis="columns")
    for words in (
        "no patch in common",
        "80 patches of 1,200 m",
        "2 patches of 1,200 m",
        "longitude -8.99",
        f"longitude {longitudes.min():.2f} to {longitudes.max():.2f}",
    ):
        assert words in message
    assert "2018-04-16 to 2019-01-16" in message
    assert "not its sensing time" not in message
    later = _small(tmp_path / "later", sensing_time=pd.Timestamp("2020-01-01", tz="UTC"))
    assert "2 of A match a location of B, but not its sensing time" in _refused(_small(tmp_path / "now"), later)
    assert "no patch in common" in _refused(tmp_path / "now", _small(tmp_path / "large", side=1260))
    assert "no patch in common" in _refused(tmp_path / "now", _small(tmp_path / "shifted", minx=[500_600, 501_800]))


@pytest.mark.parametrize(("split", "missing"), [("train", "test"), ("test", "training"), (None, "test")])
def test_a_split_without_test_or_training_patches(tmp_path: Path, split: str | None, missing: str) -> None:
    one = _small(tmp_path / "one", split=split)
    words = f"none of the 2 kept patches is a {missing} patch by column split"
    assert words in _refused(one)
    two = _small(tmp_path / "two", split=split, split_grid=["train", "test"])
    printed = _printed(one, two, "--out", tmp_path / "tables", "--plot", tmp_path / "a.png")
    assert f"Note: A: {words}" in printed
    assert _read(tmp_path / "tables", "split_correlation")["split"].tolist() == ["grid"]
    assert f"Note: {words}" in _printed(two)


def test_datasets_that_keep_nothing(tmp_path: Path) -> None:
    nothing = _small(tmp_path / "nothing", status="rejected", reason="nodata")
    assert "none of its 2 candidates is kept" in _refused(nothing)
    printed = _printed(nothing, _small(tmp_path / "two"), "--out", tmp_path / "tables", "--plot", tmp_path / "a.png")
    assert "No patch is kept in both" in printed
    assert "a pixel of the patch is NODATA" in printed
    assert _read(tmp_path / "tables", "patches")["both"].tolist() == [2, 0]
    assert "No patch is kept in both" in _printed(nothing, nothing, "--plot", tmp_path / "b.png")
