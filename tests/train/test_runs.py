"""Whole runs: a killed one, maps, SeasoNet's thresholds, and one that learns."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from tiny import write_tiny

from reben_dask.cli import main
from reben_dask.training import close_environments
from reben_dask.training.evaluation import evaluate, load_run
from reben_dask.training.fit import train


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_environments()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "dataset")


def _tensors(run: Path) -> dict[str, bytes]:
    with safe_open(run / "checkpoint.safetensors", "np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 - not a mapping


def test_a_killed_run_can_be_resumed(tiny: Path, tmp_path: Path) -> None:
    options = ("--model", "scnn", "--modality", "S2", "--epochs", 12, "--batch-size", 2, "--device", "cpu")

    def words(run: str) -> list[str]:
        return ["train", *map(str, (tiny, "--out", tmp_path / run, *options))]

    def complete(words: list[str]) -> None:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output

    complete(words("whole"))
    command = [sys.executable, "-m", "reben_dask", *words("killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("Epoch 2 "):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert 2 <= json.loads((tmp_path / "killed" / "run.json").read_text())["epochs"] < 12
    complete([*words("killed"), "--resume"])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _tensors(killed) == _tensors(whole)
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}
    histories = [pd.read_csv(run / "history.csv").drop(columns="seconds") for run in (whole, killed)]
    pd.testing.assert_frame_equal(*histories)


def test_maps_with_the_thresholds_of_seasonet(tile_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    keys = {"epochs": 1, "batch_size": 4, "bands": ("B04", "B08"), "device": "cpu", "flips": True, "min_region_px": 20}
    train(tile_run, run, config="seasonet-maps", report=lambda _: None, **keys)
    metrics = evaluate(run, tile_run, device="cpu")
    assert metrics["ap_macro"] is None
    assert set(metrics["regions"]) == {"hard", "medium", "easy", "below_300_px", "below_100_px"}
    pixels = {
        name: sum(values["pixels"] for values in part["per_class"].values())
        for name, part in metrics["regions"].items()
    }
    assert pixels["hard"] > pixels["medium"] > pixels["easy"]
    assert pixels["hard"] == pixels["easy"] + pixels["below_300_px"] == pixels["medium"] + pixels["below_100_px"]
    assert metrics["regions"]["hard"] == {name: metrics[name] for name in metrics["regions"]["hard"]}
    samples, maps = load_run(run, "cpu").predict(tile_run)
    assert maps.shape == (len(samples), 120, 120)
    assert pd.read_csv(run / "history.csv")["validation_miou"].between(0, 1).all()


def test_a_small_network_learns(small_run: Path, tmp_path: Path) -> None:
    """Macro AP on the validation split, beside that of a prediction by class frequency."""
    run = tmp_path / "run"
    schedule = {"max_warmup_share": 0.1}
    keys = {"epochs": 10, "batch_size": 16, "device": "cpu", "flips": True, "schedule": schedule}
    record = train(small_run, run, model="scnn", modality="S2", report=lambda _: None, **keys)
    samples, probabilities = load_run(run, "cpu").predict(small_run, "validation")
    labels = samples.table.labels
    by_frequency = labels.mean(0)[labels.any(0)].mean()
    assert record.best_score > by_frequency + 0.1
    assert probabilities.std(0).max() > 0.1
    assert np.isfinite(probabilities).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_run_on_a_gpu(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(small_run, run, model="resnet50", modality="S2", epochs=2, batch_size=8, report=lambda _: None, device="cuda")
    on_gpu, on_cpu = (load_run(run, device).predict(small_run)[1] for device in ("cuda", "cpu"))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.05)
