"""Measuring: CPU seconds, wall time and peak memory, of a function in a process of its own or of a whole command."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

LOOK_EVERY_S = 0.1
LIBRARIES = ("dask", "distributed", "geopandas", "lmdb", "numpy", "pyarrow", "rasterio", "shapely", "zarr", "zarrs")

# Each function gets a process that has the libraries already, without the threads and codecs of `zarrs`, which do not
# outlive a fork: where this package was imported before, Zarr's own codecs would be measured.
_PROCESSES = get_context("forkserver")
_PROCESSES.set_forkserver_preload([*LIBRARIES[:-1], "pyarrow.dataset", "pyarrow.parquet", "pyogrio", "xarray"])


@dataclass(frozen=True)
class Measured:
    """Seconds of CPU (user and system) and of wall time; peak memory in bytes of the hungriest process."""

    cpu_s: float
    wall_s: float
    peak_bytes: int

    def as_json(self) -> dict[str, float]:
        """Rounded to what can be reproduced."""
        return {"cpu_s": round(self.cpu_s, 4), "wall_s": round(self.wall_s, 4), "peak_bytes": self.peak_bytes}


def measure(function: Callable[..., Any], *arguments: Any) -> Measured:
    """Call a function in a process of its own; libraries are imported before the clock starts."""
    with _PROCESSES.Pool(1) as pool:
        return pool.apply(_timed, (function, arguments))


def measure_command(command: Sequence[object], log: Path) -> Measured:
    """Run a command to its end: CPU of all its processes, peak memory of the hungriest worker.

    Raises
    ------
    RuntimeError
        If the command fails, with the end of its output.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen([str(word) for word in command], stdout=file, stderr=file)
        peaks = _Peaks(process.pid)
        code = process.wait()
        wall = time.perf_counter() - start
        peaks.stop()
    if code:
        raise RuntimeError(f"{command} ended with {code}:\n{log.read_text()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(cpu, wall, peaks.of_workers)


def machine() -> dict[str, Any]:
    """Conditions of the measurement."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _timed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Measured:
    before, start = os.times(), time.perf_counter()
    function(*arguments)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.user + after.system - before.user - before.system
    return Measured(cpu, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


class _Peaks:
    """Watches a process and its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._root, self._peaks, self._ended = psutil.Process(pid), dict[int, int](), Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def of_workers(self) -> int:
        """Peak of the hungriest child, or of the command itself if it works alone."""
        children = (peak for pid, peak in self._peaks.items() if pid != self._root.pid)
        return max(children, default=self._peaks.get(self._root.pid, 0))

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            with suppress(psutil.Error):
                for process in (self._root, *self._root.children(recursive=True)):
                    with suppress(psutil.Error):
                        self._peaks[process.pid] = max(self._peaks.get(process.pid, 0), _peak(process))


def _peak(process: psutil.Process) -> int:
    """Linux remembers the peak itself; elsewhere it is what was seen."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
