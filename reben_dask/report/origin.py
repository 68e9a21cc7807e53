"""What a dataset was built from: recipe, inputs and versions, as the record of its run has them."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten
from typing import Any

import yaml

from reben_dask.report.blocks import Block, Code, Section, Table, Text
from reben_dask.report.record import Record, file_name, without_credentials
from reben_dask.report.survey import Survey
from reben_dask.wording import counted

_KEY, _TITLE = "origin", "What it was built from"
_MOST_WORDS = 200
"""Characters of a description that are shown; some hold whole documents."""

_FILES = {"pairs": "Pairs", "snow_list": "List of snow", "cloud_list": "List of cloud"}


def origin_section(found: Survey, record: Record) -> Section:
    """Recipe, inputs, warnings and versions; files by their names, without their folders or credentials."""
    if record.missing:
        return Section(_KEY, _TITLE, [Text(record.missing, is_note=True)])
    blocks: list[Block] = [
        Table("Recipe and inputs of the job", ["what", "which"], list(_inputs(found, record)), words=2)
    ]
    if warnings := [without_credentials(str(text)) for text in record.part("warnings") or ()]:
        blocks.append(Table("What the job warned of", ["number", "warning"], list(_numbered(warnings)), words=2))
    products = [[entry["tile"], file_name(entry["path"])] for entry in record.part("inputs", "tiles") or ()]
    blocks.append(Table("Sentinel-2 products", ["tile", "product"], products, words=2, folded=True))
    blocks.append(
        Code("The whole recipe", yaml.safe_dump(_clean(record.part("recipe")), sort_keys=False, allow_unicode=True))
    )
    versions = [[name, str(version)] for name, version in record.part("versions").items()]
    blocks.append(
        Table("Versions of the program and its libraries", ["library", "version"], versions, words=2, folded=True)
    )
    return Section(_KEY, _TITLE, blocks)


def _inputs(found: Survey, record: Record) -> Iterator[list[str]]:
    yield ["Recipe", f"{record.text('recipe', 'name')}: {record.text('recipe', 'title')}"]
    if finished := record.text("finished"):
        yield ["Finished", finished.replace("T", " ").replace("+00:00", " UTC")]
    yield ["Sentinel-2", f"level 2A, products: {len(found.tiles):,}"]
    yield ["Land cover", _landcover(record)]
    if about := record.text("inputs", "landcover", "about"):
        yield ["Description of the map", shorten(about, _MOST_WORDS, placeholder=" …")]
    yield [
        "Nomenclature",
        f"{file_name(record.text('recipe', 'nomenclature'))}, {len(record.part('classes')):,} classes",
    ]
    yield ["Countries", file_name(record.text("inputs", "countries")) or "not given"]
    for name, path in record.part("inputs", "layers").items():
        yield [f"Layer {name}", file_name(str(path))]
    yield ["Sentinel-1", _sentinel1(record.text("inputs", "sentinel1"))]
    if published := record.part("inputs", "published"):
        yield ["Published metadata", ", ".join(file_name(str(path)) for path in published)]
    for key, title in _FILES.items():
        if path := record.text("inputs", key):
            yield [title, file_name(path)]
    if exports := record.part("exports"):
        yield ["Exported", ", ".join(map(str, exports))]


def _landcover(record: Record) -> str:
    source = record.text("inputs", "landcover", "source", "name") or record.text("inputs", "landcover", "path")
    details = [file_name(source)]
    if layer := record.text("inputs", "landcover", "source", "layer"):
        details.append(f"layer {layer}")
    if polygons := record.part("inputs", "landcover").get("polygons"):
        details.append(counted(polygons, "polygon"))
    return ", ".join(filter(None, [*details, record.text("inputs", "landcover", "crs")]))


def _sentinel1(described: str) -> str:
    """A sentence of the job, in which words with slashes are paths."""
    return " ".join(file_name(word) if "/" in word else word for word in described.split()) or "not given"


def _numbered(texts: list[str]) -> Iterator[list[str]]:
    return ([str(number), text] for number, text in enumerate(texts, start=1))


def _clean(part: Any) -> Any:
    """A part of the recipe without folders and credentials."""
    if isinstance(part, dict):
        return {str(key): _clean(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_clean(value) for value in part]
    return file_name(part) if isinstance(part, str) and "/" in part and " " not in part else part
