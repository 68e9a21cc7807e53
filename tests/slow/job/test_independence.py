"""The dataset is the same whatever the workers and threads, the sizes of pieces, the order of tasks or of inputs."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import dask
import digest
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
import xarray as xr
import yaml
import zarr
from acquisitions import acquire_again, sky
from conftest import ANY_PORT, ROOT, run_here
from dask._task_spec import Alias, convert_legacy_graph
from digest import cube_digests, digest_of, table_digests
from distributed import Client
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from processes import Cluster, Job
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

# Inputs: three products, one of which failed its quality check, and a map on which the order of polygons decides


@pytest.fixture(scope="module")
def overlapping_map(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Turned rectangles that lie over each other, of all codes, over most of the demo region."""
    known = gpd.read_file(small_region.landcover)
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
def products(three_inputs: list[object]) -> list[str]:
    return [str(path) for option, path in zip(three_inputs[::2], three_inputs[1::2], strict=True) if option == "--s2"]


@pytest.fixture(scope="module")
def plan(products: list[str], overlapping_map: Path, small_region: DemoRegion) -> Plan:
    return _plan(products, overlapping_map, small_region)


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
    # Conflicts are counted once all tiles are built.
    return _Made(digest_of(output.building), _counts(tallies[tallies["measure"] != "conflict"]))


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


class _Given(NamedTuple):
    """Inputs of a job, and the dataset that it makes undisturbed."""

    products: Sequence[object]
    landcover: Path
    more: list[object]
    expected: Path


@pytest.fixture(scope="module")
def reben(products: list[str], small_region: DemoRegion, three_run: Path) -> _Given:
    return _Given(products, small_region.landcover, ["--countries", small_region.countries], three_run)


@pytest.fixture(scope="module")
def second_look(
    small_region: DemoRegion, small_folders: list[Path], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> _Given:
    """A job that chooses between two images of a tile, and splits it together with another."""
    west, east = sorted(path for path in small_folders if "20180725" in path.name)
    recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "seasonet.yaml").read_text(encoding="utf-8"))
    recipe |= {"name": "mine", "bands": ["B01", "B05"], "attributes": {}}
    recipe["split"] |= {"block_m": 4800, "validation": 0.2}
    folder = tmp_path_factory.mktemp("second-look")
    shutil.copytree(east, folder / east.name)
    for day in (5, 15):
        hazy = sky(252, day, snow=(0,), cloud=(0, 45, 90), shadow=(0, 45))
        acquire_again(west, folder, datetime(2018, 7, day, 10, 0, 31, tzinfo=UTC), scl=hazy)
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    products, more = sorted(folder.glob("*.SAFE")), ["--recipe", folder / "mine.yaml"]
    inputs = ("--s2", *products, "--landcover", small_region.landcover, *more)
    done = run_here(*inputs, "--out", folder / "out", *cluster.options)
    assert done.returncode == 0, done.stderr
    return _Given(products, small_region.landcover, more, folder / "out")


WAYS: Mapping[str, tuple[object, ...]] = {
    "four threads, another order and a sorted map": (*ANY_PORT, "--workers", 1, "--threads", 4),
    "two processes and two environments, killed once": (
        *ANY_PORT,
        *("--workers", 2, "--threads", 1, "--lmdb-shards", 2),
    ),
    "a cluster from the shell, another order and three environments": ("--lmdb-shards", 3),
}
"""Ways to make one dataset, and options of the job; what it is compared with was made on a cluster from the shell."""


MATRIX = list(zip(("reben", "reben", "second_look"), WAYS, strict=True))
"""Kinds of datasets, and ways to make them; ``test_killed_clients`` kills clients during the second look."""


@pytest.mark.parametrize(("kind", "way"), MATRIX)
def test_a_job_gives_the_same_in_every_way(
    cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest, kind: str, way: str
) -> None:
    given: _Given = request.getfixturevalue(kind)
    products, landcover, out = given.products, given.landcover, tmp_path / "out"
    if "another order" in way:
        products = products[::-1]
    if "sorted map" in way:
        landcover = sort_landcover(open_landcover(str(landcover)), tmp_path / "sorted.parquet").path
    inputs = ["--s2", *products, "--landcover", landcover, *given.more, "--out", out, *WAYS[way]]
    inputs += cluster.options if "cluster" in way else []
    if "killed once" in way:
        assert Job(*inputs, dying=("/state/tiles/", 2)).end().code == -signal.SIGKILL
    done = Job(*inputs).end()
    assert done.code == 0, done.complained
    assert digest_of(out) == digest_of(given.expected)
    counts = Path("run") / "counts.csv"
    assert (out / counts).read_bytes() == (given.expected / counts).read_bytes()


def test_the_second_look_has_something_to_decide(second_look: _Given) -> None:
    table = pd.read_parquet(second_look.expected / "patches.parquet").astype(object)
    kept = table[table["status"] == "kept"]
    chosen = kept[kept["tile"].str.endswith("T33UVP")]
    assert chosen["tile"].nunique() == 2, "always the same image is the clearest"
    assert (table["reason"] == "not_chosen").sum() > 5
    assert set(kept["split"].fillna("none")) == {"train", "validation", "test", "none"}


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


@settings(max_examples=5, deadline=None)
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
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
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


@settings(max_examples=1, deadline=None)
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
    assert (array.shape[1:], array.shards) == ((240, 240), (1, 180, 180))


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
    data: st.DataObject, plan: Plan, products: list[str], overlapping_map: Path, small_region: DemoRegion
) -> None:
    order = data.draw(st.permutations(products))
    assert _plan(order, overlapping_map, small_region) == plan


def test_a_sorted_map_gives_the_same(
    client: Client, plan: Plan, sorted_map: SortedMap, made: _Made, tmp_path: Path
) -> None:
    assert _build(client, replace(plan, landcover=sorted_map), tmp_path) == made
