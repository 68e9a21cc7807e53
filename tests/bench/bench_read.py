"""Random reads of S1+S2 patches from a warm LMDB, beside the straightforward way and the copy of the same bytes.

12 channels, 120 px, float32. The straightforward way is that of ConfigILM: get the values from LMDB, load them with
safetensors, resize each band with PyTorch, stack. All ways take turns in one run, so that the ratios hold whatever the
machine is; the pixels are random. ``make bench-read`` runs it; it needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pandas as pd
import psutil
import torch
from measure import machine
from safetensors.numpy import load
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, default_collate

from reben_dask.formats.bands import MODALITIES, PUBLISHED_BANDS, S1_BANDS
from reben_dask.formats.lmdb import encode_bands
from reben_dask.stores.lmdb import new_environment
from reben_dask.training import BandScale, Samples, lmdb_samples
from reben_dask.training.loaders import Batches, load_batches

BANDS = MODALITIES["S1+S2"]
CLASSES = ("Arable land", "Pastures")
PATCH_BYTES = 300_000
SAME = "same-lmdb"
"""Copy of the environment, as LMDB must not open a path twice in a process."""

LIMIT = 3.0
"""Samples per CPU second, at least, as a multiple of the straightforward way."""

Way = Callable[[np.ndarray], object]


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=1_024, help="patches in the LMDB")
    parser.add_argument("--batch", type=int, default=64, help="patches per batch")
    parser.add_argument("--rounds", type=int, default=7, help="rounds in which all ways take turns")
    parser.add_argument("--workers", type=int, default=2, help="processes of a DataLoader")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_dataset(Path(scratch) / "dataset", options.patches)
        found = measure_ways(folder, options.patches, options.batch, options.rounds)
        found |= measure_workers(folder, options)
    content = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **found}
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "read.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nSaved as {file}")


def write_dataset(folder: Path, patches: int) -> Path:
    """Write an LMDB of random pixels, and metadata."""
    rng = np.random.default_rng(0)
    names = [f"patch_{number:06}" for number in range(patches)]
    partners = [f"S1_{number:06}" for number in range(patches)]
    folder.mkdir(parents=True)
    labels = [[CLASSES[number % 2]] for number in range(patches)]
    rows = {"patch_id": names, "labels": labels, "split": "train", "s1_name": partners}
    pd.DataFrame(rows).to_parquet(folder / "metadata.parquet", index=False)
    with new_environment(folder / "lmdb", patches * PATCH_BYTES) as environment:
        for name, partner in zip(names, partners, strict=True):
            s2 = {band.name: rng.integers(1, 10_000, _shape(band), np.uint16) for band in PUBLISHED_BANDS.values()}
            s1 = {band.name: rng.normal(-12, 4, _shape(band)).astype(np.float32) for band in S1_BANDS.values()}
            with environment.begin(write=True) as transaction:
                transaction.put(name.encode(), encode_bands(s2))
                transaction.put(partner.encode(), encode_bands(s1))
    shutil.copytree(folder / "lmdb", folder / SAME)
    return folder


class Straightforward(Dataset):
    """The way of ConfigILM 0.7.1, without its logging."""

    def __init__(self, folder: Path) -> None:
        metadata = pd.read_parquet(folder / "metadata.parquet")
        self._path = str(folder / SAME)
        self._names = metadata["patch_id"].tolist()
        self._partners = metadata["s1_name"].tolist()
        self._labels = [[float(name in each) for name in CLASSES] for each in metadata["labels"]]
        self._environment: lmdb.Environment | None = None

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._environment is None:
            self._environment = lmdb.open(self._path, readonly=True, lock=False, meminit=False, readahead=True)
        bands: dict[str, np.ndarray] = {}
        for key in (self._names[number], self._partners[number]):
            with self._environment.begin(buffers=True) as transaction:
                bands |= load(bytes(transaction.get(key.encode())))
        image = torch.stack([_resize(bands[name]) for name in BANDS])
        return image, torch.tensor(self._labels[number])


def measure_ways(folder: Path, patches: int, batch: int, rounds: int) -> dict[str, Any]:
    """Measure CPU microseconds of a sample in one process."""
    raw = lmdb_samples(folder, modality="S1+S2", classes=CLASSES)
    scaled = raw.normalized({name: BandScale(mean=1_000, std=500) for name in BANDS})
    straightforward = Straightforward(folder)
    image = np.empty((len(BANDS), 120, 120), np.float32)
    reused = {shape: np.empty(shape, np.float32) for shape in ((batch, *image.shape), (batch, len(CLASSES)))}
    images = raw.batch(np.arange(min(patches, 256)))["image"]
    np.testing.assert_array_equal(images[3], straightforward[3][0].numpy())

    def one_by_one(source: Any) -> Way:
        return lambda numbers: [source[number] and None for number in numbers.tolist()]

    def batched(samples: Samples, **how: Any) -> Way:
        return lambda numbers: [samples.batch(part, **how) and None for part in _parts(numbers, batch)]

    ways: dict[str, Way] = {
        "straightforward": one_by_one(straightforward),
        "straightforward, collated": lambda numbers: [
            default_collate([straightforward[number] for number in part.tolist()]) and None
            for part in _parts(numbers, batch)
        ],
        "samples[n]": one_by_one(raw),
        "samples[n], normalised": one_by_one(scaled),
        "samples.batch": batched(raw),
        "samples.batch, one buffer": batched(raw, allocate=lambda shape, _: reused[shape]),
        "copy of the same bytes": lambda numbers: [np.copyto(image, images[n % len(images)]) for n in numbers.tolist()],
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        numbers = np.random.default_rng(turn).permutation(patches)[: patches // batch * batch]
        for name, way in ways.items():
            start = time.process_time()
            way(numbers)
            used = time.process_time() - start
            if turn:
                found[name].append(used / len(numbers) * 1e6)
    cpu_us = {name: round(statistics.median(values), 1) for name, values in found.items()}
    base, copy = cpu_us["straightforward"], cpu_us["copy of the same bytes"]
    print(f"{'one process':<30}{'CPU us a sample':>17}{'samples a CPU s':>17}{'times':>8}{'of the copy':>13}")
    for name, value in cpu_us.items():
        print(f"{name:<30}{value:>17.1f}{1e6 / value:>17,.0f}{base / value:>8.2f}{copy / value:>13.0%}")
    ratio = base / cpu_us["samples[n]"]
    batched_ratio = cpu_us["straightforward, collated"] / cpu_us["samples.batch"]
    print(f"samples[n] is {ratio:.2f} times the straightforward way, at least {LIMIT} is wanted; ", end="")
    print(f"samples.batch {batched_ratio:.2f} times the collated one")
    shares = {"share_of_copy": copy / cpu_us["samples[n]"], "batched_ratio": batched_ratio}
    return {"patches": patches, "cpu_us": cpu_us, "ratio": ratio, **shares}


def measure_workers(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a DataLoader with workers: the second epoch, when they run."""
    workers, batch = options.workers, options.batch
    straightforward, samples = Straightforward(folder), lmdb_samples(folder, modality="S1+S2", classes=CLASSES)
    plain = DataLoader(
        straightforward,
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    ours = load_batches(samples, Batches(len(samples), batch, seed=0), workers)
    found = {}
    print(f"\n{f'{workers} workers, batches of {batch}':<30}{'CPU us a sample':>17}{'samples a s':>17}")
    for name, loader in {"straightforward": plain, "load_batches": ours}.items():
        wall, cpu = [], []
        _consume(loader)
        for _ in range(options.rounds):
            before, start = _cpu_s(), time.perf_counter()
            count = _consume(loader)
            wall.append((time.perf_counter() - start) / count)
            cpu.append((_cpu_s() - before) / count)
        cpu_us, rate = statistics.median(cpu) * 1e6, 1 / statistics.median(wall)
        found[name] = {"cpu_us": round(cpu_us, 1), "samples_per_s": round(rate)}
        print(f"{name:<30}{cpu_us:>17.1f}{rate:>17,.0f}")
        del loader
    return {"workers": workers, "with_workers": found}


def _consume(loader: Any) -> int:
    return sum(len(batch["image"] if isinstance(batch, dict) else batch[0]) for batch in loader)


def _cpu_s() -> float:
    """CPU seconds of this process and its children so far."""
    process = psutil.Process()
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _resize(pixels: np.ndarray) -> torch.Tensor:
    if pixels.shape == (120, 120):
        return torch.Tensor(np.float32(pixels))
    tensor = torch.Tensor(np.float32(pixels)).unsqueeze(0).unsqueeze(0)
    return functional.interpolate(tensor, (120, 120), mode="nearest").squeeze()


def _parts(numbers: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    return (numbers[start : start + batch] for start in range(0, len(numbers), batch))


def _shape(band: Any) -> tuple[int, int]:
    return band.side_px(), band.side_px()


if __name__ == "__main__":
    main()
