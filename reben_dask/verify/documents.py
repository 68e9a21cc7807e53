"""JSON documents of patches: beside what this program would write, or by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import CRSError

from reben_dask.errors import InputError
from reben_dask.verify.expected import Expected
from reben_dask.verify.trees_folder import Square

_EDGES = (("ulx", 0), ("lry", 1), ("lly", 1), ("lrx", 2), ("uly", 3))
"""Keys of coordinates, and their places in left, bottom, right and top."""

_SYSTEM = "PROJCS["
"""What the text of a projected system begins with."""

_SHOWN = 80


def differences(found: bytes, wanted: bytes) -> Iterator[str]:
    """How a document differs from the one that this program writes; phrases."""
    if found == wanted:
        return
    there, must = read_document(found), read_document(wanted)
    for key, value in must.items():
        if key not in there:
            yield f"has no {key}"
        elif not _is_same(there[key], value):
            yield f"has the {key} {_shown(there[key])}, not {_shown(value)}"
    yield from (f"also has the key {key}" for key in there if key not in must)


def read_document(content: bytes) -> dict[str, Any]:
    """Read a document; raises :class:`InputError` if it is no JSON object, with a phrase."""
    try:
        document = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"is no JSON document ({error})") from None
    if not isinstance(document, dict):
        raise InputError("is no JSON object")
    return document


def labels_in(document: dict[str, Any], expected: Expected) -> list[str]:
    """Labels of a document; raises :class:`InputError` if they are none, with a phrase."""
    labels = document.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"has the labels {_shown(labels)}, which is no list of names")
    if unknown := sorted(set(labels) - set(expected.nomenclature.classes)):
        raise InputError(f"has the unknown label {unknown[0]!r}")
    if len(set(labels)) < len(labels) or not (labels or expected.labels_may_be_empty):
        raise InputError(f"has the labels {_shown(labels)}")
    return labels


def place_faults(document: dict[str, Any], square: Square) -> Iterator[str]:
    """How the place in a document is not that of the images beside it; phrases."""
    epsg, bounds = square
    coordinates = document.get("coordinates")
    edges = {key: bounds[edge] for key, edge in _EDGES}
    if not isinstance(coordinates, dict) or any(edges.get(key) != value for key, value in coordinates.items()):
        yield f"has the coordinates {_shown(coordinates)}, but its images lie at {bounds}"
    try:
        code = CRS.from_wkt(str(document.get("projection"))).to_epsg()
    except CRSError:
        code = None
    if code != epsg:
        yield f"has the projection {_shown(document.get('projection'))}, but its images are in EPSG:{epsg}"


def _is_same(found: Any, wanted: Any) -> bool:
    if found != wanted and isinstance(found, str) and str(wanted).startswith(_SYSTEM):
        try:
            # Versions of PROJ write the same system in different words.
            return bool(CRS.from_wkt(found) == CRS.from_wkt(wanted))
        except CRSError:
            return False
    return bool(found == wanted)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
