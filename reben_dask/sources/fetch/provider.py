"""Providers of Sentinel products: URLs, collections and limits; a YAML file describes another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from reben_dask.errors import InputError, missing

Collection = Literal["l2a", "l1c", "s1"]
KindName = Literal["cdse", "earth-search", "planetary-computer", "eopf"]


@dataclass(frozen=True)
class CollectionSpec:
    """Products of one level at a provider."""

    stac: str
    """Name of the collection in STAC."""
    form: Literal["safe", "assets", "zarr"]
    """Form in which products are fetched: files of a ``.SAFE``, assets of an item, or a Zarr store."""
    product_type: str = ""
    """``productType`` in the OData catalogue."""
    assets: tuple[str, ...] = ()
    """Assets that a job reads."""
    tile: tuple[str, str] | None = None
    """Property with the MGRS tile, and the prefix of its value."""
    share: float = 1.0
    """Estimated share of a product's bytes in the files that a job reads."""
    typical_bytes: int = 0
    """Typical size of those files, for catalogues that state none."""


@dataclass(frozen=True)
class Limits:
    """Limits that a provider sets for a user without a contract."""

    connections: int
    bytes_per_s: float
    """Rate of one connection."""
    quota_bytes: float | None = None
    quota_days: int = 0
    slow_bytes_per_s: float = 0
    """Rate once the quota is spent."""


@dataclass(frozen=True)
class Kind:
    """Protocol, collections and limits that providers share."""

    collections: Mapping[str, CollectionSpec]
    limits: Limits
    needs_login: bool = False


_GIB = 2**30
_EARTH_SEARCH_ASSETS = (
    *("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09", "swir16"),
    *("swir22", "scl", "granule_metadata", "product_metadata"),
)
_PLANETARY_ASSETS = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12", "SCL"),
    *("product-metadata", "granule-metadata"),
)
_OPEN = Limits(connections=8, bytes_per_s=20e6)

KINDS: Mapping[str, Kind] = {
    "cdse": Kind(
        {
            "l2a": CollectionSpec("sentinel-2-l2a", "safe", "S2MSI2A", share=0.6),
            "l1c": CollectionSpec("sentinel-2-l1c", "safe", "S2MSI1C", share=0.85),
            "s1": CollectionSpec("sentinel-1-grd", "safe", "IW_GRDH_1S"),
        },
        Limits(connections=4, bytes_per_s=20e6, quota_bytes=12e12, quota_days=30, slow_bytes_per_s=1e6),
        needs_login=True,
    ),
    "earth-search": Kind(
        {
            "l2a": CollectionSpec(
                "sentinel-2-l2a",
                "assets",
                assets=_EARTH_SEARCH_ASSETS,
                tile=("grid:code", "MGRS-"),
                typical_bytes=_GIB,
            )
        },
        _OPEN,
    ),
    "planetary-computer": Kind(
        {
            "l2a": CollectionSpec(
                "sentinel-2-l2a", "assets", assets=_PLANETARY_ASSETS, tile=("s2:mgrs_tile", ""), typical_bytes=_GIB
            ),
            "s1": CollectionSpec("sentinel-1-rtc", "assets", assets=("vv", "vh"), typical_bytes=2 * _GIB),
        },
        _OPEN,
    ),
    "eopf": Kind(
        {
            "l2a": CollectionSpec("sentinel-2-l2a", "zarr", assets=("product",), typical_bytes=6 * _GIB // 10),
            "l1c": CollectionSpec("sentinel-2-l1c", "zarr", assets=("product",), typical_bytes=6 * _GIB // 10),
        },
        _OPEN,
    ),
}


class Provider(BaseModel):
    """URLs of a provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: KindName
    catalogue: str | None = None
    """OData catalogue."""
    stac: str | None = None
    """STAC API."""
    download: str | None = None
    """OData service of products and their files; by default the catalogue."""
    token: str | None = None
    """OpenID service of access tokens, or of signatures of the Planetary Computer."""
    s3_endpoint: str | None = None
    """S3 service with the paths of the catalogue."""

    @field_validator("catalogue", "stac", "download", "token", "s3_endpoint")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a URL starts with https:// or http://")
        if parts.username or parts.password or parts.query:
            raise ValueError("a URL holds no user, password or key; give these in the environment or in netrc")
        return address.rstrip("/")

    @property
    def limits(self) -> Limits:
        """Limits of users without a contract."""
        return KINDS[self.kind].limits

    @property
    def needs_login(self) -> bool:
        """True if files need a login or keys."""
        return KINDS[self.kind].needs_login

    @property
    def odata(self) -> str | None:
        """OData catalogue with its version, without a collection."""
        return self.catalogue and _versioned(self.catalogue)

    @property
    def nodes(self) -> str | None:
        """OData service of the files of products."""
        return _versioned(self.download) if self.download else self.odata

    def spec(self, collection: str) -> CollectionSpec:
        """Return the products of a level; :class:`InputError` if the provider has none."""
        known = KINDS[self.kind].collections
        if collection not in known:
            raise InputError(
                f"The provider {self.kind} has no collection {collection} that can be used; it has {', '.join(known)}."
            )
        return known[collection]


PROVIDERS: Mapping[str, Provider] = {
    "cdse": Provider(
        kind="cdse",
        catalogue="https://catalogue.dataspace.copernicus.eu/odata/v1",
        stac="https://stac.dataspace.copernicus.eu/v1",
        download="https://download.dataspace.copernicus.eu/odata/v1",
        token="https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token",  # noqa: S106
        s3_endpoint="https://eodata.dataspace.copernicus.eu",
    ),
    "earth-search": Provider(kind="earth-search", stac="https://earth-search.aws.element84.com/v1"),
    "planetary-computer": Provider(
        kind="planetary-computer",
        stac="https://planetarycomputer.microsoft.com/api/stac/v1",
        token="https://planetarycomputer.microsoft.com/api/sas/v1/token",  # noqa: S106
    ),
    "eopf": Provider(kind="eopf", stac="https://stac.core.eopf.eodc.eu"),
}
"""Known providers, by the name that the command line takes."""


def load_provider(name: str) -> Provider:
    """Load a known provider, or a YAML file with ``kind`` and URLs.

    Raises
    ------
    InputError
        If there is no such provider or file, or a key is unknown or wrong.
    """
    if name in PROVIDERS:
        return PROVIDERS[name]
    path = Path(name)
    if not path.is_file():
        if path.suffix in {".yaml", ".yml"}:
            raise InputError(missing("The provider file", name))
        raise InputError(f"There is no provider {name!r}; use {', '.join(PROVIDERS)}, or the path of a .yaml file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The provider file {name} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise InputError(f"The provider file {name} has no keys; it has {', '.join(Provider.model_fields)}.")
    try:
        provider = Provider.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(Provider.model_fields)
        raise InputError(
            f"The provider file {name} cannot be used: {key}: {first['msg'].removeprefix('Value error, ')}; "
            f"its keys are {known}."
        ) from None
    if not (provider.catalogue or provider.stac):
        raise InputError(f"The provider file {name} has neither catalogue nor stac; add one to search in.")
    return provider


def _versioned(address: str) -> str:
    address = address.removesuffix("/Products")
    return address if urlsplit(address).path.strip("/") else f"{address}/odata/v1"
