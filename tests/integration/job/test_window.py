"""The window of tiles in progress, on a real, in-process cluster."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dask.delayed import Delayed
from distributed import Client, Event, Future

from reben_dask.errors import InputError, ReadError
from reben_dask.job import scheduling
from reben_dask.job.scheduling import ATTEMPTS, BATCHES_IN_FLIGHT, Attempt, Outcome, Window, batch_size, make_task

WAIT_S = 60
"""Nothing waits as long unless a test fails."""

RUNS: Counter[str] = Counter()
"""Runs of the tasks of a test; the workers are threads of this process."""

Tasks = dict[str, Delayed | Future]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """More threads than a test has tasks in flight: none waits behind another."""
    with Client(processes=False, n_workers=2, threads_per_worker=4, dashboard_address=None) as client:
        yield client


@pytest.fixture
def job(tmp_path: Path) -> str:
    """Keeps the names of a test's tasks apart from those of the others."""
    return tmp_path.name


def _task(job: str, name: str, attempt: Attempt, function: Callable[..., Any], *arguments: Any) -> Delayed:
    key = f"{name}-{job}-{attempt.number}"
    return make_task(key, function, *arguments)


def _square(tile: int, *_: object) -> int:
    return tile * tile


def _builder(job: str, function: Callable[[int], Any] = _square, bands: int = 0) -> Callable[[int, Attempt], Tasks]:
    """Tasks of a tile: some bands, and a result that needs them."""

    def build(tile: int, attempt: Attempt) -> Tasks:
        tasks = {
            f"band-{n}": attempt.finished.get(f"band-{n}") or _task(job, f"band-{n}-{tile}", attempt, _square, tile)
            for n in range(bands)
        }
        return {**tasks, "result": _task(job, f"result-{tile}", attempt, function, tile, *tasks.values())}

    return build


def _squares(*tiles: int) -> list[Outcome]:
    return [Outcome(tile, tile * tile) for tile in tiles]


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
    names: list[str] = []
    outcomes = Window(client, _builder(job, bands=2), size, names.append).run(range(count))
    assert sorted(outcomes) == _squares(*range(count))
    assert Counter(names) == Counter({"band-0": count, "band-1": count, "result": count})


def test_no_tiles_need_no_graph(client: Client) -> None:
    def build(_tile: Any, _attempt: Attempt) -> Tasks:
        raise AssertionError("there was nothing to build")

    assert list(Window(client, build, 4).run([])) == []


def test_results_do_not_depend_on_the_order_in_which_tasks_end(client: Client, job: str) -> None:
    """The first tile cannot end before others have begun, one of another batch too."""
    others = [Event(f"{job}-{tile}", client=client) for tile in range(1, 5)]

    def run(tile: int) -> int:
        if tile:
            others[tile - 1].set()
        else:
            assert all(event.wait(WAIT_S) for event in others)
        return tile * tile

    assert sorted(Window(client, _builder(job, run), 2).run(range(5))) == _squares(*range(5))


def test_results_come_while_other_tiles_are_running(client: Client, job: str) -> None:
    gate = Event(job, client=client)

    def run(tile: int) -> int:
        assert not tile or gate.wait(WAIT_S)
        return tile * tile

    outcomes = Window(client, _builder(job, run), 1).run(range(3))
    assert next(outcomes) == Outcome(0, 0)
    gate.set()
    assert sorted(outcomes) == _squares(1, 2)


def test_a_follower_is_called_between_outcomes(client: Client, job: str) -> None:
    """The window ends when the last follower has; one may be followed by the next."""
    window, order = Window(client, _builder(job), 1), []

    def follow(number: int) -> None:
        window.follow(client.submit(_square, number, key=f"follow-{number}-{job}"), finish)

    def finish(future: Future) -> None:
        order.append(future.result())
        if len(order) < 3:
            follow(len(order) + 1)

    for outcome in window.run(range(2)):
        if outcome.item == 0:
            follow(1)
    assert order == [1, 4, 9]


# Limits


@pytest.mark.parametrize(("size", "batches"), [(1, BATCHES_IN_FLIGHT), (2, BATCHES_IN_FLIGHT), (1, 1)])
def test_no_more_tiles_than_the_window(
    client: Client, job: str, monkeypatch: pytest.MonkeyPatch, size: int, batches: int
) -> None:
    """A tile counts from its build to its result, and is only built when there is room."""
    monkeypatch.setattr(scheduling, "BATCHES_IN_FLIGHT", batches)
    running: set[int] = set()
    most = 0

    def build(tile: int, attempt: Attempt) -> Tasks:
        nonlocal most
        running.add(tile)
        most = max(most, len(running))
        return _builder(job, bands=1)(tile, attempt)

    for outcome in Window(client, build, size).run(range(24)):
        running.remove(outcome.item)
    assert most == batches * size
    assert running == set()


def test_the_window_stays_full(client: Client, job: str) -> None:
    """While nothing ends, as many batches as may be are waiting on the cluster, and no more."""
    gate, built = Event(job, client=client), []

    def blocked(tile: int) -> int:
        assert gate.wait(WAIT_S)
        return tile * tile

    def build(tile: int, attempt: Attempt) -> Tasks:
        built.append(tile)
        if len(built) == BATCHES_IN_FLIGHT:
            gate.set()
        return _builder(job, blocked)(tile, attempt)

    assert sorted(Window(client, build, 1).run(range(10))) == _squares(*range(10))
    assert built == list(range(10))


@pytest.mark.slow
def test_results_of_finished_tiles_are_not_held(client: Client, job: str) -> None:
    """Three tasks a tile: of twenty tiles, only those in flight are known to the client at any time."""
    most = 0
    for _ in Window(client, _builder(job, bands=2), 1).run(range(20)):
        gc.collect()
        client.sync(_round_of_the_loop)
        most = max(most, sum(job in key for key in client.futures))
    assert most <= 3 * (BATCHES_IN_FLIGHT + 1)


def _awaited(client: Client, job: str) -> list[str]:
    """Tasks of a job that this client waits for; the scheduler drops a task that nobody waits for."""
    gc.collect()
    client.sync(_round_of_the_loop)
    return [key for key, state in client.futures.items() if job in key and state.status == "pending"]


async def _round_of_the_loop() -> None:
    """Let the client's loop do what it was asked to do before."""
    for _ in range(5):
        await asyncio.sleep(0)


# Errors


def _count(run: str, error: Exception | None, runs: int, tile: int, *_: object) -> int:
    """Square a number, but fail in the first runs; a function of this module, as its copy would count for itself."""
    RUNS[run] += 1
    if error and RUNS[run] <= runs:
        raise error
    return tile * tile


def _failing(error: Exception, job: str, runs: int, where: str) -> Callable[[int, Attempt], Tasks]:
    """Tile 2 has a band or a result that fails in its first runs; all runs are counted."""

    def build(tile: int, attempt: Attempt) -> Tasks:
        tasks: Tasks = {}
        for name in ("good", "bad", "result"):
            key = f"{name}-{tile}"
            needed = list(tasks.values()) if name == "result" else []
            arguments = (f"{job}-{key}", error if key == where else None, runs, tile, *needed)
            tasks[name] = attempt.finished.get(name) or _task(job, key, attempt, _count, *arguments)
        return tasks

    return build


TRANSIENT = [OSError("the network file system stumbled"), ReadError("the image cannot be decoded")]
LASTING = [InputError("the image is damaged"), ValueError("a mistake")]


@pytest.mark.parametrize("where", ["bad-2", "result-2"])
@pytest.mark.parametrize("error", [*TRANSIENT, *LASTING], ids=lambda error: type(error).__name__)
def test_an_error_is_that_of_its_tile_alone(client: Client, job: str, error: Exception, where: str) -> None:
    """Only a task whose error may pass runs again, once; all others run once, whatever happens to them."""
    retried: list[int] = []
    build = _failing(error, job, 99, where)
    outcomes = list(Window(client, build, 2, on_retry=lambda tile, _: retried.append(tile)).run(range(6)))
    (failed,) = (outcome for outcome in outcomes if outcome.error is not None)
    attempts = ATTEMPTS if error in TRANSIENT else 1
    assert (failed.item, failed.attempts) == (2, attempts)
    assert str(error) in str(failed.error)
    assert sorted(outcome for outcome in outcomes if outcome.error is None) == _squares(0, 1, 3, 4, 5)
    assert retried == [2] * (attempts - 1)
    tasks = [f"{name}-{tile}" for tile in range(6) for name in ("good", "bad", "result")]
    expected = {f"{job}-{name}": attempts if name == where else 1 for name in tasks}
    assert {name: runs for name, runs in RUNS.items() if name.startswith(f"{job}-")} == {
        name: runs for name, runs in expected.items() if name != f"{job}-result-2" or where == "result-2"
    }


@pytest.mark.parametrize("where", ["bad-2", "result-2"])
def test_a_tile_that_stumbles_once_is_built(client: Client, job: str, where: str) -> None:
    build = _failing(TRANSIENT[0], job, 1, where)
    assert sorted(Window(client, build, 2).run(range(6))) == _squares(*range(6))
    assert (RUNS[f"{job}-good-2"], RUNS[f"{job}-{where}"]) == (1, 2)


def test_the_second_run_is_on_another_worker(client: Client, job: str) -> None:
    """Each of two workers is asked once, by its name in the error."""
    seen: list[str | None] = []

    def fail(_tile: int) -> None:
        raise OSError("this disk is broken")

    window = Window(client, _builder(job, fail), 1, on_retry=lambda _, error: seen.append(vars(error)["worker"]))
    (outcome,) = window.run([0])
    assert {*seen, vars(outcome.error)["worker"]} == set(client.nthreads())


@pytest.fixture
def gated(client: Client, job: str) -> Iterator[tuple[Callable[[int, Attempt], Tasks], list[int]]]:
    """Tile 0 ends at once, and all others wait behind a gate until the test is over."""
    gate, built = Event(job, client=client), []

    def pass_or_wait(tile: int) -> int:
        assert tile == 0 or gate.wait(WAIT_S)
        return tile

    def build(tile: int, attempt: Attempt) -> Tasks:
        built.append(tile)
        return _builder(job, pass_or_wait)(tile, attempt)

    yield build, built
    gate.set()


def test_leaving_early_drops_the_rest(client: Client, job: str, gated: tuple[Any, list[int]]) -> None:
    build, built = gated
    outcomes = Window(client, build, 2).run(range(60))
    assert next(outcomes) == Outcome(0, 0)
    outcomes.close()
    assert built == list(range(2 * BATCHES_IN_FLIGHT))
    assert _awaited(client, job) == []


def test_an_error_of_the_callback_drops_the_rest(client: Client, job: str, gated: tuple[Any, list[int]]) -> None:
    def fail(name: str) -> None:
        raise ValueError(name)

    build, _ = gated
    with pytest.raises(ValueError, match="result"):
        list(Window(client, build, 2, fail).run([0, *range(2, 9)]))
    assert _awaited(client, job) == []


def test_an_error_of_the_builder_is_raised(client: Client) -> None:
    def fail(tile: int, _attempt: Attempt) -> Tasks:
        raise ValueError(f"tile {tile}")

    with pytest.raises(ValueError, match="tile 0"):
        list(Window(client, fail, 2).run(range(3)))
