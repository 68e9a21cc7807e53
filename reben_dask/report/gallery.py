"""Example patches as they stand in the page, and as figures for papers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from reben_dask.analysis.legend import coloured, legend_entry
from reben_dask.nomenclature import UNLABELED_CODE
from reben_dask.report.blocks import Block, Gallery, Picture, Sample, Text
from reben_dask.report.examples import Example, plain_examples, sky_examples
from reben_dask.report.figures.patches import WHITE, draw_examples, natural_colour
from reben_dask.report.record import Record
from reben_dask.report.survey import Survey

_LEAST = 0.01
_NO_PIXELS = "Pixels of the patches cannot be shown: cubes.zarr is not in the dataset any more."


def plain_blocks(found: Survey, record: Record) -> list[Block]:
    """Clear patches, if there are any."""
    if not found.tiles["clear"].any():
        return []
    examples = plain_examples(found, harmonized=_harmonized(record))
    text = (
        "Chosen for many different labels, and by lot. Natural colour is surface reflectance from 0 to "
        f"{WHITE:g}, stretched alike for all; reference maps have the official colours of CORINE Land Cover."
    )
    return _blocks("examples", examples, text, record, bright=False)


def sky_blocks(found: Survey, record: Record) -> list[Block]:
    """Patches under snow, cloud or shadow, if any are listed apart."""
    if not found.apart["any"]:
        return []
    examples = sky_examples(found, harmonized=_harmonized(record))
    text = (
        f"Kept patches that are listed apart: {found.apart['snow']:,} for snow, and {found.apart['cloud']:,} for cloud "
        "or shadow. Natural colour goes from 0 to the reflectance of the brightest pixels of each patch."
    )
    return _blocks("sky", examples, text, record, bright=True)


def _harmonized(record: Record) -> bool:
    return record.part("recipe", "harmonize") is True


def _blocks(name: str, examples: Sequence[Example], text: str, record: Record, *, bright: bool) -> list[Block]:
    if not examples:
        return [Text(_NO_PIXELS, is_note=True)]
    has_label = {code: title is not None for code, title in record.classes_of_codes.items()}
    return [
        Text(text),
        Gallery([_sample(example, has_label, bright=bright) for example in examples]),
        Picture(
            f"{name}",
            "These patches as one figure:",
            "",
            partial(draw_examples, examples, bright=bright, has_label=has_label),
            in_page=False,
        ),
    ]


def _sample(example: Example, has_label: dict[int, bool], *, bright: bool) -> Sample:
    codes, counts = np.unique(example.codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shares = (counts[order] / counts.sum()).tolist()
    legend = [
        (legend_entry(code).colour, f"{_entry(code, has_label)}, {share:.0%}" if share >= _LEAST else rare)
        for code, share in zip(codes[order].tolist(), shares, strict=True)
        if (rare := f"{_entry(code, has_label)}, under {_LEAST:.0%}")
    ]
    images = []
    if example.reflectance is not None:
        alt = f"{example.name} in natural colour"
        images.append(("natural colour", alt, natural_colour(example.reflectance, bright=bright)))
    words = ", ".join(text for _, text in legend)
    images.append(("reference map", f"Reference map of {example.name}: {words}", coloured(example.codes)))
    subtitle = [
        f"{example.row['sensing_time']:%Y-%m-%d}",
        *(str(example.row[key]) for key in ("split", "country") if example.row[key]),
    ]
    if example.why:
        subtitle.append(example.why)
    return Sample(example.name, ", ".join(subtitle), images, example.labels, legend)


def _entry(code: int, has_label: dict[int, bool]) -> str:
    name = legend_entry(code).name
    if code == UNLABELED_CODE:
        return f"{name} (no label)"
    return f"{code} {name}" + " (no label)" * (not has_label.get(code, True))
