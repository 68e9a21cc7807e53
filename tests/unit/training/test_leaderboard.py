"""The table of runs: mean and spread over seeds, and the papers' own figures."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from reben_dask.atomic import write_json
from reben_dask.cli import main
from reben_dask.errors import InputError
from reben_dask.formats.training_run import BandScale, TrainedOn, TrainingRecord, metrics_file
from reben_dask.training.leaderboard import leaderboard
from reben_dask.training.protocol import load_protocol

METRICS = ("ap_macro", "ap_micro", "f1_macro", "f1_micro", "precision_macro", "precision_micro")


def _run(folder: Path, ap_macro: float | None, *, file: str = "metrics-test.json", sha: str = "a", **keys: Any) -> Path:
    protocol = load_protocol(**keys)
    record = TrainingRecord(
        protocol=protocol.model_dump(mode="json"),
        classes=("Pastures",),
        bands=protocol.channels,
        scales={name: BandScale(mean=0, std=1) for name in protocol.channels},
        dataset=TrainedOn(name="dataset", metadata_sha256=sha, patches={"train": 3, "validation": 1}),
        parameters=1,
        device="cpu",
        versions={},
    )
    record.write(folder)
    write_json(folder / file, dict.fromkeys(METRICS, 0.5) | {"ap_macro": ap_macro})
    return folder


def test_runs_that_differ_in_their_seed_are_one_row(tmp_path: Path) -> None:
    values = [0.61, 0.64, 0.7]
    runs = [
        _run(tmp_path / str(seed), value, seed=seed, workers=seed, device=device)
        for seed, (value, device) in enumerate(zip(values, ("cpu", "cuda", None), strict=True))
    ]
    others = [_run(tmp_path / "s2", 0.9, modality="S2"), _run(tmp_path / "vit", 0.4, model="vit_base")]
    board = leaderboard(*runs, *others, with_papers=False)
    assert board[["model", "modality", "runs"]].to_numpy().tolist() == [
        ["resnet50", "S1+S2", 3],
        ["vit_base", "S1+S2", 1],
        ["resnet50", "S2", 1],
    ]
    assert board.loc[0, "ap_macro"] == pytest.approx(statistics.mean(values))
    assert board.loc[0, "ap_macro_std"] == pytest.approx(statistics.stdev(values))
    assert board.loc[1:, "ap_macro_std"].isna().all()
    assert board["settings"].isna().all()


def test_rows_of_one_network_tell_what_differs(tmp_path: Path) -> None:
    runs = [_run(tmp_path / str(size), 0.5, batch_size=size) for size in (32, 64)]
    runs.append(_run(tmp_path / "rate", 0.5, batch_size=64, optimizer={"learning_rate": 0.01}))
    board = leaderboard(*runs, with_papers=False)
    assert sorted(board["settings"]) == [
        "batch_size=32, optimizer.learning_rate=0.001",
        "batch_size=64, optimizer.learning_rate=0.001",
        "batch_size=64, optimizer.learning_rate=0.01",
    ]


def test_runs_on_other_patches_are_another_row(tmp_path: Path) -> None:
    board = leaderboard(_run(tmp_path / "a", 0.5), _run(tmp_path / "b", 0.6, sha="b"), with_papers=False)
    assert board["runs"].tolist() == [1, 1]


def test_a_run_that_is_given_twice(tmp_path: Path) -> None:
    run, twin = _run(tmp_path / "a", 0.5), _run(tmp_path / "b", 0.6)
    with pytest.raises(InputError, match=r"a and .*b have the same settings and seed; leave one of them out\.$"):
        leaderboard(run, twin)


def test_what_has_no_metrics_or_is_no_run(tmp_path: Path) -> None:
    run = _run(tmp_path / "a", 0.5)
    with pytest.raises(InputError, match=r"has no metrics-validation\.json; run `reben evaluate .*a OUT` first\.$"):
        leaderboard(run, split="validation")
    with pytest.raises(InputError, match=r"holds no training run: it has no run\.json\.$"):
        leaderboard(tmp_path)


def test_metrics_on_another_dataset(tmp_path: Path) -> None:
    run = _run(tmp_path / "a", 0.25, file=metrics_file("test", "other"))
    assert leaderboard(run, dataset="other")["ap_macro"].iloc[0] == 0.25


def test_an_unknown_metric_is_an_empty_cell(tmp_path: Path) -> None:
    run = _run(tmp_path / "a", None)
    done = CliRunner().invoke(main, ["leaderboard", str(run), "--no-papers"])
    assert "nan" not in done.output.lower()
    assert "AP macro" not in done.output


def test_the_figures_of_the_papers_are_the_printed_ones(data_dir: Path, tmp_path: Path) -> None:
    models = ["resnet50", "resnet101", "vit_base", "mlp_mixer", "convmixer", "mobilevit_s", "convnextv2_base"]
    printed = pd.read_csv(data_dir / "papers" / "reben_table2_results_percent.csv")
    assert len(printed) == 3 * len(models)
    for number, (model, rows) in enumerate(zip(models, printed.groupby("model", sort=False), strict=True)):
        for row in rows[1].to_dict("records"):
            run = _run(tmp_path / f"{number}-{row['modality']}", 0.99, model=model, modality=row["modality"])
            board = leaderboard(run)
            assert board["source"].tolist() == ["dataset", "reBEN paper"]
            assert board.loc[1, list(METRICS)].tolist() == pytest.approx([row[name] / 100 for name in METRICS])


@pytest.mark.parametrize(
    ("config", "model", "metrics"),
    [("seasonet", "densenet121", ("f1_macro", "f1_micro")), ("seasonet-maps", "deeplabv3", ("miou",))],
)
def test_regions_have_rows_beside_the_printed_ones(
    data_dir: Path, tmp_path: Path, config: str, model: str, metrics: tuple[str, ...]
) -> None:
    printed = pd.read_csv(data_dir / "papers" / "seasonet_table5_results_percent.csv", index_col="evaluation")
    printed.index = [name.replace(" ", "_") for name in printed.index]
    printed = printed.dropna(subset=[f"{model}_{name}" for name in metrics])
    runs = []
    for seed, value in enumerate((0.2, 0.4)):
        runs.append(_run(tmp_path / str(seed), None, seed=seed, config=config))
        measured = {name: dict.fromkeys(metrics, value) for name in printed.index}
        write_json(runs[-1] / "metrics-test.json", {**dict.fromkeys(metrics, 0.9), "regions": measured})
    board = leaderboard(*runs)
    own = board[board["source"] == "dataset"]
    assert own["regions"].fillna("all").tolist() == ["all", *printed.index]
    for name in metrics:
        assert own[name].tolist() == pytest.approx([0.9, *[0.3] * len(printed)])
        for settings, suffix in (("pretrained=False", ""), ("pretrained=True", "_pretrained")):
            theirs = board[(board["source"] == "SeasoNet paper") & (board["settings"] == settings)].set_index("regions")
            assert list(theirs.index) == list(printed.index)
            assert (100 * theirs[name]).tolist() == pytest.approx(printed[f"{model}{suffix}_{name}"].tolist())
    text = CliRunner().invoke(main, ["leaderboard", *map(str, runs)]).stdout
    assert "| source | model | modality | settings | regions | runs |" in text
    assert "| SeasoNet paper |" in text
    assert "nan" not in text.lower()
    assert leaderboard(*runs, with_papers=False)["source"].eq("dataset").all()


def test_figures_of_all_regions_stand_beside_runs_without_thresholds(tmp_path: Path) -> None:
    board = leaderboard(_run(tmp_path / "labels", 0.5, config="seasonet"))
    assert board["regions"].fillna("all").tolist() == ["all", "hard", "hard"]


def test_the_printed_tables(tmp_path: Path) -> None:
    runs = [str(_run(tmp_path / str(seed), value, seed=seed)) for seed, value in enumerate((0.5, 0.6))]
    text = {
        style: CliRunner().invoke(main, ["leaderboard", *runs, "--format", style]).stdout
        for style in ("markdown", "csv", "latex")
    }
    assert text["markdown"].splitlines()[0].startswith("| source | model | modality | runs | AP macro | AP micro |")
    assert "| dataset | ResNet-50 | S1+S2 | 2 | 55.00 ± 7.07 | 50.00 ± 0.00 |" in text["markdown"]
    assert "| reBEN paper | ResNet-50 | S1+S2 |  | 71.36 | 86.32 |" in text["markdown"]
    assert text["csv"].splitlines()[0].startswith("source,model,modality,settings,regions,runs,ap_macro,ap_macro_std,")
    assert text["latex"].startswith("\\begin{tabular}")
    assert "  Source & Model & Modality & Runs & AP macro & AP micro & F1 macro & " in text["latex"]
    assert "55.00 ± 7.07" in text["latex"]
