"""Search for products in a STAC API, with pystac-client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import shapely

from reben_dask.errors import FetchError
from reben_dask.sources.fetch.catalogue import (
    Query,
    RemoteProduct,
    area_parts,
    baseline_of,
    parse_name,
    read_footprint,
    start_of,
)
from reben_dask.sources.fetch.provider import CollectionSpec

_PAGE_ITEMS = 100
_RETRIES, _TIMEOUT_S = 8, 60
_ODATA_ID = "/Products("


def search_stac(address: str, spec: CollectionSpec, query: Query) -> Iterator[RemoteProduct]:
    """Search a STAC API; each product once.

    Raises
    ------
    FetchError
        If the API cannot be read.
    """
    # The extra `fetch` brings these.
    import pystac_client  # noqa: PLC0415
    import requests  # noqa: PLC0415
    from pystac_client.exceptions import APIError  # noqa: PLC0415
    from pystac_client.stac_api_io import StacApiIO  # noqa: PLC0415
    from urllib3 import Retry  # noqa: PLC0415

    retries = Retry(
        total=_RETRIES,
        backoff_factor=0.2,
        status_forcelist=[429, 500, 502, 503, 504],
        allowed_methods=None,
        respect_retry_after_header=True,
    )
    seen: set[str] = set()
    try:
        requester = StacApiIO(max_retries=retries, timeout=_TIMEOUT_S)
        # Searches need no login, and requests would send one from netrc.
        requester.session.auth = lambda request: request
        api = pystac_client.Client.open(address, stac_io=requester)
        can_filter = api.conforms_to(pystac_client.ConformanceClasses.QUERY)
        for part in _single_searches(query, spec):
            found = api.search(
                collections=[spec.stac],
                intersects=None if part.area is None else shapely.geometry.mapping(part.area),
                datetime=(part.start, part.end - timedelta(seconds=1)),
                query=_properties(part, spec) if can_filter else None,
                limit=_PAGE_ITEMS,
            )
            for item in found.items_as_dicts():
                product = read_item(item, query.collection)
                if product.name not in seen and query.accepts(product):
                    yield product
                seen.add(product.name)
    except (APIError, requests.RequestException, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise FetchError(f"The STAC API {address} cannot be searched ({type(error).__name__}: {said}).") from None


def read_item(item: dict[str, Any], collection: str) -> RemoteProduct:
    """Describe an item as a product, named after its ``s2:product_uri`` or id; ``KeyError`` if it is not an item."""
    properties = item["properties"]
    name = str(properties.get("s2:product_uri") or item["id"]).removesuffix(".SAFE")
    parts = parse_name(name)
    text = properties.get("start_datetime") or properties["datetime"]
    sizes = [asset.get("file:size") for asset in item.get("assets", {}).values()]
    product_href = str(item.get("assets", {}).get("Product", {}).get("href", ""))
    return RemoteProduct(
        name=name,
        collection=collection,
        # The start in the name is that of the datatake, by which partners and published patches are found.
        time=start_of(name) or _time(str(text)),
        footprint=read_footprint(item.get("geometry")),
        mgrs=parts.get("mgrs") or _mgrs(properties),
        baseline=baseline_of(parts) or properties.get("processing:version") or properties.get("s2:processing_baseline"),
        orbit=parts.get("orbit"),
        cloud=properties.get("eo:cloud_cover"),
        nbytes=sum(sizes) if sizes and all(isinstance(size, int) for size in sizes) else None,
        is_online=properties.get("storage:tier", "online") != "offline",
        id=product_href.partition(_ODATA_ID)[2].partition(")")[0],
        s3=_safe_folder(item),
        item=item,
    )


def _single_searches(query: Query, spec: CollectionSpec) -> Iterator[Query]:
    tiles: list[tuple[str, ...]] = [(tile,) for tile in query.tiles] if spec.tile else []
    for tile in tiles or [query.tiles]:
        for part in area_parts(query.area):
            yield replace(query, tiles=tile, area=part)


def _properties(query: Query, spec: CollectionSpec) -> dict[str, Any] | None:
    conditions: dict[str, Any] = {}
    if query.cloud is not None and query.collection != "s1":
        conditions["eo:cloud_cover"] = {"lte": query.cloud}
    if query.tiles and spec.tile:
        name, prefix = spec.tile
        conditions[name] = {"eq": f"{prefix}{query.tiles[0]}"}
    return conditions or None


def _mgrs(properties: dict[str, Any]) -> str | None:
    found = properties.get("s2:mgrs_tile") or properties.get("grid:code")
    return str(found).removeprefix("MGRS-") if found else None


def _safe_folder(item: dict[str, Any]) -> str:
    """``s3://`` URL of the ``.SAFE`` folder that holds the assets; empty if they are elsewhere."""
    for asset in item.get("assets", {}).values():
        before, found, _ = str(asset.get("href", "")).partition(".SAFE/")
        if found and before.startswith("s3://"):
            return f"{before}.SAFE"
    return ""


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
