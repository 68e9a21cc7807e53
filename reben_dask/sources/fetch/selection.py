"""Selection among the products that a search finds: baselines, the clearest ones, Sentinel-1 partners; and its size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from reben_dask.atomic import atomic_path
from reben_dask.errors import InputError
from reben_dask.formats.columns import PATCH_ID
from reben_dask.sources.fetch.catalogue import Query, RemoteProduct, parse_name
from reben_dask.sources.fetch.provider import CollectionSpec, Limits
from reben_dask.sources.published.metadata import metadata_files, read_metadata
from reben_dask.sources.sentinel2.acquisitions import OWN_BASELINE

SELECTION_FILE = "selection.parquet"

NEWEST, OLDEST, ALL = "newest", "oldest", "all"
"""Choices among the processing baselines of an acquisition, besides a baseline itself."""

_BEFORE, _AFTER = timedelta(minutes=1), timedelta(minutes=30)
"""Times around the start of a datatake; items of STAC have that of their granule, minutes later."""

Search = Callable[[Query], Iterator[RemoteProduct]]


class Acquisition(NamedTuple):
    """An acquisition of a tile, which its products of all levels and baselines share."""

    satellite: str
    start: str
    """As in names of products."""
    orbit: str
    mgrs: str


@dataclass(frozen=True)
class Selection:
    """Products to fetch, and what cannot be fetched."""

    products: tuple[RemoteProduct, ...]
    """Products that can be fetched, sorted by time and name."""
    offline: tuple[RemoteProduct, ...] = ()
    """Products that must be ordered from the provider."""
    missing: tuple[str, ...] = ()
    """Published tiles without a product at the provider."""
    notes: tuple[str, ...] = ()
    partner_of: Mapping[str, tuple[str, ...]] | None = None
    """Sentinel-2 products by the name of the Sentinel-1 product that is their partner."""


def published_acquisitions(paths: Sequence[Path]) -> dict[str, Acquisition]:
    """Read the tiles of published metadata, with their acquisitions.

    Parameters
    ----------
    paths : sequence of Path
        Metadata files, or folders that hold both.

    Raises
    ------
    InputError
        If a file cannot be read, or its patches are not named after tiles.
    """
    files = [file for path in paths for file in metadata_files(path)]
    names = pa.array(read_metadata(files, [PATCH_ID])[PATCH_ID].dropna())
    found = {}
    for tile in sorted(pc.unique(pc.replace_substring_regex(names, r"_\d+_\d+$", "")).to_pylist()):
        parts = parse_name(f"{tile}_{'0' * 8}T{'0' * 6}")
        if not parts:
            raise InputError(
                f"The published patches of {tile} are not named after a product of version 2, such as "
                "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57; give the metadata of such a dataset."
            )
        found[tile] = Acquisition(*(parts[name] for name in Acquisition._fields))
    return found


def acquisition_of(product: RemoteProduct) -> Acquisition | None:
    """Acquisition of a Sentinel-2 product; ``None`` if its name does not state it."""
    parts = parse_name(product.name)
    return Acquisition(*(parts[name] for name in Acquisition._fields)) if parts else None


def query_of(acquisition: Acquisition, collection: str) -> Query:
    """Query for the products of one acquisition."""
    time = datetime.strptime(acquisition.start, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return Query(collection, time - _BEFORE, time + _AFTER, tiles=(acquisition.mgrs,))


def find_published(tiles: Mapping[str, Acquisition], collection: str, search: Search) -> Selection:
    """Find the products of published tiles, one query for each; :attr:`Selection.missing` names those without."""
    products: dict[str, RemoteProduct] = {}
    missing = []
    for tile, acquisition in tiles.items():
        found = [
            product for product in search(query_of(acquisition, collection)) if acquisition_of(product) == acquisition
        ]
        products |= {product.name: product for product in found}
        if not found:
            missing.append(tile)
    return Selection(tuple(products.values()), missing=tuple(missing))


def choose_baseline(products: Iterable[RemoteProduct], baseline: str = NEWEST) -> tuple[list[RemoteProduct], list[str]]:
    """Take one processing baseline of each acquisition; return the products, and names of those left out.

    Parameters
    ----------
    products : iterable of RemoteProduct
        Products of one level; those whose names state no acquisition are kept.
    baseline : str
        ``newest``, ``oldest``, ``all``, or a baseline such as ``05.00``; 99.99 (local sen2cor) is used only if
        requested, or if it is the only one.
    """
    groups: dict[object, list[RemoteProduct]] = defaultdict(list)
    for product in products:
        groups[acquisition_of(product) or product.name].append(product)
    chosen: list[RemoteProduct] = []
    left_out: list[RemoteProduct] = []
    for group in groups.values():
        found = sorted({product.baseline or "" for product in group} - {OWN_BASELINE}) or [OWN_BASELINE]
        wanted = {NEWEST: {found[-1]}, OLDEST: {found[0]}, ALL: {product.baseline or "" for product in group}}
        taken = wanted.get(baseline, {baseline})
        for product in group:
            (chosen if (product.baseline or "") in taken else left_out).append(product)
    return chosen, sorted(product.name for product in left_out)


def choose_clearest(
    products: Iterable[RemoteProduct], number: int, seasons: Mapping[str, Sequence[int]]
) -> list[RemoteProduct]:
    """Take the products with the least cloud of each tile and season; of equals the earliest.

    ``seasons`` has the calendar months of each season. A product in no season is left out.
    """
    season_of = {month: season for season, months in seasons.items() for month in months}
    groups: dict[tuple[str, str], list[RemoteProduct]] = defaultdict(list)
    for product in products:
        if season := season_of.get(product.time.month):
            groups[product.mgrs or product.name, season].append(product)

    def unclear(product: RemoteProduct) -> tuple[float, datetime, str]:
        return (np.inf if product.cloud is None else product.cloud, product.time, product.name)

    return [product for group in groups.values() for product in sorted(group, key=unclear)[:number]]


def find_partners(products: Sequence[RemoteProduct], max_days: float, search: Search) -> Selection:
    """Find the Sentinel-1 scenes closest in time to each Sentinel-2 product.

    A product takes the closest scenes until their footprints cover its own, at most ``max_days`` away, as a job does
    patch by patch.

    Returns
    -------
    Selection
        Scenes, each once; notes name the products without a scene.
    """
    limit = timedelta(days=max_days)
    scenes: dict[str, RemoteProduct] = {}
    partner_of: dict[str, tuple[str, ...]] = {}
    alone = []
    for product in products:
        query = Query("s1", product.time - limit, product.time + limit, area=product.footprint)
        near = sorted(search(query), key=lambda scene: (abs(scene.time - product.time), scene.name))
        uncovered = product.footprint
        for scene in near:
            if uncovered is not None and scene.footprint is not None:
                rest = uncovered.difference(scene.footprint)
                if rest.area >= uncovered.area:
                    continue
                uncovered = rest
            scenes.setdefault(scene.name, scene)
            partner_of[scene.name] = (*partner_of.get(scene.name, ()), product.name)
            if uncovered is None or uncovered.is_empty:
                break
        if not near:
            alone.append(product.name)
    notes = []
    if alone:
        notes.append(f"No Sentinel-1 scene within {max_days:g} days of {_listed(alone)}.")
    return Selection(tuple(scenes.values()), notes=tuple(notes), partner_of=partner_of)


def arranged(selection: Selection) -> Selection:
    """Sort the products of a selection by time, and separate those that are offline."""
    by_time = sorted(selection.products, key=lambda product: (product.time, product.name))
    return replace(
        selection,
        products=tuple(product for product in by_time if product.is_online),
        offline=(*selection.offline, *(product for product in by_time if not product.is_online)),
    )


def transfer_bytes(product: RemoteProduct, spec: CollectionSpec, *, whole: bool) -> int:
    """Estimate the bytes that are fetched of a product."""
    if product.nbytes is None or spec.form != "safe":
        return spec.typical_bytes
    return int(product.nbytes * (1 if whole else spec.share))


def transfer_days(nbytes: int, limits: Limits) -> float:
    """Estimate the days that a transfer takes at the full rate of the provider, with waits for its quota."""
    per_day = limits.connections * limits.bytes_per_s * 86_400
    if not limits.quota_bytes:
        return nbytes / per_day
    periods, rest = divmod(nbytes, limits.quota_bytes)
    return periods * max(limits.quota_days, limits.quota_bytes / per_day) + rest / per_day


def selection_frame(
    selection: Selection, provider: str, specs: Mapping[str, CollectionSpec], *, whole: bool
) -> gpd.GeoDataFrame:
    """Make a table of a selection, one row for each product.

    Returns
    -------
    GeoDataFrame
        ``name``, ``collection``, ``mgrs``, ``sensing_time`` (UTC), ``baseline``, ``relative_orbit``, ``cloud``
        (percent), ``product_bytes``, ``transfer_bytes`` (estimated), ``online``, ``partner_of``, ``provider``, ``id``,
        ``s3``, and the footprint in EPSG:4326.
    """
    products = [*selection.products, *selection.offline]
    partners = selection.partner_of or {}
    rows = {
        "name": pd.array([product.name for product in products], dtype="str"),
        "collection": pd.array([product.collection for product in products], dtype="str"),
        "mgrs": pd.array([product.mgrs for product in products], dtype="str"),
        "sensing_time": pd.DatetimeIndex([product.time for product in products], tz="UTC").as_unit("ms"),
        "baseline": pd.array([product.baseline for product in products], dtype="str"),
        "relative_orbit": pd.array([product.orbit for product in products], dtype="str"),
        "cloud": np.array([product.cloud for product in products], float),
        "product_bytes": pd.array([product.nbytes for product in products], dtype="Int64"),
        "transfer_bytes": pd.array(
            [transfer_bytes(product, specs[product.collection], whole=whole) for product in products], dtype="Int64"
        ),
        "online": np.array([product.is_online for product in products], bool),
        "partner_of": pd.array(
            [", ".join(partners.get(product.name, ())) or None for product in products], dtype="str"
        ),
        "provider": pd.array([provider] * len(products), dtype="str"),
        "id": pd.array([product.id or None for product in products], dtype="str"),
        "s3": pd.array([product.s3 or None for product in products], dtype="str"),
    }
    footprints = gpd.GeoSeries([product.footprint for product in products], crs=4326)
    return gpd.GeoDataFrame(rows, geometry=footprints)


def write_selection(frame: gpd.GeoDataFrame, out: Path) -> Path:
    """Write the table of a selection to ``OUT/selection.parquet`` (GeoParquet)."""
    path = out / SELECTION_FILE
    with atomic_path(path) as draft:
        frame.to_parquet(draft)
    return path


def read_area(path: str) -> shapely.Geometry:
    """Read an area from the polygons of a vector file: their union in EPSG:4326; :class:`InputError` if it has none."""
    from reben_dask.sources.vector_files import find_vector_files  # noqa: PLC0415 - heavy, and rarely needed

    (file, *others) = find_vector_files(path, "The area")
    if others:
        raise InputError(f"The area {path} holds several vector files; give one of them.")
    try:
        frame = gpd.read_parquet(file.location) if file.is_parquet else gpd.read_file(file.location)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"The area {path} cannot be read ({' '.join(str(error).split())[:200]}).") from None
    if not isinstance(frame, gpd.GeoDataFrame) or frame.crs is None:
        raise InputError(f"The area {path} has no geometry with a coordinate reference system.")
    union = frame.geometry.to_crs(4326).union_all()
    if union is None or union.is_empty or not union.area:
        raise InputError(f"The area {path} holds no polygon.")
    return union


def parse_dates(dates: str) -> tuple[datetime, datetime]:
    """Parse dates: a day, a month, a year, or two of them with ``/`` between; the last day is included.

    Returns
    -------
    tuple of datetime
        Start (inclusive) and end (exclusive), UTC.

    Raises
    ------
    InputError
        If the text is not a date or period, or the dates are in the wrong order.
    """
    first, _, last = dates.replace("..", "/").partition("/")
    try:
        start, end = _period(first)[0], _period(last or first)[1]
    except ValueError:
        raise InputError(
            f"--dates {dates!r} is not a period; give it as 2018-04-01/2018-09-30, 2018-07 or 2018."
        ) from None
    if start >= end:
        raise InputError(f"--dates {dates!r} ends before it starts.")
    return start, end


def _period(text: str) -> tuple[datetime, datetime]:
    """First instant of a day, month or year, and that of the next."""
    parts = [int(part) for part in text.strip().split("-")]
    year, month, day = (*parts, 1, 1)[: max(3, len(parts))]
    start = datetime(year, month, day, tzinfo=UTC)
    if len(parts) == 1:
        return start, start.replace(year=start.year + 1)
    if len(parts) == 2:
        return start, (start + timedelta(days=31)).replace(day=1)
    return start, start + timedelta(days=1)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5:,} more"
