"""Model card of a run: protocol, data, and the metrics that were measured so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from reben_dask.atomic import read_json, write_text
from reben_dask.formats.training_run import MODEL_CARD, WEIGHTS, TrainingRecord
from reben_dask.tables import Table
from reben_dask.training.protocol import Protocol

SHOWN = {
    "ap_macro": "AP macro",
    "ap_micro": "AP micro",
    "f1_macro": "F1 macro",
    "f1_micro": "F1 micro",
    "precision_macro": "precision macro",
    "precision_micro": "precision micro",
    "miou": "mIoU",
}
"""Metrics in tables, in the order of the reBEN paper, and their titles."""


def write_model_card(run: Path) -> Path:
    """Write ``README.md`` into the folder of a run, from its record and its files of metrics."""
    record = TrainingRecord.read(run)
    files = [read_json(path) for path in sorted(run.glob("metrics-*.json"))]
    content = {
        "record": record,
        "protocol": Protocol.of(**record.protocol),
        "keys": yaml.safe_dump(record.protocol, sort_keys=False),
        "weights": WEIGHTS,
        "bands": Table("", ["channel", "mean", "standard deviation"], _scales(record), ".4g"),
        "metrics": _metrics([metrics for metrics in files if metrics]),
    }
    environment = Environment(
        loader=PackageLoader("reben_dask.training"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    write_text(run / MODEL_CARD, environment.get_template("model_card.md.j2").render(content))
    return run / MODEL_CARD


def _scales(record: TrainingRecord) -> list[list[Any]]:
    return [[name, record.scales[name].mean, record.scales[name].std] for name in record.bands]


def _metrics(files: list[dict[str, Any]]) -> Table:
    rows = [
        [metrics["dataset"], metrics["split"], metrics["patches"], *(metrics.get(name) for name in SHOWN)]
        for metrics in files
    ]
    formats = ["", "", ",d", *[".4f"] * len(SHOWN)]
    return Table("", ["dataset", "split", "patches", *SHOWN.values()], rows, formats).without_zero_columns()
