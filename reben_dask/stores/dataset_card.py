"""The card of a dataset: one page of Markdown that goes with it wherever it goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reben_dask.formats.columns import KEPT, SPLITS
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.patches.decision import REASONS
from reben_dask.stores.terms import CLC_TERMS, COPERNICUS_TERMS, about_map, attributions, is_synthetic, years_of
from reben_dask.wording import counted

CARD = "dataset_card.md"


def write_card(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write ``dataset_card.md`` for a dataset.

    Parameters
    ----------
    folder : Path
        Folder of the dataset.
    record : mapping
        Its run record.

    Returns
    -------
    Path
        The file.
    """
    sections = {
        record["recipe"]["title"]: _summary(record),
        "What is in it": _contents(record),
        "How it was made": _making(record),
        "Classes": "\n".join(f"- {name}" for name in record["classes"]),
        "What it is good for, and what not": _LIMITS,
        "Terms and attribution": _terms(record),
    }
    text = "\n".join(f"## {title}\n\n{section}\n" for title, section in sections.items())
    path = folder / CARD
    path.write_text(text.removeprefix("#"), encoding="utf-8")
    return path


_LIMITS = """\
Made for multi-label scene classification and semantic segmentation of land cover, and for pretraining. Labels come
from a map that was drawn by people at a scale of its own: in CORINE Land Cover, nothing smaller than 25 hectares and
narrower than 100 metres has a polygon, and the map's year need not be that of the image. Patches of one tile look
alike: compare models on a split that keeps training and test patches apart."""


def _summary(record: Mapping[str, Any]) -> str:
    years, size = years_of(record), record["recipe"]["patch_size_m"]
    kept = counted(record["counts"]["status"].get(KEPT, 0), "patch")
    tiles = counted(len(record["inputs"]["tiles"]), "Sentinel-2 L2A tile")
    when = f"{years[0]} to {years[-1]}" if len(years) > 1 else "".join(years)
    real = "**Synthetic data, invented for trying reben_dask.** " if is_synthetic(about_map(record)) else ""
    return (
        f"{real}{kept} of {size:,} m from {tiles} ({when}), with a reference map and multi-labels of "
        f"{len(record['classes'])} classes for each. Made with reben_dask "
        f"{record['versions']['reben_dask']}, recipe `{record['recipe']['name']}`, finished {record['finished']}."
    )


def _contents(record: Mapping[str, Any]) -> str:
    splits = record["counts"].get("split", {})
    rows = [f"| {split} | {splits.get(split, 0):,} |" for split in SPLITS]
    files = (
        f"- `{METADATA_FILE}`, `{FLAGGED_METADATA_FILE}`: labels, split, country and flags, one row for each patch\n"
        "- `patches.parquet`: every candidate patch with its status and the reason for it (GeoParquet)\n"
        "- `cubes.zarr`: digital numbers of all bands and reference maps, one group for each tile (Zarr v3)\n"
        "- `lmdb`: the same, by name of the patch, as safetensors"
    )
    return "\n".join(["| split | patches |", "| --- | ---: |", *rows, "", files])


def _making(record: Mapping[str, Any]) -> str:
    reasons = [
        f"- {count:,} candidates were rejected: {REASONS.get(reason, reason)}"
        for reason, count in record["counts"].get("reason", {}).items()
    ]
    failed = [f"- the tile {failure['tile']} could not be built" for failure in record.get("failures", ())]
    source, nomenclature = record["inputs"]["landcover"]["source"]["name"], record["recipe"]["nomenclature"]
    head = (
        f"Labels come from `{source}` with the nomenclature `{nomenclature}`. `run/record.json` names all inputs and "
        "versions, `run/recipe.yaml` every choice; with them, the same dataset can be made again."
    )
    return "\n".join([head, "", *reasons, *failed])


def _terms(record: Mapping[str, Any]) -> str:
    said = "\n".join(f"> {sentence}" for sentence in attributions(record))
    if is_synthetic(about_map(record)):
        return f"Images and map are invented, for trying reben_dask. Whoever shows them says:\n\n{said}"
    return (
        f"Copernicus Sentinel data are free, full and open under their legal notice ({COPERNICUS_TERMS}); CORINE Land "
        f"Cover under the data policy of the Copernicus Land Monitoring Service ({CLC_TERMS}). Whoever publishes what "
        f"is made from this dataset says:\n\n{said}"
    )
