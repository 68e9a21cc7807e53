"""Search for Sentinel products at a provider, and their transfer."""

from reben_dask.sources.fetch.catalogue import Query, RemoteProduct, parse_area
from reben_dask.sources.fetch.provider import PROVIDERS, Provider, load_provider
from reben_dask.sources.fetch.selection import (
    Selection,
    arranged,
    choose_baseline,
    choose_clearest,
    find_partners,
    find_published,
    parse_dates,
    published_acquisitions,
    read_area,
    selection_frame,
    transfer_days,
    write_selection,
)
from reben_dask.sources.fetch.session import fetch_selection, open_search
from reben_dask.sources.fetch.transfer import FetchRecord

__all__ = [
    "PROVIDERS",
    "FetchRecord",
    "Provider",
    "Query",
    "RemoteProduct",
    "Selection",
    "arranged",
    "choose_baseline",
    "choose_clearest",
    "fetch_selection",
    "find_partners",
    "find_published",
    "load_provider",
    "open_search",
    "parse_area",
    "parse_dates",
    "published_acquisitions",
    "read_area",
    "selection_frame",
    "transfer_days",
    "write_selection",
]
