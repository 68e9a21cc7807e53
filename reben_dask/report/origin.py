"""Origin of a dataset for publication: its run record without folders, credentials and other private parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from textwrap import shorten
from typing import Any

import yaml

from reben_dask.errors import InputError
from reben_dask.formats.dataset import RunRecord, without_credentials
from reben_dask.tables import TEXT, Table
from reben_dask.wording import counted, utc

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MAX_CHARACTERS = 200
"""Maximum length of the land-cover description; files may hold whole documents."""


def read_record(out: Path) -> tuple[RunRecord | None, str]:
    """Read the record of a dataset; on failure return None and the reason as a sentence."""
    try:
        return RunRecord.read(out), ""
    except InputError as error:
        return None, str(error).replace(str(out), out.resolve().name)


def origin_tables(record: RunRecord) -> Iterator[Table]:
    """Yield tables of inputs, warnings, products and versions, without folders and credentials."""
    yield _texts("Recipe and inputs of the job", ["input", "value"], _inputs(record))
    if record.warnings:
        rows = ((str(number), text) for number, text in enumerate(record.public_warnings, start=1))
        yield _texts("Warnings of the job", ["number", "warning"], rows)
    products = ((tile.tile, file_name(tile.path)) for tile in record.inputs.tiles)
    yield _texts("Sentinel-2 products", ["tile", "product"], products, folded=True)
    versions = record.versions.items()
    yield _texts("Versions of the program and its libraries", ["library", "version"], versions, folded=True)


def recipe_text(record: RunRecord) -> str:
    """Format the whole recipe as YAML, without folders and credentials."""
    text: str = yaml.safe_dump(_clean(record.recipe), sort_keys=False, allow_unicode=True)
    return text


def file_name(path: str | None) -> str:
    """Name a file without its folders; a URL stays whole, without credentials."""
    path = path or ""
    return without_credentials(path) if _ADDRESS.search(path) else PurePath(path).name


def _texts(title: str, columns: list[str], rows: Any, *, folded: bool = False) -> Table:
    return Table(title, columns, list(rows), [TEXT, TEXT], folded=folded)


def _inputs(record: RunRecord) -> Iterator[tuple[str, str]]:
    recipe, inputs = record.recipe, record.inputs
    yield "Recipe", without_credentials(f"{recipe.get('name', '')}: {recipe.get('title', '')}")
    yield "Finished", utc(record.finished)
    yield "Sentinel-2", counted(len(inputs.tiles), "level-2A product")
    source = inputs.landcover.source
    layer, polygons = source.get("layer"), inputs.landcover.polygons
    yield "Land cover", ", ".join(filter(None, [
        file_name(source.get("name") or inputs.landcover.path),
        f"layer {layer}" if layer else "",
        counted(polygons, "polygon") if polygons else "",
        inputs.landcover.crs,
    ]))  # fmt: skip
    if inputs.landcover.about:
        yield (
            "Description of the map",
            shorten(without_credentials(inputs.landcover.about), _MAX_CHARACTERS, placeholder=" …"),
        )
    yield "Nomenclature", f"{file_name(recipe.get('nomenclature'))}, {len(record.classes)} classes"
    yield "Countries", file_name(inputs.countries) or "not given"
    for name, path in inputs.layers.items():
        yield f"Layer {name}", file_name(path)
    # A sentence of the job, in which words with slashes are paths.
    words = (file_name(word) if "/" in word else word for word in (inputs.sentinel1 or "not given").split())
    yield "Sentinel-1", " ".join(words)
    if inputs.published:
        yield "Published metadata", ", ".join(map(file_name, inputs.published))
    for name, file in {"Pairs": inputs.pairs, "Snow list": inputs.snow_list, "Cloud list": inputs.cloud_list}.items():
        if file:
            yield name, file_name(file)
    if record.exports:
        yield "Exported", ", ".join(record.exports)


def _clean(part: Any) -> Any:
    """Copy of a part of the recipe without folders and credentials."""
    if isinstance(part, dict):
        return {str(key): _clean(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_clean(value) for value in part]
    return file_name(part) if isinstance(part, str) and "/" in part and " " not in part else part
