"""Terms of what datasets are made from, and what their makers ask to be said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

COPERNICUS_TERMS = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
"""Legal notice on the use of Copernicus Sentinel data: free, full and open, with attribution."""

CLC_TERMS = "https://land.copernicus.eu/en/data-policy"
CLC_DOI = "https://doi.org/10.2909/71c95a07-e296-44fc-b22b-415f42acfdf0"
"""CORINE Land Cover 2018 (vector), version 2020_20u1."""

PROGRAM_TERMS = "https://spdx.org/licenses/MIT"
"""Licence of this program, and of what it invents."""

INVENTED = "Synthetic land cover of reben demo, made with the images of its region: no observation of the Earth."
"""What the map of the demo region says of itself."""

_OFFICIAL = re.compile(r"U\d{4}_CLC\d{4}_V", re.IGNORECASE)
_YEAR = re.compile(r"_(\d{4})\d{4}T\d{6}_")


def years_of(record: Mapping[str, Any]) -> list[str]:
    """Years in which the tiles of a dataset were taken, sorted, from their names."""
    found = (_YEAR.search(tile["tile"]) for tile in record["inputs"]["tiles"])
    return sorted({match[1] for match in found if match})


def about_map(record: Mapping[str, Any]) -> str:
    """What the land-cover map of a dataset says of itself; empty if nothing."""
    return str(record["inputs"]["landcover"].get("about", ""))


def is_synthetic(about: str) -> bool:
    """Whether a dataset is of the demo region, by what its map says of itself."""
    return about == INVENTED


def attributions(record: Mapping[str, Any]) -> list[str]:
    """Sentences that go with everything that is made from a dataset.

    Parameters
    ----------
    record : mapping
        Run record of the dataset.

    Returns
    -------
    list of str
        That of Copernicus Sentinel data with its years, and that of the land-cover map if it is the official one; of
        an invented region, that it is one.
    """
    if is_synthetic(about_map(record)):
        return ["Synthetic data: nothing in it is an observation of the Earth."]
    years = years_of(record)
    sentences = [f"Contains modified Copernicus Sentinel data{' ' if years else ''}{', '.join(years)}."]
    if _OFFICIAL.search(record["inputs"]["landcover"]["source"]["name"]):
        sentences.append(
            "Generated using European Union's Copernicus Land Monitoring Service information "
            f"(CORINE Land Cover 2018, {CLC_DOI})."
        )
    else:
        sentences.append(f"Labels come from {record['inputs']['landcover']['source']['name']}; its own terms apply.")
    return sentences
