"""The dataset is the same whatever the workers and threads, the sizes of pieces, the order of tasks or of inputs."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import dask
import digest
import geopandas as gpd
import lmdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
import xarray as xr
import zarr
from conftest import run_job
from dask._task_spec import Alias, convert_legacy_graph
from digest import cube_digests, digest_of, lmdb_digest, table_digests
from distributed import Client
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from rich.console import Console

from reben_dask.demo import DemoRegion
from reben_dask.formats import cube as cube_layout
from reben_dask.formats.columns import METADATA_SCHEMA
from reben_dask.job import scheduling, tiles
from reben_dask.job.graph import TileGraph
from reben_dask.job.plan import Plan, make_plan, origin_of
from reben_dask.job.record import concat_counts
from reben_dask.job.run import build_dataset, stage_totals
from reben_dask.patches import reference_map
from reben_dask.progress import StageProgress
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import SortedMap, open_landcover, sort_landcover, sorting, vector_map
from reben_dask.stores import cubes, metadata
from reben_dask.stores import lmdb as lmdb_store
from reben_dask.workspace import Output

BANDS = ("B01", "B05", "B09")
"""Bands of two resolutions that decode quickly."""

RECTANGLES = 300
FAILED, OFFSETS, ZIPPED = "S2A_MSIL2A_20180416", "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP", "20240301T120000.zip"

# Inputs: three products, one of which failed its quality check, and a map on which the order of polygons decides


@pytest.fixture(scope="module")
def overlapping_map(demo_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Turned rectangles that lie over each other, of all codes, over most of the demo region."""
    known = gpd.read_file(demo_region.landcover)
    minx, miny, maxx, maxy = known.total_bounds
    random = np.random.default_rng(2018)
    centres = random.uniform((minx, miny), (maxx - 0.1 * (maxx - minx), maxy), (RECTANGLES, 2))
    sides = random.uniform(200, 2_500, (RECTANGLES, 2)) / 2
    squares = shapely.box(*(centres - sides).T, *(centres + sides).T)
    turned = gpd.GeoSeries(squares, crs=known.crs).rotate(30)
    path = tmp_path_factory.mktemp("map") / "overlapping.gpkg"
    gpd.GeoDataFrame({"Code_18": random.choice(known["Code_18"].unique(), RECTANGLES)}, geometry=turned).to_file(path)
    return path


@pytest.fixture(scope="module")
def products(demo_region: DemoRegion) -> list[str]:
    found = sorted(str(path) for path in demo_region.s2.iterdir())
    chosen = [path for path in found if FAILED in path or OFFSETS in path or path.endswith(ZIPPED)]
    assert len(chosen) == 3
    return chosen


@pytest.fixture(scope="module")
def plan(products: list[str], overlapping_map: Path, demo_region: DemoRegion) -> Plan:
    return _plan(products, overlapping_map, demo_region)


@pytest.fixture(scope="module")
def sorted_map(overlapping_map: Path, tmp_path_factory: pytest.TempPathFactory) -> SortedMap:
    return sort_landcover(open_landcover(str(overlapping_map)), tmp_path_factory.mktemp("sorted") / "map.parquet")


def _plan(products: list[str], landcover: Path, region: DemoRegion) -> Plan:
    recipe = load_recipe("reben").model_copy(update={"bands": BANDS})
    return make_plan(s2=products, landcover=str(landcover), recipe=recipe, countries=str(region.countries))


# Building in this process, where the sizes of pieces can be set


@dataclass(frozen=True)
class _Made:
    """Result of a job: digests of its artefacts, and its counts."""

    digests: dict[str, str]
    counts: str


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        yield client


def _build(client: Client, plan: Plan, folder: Path) -> _Made:
    """The whole job, but for its command line and its record."""
    output = Output(folder / "out")
    output.start(origin_of(plan), {})
    with StageProgress(Console(file=io.StringIO()), stage_totals(plan)) as progress:
        tallies = build_dataset(client, plan, output, progress).counts
    return _Made(digest_of(output.building), _counts(tallies))


def _counts(tallies: pd.DataFrame) -> str:
    return tallies.sort_values(["tile", "measure", "key", "split"]).to_csv(index=False)


@pytest.fixture(scope="module")
def dataset(client: Client, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a dataset, with everything that a digest looks at."""
    folder = tmp_path_factory.mktemp("dataset")
    _build(client, plan, folder)
    return Output(folder / "out").building


@pytest.fixture(scope="module")
def made(dataset: Path, plan: Plan, sorted_map: SortedMap, tmp_path_factory: pytest.TempPathFactory) -> _Made:
    """Result that every other way of building must match; its counts are those of tasks in their order."""
    tallies = _run(plan, sorted_map, tmp_path_factory.mktemp("in-order"), "sync").counts
    kept = [row for row in tallies.splitlines() if ",status,kept," in row]
    assert len(kept) == 2, "each usable tile has patches, or the tests below show nothing"
    return _Made(digest_of(dataset), tallies)


# Whole jobs


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--workers", 1, "--threads", 4], id="four threads"),
        pytest.param(["--workers", 3, "--threads", 1, "--lmdb-shards", 2], id="three processes and two environments"),
    ],
)
def test_a_job_gives_the_same_on_any_cluster(
    mini_inputs: list[object], mini_run: Path, tmp_path: Path, options: list[object]
) -> None:
    out = tmp_path / "out"
    done = run_job(*mini_inputs, "--out", out, *options, "--dashboard-address", ":0")
    assert done.returncode == 0, done.stderr
    _assert_same_dataset(out, mini_run)


def test_a_job_of_one_thread_gives_the_same_from_products_in_another_order_and_a_sorted_map(
    demo_region: DemoRegion, demo_run: Path, tmp_path: Path
) -> None:
    landcover = sort_landcover(open_landcover(str(demo_region.landcover)), tmp_path / "sorted.parquet")
    products = sorted(demo_region.s2.iterdir(), reverse=True)
    inputs = ["--s2", *products, "--landcover", landcover.path, "--countries", demo_region.countries]
    one_thread = ["--workers", 1, "--threads", 1, "--dashboard-address", ":0"]
    done = run_job(*inputs, "--out", tmp_path / "out", *one_thread)
    assert done.returncode == 0, done.stderr
    _assert_same_dataset(tmp_path / "out", demo_run)


def _assert_same_dataset(out: Path, expected: Path) -> None:
    assert digest_of(out) == digest_of(expected)
    counts = Path("run") / "counts.csv"
    assert (out / counts).read_bytes() == (expected / counts).read_bytes()


# Order of tasks


@dataclass
class _AnyOrder:
    """A scheduler that runs tasks in any order that their dependencies allow, and some of them again."""

    random: Random
    ran: list[str] = field(default_factory=list)

    def __call__(self, graph: Any, keys: list[Any], **_: object) -> list[Any]:
        self._nodes = convert_legacy_graph(graph.__dask_graph__())
        tasks = sorted((key for key, node in self._nodes.items() if not isinstance(node, Alias)), key=_name)
        self._needs = {key: {name: self._task(name) for name in self._nodes[key].dependencies} for key in tasks}
        self._results: dict[Any, Any] = {}
        waiting = list(tasks)
        while waiting:
            ready = [key for key in waiting if self._results.keys() >= set(self._needs[key].values())]
            waiting.remove(self._run(ready))
            wanted = {needed for key in waiting for needed in self._needs[key].values()}
            while not self.random.randrange(4):
                done = [key for key in tasks if key in self._results]
                # A result is more often lost while somebody waits for it.
                self._run([key for key in done if key in wanted and self.random.randrange(3)] or done)
        return [self._results[self._task(key)] for key in keys]

    def _task(self, key: Any) -> Any:
        """The task whose result a key stands for."""
        node = self._nodes[key]
        return self._task(node.target) if isinstance(node, Alias) else key

    def _run(self, keys: list[Any]) -> Any:
        key = self.random.choice(keys)
        self.ran.append(_name(key))
        self._results[key] = self._nodes[key]({name: self._results[task] for name, task in self._needs[key].items()})
        return key


def _name(key: Any) -> str:
    """Name of a task without what is different each time."""
    return re.sub("-[0-9a-f]{32}", "", str(key))


def _run(plan: Plan, landcover: SortedMap, folder: Path, scheduler: Any, **options: Any) -> _Made:
    """The tasks of all tiles in one batch, and no others."""
    cubes.create_store(folder / digest.CUBES, {"recipe": "reben", "classes": list(plan.nomenclature.classes)})
    graph = TileGraph(plan, landcover, folder / digest.CUBES, folder / digest.TABLE, job="job")
    (found,) = dask.compute([graph.tasks(tile) for tile in plan.tiles], scheduler=scheduler, **options)
    cubes.consolidate(folder / digest.CUBES)
    digests = {**cube_digests(folder / digest.CUBES), **table_digests(folder / digest.TABLE)}
    return _Made(digests, _counts(concat_counts(tasks["patches"] for tasks in found)))


def _assert_same_tiles(found: _Made, expected: _Made) -> None:
    tiles = {name: value for name, value in expected.digests.items() if name.startswith((digest.CUBES, digest.TABLE))}
    assert found == _Made(tiles, expected.counts)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_tasks_may_run_in_any_order_and_more_than_once(
    plan: Plan, sorted_map: SortedMap, made: _Made, seed: int
) -> None:
    scheduler = _AnyOrder(Random(seed))  # noqa: S311
    with TemporaryDirectory() as folder:
        found = _run(plan, sorted_map, Path(folder), scheduler)
    note(" ".join(scheduler.ran))
    assert len(set(scheduler.ran)) >= len(plan.usable) * (len(BANDS) + 3)
    _assert_same_tiles(found, made)


# What libraries hold back with warnings.catch_warnings may come out where there are several threads.
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning", "ignore:Consolidated metadata")
def test_tasks_may_run_at_the_same_time(plan: Plan, sorted_map: SortedMap, made: _Made, tmp_path: Path) -> None:
    _assert_same_tiles(_run(plan, sorted_map, tmp_path, "threads", num_workers=8), made)


def test_an_attempt_that_was_given_up_may_still_be_running(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker stood still while it made a cube; another has made it, and written to it, when it goes on."""
    store, layout = tmp_path / "cubes.zarr", plan.layouts(plan.usable[0])[0]
    dn = np.full(layout.grid.shape_px_yx(20), 7, np.uint16)

    def stand_still(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        cubes.create_cube(store, layout)
        cubes.write_band(store, layout, "B05", dn)
        return xr.Dataset.to_zarr(*arguments, **options)

    cubes.create_store(store, {})
    monkeypatch.setattr(xr.Dataset, "to_zarr", stand_still)
    cubes.create_cube(store, layout)
    index = layout.bands[20].index("B05")
    np.testing.assert_array_equal(zarr.open_array(store / layout.group / "r20m" / "dn", mode="r")[index], dn)


# Sizes of pieces


@dataclass(frozen=True)
class _Sizes:
    """Sizes that the program has chosen, and that must not be seen in what it makes."""

    patches_of_shard: int
    polygons_of_part: int
    polygons_of_row_group: int
    rows_at_once: int
    polygons_at_once: int
    commit_every: int
    tiles_of_batch: int
    batches_in_flight: int
    lmdb_shards: int | None

    def set(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(cube_layout, "SHARD_PATCHES", self.patches_of_shard)
        patch.setattr(sorting, "POLYGONS_PER_PART", self.polygons_of_part)
        patch.setattr(sorting, "POLYGONS_PER_ROW_GROUP", self.polygons_of_row_group)
        patch.setattr(vector_map, "ROWS_AT_ONCE", self.rows_at_once)
        patch.setattr(reference_map, "POLYGONS_AT_ONCE", self.polygons_at_once)
        patch.setattr(lmdb_store, "COMMIT_EVERY", self.commit_every)
        patch.setattr(tiles, "batch_size", lambda _: self.tiles_of_batch)
        patch.setattr(scheduling, "BATCHES_IN_FLIGHT", self.batches_in_flight)


SIZES = st.builds(
    _Sizes,
    patches_of_shard=st.integers(1, 12),
    polygons_of_part=st.integers(25, RECTANGLES + 1),
    polygons_of_row_group=st.integers(1, RECTANGLES + 1),
    rows_at_once=st.integers(10, RECTANGLES + 1),
    polygons_at_once=st.integers(10, RECTANGLES + 1),
    commit_every=st.integers(1, 25),
    tiles_of_batch=st.integers(1, 4),
    batches_in_flight=st.integers(1, 3),
    lmdb_shards=st.none() | st.integers(1, 3),
)


@settings(max_examples=4, deadline=None)
@given(sizes=SIZES)
@example(sizes=_Sizes(1, 25, 1, 10, 10, 4, 1, 1, 3))
@example(sizes=_Sizes(8, 10_000, 10_000, 10_000, 10_000, 10_000, 10, 1, None))
def test_sizes_of_pieces_are_not_seen(client: Client, plan: Plan, made: _Made, sizes: _Sizes) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        sizes.set(patch)
        assert _build(client, replace(plan, lmdb_shards=sizes.lmdb_shards), Path(folder)) == made


def test_sizes_of_pieces_have_an_effect(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the test above would show nothing."""
    _Sizes(3, 60, 6, 10, 10, 10, 1, 1, None).set(monkeypatch)
    landcover = sort_landcover(plan.landcover, tmp_path / "landcover")
    assert len(landcover.parts) == 5
    assert pq.read_metadata(landcover.parts[0]).num_row_groups == 10
    layout = plan.layouts(plan.usable[0])[0]
    cubes.create_store(tmp_path / "cubes.zarr", {})
    cubes.create_cube(tmp_path / "cubes.zarr", layout)
    array = zarr.open_array(tmp_path / "cubes.zarr" / layout.group / "r20m" / "dn", mode="r")
    assert (array.shape[1:], array.shards) == ((480, 480), (1, 180, 180))


def test_metadata_have_the_same_bytes_whatever_the_size_of_the_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, row_group = 90_000, 80_000
    monkeypatch.setattr(metadata, "ROWS_PER_GROUP", row_group)
    columns = {
        "patch_id": [f"patch-{number:05d}" for number in range(rows)],
        "labels": [["Arable land", "Pastures", "Urban fabric"][: 1 + number % 3] for number in range(rows)],
        "split": [("train", "validation", "test")[number % 3] for number in range(rows)],
    }
    nulls = {name: [None] * rows for name in METADATA_SCHEMA.names if name not in columns}
    table = pa.table({**columns, **nulls}, schema=METADATA_SCHEMA)
    written = set()
    for size in (rows, 8_281, 64):
        path = tmp_path / f"{size}.parquet"
        metadata._write(path, (table.slice(start, size) for start in range(0, rows, size)), ["Arable land"])
        written.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(written) == 1


# Order and kind of the inputs


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_the_order_of_products_is_not_seen_in_the_plan(
    data: st.DataObject, plan: Plan, products: list[str], overlapping_map: Path, demo_region: DemoRegion
) -> None:
    order = data.draw(st.permutations(products))
    assert _plan(order, overlapping_map, demo_region) == plan


def test_a_sorted_map_gives_the_same(
    client: Client, plan: Plan, sorted_map: SortedMap, made: _Made, tmp_path: Path
) -> None:
    assert _build(client, replace(plan, landcover=sorted_map), tmp_path) == made


# Digests


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def _change_pixel(out: Path, name: str) -> None:
    array = zarr.open_array(out / name, mode="r+")
    last = tuple(size - 1 for size in array.shape)
    array[last] = array[last] ^ 1


def _change_labels(out: Path, name: str) -> None:
    table = pq.read_table(out / name, partitioning=None)
    labels = table["labels"].to_pylist()
    first = next(number for number, names in enumerate(labels) if names)
    labels[first] = labels[first][1:]
    place = table.schema.get_field_index("labels")
    pq.write_table(
        table.set_column(place, table.schema.field(place), pa.array(labels, table["labels"].type)), out / name
    )


def _change_attribute(out: Path, name: str) -> None:
    zarr.open_array(out / name, mode="r+").attrs["nodata"] = 1


def _change_consolidated(out: Path, name: str) -> None:
    document = out / name / "zarr.json"
    text = document.read_text()
    assert '"mgrs": "33UVP"' in text
    document.write_text(text.replace('"mgrs": "33UVP"', '"mgrs": "33UWP"', 1))


def _edit_lmdb(edit: Callable[[lmdb.Transaction, bytes], None]) -> Callable[[Path, str], None]:
    def change(out: Path, name: str) -> None:
        environment = lmdb.open(str(out / name))
        with environment.begin(write=True) as transaction:
            edit(transaction, max(transaction.cursor().iternext(values=False)))
        environment.close()

    return change


def _drop(transaction: lmdb.Transaction, key: bytes) -> None:
    transaction.delete(key)


def _rename(transaction: lmdb.Transaction, key: bytes) -> None:
    transaction.put(key + b"x", transaction.pop(key))


def _flip(transaction: lmdb.Transaction, key: bytes) -> None:
    value = transaction.get(key)
    transaction.put(key, value[:-1] + bytes([value[-1] ^ 1]))


CHANGES: Mapping[str, tuple[str, Callable[[Path, str], None]]] = {
    "a pixel": ("cubes.zarr/{tile}/r20m/dn", _change_pixel),
    "a pixel of a map": ("cubes.zarr/{tile}/reference_map/reference_map", _change_pixel),
    "an attribute": ("cubes.zarr/{tile}/r60m/dn", _change_attribute),
    "labels in the table": ("patches.parquet/{tile}.parquet", _change_labels),
    "labels in the metadata": ("metadata.parquet", _change_labels),
    "a missing entry": ("lmdb", _edit_lmdb(_drop)),
    "an entry with another key": ("lmdb", _edit_lmdb(_rename)),
    "an entry with another value": ("lmdb", _edit_lmdb(_flip)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_where_it_is(copy: Path, dataset: Path, plan: Plan, change: str) -> None:
    place, apply = CHANGES[change]
    place = place.format(tile=plan.usable[0].name)
    apply(copy, place)
    before, after = digest_of(dataset), digest_of(copy)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {place}


def test_a_change_of_consolidated_metadata_is_seen(copy: Path, dataset: Path, plan: Plan) -> None:
    group = f"cubes.zarr/{plan.usable[0].name}"
    _change_consolidated(copy, group)
    assert digest_of(copy)[group] != digest_of(dataset)[group]


@pytest.mark.parametrize("name", ["metadata.parquet", "patches.parquet", "cubes.zarr", "lmdb"])
def test_a_missing_artefact_is_no_dataset(copy: Path, name: str) -> None:
    (copy / name).rename(copy / "elsewhere")
    with pytest.raises(FileNotFoundError, match=name):
        digest_of(copy)


def test_a_missing_tile_is_seen(copy: Path, dataset: Path, plan: Plan) -> None:
    tile = plan.usable[0].name
    shutil.rmtree(copy / "cubes.zarr" / tile)
    (copy / "patches.parquet" / f"{tile}.parquet").unlink()
    gone = digest_of(dataset).keys() - digest_of(copy).keys()
    assert {f"cubes.zarr/{tile}", f"cubes.zarr/{tile}/r20m/dn", f"patches.parquet/{tile}.parquet"} < gone


def test_the_size_of_slabs_is_not_seen(dataset: Path, made: _Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "SLAB_BYTES", 50_000)
    assert digest_of(dataset) == made.digests


def test_an_image_is_read_in_slabs(tmp_path: Path) -> None:
    size, limit = 10_980, digest.SLAB_BYTES
    chunked = zarr.create_array(tmp_path / "a", shape=(2, size, size), dtype="u2", chunks=(1, 1_560, 1_560))
    whole = zarr.create_array(tmp_path / "b", shape=(1, size, size), dtype="u2", chunks=(1, size, size))
    for array in (chunked, whole):
        slabs = [slab.shape for slab in digest._slabs(array)]
        assert sum(rows for rows, _ in slabs) == array.shape[0] * size
        assert max(rows * columns * 2 for rows, columns in slabs) <= limit


def test_an_entry_in_two_environments_is_seen(tmp_path: Path) -> None:
    for name in ("one", "two", "two/again"):
        environment = lmdb.open(str(tmp_path / name))
        with environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value")
        environment.close()
    assert lmdb_digest(tmp_path / "one") != lmdb_digest(tmp_path / "two")


def test_digests_on_the_command_line(copy: Path, dataset: Path, plan: Plan) -> None:
    same = _digest(dataset, copy)
    assert same.returncode == 0, same.stderr
    assert "0 different" in same.stdout
    changed = f"cubes.zarr/{plan.usable[0].name}/r20m/dn"
    _change_pixel(copy, changed)
    different = _digest(dataset, copy)
    assert different.returncode == 1
    assert "1 different" in different.stdout
    assert [line.split()[1] for line in different.stdout.splitlines() if line.startswith("different")] == [changed]


def _digest(*folders: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, digest.__file__, *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
