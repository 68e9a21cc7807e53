"""A small network on a real dataset: trained, resumed, evaluated and listed by the commands."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from safetensors import safe_open

import reben_dask as rb
from reben_dask.cli import main
from reben_dask.errors import InputError, OutputError
from reben_dask.training import close_environments

KEYS = {"model": "scnn", "modality": "S2", "bands": ["B04", "B11"], "batch_size": 8, "dropout": 0.3, "flips": True}


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    """PyTorch, which takes seconds to import: not in processes that only collect these tests."""
    return pytest.importorskip("torch", reason="needs the extra train, which `make test` installs")


@pytest.fixture(autouse=True)
def _nothing_stays_open(torch: ModuleType) -> Iterator[None]:  # noqa: ARG001
    yield
    close_environments()


def _reben(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def _train(out: Path, run: Path, **keys: Any) -> None:
    rb.train(out, run, report=lambda _: None, device="cpu", **KEYS | {"epochs": 3} | keys)


def _outcome(run: Path) -> dict[str, Any]:
    """Everything that a run leaves, without times."""
    with (run / "history.csv").open(newline="") as file:
        history = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    with safe_open(run / "checkpoint.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 - not a mapping
    record = json.loads((run / "run.json").read_text())
    return {"history": history, "tensors": tensors, "record": record, "best": (run / "model.safetensors").read_bytes()}


@pytest.fixture(scope="module")
def undisturbed(torch: ModuleType, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    _train(small_run, run)
    return run


def test_the_files_of_a_run(small_run: Path, undisturbed: Path) -> None:
    names = {"run.json", "model.safetensors", "checkpoint.safetensors", "history.csv", "README.md"}
    assert {path.name for path in undisturbed.iterdir()} == names
    record = json.loads((undisturbed / "run.json").read_text())
    metadata = pd.read_parquet(small_run / "metadata.parquet")
    assert record["dataset"]["patches"] == {
        split: int((metadata["split"] == split).sum()) for split in ("train", "validation")
    }
    history = pd.read_csv(undisturbed / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    best = history["validation_ap_macro"].idxmax()
    assert record["best_epoch"] == best + 1
    assert record["best_score"] == history["validation_ap_macro"][best]
    assert (record["epochs"], record["bands"]) == (3, ["B04", "B11"])
    assert not any(path.read_bytes()[:2] == b"\x80\x04" for path in undisturbed.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_resumed_run_equals_the_undisturbed_one(
    torch: ModuleType, small_run: Path, undisturbed: Path, tmp_path: Path, epoch: int
) -> None:
    def stop(line: str) -> None:
        if line.startswith(f"Epoch {epoch} "):
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        rb.train(small_run, run, report=stop, epochs=3, device="cpu", **KEYS)
    assert json.loads((run / "run.json").read_text())["epochs"] == epoch
    torch.manual_seed(99)
    _train(small_run, run, resume=True)
    assert _outcome(run) == _outcome(undisturbed)


def test_another_seed_is_another_run(small_run: Path, undisturbed: Path, tmp_path: Path) -> None:
    _train(small_run, tmp_path / "other", seed=1, epochs=1)
    assert _outcome(tmp_path / "other")["history"][0] != _outcome(undisturbed)["history"][0]


def test_predictions_are_those_of_the_evaluation(small_run: Path, undisturbed: Path) -> None:
    done = _reben("evaluate", undisturbed, small_run, "--split", "validation", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "AP macro" in done.output
    metrics = json.loads((undisturbed / "metrics-validation.json").read_text())
    history = pd.read_csv(undisturbed / "history.csv")
    best = history.loc[history["validation_ap_macro"].idxmax()]
    assert metrics["ap_macro"] == pytest.approx(best["validation_ap_macro"])
    assert metrics["loss"] == pytest.approx(best["validation_loss"])
    samples, probabilities = rb.load_run(undisturbed, "cpu").predict(small_run, "validation")
    assert probabilities.shape == (metrics["patches"], len(metrics["per_class"])) == samples.table.labels.shape
    right = (probabilities >= 0.5) & samples.table.labels
    assert metrics["precision_micro"] == pytest.approx(right.sum() / max(1, (probabilities >= 0.5).sum()))
    assert [values["patches"] for values in metrics["per_class"].values()] == samples.table.labels.sum(0).tolist()
    (undisturbed / "metrics-validation.json").unlink()


def test_the_commands(small_run: Path, tmp_path: Path) -> None:
    run, config = tmp_path / "run", tmp_path / "mine.yaml"
    config.write_text("model: scnn\nbands: [B08]\nregion_thresholds_px: {medium: 100}\n")
    options = ("--epochs", 1, "--batch-size", 16, "--device", "cpu", "--config", config)
    done = _reben("train", small_run, "--out", run, *options)
    assert done.exit_code == 0, done.output
    assert "S-CNN, " in done.output
    assert done.output.splitlines()[-1] == f"{run}: the network of epoch 1"
    again = _reben("train", small_run, "--out", run, *options)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr == f"Error: {run} holds a training run; add --resume to continue it, or give a new folder.\n"
    assert _reben("train", small_run, "--out", run, *options, "--resume").exit_code == 0
    unmeasured = _reben("leaderboard", run)
    assert f"run `reben evaluate {run} OUT` first." in unmeasured.stderr
    evaluated = _reben("evaluate", run, small_run)
    assert evaluated.exit_code == 0, evaluated.output
    metrics = json.loads((run / "metrics-test.json").read_text())
    keys = {"ap_macro", "ap_micro", "f1_macro", "f1_micro", "precision_macro", "precision_micro", "classes_counted"}
    assert keys | {"per_class"} <= metrics.keys()
    assert metrics["regions"]["medium"].keys() >= keys
    table = _reben("leaderboard", run)
    assert f"| out | S-CNN | 1 band | all | 1 | {100 * metrics['ap_macro']:.2f} |" in table.output
    card = (run / "README.md").read_text()
    assert f"| {metrics['ap_macro']:.4f} |" in card
    assert "{" not in card.replace(" {medium: 100}", "").replace("region_thresholds_px:", "")


def test_another_dataset_has_metrics_of_its_own(undisturbed: Path, data_dir: Path) -> None:
    published = data_dir / "bigearthnet" / "configilm_24_patches" / "BigEarthNet-V2-LMDB"
    done = _reben("evaluate", undisturbed, published)
    assert done.exit_code == 0, done.output
    file = undisturbed / "metrics-BigEarthNet-V2-LMDB-test.json"
    assert json.loads(file.read_text())["dataset"] == "BigEarthNet-V2-LMDB"
    file.unlink()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"epochs": 4}, r"was started with epochs 3, not 4; give the same settings to resume, or a new folder\.$"),
        ({"seed": 1}, r"was started with seed 0, not 1; "),
        ({"optimizer": {"learning_rate": 0.1}}, r"was started with optimizer "),
    ],
)
def test_other_settings_cannot_resume(small_run: Path, undisturbed: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _train(small_run, undisturbed, resume=True, **keys)


def test_other_patches_cannot_resume(undisturbed: Path, data_dir: Path) -> None:
    published = data_dir / "bigearthnet" / "configilm_24_patches" / "BigEarthNet-V2-LMDB"
    with pytest.raises(InputError, match=r"was trained on other patches, of out; give that dataset, or a new folder"):
        _train(published, undisturbed, resume=True)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"modality": "S1", "bands": None}, InputError, r"has no band VV; choose another modality, or bands\.$"),
        ({"optimizer": {"learning_rate": 1e30}}, InputError, r"^The loss is (nan|inf) in epoch 1; train again with a "),
    ],
)
def test_what_cannot_be_trained(
    small_run: Path, tmp_path: Path, keys: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _train(small_run, tmp_path / "run", **keys)


def test_a_dataset_that_is_not_there(undisturbed: Path, tmp_path: Path) -> None:
    none = tmp_path / "none"
    for words in (("train", none, "--out", tmp_path / "run"), ("evaluate", undisturbed, none)):
        assert _reben(*words).stderr == f"Error: The dataset {none} does not exist.\n"


def test_a_folder_with_something_else(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    for resume in (True, False):
        with pytest.raises(OutputError, match=r"exists, and holds no training run; give a new folder\.$"):
            _train(small_run, tmp_path, resume=resume)


def test_a_damaged_checkpoint(small_run: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_bytes((undisturbed / "run.json").read_bytes())
    (run / "checkpoint.safetensors").write_bytes((undisturbed / "checkpoint.safetensors").read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"^The checkpoint .* cannot be used .*; train again in a new folder\.$"):
        _train(small_run, run, resume=True)
    (run / "checkpoint.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no finished epoch yet; run its `reben train` command again, with --re"):
        rb.load_run(run)


def test_images_and_maps_are_flipped_together(torch: ModuleType) -> None:
    from reben_dask.training.fit import _flip  # noqa: PLC0415

    torch.manual_seed(0)
    maps = torch.arange(64 * 9).reshape(64, 3, 3)
    flipped = _flip({"image": maps[:, None].float(), "mask": maps, "label": torch.ones(64, 1)})
    np.testing.assert_array_equal(flipped["image"][:, 0], flipped["mask"])
    kinds = {
        name: sum(torch.equal(new, old.flip(axes)) for new, old in zip(flipped["mask"], maps, strict=True))
        for name, axes in {"as it was": [], "columns": [1], "rows": [0], "both": [0, 1]}.items()
    }
    assert sum(kinds.values()) == 64
    assert all(kinds.values())
