"""Search at a provider, and transfer of a selection."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reben_dask.errors import OutputError
from reben_dask.locks import Lock
from reben_dask.sources.fetch.access import open_access
from reben_dask.sources.fetch.catalogue import Query, RemoteProduct, search_odata
from reben_dask.sources.fetch.contents import Contents, list_contents, open_source
from reben_dask.sources.fetch.http import Access, HttpClient
from reben_dask.sources.fetch.provider import Provider
from reben_dask.sources.fetch.selection import Search, Selection, transfer_bytes
from reben_dask.sources.fetch.stac import search_stac
from reben_dask.sources.fetch.transfer import FetchRecord, ProductQueue, Reporter, SpeedMeter, Transfer

LOCK_FILE = ".fetch.lock"


def open_search(provider: Provider) -> Search:
    """Return the search of a provider, without a login.

    The OData catalogue is used if there is one: unlike the STAC API of the same products, it states which are online,
    finds products by tile, and has the identifiers by which single files are fetched.
    """
    client = HttpClient()

    def search(query: Query) -> Iterator[RemoteProduct]:
        spec = provider.spec(query.collection)
        if provider.odata:
            return search_odata(client, provider.odata, spec, query)
        return search_stac(str(provider.stac), spec, query)

    return search


def fetch_selection(  # noqa: PLR0913
    selection: Selection,
    provider: Provider,
    out: Path,
    reporter: Reporter,
    *,
    whole: bool = False,
    connections: int | None = None,
    query: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> FetchRecord:
    """Fetch the products of a selection into ``OUT/<NAME>.SAFE`` (or the folder of an item, or ``<NAME>.zarr``).

    Existing files are kept, and partial files are completed.

    Parameters
    ----------
    reporter : Reporter
        Receiver of progress.
    whole : bool
        Fetch all files of a product, not only those that a job reads.
    connections : int, optional
        Simultaneous transfers; by default as many as the provider allows.
    query : mapping, optional
        Description of the search, for the record.
    environment : mapping
        Variables with credentials.

    Returns
    -------
    FetchRecord
        Also in ``OUT/fetch-record.json``.

    Raises
    ------
    InputError
        If the provider needs credentials and there are none.
    LoginError
        If they are refused.
    OutputError
        If ``out`` cannot be written, or another process writes to it.
    """
    workers = connections or provider.limits.connections
    client = HttpClient(workers)
    # Tokens and lists of nodes are requested while a connection of the first client is in use.
    listing = HttpClient(stop=client.stop)
    accesses: dict[str, Access] = {
        collection: open_access(provider, collection, listing, environment)
        for collection in sorted({product.collection for product in selection.products})
    }
    addresses = provider.model_dump(exclude_none=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror}).") from None
    with Lock(out / LOCK_FILE, out).held("fetch"):
        record = FetchRecord.resume(out, addresses, query or {})
        record.offline = [product.name for product in selection.offline]
        record.missing = list(selection.missing)
        meter = SpeedMeter(provider.limits)
        transfers = {name: Transfer(client, access, reporter, meter) for name, access in accesses.items()}

        def contents(product: RemoteProduct) -> Contents:
            spec, transfer = provider.spec(product.collection), transfers[product.collection]
            access = accesses[product.collection]
            source = open_source(product, provider, listing, access) if spec.form == "safe" else None
            return list_contents(product, spec, transfer.read, source, out, whole=whole)

        estimates = {
            product: transfer_bytes(product, provider.spec(product.collection), whole=whole)
            for product in selection.products
        }
        ProductQueue(transfers, contents, record, out, reporter).run(estimates, workers, client.stop)
    return record
