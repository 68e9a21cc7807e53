"""Open datasets with lines that call them ``train``, and save all samples of each split.

Runs in the environment of a reader: ``python save_samples.py FILE`` reads lines and splits by folder from a JSON file,
runs the lines in their folder, and writes ``SPLIT.npz`` there, an array for each item of a sample, stacked along the
first axis.
"""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch


def declare_missing_operators() -> None:
    """Let torchvision of PyPI be imported beside a CPU build of torch, with which its own operators do not load.

    Datasets do not use them.
    """
    if version("torch").endswith("+cpu") and not version("torchvision").endswith("+cpu"):
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def save_samples(lines: str, splits: list[str]) -> None:
    for split in splits:
        names: dict[str, Any] = {}
        exec(lines.replace('"train"', f'"{split}"'), names)  # noqa: S102
        dataset = names["train"]
        samples = [dataset[number] for number in range(len(dataset))]
        items = samples[0].keys() if isinstance(samples[0], dict) else range(len(samples[0]))
        arrays = {str(item): np.stack([np.asarray(sample[item]) for sample in samples]) for item in items}
        np.savez(f"{split}.npz", **arrays)


if __name__ == "__main__":
    declare_missing_operators()
    readings, root = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path.cwd()
    for folder, (lines, splits) in readings.items():
        os.chdir(root / folder)
        save_samples(lines, splits)
