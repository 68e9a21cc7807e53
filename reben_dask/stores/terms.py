"""Terms and attributions of the source data."""

from __future__ import annotations

import re

from reben_dask.formats.dataset import RunRecord

COPERNICUS_TERMS = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
"""Legal notice on the use of Copernicus Sentinel data: free, full and open, with attribution."""

CLC_TERMS = "https://land.copernicus.eu/en/data-policy"
CLC_DOI = "https://doi.org/10.2909/71c95a07-e296-44fc-b22b-415f42acfdf0"
"""CORINE Land Cover 2018 (vector), version 2020_20u1."""

PROGRAM_TERMS = "https://spdx.org/licenses/MIT"
"""Licence of this program, and of its synthetic data."""

INVENTED = "Synthetic land cover of reben demo, made with the images of its region: no observation of the Earth."
"""Description in the land-cover file of the demo region."""

_CORINE = re.compile(r"(?<![A-Za-z])CLC_?\d{2}", re.IGNORECASE)
"""In names of files and layers of CORINE Land Cover, such as ``U2018_CLC2018_V2020_20u1`` or ``clc2018_at``."""

_CORINE_YEAR = re.compile(r"(?<![A-Za-z])CLC_?(\d{4})", re.IGNORECASE)
_YEAR = re.compile(r"_(\d{4})\d{4}T\d{6}_")


def years_of(record: RunRecord) -> list[str]:
    """Sorted sensing years of the usable tiles of a dataset, from the tile names."""
    found = (_YEAR.search(tile.tile) for tile in record.usable_tiles)
    return sorted({match[1] for match in found if match})


def is_synthetic(record: RunRecord) -> bool:
    """Return True for datasets of the demo region."""
    return record.inputs.landcover.about == INVENTED


def is_corine(record: RunRecord) -> bool:
    """Return True if the labels come from CORINE Land Cover, by the names of the file and its layer."""
    return not is_synthetic(record) and any(map(_CORINE.search, _landcover_names(record)))


def _landcover_names(record: RunRecord) -> list[str]:
    source = record.inputs.landcover.source
    return [str(source.get(key) or "") for key in ("name", "layer")]


def attributions(record: RunRecord) -> list[str]:
    """Attributions of Copernicus Sentinel data with its years and of the land cover, and a note on synthetic data."""
    if is_synthetic(record):
        return ["Synthetic data: nothing in it is an observation of the Earth."]
    sentinel = " ".join(["Contains modified Copernicus Sentinel data", ", ".join(years_of(record))]).strip()
    if is_corine(record):
        years = [match[1] for name in _landcover_names(record) if (match := _CORINE_YEAR.search(name))]
        source = " ".join(["CORINE Land Cover", *years[:1]]) + f", {CLC_DOI}" * (years[:1] == ["2018"])
        terms = f"Generated using European Union's Copernicus Land Monitoring Service information ({source})."
    else:
        terms = f"Labels come from {_landcover_names(record)[0]}; its own terms apply."
    return [f"{sentinel}.", terms]
