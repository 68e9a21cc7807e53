"""Table of runs like Table II of the reBEN paper: mean and spread over seeds, beside the papers' own figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reben_dask.atomic import read_json
from reben_dask.errors import InputError
from reben_dask.formats.training_run import TrainingRecord, metrics_file
from reben_dask.options import Options
from reben_dask.training.model_card import SHOWN
from reben_dask.training.protocol import ARCHITECTURES, Protocol
from reben_dask.wording import counted

_WHOLE = (None, "hard")
"""Regions of the papers' figures that are shown beside those of all regions."""


@dataclass(frozen=True)
class _Run:
    folder: Path
    protocol: Protocol
    dataset: str
    data_sha256: str
    metrics: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, file: str) -> _Run:
        record, metrics = TrainingRecord.read(folder), read_json(folder / file)
        if metrics is None:
            raise InputError(f"{folder} has no {file}; run `reben evaluate {folder} OUT` first.")
        return cls(folder, Protocol.of(**record.protocol), record.dataset.name, record.dataset.metadata_sha256, metrics)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the seed, flat."""
        flat: dict[str, Any] = {"dataset": (self.dataset, self.data_sha256)}
        for key, value in self.protocol.settings().items():
            is_section = isinstance(getattr(self.protocol, key), Options)
            flat |= {f"{key}.{name}": inner for name, inner in value.items()} if is_section else {key: value}
        return flat


def leaderboard(
    *runs: str | PathLike[str], split: str = "test", dataset: str | None = None, with_papers: bool = True
) -> pd.DataFrame:
    """Compare runs: those that differ only in their seed make one row.

    Parameters
    ----------
    *runs : path
        Folders of ``reben train`` with metrics of ``reben evaluate``.
    split : str
        Split of the metrics.
    dataset : str, optional
        Folder name of another dataset than that of the training, whose metrics are used.
    with_papers : bool
        True to add the rows of the papers for the networks and modalities of these runs.

    Returns
    -------
    DataFrame
        ``source`` (dataset of the training, or paper), ``model``, ``modality``, ``settings`` (those by which rows of
        one model and modality differ), ``regions`` (those of the metrics: ``hard``, ``below_100_px``, …; missing for
        all), ``runs``, and for each metric its mean and, as ``<metric>_std``, its standard deviation over the runs
        (ddof 1; missing for one run). Values from 0 to 1. Sorted by modality and regions, then by the first metric,
        best first, papers after runs.

    Raises
    ------
    InputError
        If a folder is not a run, lacks the metrics, or two runs have the same settings and seed.
    """
    file = metrics_file(split, dataset)
    groups: dict[str, list[_Run]] = {}
    for run in (_Run.read(Path(folder), file) for folder in runs):
        others = groups.setdefault(repr(sorted(run.settings.items())), [])
        if twin := next((other for other in others if other.protocol.seed == run.protocol.seed), None):
            raise InputError(f"{twin.folder} and {run.folder} have the same settings and seed; leave one of them out.")
        others.append(run)
    firsts = [group[0] for group in groups.values()]
    rows = [row for group in groups.values() for row in _rows(group, firsts)]
    regions = [*dict.fromkeys(row["regions"] for row in rows)]
    if with_papers:
        rows += _paper_rows({(row["model"], row["modality"]) for row in rows}, {*regions, *_WHOLE})
    metrics = [name for name in SHOWN if any(pd.notna(row.get(name)) for row in rows)]
    described = ("source", "model", "modality", "settings", "regions", "runs")
    frame = pd.DataFrame(rows).reindex(columns=[*described, *(c for m in metrics for c in (m, f"{m}_std"))])
    place = [regions.index(row["regions"]) if row["regions"] in regions else 0 for row in rows]
    keys = frame.assign(place=place, is_paper=frame["runs"].isna(), score=-frame[metrics[0]] if metrics else 0)
    order = keys.sort_values(["modality", "place", "is_paper", "score"], kind="stable").index
    return frame.loc[order].reset_index(drop=True)


def table_of(board: pd.DataFrame) -> pd.DataFrame:
    """Format a leaderboard for reading: titles, and percent as ``mean ± standard deviation``."""
    metrics = [name for name in SHOWN if name in board]
    table = board[["source", "model", "modality"]].copy()
    for name, without in (("settings", ""), ("regions", "all")):
        if board[name].notna().any():
            table[name] = board[name].fillna(without)
    table["model"] = board["model"].map(lambda name: ARCHITECTURES[name].title)
    table["runs"] = board["runs"].map(lambda count: "" if pd.isna(count) else str(int(count)))
    for name in metrics:
        pairs = zip(board[name], board[f"{name}_std"], strict=True)
        table[SHOWN[name]] = [_percent(mean, spread) for mean, spread in pairs]
    return table


def _percent(mean: float, spread: float) -> str:
    if math.isnan(mean):
        return ""
    return f"{100 * mean:.2f}" + ("" if math.isnan(spread) else f" ± {100 * spread:.2f}")


def _rows(group: Sequence[_Run], firsts: Sequence[_Run]) -> Iterator[dict[str, Any]]:
    """Row of a group of runs, and one for each part of their evaluation by regions."""
    first = group[0]
    mine = first.settings
    alike = [run.settings for run in firsts if _name(run) == _name(first)]
    differing = [key for key in mine if key != "dataset" and any(other[key] != mine[key] for other in alike)]
    for regions in (None, *first.metrics.get("regions", ())):
        row: dict[str, Any] = {
            "source": first.dataset,
            "model": first.protocol.model,
            "modality": _modality(first.protocol),
            "settings": ", ".join(f"{key}={mine[key]}" for key in differing) or None,
            "regions": regions,
            "runs": len(group),
        }
        parts = [run.metrics if regions is None else run.metrics["regions"][regions] for run in group]
        for name in SHOWN:
            values = [part[name] for part in parts if part.get(name) is not None]
            if values:
                row[name] = float(np.mean(values))
                row[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
        yield row


def _name(run: _Run) -> tuple[str, str]:
    return run.protocol.model, _modality(run.protocol)


def _modality(protocol: Protocol) -> str:
    return protocol.modality if protocol.bands is None else counted(len(protocol.bands), "band")


def _paper_rows(wanted: set[tuple[str, str]], regions: set[str | None]) -> list[dict[str, Any]]:
    with (resources.files("reben_dask.training") / "papers.csv").open("rb") as file:
        papers = pd.read_csv(file)
    papers[list(SHOWN)] /= 100
    papers = papers.astype({"settings": object, "regions": object}).where(papers.notna(), None)
    rows = papers.assign(source=papers["paper"] + " paper").drop(columns="paper").to_dict("records")
    return [
        {str(key): value for key, value in row.items()}
        for row in rows
        if (row["model"], row["modality"]) in wanted and row["regions"] in regions
    ]
