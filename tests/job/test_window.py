"""Batches of tiles on a real, in-process cluster."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dask import delayed
from dask.delayed import Delayed
from distributed import Client, Event
from reben_dask.job.submit import BATCHES_IN_FLIGHT, RETRIES, Outcome, batch_size, run_batches

from reben_dask.job import submit

WAIT_S = 60
"""Nothing waits as long unless a test fails."""

ATTEMPTS: Counter[str] = Counter()
"""Attempts at the task of a test; the worker is a thread of this process."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """More threads than a test has tasks in flight: none waits behind another."""
    with Client(processes=False, n_workers=1, threads_per_worker=8, dashboard_address=None) as client:
        yield client


@pytest.fixture
def job(tmp_path: Path) -> str:
    """Keeps the names of a test's tasks apart from those of the others."""
    return tmp_path.name


def _task(job: str, name: str, function: Callable[..., Any], *arguments: Any) -> Delayed:
    return delayed(function, pure=True)(*arguments, dask_key_name=f"{name}-{job}")


def _square(tile: int, *_: object) -> int:
    return tile * tile


def _builder(job: str) -> Callable[[Sequence[int]], dict[str, list[Delayed]]]:
    """Tiles in two stages: two bands each, then a result that needs them."""

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        bands = {tile: [_task(job, f"band-{n}-{tile}", _square, tile) for n in range(2)] for tile in tiles}
        results = [_task(job, f"result-{tile}", _square, tile, *bands[tile]) for tile in tiles]
        return {"bands": [band for tile in tiles for band in bands[tile]], "patches": results}

    return build


# Sizes


@pytest.mark.parametrize(
    ("threads", "tiles"),
    [(1, 1), (2, 1), (8, 1), (9, 1), (16, 1), (18, 2), (64, 7), (144, 16), (576, 64), (10_000, 64)],
)
def test_a_batch_grows_with_the_cluster(threads: int, tiles: int) -> None:
    assert batch_size(threads) == tiles


# Results


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 11])
def test_each_tile_comes_back_once(client: Client, job: str, count: int, size: int) -> None:
    stages: list[str] = []
    results = list(run_batches(client, range(count), _builder(job), size, stages.append))
    assert sorted(results) == [Outcome(tile, tile * tile) for tile in range(count)]
    assert sorted(stages) == ["bands"] * 2 * count + ["patches"] * count


def test_no_tiles_need_no_graph(client: Client) -> None:
    def build(_: Sequence[Any]) -> dict[str, list[Delayed]]:
        raise AssertionError("there was nothing to build")

    assert list(run_batches(client, [], build, 4, lambda _: None)) == []


def test_tiles_are_divided_in_their_order(client: Client, job: str) -> None:
    seen: list[list[int]] = []

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        seen.append(list(tiles))
        return _builder(job)(tiles)

    list(run_batches(client, range(8), build, 3, lambda _: None))
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_results_do_not_depend_on_the_order_in_which_tasks_end(client: Client, job: str) -> None:
    """The first tile cannot end before all others have begun, those of later batches too."""
    others = [Event(f"{job}-{tile}", client=client) for tile in range(1, 5)]

    def first(tile: int) -> int:
        assert all(event.wait(WAIT_S) for event in others)
        return tile

    def other(tile: int) -> int:
        others[tile - 1].set()
        return tile

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        return {"patches": [_task(job, f"tile-{tile}", other if tile else first, tile) for tile in tiles]}

    assert sorted(run_batches(client, range(5), build, 2, lambda _: None)) == [Outcome(n, n) for n in range(5)]


def test_a_stage_without_tasks(client: Client, job: str) -> None:
    """A batch of tiles that failed their quality check has no bands to read."""

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        return {"bands": [], "patches": [_task(job, f"tile-{tile}", _square, tile) for tile in tiles]}

    assert sorted(run_batches(client, range(9), build, 1, lambda _: None)) == [Outcome(n, n * n) for n in range(9)]


def test_results_come_while_other_tiles_are_running(client: Client, job: str) -> None:
    gate = Event(job, client=client)

    def slow(tile: int) -> int:
        assert gate.wait(WAIT_S)
        return tile

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        return {"patches": [_task(job, f"tile-{tile}", slow if tile else _square, tile) for tile in tiles]}

    results = run_batches(client, range(3), build, 1, lambda _: None)
    assert next(results) == Outcome(0, 0)
    gate.set()
    assert sorted(results) == [Outcome(1, 1), Outcome(2, 2)]


# The window


class _Running:
    """Counts batches that were submitted and have not ended."""

    def __init__(self) -> None:
        self.running: dict[int, int] = {}
        self.most = 0

    def begin(self, batch: int, tasks: int) -> None:
        self.running[batch] = tasks
        self.most = max(self.most, len(self.running))

    def end(self, batch: int) -> None:
        self.running[batch] -= 1
        if not self.running[batch]:
            del self.running[batch]


@pytest.mark.parametrize("size", [1, 2])
def test_never_more_batches_than_the_window(client: Client, job: str, size: int) -> None:
    """A batch counts from its build to the last of its results; a batch is only built when one has room."""
    counter = _Running()

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        counter.begin(tiles[0] // size, len(tiles))
        return _builder(job)(tiles)

    for result in run_batches(client, range(24), build, size, lambda _: None):
        counter.end(result.tile // size)
    assert counter.most == BATCHES_IN_FLIGHT
    assert counter.running == {}


def test_the_window_stays_full(client: Client, job: str) -> None:
    """While nothing ends, as many batches as may be are waiting on the cluster, and no more."""
    gate, built = Event(job, client=client), []

    def blocked(tile: int) -> int:
        assert gate.wait(WAIT_S)
        return tile

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        built.append(tiles[0])
        if len(built) == BATCHES_IN_FLIGHT:
            gate.set()
        return {"patches": [_task(job, f"tile-{tile}", blocked, tile) for tile in tiles]}

    assert sorted(run_batches(client, range(10), build, 1, lambda _: None)) == [Outcome(n, n) for n in range(10)]
    assert built == list(range(10))


def test_results_of_finished_tiles_are_not_held(client: Client, job: str) -> None:
    """Three tasks a tile: of twenty tiles, only those in flight are known to the client at any time."""
    most = 0
    for _ in run_batches(client, range(20), _builder(job), 1, lambda _: None):
        gc.collect()
        client.sync(_round_of_the_loop)
        most = max(most, sum(key.endswith(job) for key in client.futures))
    assert most <= 3 * (BATCHES_IN_FLIGHT + 1)


def _awaited(client: Client, job: str) -> list[str]:
    """Tasks of a job that this client waits for; the scheduler drops a task that nobody waits for."""
    gc.collect()
    client.sync(_round_of_the_loop)
    return [key for key, state in client.futures.items() if key.endswith(job) and state.status == "pending"]


async def _round_of_the_loop() -> None:
    """Let the client's loop do what it was asked to do before."""
    for _ in range(5):
        await asyncio.sleep(0)


# Errors


class _BadTileError(Exception):
    pass


def test_an_error_is_that_of_its_tile_alone(client: Client, job: str) -> None:
    def bad(tile: int) -> int:
        raise _BadTileError(f"tile {tile} is bad")

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        tasks = [_task(job, f"tile-{tile}", bad if tile == 2 else _square, tile) for tile in tiles]
        return {"bands": tasks[:0], "patches": tasks}

    outcomes = {outcome.tile: outcome for outcome in run_batches(client, range(50), build, 1, lambda _: None)}
    error = outcomes.pop(2).error
    assert isinstance(error, _BadTileError)
    assert str(error) == "tile 2 is bad"
    assert sorted(outcomes.values()) == [Outcome(tile, tile * tile) for tile in range(50) if tile != 2]


def test_a_tile_ends_with_the_error_of_the_task_it_needs(client: Client, job: str) -> None:
    """Its other tasks may end as they like; each is told of once."""

    def bad(tile: int) -> int:
        raise _BadTileError(f"a band of tile {tile} is bad")

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        bands = {tile: _task(job, f"band-{tile}", bad if tile == 2 else _square, tile) for tile in tiles}
        results = [_task(job, f"result-{tile}", _square, tile, bands[tile]) for tile in tiles]
        return {"bands": list(bands.values()), "patches": results}

    stages: list[str] = []
    outcomes = list(run_batches(client, range(6), build, 2, stages.append))
    assert [(outcome.tile, str(outcome.error)) for outcome in outcomes if outcome.error] == [
        (2, "a band of tile 2 is bad")
    ]
    assert sorted(stages) == ["bands"] * 6 + ["patches"] * 6


def _stumble(job: str, failures: int) -> str:
    ATTEMPTS[job] += 1
    if ATTEMPTS[job] <= failures:
        raise OSError("the network file system stumbled")
    return job


@pytest.mark.parametrize("failures", [RETRIES, RETRIES + 1])
def test_a_task_is_repeated_a_few_times(client: Client, job: str, failures: int) -> None:
    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        return {"patches": [_task(job, f"tile-{tile}", _stumble, job, failures) for tile in tiles]}

    (outcome,) = run_batches(client, [4], build, 1, lambda _: None)
    assert outcome.result == (None if failures > RETRIES else job)
    assert str(outcome.error) == ("the network file system stumbled" if failures > RETRIES else "None")
    assert ATTEMPTS[job] == RETRIES + 1


@pytest.fixture
def gated(client: Client, job: str) -> Iterator[tuple[Callable[[Sequence[int]], dict[str, list[Delayed]]], list[int]]]:
    """Tile 0 ends at once, and all others wait behind a gate until the test is over."""
    gate, built = Event(job, client=client), []

    def pass_or_wait(tile: int) -> int:
        assert tile == 0 or gate.wait(WAIT_S)
        return tile

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        built.extend(tiles)
        return {"patches": [_task(job, f"tile-{tile}", pass_or_wait, tile) for tile in tiles]}

    yield build, built
    gate.set()


def test_leaving_early_drops_the_rest(client: Client, job: str, gated: tuple[Any, list[int]]) -> None:
    build, built = gated
    results = run_batches(client, range(60), build, 2, lambda _: None)
    assert next(results) == Outcome(0, 0)
    results.close()
    assert built == list(range(2 * BATCHES_IN_FLIGHT))
    assert _awaited(client, job) == []


def test_an_error_of_the_callback_drops_the_rest(client: Client, job: str, gated: tuple[Any, list[int]]) -> None:
    def fail(stage: str) -> None:
        raise _BadTileError(stage)

    build, _ = gated
    with pytest.raises(_BadTileError, match="patches"):
        list(run_batches(client, [0, *range(2, 9)], build, 2, fail))
    assert _awaited(client, job) == []


def test_an_error_of_the_builder_is_raised(client: Client) -> None:
    def fail(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        raise _BadTileError(str(list(tiles)))

    with pytest.raises(_BadTileError, match="0, 1"):
        list(run_batches(client, range(3), fail, 2, lambda _: None))


def test_another_window(client: Client, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "BATCHES_IN_FLIGHT", 1)
    counter = _Running()

    def build(tiles: Sequence[int]) -> dict[str, list[Delayed]]:
        counter.begin(tiles[0], len(tiles))
        return _builder(job)(tiles)

    for result in run_batches(client, range(6), build, 1, lambda _: None):
        counter.end(result.tile)
    assert counter.most == 1
