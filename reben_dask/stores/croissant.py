"""Croissant metadata of a dataset (MLCommons, version 1.0): what search engines and loaders of datasets read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.stores.terms import COPERNICUS_TERMS, PROGRAM_TERMS, about_map, attributions, is_synthetic, years_of

CROISSANT = "croissant.json"

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""As the specification asks for it."""

_PARQUET = "application/x-parquet"

_FIELDS = {
    "patch_id": ("sc:Text", "Name of the Sentinel-2 patch, and its key in the LMDB"),
    "labels": ("sc:Text", "Class names, sorted"),
    "split": ("sc:Text", "train, validation or test"),
    "country": ("sc:Text", "Country that is nearest to the patch"),
    "s1_name": ("sc:Text", "Name of the Sentinel-1 partner, and its key in the LMDB"),
    "s2v1_name": ("sc:Text", "Name of the patch in BigEarthNet v1"),
    "contains_seasonal_snow": ("sc:Boolean", "Covered by seasonal snow"),
    "contains_cloud_or_shadow": ("sc:Boolean", "Covered by cloud or cloud shadow"),
}
_RECORDS = {
    METADATA_FILE: ("patches", "Clear patches"),
    FLAGGED_METADATA_FILE: ("patches-apart", "Patches that are covered by snow, cloud or shadow"),
}
_SETS = {
    "patch-table": ("patches.parquet/*.parquet", _PARQUET, "Every candidate patch with its status and reason"),
    "cubes": ("cubes.zarr/**", "application/vnd+zarr", "Pixels and reference maps, Zarr v3, one group per tile"),
    "lmdb": ("lmdb/**", "application/octet-stream", "Bands, reference maps and partners as safetensors, by name"),
}


def write_croissant(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write ``croissant.json`` for a dataset.

    Parameters
    ----------
    folder : Path
        Folder of the dataset, with its metadata files.
    record : mapping
        Its run record.

    Returns
    -------
    Path
        The file.
    """
    recipe, years, classes = record["recipe"], years_of(record), len(record["classes"])
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": recipe["name"],
        "description": f"{recipe['title']}: Sentinel-2 patches with reference maps and {classes} classes.",
        "datePublished": record["finished"][:10],
        "version": "1.0.0",
        "license": PROGRAM_TERMS if is_synthetic(about_map(record)) else COPERNICUS_TERMS,
        "creditText": " ".join(attributions(record)),
        "citeAs": f"{recipe['title']}, made with reben_dask. {' '.join(attributions(record))}",
        "temporalCoverage": "/".join((years[0], years[-1])) if years else "",
        "keywords": ["Sentinel-2", "land cover", "multi-label classification", "semantic segmentation"],
        "distribution": [*(_file(folder / name) for name in _RECORDS), *_file_sets()],
        "recordSet": [_records(name) for name in _RECORDS],
    }
    path = folder / CROISSANT
    path.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "description": f"{_RECORDS[path.name][1]}, one row each",
        "contentUrl": path.name,
        "contentSize": f"{len(content)} B",
        "encodingFormat": _PARQUET,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _file_sets() -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": name,
            "name": name,
            "description": description,
            "encodingFormat": kind,
            "includes": pattern,
        }
        for name, (pattern, kind, description) in _SETS.items()
    ]


def _records(file: str) -> dict[str, Any]:
    name, description = _RECORDS[file]
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": meaning,
            "dataType": kind,
            "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
            **({"repeated": True} if column == "labels" else {}),
        }
        for column, (kind, meaning) in _FIELDS.items()
    ]
    key = {"@id": f"{name}/patch_id"}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": description, "key": key, "field": fields}
