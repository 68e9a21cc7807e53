"""Search for products: the queries, and the OData catalogue of the Copernicus Data Space."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import shapely
from shapely.geometry import shape as shape_of

from reben_dask.errors import FetchError, InputError
from reben_dask.sources.fetch.http import HttpClient, HttpStatusError
from reben_dask.sources.fetch.provider import CollectionSpec

MISSION = {"l2a": "SENTINEL-2", "l1c": "SENTINEL-2", "s1": "SENTINEL-1"}

S2_NAME = re.compile(
    r"(?P<satellite>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<start>\d{8}T\d{6})_N(?P<baseline>\d{4})_(?P<orbit>R\d{3})"
    r"_T(?P<mgrs>\d{2}[A-Z]{3})_(?P<made>\d{8}T\d{6})"
)
"""Name of a Sentinel-2 product without ``.SAFE``."""

S1_NAME = re.compile(r"S1[A-D]_(?:IW|EW|S[1-6]|SM)_GRD[HMF]_1S[DS][VH]_(?P<start>\d{8}T\d{6})_\d{8}T\d{6}_\w+")

MAX_SKIP = 10_000
"""Maximum number of rows that the catalogue returns; the search is then split by dates."""

_PAGE_ROWS, _BEYOND_LIMIT = 1000, 422
_INSTANT = timedelta(milliseconds=1)
_MAX_PARTS, _MAX_VERTICES = 20, 100
_COMPACT = "%Y%m%dT%H%M%S"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


@dataclass(frozen=True)
class Query:
    """Products that a user asks for."""

    collection: str
    start: datetime
    """Start of the period of sensing, UTC (inclusive)."""
    end: datetime
    """End of the period of sensing, UTC (exclusive)."""
    area: shapely.Geometry | None = None
    """Area in EPSG:4326 that footprints intersect."""
    tiles: tuple[str, ...] = ()
    """MGRS tiles without ``T``."""
    cloud: float | None = None
    """Largest cloud cover in percent."""
    months: frozenset[int] | None = None
    """Calendar months of sensing."""

    def accepts(self, product: RemoteProduct) -> bool:
        """Test a product; catalogues may know only a part of the query."""
        return (
            self.start <= product.time < self.end
            and product.level in {"", self.collection}
            and (not self.tiles or product.mgrs is None or product.mgrs in self.tiles)
            and (self.cloud is None or product.cloud is None or product.cloud <= self.cloud)
            and (self.months is None or product.time.month in self.months)
            and (self.area is None or product.footprint is None or bool(self.area.intersects(product.footprint)))
        )


@dataclass(frozen=True)
class RemoteProduct:
    """A product at a provider."""

    name: str
    """Name without ``.SAFE``; of an item without one, its id."""
    collection: str
    time: datetime
    """Start of sensing, UTC."""
    footprint: shapely.Geometry | None
    """EPSG:4326."""
    mgrs: str | None = None
    baseline: str | None = None
    """Processing baseline, such as ``05.10``."""
    orbit: str | None = None
    """Relative orbit, such as ``R022``."""
    cloud: float | None = None
    """Percent."""
    nbytes: int | None = None
    """Size of the whole product."""
    is_online: bool = True
    id: str = ""
    """Identifier in the OData catalogue."""
    s3: str = ""
    """``s3://`` URL of the folder."""
    item: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """STAC item."""

    @property
    def level(self) -> str:
        """Collection that the name states, empty if it states none."""
        return parse_name(self.name).get("level", "").lower()


def search_odata(client: HttpClient, address: str, spec: CollectionSpec, query: Query) -> Iterator[RemoteProduct]:
    """Search the catalogue, split by dates where it has more than 10,000 rows.

    Raises
    ------
    FetchError
        If the catalogue cannot be read, or has more rows of one instant.
    """
    seen: set[str] = set()
    for part in _single_filters(query):
        start: datetime | None = part.start
        while start is not None:
            rows, is_cut = _read_rows(client, address, _filters(spec, replace(part, start=start)))
            times = []
            for row in rows:
                product = _product(row, query.collection)
                times.append(product.time)
                if product.id not in seen and query.accepts(product):
                    yield product
                seen.add(product.id)
            last = max(times, default=start)
            if is_cut and last <= start:
                raise FetchError(
                    f"The catalogue has more than {MAX_SKIP:,} products of one instant, {start:%Y-%m-%d %H:%M:%S}; "
                    "narrow the area, or give --tiles."
                )
            start = last if is_cut else None


def parse_name(name: str) -> dict[str, str]:
    """Return the parts of a Sentinel-2 product name; empty for others."""
    match = S2_NAME.fullmatch(name)
    return match.groupdict() if match else {}


def start_of(name: str) -> datetime | None:
    """Start of sensing in the name of a Sentinel-1 or Sentinel-2 product, UTC."""
    match = S2_NAME.match(name) or S1_NAME.match(name)
    return datetime.strptime(match["start"], _COMPACT).replace(tzinfo=UTC) if match else None


def checked_product_name(name: str) -> str:
    """Return the name of a product without ``.SAFE``; :class:`FetchError` if it may not name a folder."""
    plain = name.removesuffix(".SAFE")
    if not _SAFE_NAME.fullmatch(plain):
        raise FetchError(f"The catalogue has a product {name!r}, which is not a product name.")
    return plain


def _read_rows(client: HttpClient, address: str, filters: str) -> tuple[list[Any], bool]:
    """Rows in the order of their times, and whether the limit of the catalogue may have cut them off."""
    query = {"$filter": filters, "$top": _PAGE_ROWS, "$expand": "Attributes", "$orderby": "ContentDate/Start asc"}
    page: str | None = f"{address}/Products?{urlencode(query)}"
    rows: list[Any] = []
    while page:
        try:
            answer = client.get_json(page)
        except HttpStatusError as error:
            if error.status == _BEYOND_LIMIT and rows:
                return rows, True
            raise
        found = answer.get("value") if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise FetchError(f"{address} answered without a list of products.")
        rows += found
        page = answer.get("@odata.nextLink") if found else None
    return rows, len(rows) >= MAX_SKIP


def _single_filters(query: Query) -> Iterator[Query]:
    """Split a query into one for each tile and part of the area."""
    tiles: list[tuple[str, ...]] = [(tile,) for tile in query.tiles]
    for tile in tiles or [()]:
        for part in area_parts(query.area):
            yield replace(query, tiles=tile, area=part)


def area_parts(area: shapely.Geometry | None) -> list[shapely.Geometry | None]:
    """Convex polygons that cover an area, few and simple enough for the URL of a request."""
    if area is None:
        return [None]
    parts = [part for part in shapely.get_parts(area) if not part.is_empty]
    if len(parts) > _MAX_PARTS:
        parts = [shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])]
    hulls = [shapely.convex_hull(part) for part in parts]
    return [hull if shapely.get_num_coordinates(hull) <= _MAX_VERTICES else shapely.envelope(hull) for hull in hulls]


def _filters(spec: CollectionSpec, query: Query) -> str:
    mission = MISSION[query.collection]
    filters = [
        f"Collection/Name eq '{mission}'",
        f"ContentDate/Start gt {_stamp(query.start - _INSTANT)}",
        f"ContentDate/Start lt {_stamp(query.end)}",
        _attribute("String", "productType", "eq", f"'{spec.product_type}'"),
    ]
    if query.area is not None:
        area = query.area if query.area.geom_type == "Polygon" else shapely.envelope(shapely.buffer(query.area, 1e-6))
        wkt = shapely.to_wkt(shapely.orient_polygons(area), rounding_precision=6).replace("POLYGON (", "POLYGON(")
        filters.append(f"OData.CSC.Intersects(area=geography'SRID=4326;{wkt}')")
    filters += [_attribute("String", "tileId", "eq", f"'{tile}'") for tile in query.tiles]
    if query.cloud is not None:
        filters.append(_attribute("Double", "cloudCover", "le", f"{query.cloud:.2f}"))
    return " and ".join(filters)


def _attribute(kind: str, name: str, operator: str, value: str) -> str:
    of = f"OData.CSC.{kind}Attribute"
    return f"Attributes/{of}/any(att:att/Name eq '{name}' and att/{of}/Value {operator} {value})"


def _stamp(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def _product(row: Any, collection: str) -> RemoteProduct:
    try:
        name, key = checked_product_name(str(row["Name"])), str(row["Id"])
        time = datetime.fromisoformat(row["ContentDate"]["Start"])
    except (KeyError, TypeError, ValueError):
        raise FetchError(
            "The catalogue has a product without Name, Id or ContentDate; is it an OData catalogue?"
        ) from None
    if not _ID.fullmatch(key):
        raise FetchError(f"The catalogue has a product with the invalid identifier {key!r}.")
    attributes = {str(entry.get("Name")): entry.get("Value") for entry in row.get("Attributes") or []}
    parts = parse_name(name)
    path = str(row.get("S3Path") or "").strip("/")
    return RemoteProduct(
        name=name,
        collection=collection,
        time=time if time.tzinfo else time.replace(tzinfo=UTC),
        footprint=read_footprint(row.get("GeoFootprint")),
        mgrs=parts.get("mgrs") or _text(attributes.get("tileId")),
        baseline=baseline_of(parts)
        or _text(attributes.get("processingBaseline") or attributes.get("processorVersion")),
        orbit=parts.get("orbit"),
        cloud=_number(attributes.get("cloudCover")),
        nbytes=None if (size := _number(row.get("ContentLength"))) is None else int(size),
        is_online=row.get("Online") is not False,
        id=key,
        s3=f"s3://{path}" if path else "",
    )


def baseline_of(parts: dict[str, str]) -> str | None:
    """Return the processing baseline of a parsed name, such as ``05.10``."""
    number = parts.get("baseline")
    return f"{number[:2]}.{number[2:]}" if number else None


def read_footprint(geometry: Any) -> shapely.Geometry | None:
    """Footprint of a GeoJSON geometry; ``None`` if it is not valid."""
    if not isinstance(geometry, dict):
        return None
    try:
        found = shapely.make_valid(shape_of(geometry))
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError):
        return None
    return None if found.is_empty else found


def parse_area(bbox: str) -> shapely.Geometry:
    """Parse ``west,south,east,north`` in degrees; west > east crosses the 180th meridian.

    Raises
    ------
    InputError
        If it is not valid.
    """
    try:
        west, south, east, north = (float(part) for part in bbox.replace(" ", ",").split(",") if part)
    except ValueError:
        raise InputError(
            f"--bbox {bbox!r} is not west,south,east,north in degrees, such as 16.5,52.2,17.3,52.6."
        ) from None
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90) or west == east:
        raise InputError(f"--bbox {bbox!r} is not an area: the order is west,south,east,north, in degrees.")
    if west < east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])


def _text(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
