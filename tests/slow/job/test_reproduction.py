"""Reproducing a published dataset: its patches and no others, its names and flags, and a list of what differs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT, run_here
from processes import Cluster

from reben_dask.demo import DemoRegion
from reben_dask.formats.columns import PATCH_TABLE_SCHEMA
from reben_dask.stores.metadata import write_metadata

FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
SNOW, CLOUD = "contains_seasonal_snow", "contains_cloud_or_shadow"
SUMMER = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP"


class Run(NamedTuple):
    out: Path
    printed: str

    @property
    def metadata(self) -> pd.DataFrame:
        return read(self.out)

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "patches.parquet").set_index("patch_id")

    @property
    def comparison(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "run" / "comparison.parquet")


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(folder / name) for name in FILES]).set_index("patch_id").sort_index()


def publish(rows: pd.DataFrame, folder: Path) -> Path:
    """Write the two files as the published ones are."""
    folder.mkdir()
    rows = rows.sort_index().reset_index()
    apart = rows[SNOW] | rows[CLOUD]
    for name, part in zip(FILES, (rows[~apart], rows[apart]), strict=True):
        part.to_parquet(folder / name, index=False)
    return folder


@pytest.fixture(scope="module")
def inputs(small_inputs: list[object], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The small region, with a recipe of two bands that decode quickly."""
    recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "reben.yaml").read_text())
    path = tmp_path_factory.mktemp("recipe") / "mine.yaml"
    path.write_text(yaml.safe_dump({**recipe, "name": "mine", "bands": ["B01", "B11"]}))
    return [*small_inputs, "--recipe", path, *cluster.options]


def _run(out: Path, *arguments: object) -> Run:
    done = run_here(*arguments, "--out", out, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    return Run(out, done.stdout)


@pytest.fixture(scope="module")
def first(inputs: list[object], small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A dataset of pairs that nothing was published about."""
    given = ("--s1", small_region.s1, "--s1-pairs", small_region.s1_pairs)
    return _run(tmp_path_factory.mktemp("first") / "out", *inputs, *given)


def test_without_published_metadata_nothing_is_compared(first: Run) -> None:
    assert not (first.out / "run" / "comparison.parquet").exists()
    assert "Compared with" not in first.printed
    assert "not_published" not in set(first.table["reason"])


# The same job again, with its own metadata as the published ones


@pytest.fixture(scope="module")
def again(first: Run, inputs: list[object], small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("again") / "out"
    return _run(out, *inputs, "--published", first.out, "--s1", small_region.s1)


def test_its_own_metadata_are_reproduced_byte_for_byte(first: Run, again: Run) -> None:
    for name in FILES:
        assert (again.out / name).read_bytes() == (first.out / name).read_bytes()
    assert len(again.comparison) == 0
    schema = pq.read_schema(again.out / "run" / "comparison.parquet")
    assert schema.names == ["patch_id", "tile", "what", "here", "there"]
    assert set(schema.types) == {pa.string()}
    assert "Labels that differ" not in again.printed


def test_what_was_not_published_is_rejected_for_that_or_an_earlier_reason(first: Run, again: Run) -> None:
    order = ["tile_quality", "nodata", "not_published"]
    assert again.table["reason"].isna().equals(first.table["reason"].isna())
    rejected = first.table["reason"].dropna()
    expected = rejected.where(rejected.isin(order[:2]), "not_published")
    assert again.table["reason"].dropna().to_dict() == expected.to_dict()


def test_values_of_the_lmdb_are_the_same(first: Run, again: Run) -> None:
    assert _lmdb(again.out) == _lmdb(first.out)


def _lmdb(out: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(out / "lmdb"), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {bytes(key): bytes(value) for key, value in transaction.cursor()}


def test_a_file_that_is_given_twice_counts_once(first: Run, inputs: list[object], tmp_path: Path) -> None:
    """A dataset, and one of its files by name."""
    given = [word for path in (first.out, first.out / FILES[0]) for word in ("--published", path)]
    twice = _run(tmp_path / "out", *inputs, *given)
    for name in FILES:
        assert (twice.out / name).read_bytes() == (first.out / name).read_bytes()
    assert len(twice.comparison) == 0


# Published metadata that differ from what the job finds


class Changed(NamedTuple):
    """Patches by what was done to their published rows, and those rows."""

    rows: pd.DataFrame
    removed: list[str]
    added: dict[str, str]
    changed: dict[str, list[str]]


@pytest.fixture(scope="module")
def changed(first: Run) -> Changed:
    """Two patches removed, four added that cannot be kept, and three changes in each column."""
    rows, table = first.metadata, first.table
    names = rows.index[~(rows[SNOW] | rows[CLOUD])].tolist()
    rows["s2v1_name"] = [f"S2A_MSIL2A_20180725T94161_{number}_7" for number in range(len(rows))]
    columns = ["labels", "split", "country", SNOW, CLOUD]
    changes = {column: names[3 + number : -1 : 15][:3] for number, column in enumerate(columns)}
    for name in changes["labels"]:
        rows.loc[[name], "labels"] = pd.Series([np.array(["Marine waters", *rows["labels"][name][1:]])], [name])
    rows.loc[changes["split"], "split"] = rows.loc[changes["split"], "split"].map(
        {"train": "test", "test": "validation", "validation": "train"}
    )
    rows.loc[changes["country"], "country"] = "Kosovo"
    rows.loc[changes[SNOW], SNOW] = True
    rows.loc[changes[CLOUD], CLOUD] = True
    removed = [names[1], names[-1]]
    reasons = table["reason"].dropna()
    candidates = {reason: of_reason.index[0] for reason, of_reason in reasons.groupby(reasons)}
    candidates["no such patch"] = f"{SUMMER}_8_0"
    added = {name: reason for reason, name in candidates.items()}
    more = rows.iloc[[0] * len(added)].assign(
        s1_name=[f"S1A_IW_GRDH_1SDV_20180724T165131_33UVP_9_{n}" for n in range(len(added))]
    )
    more.index = pd.Index(list(added), name="patch_id")
    return Changed(pd.concat([rows.drop(removed), more]).sort_index(), removed, added, changes)


@pytest.fixture(scope="module")
def reproduced(changed: Changed, inputs: list[object], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A job without Sentinel-1: the names of partners are carried over all the same."""
    folder = tmp_path_factory.mktemp("reproduced")
    published = publish(changed.rows, folder / "published")
    files = [word for name in FILES for word in ("--published", published / name)]
    return _run(folder / "out", *inputs, *files)


def test_exactly_the_published_patches_are_kept(reproduced: Run, changed: Changed, first: Run) -> None:
    cannot = [name for name, reason in changed.added.items() if reason != "no_sentinel1"]
    assert {"tile_quality", "nodata", "too_little_labeled", "no such patch"} <= set(changed.added.values())
    assert set(reproduced.metadata.index) == set(changed.rows.index) - set(cannot)
    reasons = reproduced.table["reason"]
    for name, reason in changed.added.items():
        if reason == "no_sentinel1":
            assert pd.isna(reasons[name])
        elif reason != "no such patch":
            assert reasons[name] == reason
    assert reasons[changed.removed].tolist() == ["not_published"] * 2
    assert not set(reproduced.metadata.index) & set(changed.removed)
    assert len(reproduced.table) == len(first.table)


def test_names_and_flags_are_carried_over(reproduced: Run, changed: Changed, first: Run) -> None:
    found = reproduced.metadata
    wanted = changed.rows.loc[found.index]
    for name in ("s1_name", "s2v1_name", SNOW, CLOUD):
        assert found[name].to_dict() == wanted[name].to_dict(), name
    apart = pd.read_parquet(reproduced.out / FILES[1])["patch_id"]
    assert set(apart) == set(wanted.index[wanted[SNOW] | wanted[CLOUD]])
    both = found.index.intersection(first.metadata.index)
    for name in ("split", "country"):
        assert found.loc[both, name].equals(first.metadata.loc[both, name])
    assert found["labels"][both].map(list).equals(first.metadata["labels"][both].map(list))
    assert {key.decode() for key in _lmdb(reproduced.out)} == {
        key for name in found.index for key in (name, f"{name}_reference_map")
    }


def test_the_comparison_lists_exactly_what_differs(reproduced: Run, changed: Changed, first: Run) -> None:
    """But the flags, which the job has taken over; patches that were removed here are not kept, so not missing."""
    rows, truth = changed.rows, first.metadata
    expected = {
        (name, "missing here", reason, "") for name, reason in changed.added.items() if reason != "no_sentinel1"
    }
    for column in ("split", "country"):
        expected |= {(name, column, truth[column][name], rows[column][name]) for name in changed.changed[column]}
    texts = (
        truth["labels"].map("; ".join),
        rows["labels"].map(lambda labels: "; ".join(sorted(labels))),
    )
    expected |= {(name, "labels", texts[0][name], texts[1][name]) for name in changed.changed["labels"]}
    comparison = reproduced.comparison
    found = set(comparison.drop(columns="tile").itertuples(index=False, name=None))
    unpaired = {name for name, reason in changed.added.items() if reason == "no_sentinel1"}
    assert {row for row in found if row[0] not in unpaired} == {row for row in expected if row[2] != row[3]}
    assert comparison["tile"].tolist() == [name.rsplit("_", 2)[0] for name in comparison["patch_id"]]
    assert comparison["patch_id"].is_monotonic_increasing


def test_the_counts_of_tiles_are_printed(reproduced: Run, changed: Changed) -> None:
    section = reproduced.printed[reproduced.printed.index("Compared with the published metadata") :]
    kinds = [kind.strip() for kind in section.splitlines()[1].split("  ") if kind.strip()][1:]
    lines = {line.split()[0]: line.split()[1:] for line in section.splitlines() if line.startswith(("S2", "all"))}
    comparison = reproduced.comparison
    assert kinds[:2] == ["published", "kept"]
    assert set(kinds[2:]) == set(comparison["what"])
    tile_of = {name: name.rsplit("_", 2)[0] for name in [*changed.rows.index, *reproduced.table.index]}
    published, kept = (pd.Series(names.map(tile_of)) for names in (changed.rows.index, reproduced.metadata.index))
    for tile in set(tile_of.values()):
        whats = comparison[comparison["tile"] == tile]["what"]
        expected = [(published == tile).sum(), (kept == tile).sum(), *((whats == kind).sum() for kind in kinds[2:])]
        assert lines[tile] == [str(count) for count in expected]
    sums = [len(published), len(kept), *((comparison["what"] == kind).sum() for kind in kinds[2:])]
    assert lines["all"] == [str(count) for count in sums]
    assert "comparison.parquet" in section.replace("\n", "")


def test_the_classes_that_differ_are_printed(reproduced: Run, changed: Changed, first: Run) -> None:
    printed = reproduced.printed[reproduced.printed.index("Labels that differ") :]
    expected: dict[str, list[int]] = {}
    differing = reproduced.comparison.loc[reproduced.comparison["what"] == "labels", "patch_id"]
    for name in differing:
        there = set(changed.rows["labels"][name])
        here = set(first.metadata["labels"].get(name, reproduced.metadata["labels"][name]))
        for place, classes in enumerate((here - there, there - here)):
            for label in classes:
                expected.setdefault(label, [0, 0])[place] += 1
    assert expected["Marine waters"][1] > 1
    found = re.findall(r"^(\S.*?) {2,}(\d+) +(\d+) *$", printed, re.MULTILINE)
    assert {name: [int(here), int(there)] for name, here, there in found} == expected


# Errors


def test_published_metadata_that_are_none_are_refused(inputs: list[object], data_dir: Path, tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "is not a metadata file"),
        (data_dir / "bigearthnet" / "tile_origins.csv", "cannot be read"),
    ):
        done = run_here(*inputs, "--published", path, "--out", tmp_path / "out", "--dry-run")
        assert done.returncode == 1
        message = done.stderr.strip()
        assert message.startswith("Error: ")
        assert words in message
        assert str(path) in message
        assert "\n" not in message


# The writer, given published rows


def test_published_rows_come_back_in_their_order(data_dir: Path, tmp_path: Path) -> None:
    """Whole tiles, with partners, names of version 1 and flags: schema, order and values are the published ones."""
    tables = [pq.read_table(data_dir / "bigearthnet" / name) for name in FILES]
    rows = pa.concat_tables(tables).to_pandas()
    rows["tile"] = rows["patch_id"].str[:-6]
    tiles = sorted(rows["tile"].unique())[::40]
    parts = []
    for tile in reversed(tiles):
        mine = rows[rows["tile"] == tile].sort_values("patch_id")
        columns = {name: pa.nulls(len(mine), PATCH_TABLE_SCHEMA.field(name).type) for name in PATCH_TABLE_SCHEMA.names}
        columns |= {name: pa.array(mine[name], PATCH_TABLE_SCHEMA.field(name).type) for name in mine.columns}
        columns["status"] = pa.array(["kept"] * len(mine))
        parts.insert(0, tmp_path / f"{tile}.parquet")
        pq.write_table(pa.table(columns, PATCH_TABLE_SCHEMA), parts[0])
    write_metadata(parts, tmp_path, [])
    for name, published in zip(FILES, tables, strict=True):
        found = pq.read_table(tmp_path / name)
        chosen = published.filter(pa.array([patch_id[:-6] in tiles for patch_id in published["patch_id"].to_pylist()]))
        assert len(found) == len(chosen) > 0
        assert found.schema.remove_metadata().equals(chosen.schema.remove_metadata())
        assert found.to_pylist() == chosen.to_pylist()
