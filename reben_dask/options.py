"""Options of a job and of its cluster: one model for the command line, Dask's configuration and Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from reben_dask.errors import InputError


class Flag(NamedTuple):
    """Form of a field on the command line: placeholder of its value, and its name if that is not the field's."""

    metavar: str | None = None
    name: str | None = None


def _several(value: Any) -> Any:
    """Accept one path for a sequence of them."""
    return [value] if isinstance(value, (str, os.PathLike)) else value


def _layers(value: Any) -> Any:
    """Accept the command line's ``NAME=FILE`` for a mapping."""
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        return value
    layers: dict[str, str] = {}
    for name, _, file in (layer.partition("=") for layer in value):
        if not (name and file):
            raise InputError(f"--join {name!r} is not NAME=FILE, such as urbanisation=RegioStaR.gpkg.")
        if name in layers:
            raise InputError(f"--join gives {name} two layers, {layers[name]} and {file}; leave one of them out.")
        layers[name] = file
    return layers


def _tiles(value: Any) -> Any:
    """Accept names with commas or spaces between, and a leading ``T``, for a sequence of them."""
    texts = [value] if isinstance(value, str) else value
    return [name.upper().removeprefix("T") for text in texts for name in text.replace(",", " ").split()]


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


Place = Annotated[str, BeforeValidator(_text)]
"""Path as text, as it may be one of GDAL's."""

Places = Annotated[tuple[Place, ...], BeforeValidator(_several)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_several)]
Count = Annotated[int, Field(ge=1)]
MgrsTile = Annotated[str, Field(pattern=r"^\d{2}[A-Z]{3}$")]
Percent = Annotated[float, Field(ge=0, le=100)]
Baseline = Annotated[str, Field(pattern=r"^(newest|oldest|all|\d\d\.\d\d)$")]

DEFAULT_RECIPE = "reben"
"""Recipe of a job that names none."""


class Options(BaseModel):
    """Base of the option models: immutable, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Check values; :class:`InputError` names the first that is wrong."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise InputError(f"{name} is {first['input']!r}, which cannot be used: {first['msg']}.") from None


class JobOptions(Options):
    """Inputs and choices of a job."""

    s2: Annotated[Places, Flag("DIR_OR_PRODUCT …")] = Field(
        default=(),
        description="Sentinel-2 products (.SAFE, EOPF Zarr, zip files of either, STAC items), folders of products, or "
        "URLs of EOPF Zarr stores.",
    )
    s2_stac: Annotated[Places, Flag("ITEMS.json|DIR|URL")] = Field(
        default=(), description="Sentinel-2 products as STAC items, collections of items, folders of them, or a search."
    )
    l1c: Annotated[Places, Flag("DIR_OR_PRODUCT …")] = Field(
        default=(),
        description="Sentinel-2 L1C products (.SAFE folders), or folders of them: corrected with sen2cor first.",
    )
    l2a: Annotated[Path | None, Flag("DIR")] = Field(
        default=None, description="Folder for the L2A products of --l1c; by default OUT-l2a beside OUT."
    )
    landcover: Annotated[Place, Flag("MAP.gpkg")] = Field(
        description="Vector map with class codes, in any CRS; FILE:LAYER names a layer."
    )
    out: Annotated[Path, Flag("OUT")] = Field(description="Folder for the dataset.")
    title: Annotated[str | None, Flag("TEXT")] = Field(
        default=None, min_length=1, description="Title on the card and report of the dataset; default: the name of OUT."
    )
    recipe: Annotated[Place, Flag("NAME|FILE.yaml")] = Field(
        default="reben", description="Shipped recipe, or your own."
    )
    countries: Annotated[Place | None, Flag("FILE")] = Field(
        default=None, description="Vector file of country polygons; without it, country stays empty."
    )
    layers: Annotated[dict[str, Place], BeforeValidator(_layers), Flag("NAME=FILE", "join")] = Field(
        default={}, description="Polygon layer for an attribute of the recipe, such as urbanisation=RegioStaR.gpkg."
    )
    s1: Annotated[Place | None, Flag("DIR")] = Field(
        default=None, description="Published Sentinel-1 patches; needs --published or --s1-pairs."
    )
    s1_pairs: Annotated[Path | None, Flag("FILE.csv")] = Field(
        default=None, description="CSV of matching Sentinel-1 and Sentinel-2 patch names."
    )
    s1_scenes: Annotated[Place | None, Flag("DIR|FILE.csv")] = Field(
        default=None, description="Terrain-corrected Sentinel-1 scenes (GeoTIFF; dB, or sentinel1.scale of the recipe)."
    )
    published: Annotated[Paths, Flag("METADATA.parquet")] = Field(
        default=(),
        description="Published metadata, files or their folder: keep exactly these patches, adopt names and flags, "
        "and compare.",
    )
    snow_list: Annotated[Path | None, Flag("FILE")] = Field(
        default=None, description="Names (v1) of patches with seasonal snow."
    )
    cloud_list: Annotated[Path | None, Flag("FILE")] = Field(
        default=None, description="Names (v1) of patches with cloud or cloud shadow."
    )
    keep_reprocessed: bool = Field(
        default=False, description="Keep all processing baselines of an acquisition, not only the newest."
    )
    code_column: Annotated[str | None, Flag("NAME")] = Field(
        default=None, description="Column of the class codes, if not detected."
    )
    lmdb_shards: Annotated[Count | None, Flag("N")] = Field(
        default=None, description="Write N LMDB environments in parallel, not one."
    )
    exports: Annotated[
        tuple[Literal["geotiff", "geotiff-archives", "webdataset", "parquet"], ...], Flag(name="export")
    ] = Field(
        default=(),
        description="Also write the published trees of GeoTIFFs, as loose files or straight into archives (.tar.zst), "
        "or samples by split for WebDataset or Hugging Face.",
    )


class FetchOptions(Options):
    """Products to search for and to fetch."""

    out: Annotated[Path | None, Flag("DIR")] = Field(default=None, description="Folder for the products.")
    provider: Annotated[Place, Flag("NAME|FILE.yaml")] = Field(
        default="cdse",
        description="cdse (Copernicus Data Space), earth-search, planetary-computer, eopf, or a file with the "
        "URLs of another provider.",
    )
    collection: Literal["l2a", "l1c", "s1"] | None = Field(
        default=None, description="Products to fetch.  [default: l2a; l1c with --published]"
    )
    bbox: Annotated[str | None, Flag("W,S,E,N")] = Field(default=None, description="Area in degrees.")
    area: Annotated[Place | None, Flag("FILE")] = Field(
        default=None, description="Vector file with the polygons of the area, in any CRS."
    )
    tiles: Annotated[tuple[MgrsTile, ...], BeforeValidator(_tiles), Flag("TILE,…")] = Field(
        default=(), description="MGRS tiles, such as 33UUP,33UVP."
    )
    dates: Annotated[str | None, Flag("FROM/TO")] = Field(
        default=None, description="Days of sensing, such as 2018-04-01/2018-09-30, 2018-07 or 2018."
    )
    cloud: Annotated[Percent | None, Flag("PERCENT")] = Field(
        default=None, description="Largest cloud cover of a product."
    )
    published: Annotated[Paths, Flag("METADATA.parquet")] = Field(
        default=(), description="Published metadata: fetch the products of their patches."
    )
    recipe: Annotated[Place | None, Flag("NAME|FILE.yaml")] = Field(
        default=None, description="Recipe: only months of its seasons, and its limit of days to Sentinel-1."
    )
    best: Annotated[Count | None, Flag("N")] = Field(
        default=None, description="Only the N products with the least cloud of each tile and season."
    )
    baseline: Annotated[Baseline, Flag("newest|NN.NN")] = Field(
        default="newest",
        description="Processing baseline of each acquisition: newest, oldest, all, or one such as 05.00.",
    )
    sentinel1: bool = Field(
        default=False, description="Also the Sentinel-1 scenes closest in time to each Sentinel-2 product."
    )
    whole: bool = Field(
        default=False, description="Whole products, as sen2cor needs them, not only the files that a job reads."
    )
    connections: Annotated[Count | None, Flag("N")] = Field(
        default=None, description="Simultaneous transfers.  [default: what the provider allows]"
    )


class Sen2CorOptions(Options):
    """Program and settings of the correction of L1C products."""

    sen2cor: Annotated[Place | None, Flag("PATH")] = Field(
        default=None, description="L2A_Process of sen2cor, or the folder of its installation; by default from PATH."
    )
    gipp: Annotated[Path | None, Flag("FILE")] = Field(
        default=None, description="L2A_GIPP.xml for all L1C products; by default that of the installation."
    )
    timeout: Annotated[str, Flag("TIME")] = Field(
        default="4h", description="Time limit of sen2cor for one product, such as 4h or 90min."
    )


class ClusterOptions(Options):
    """A running cluster, or size and dashboard of an embedded one; ``None`` takes the default."""

    scheduler: Annotated[str | None, Flag("ADDRESS")] = Field(
        default=None, description="Address of a running Dask scheduler, such as tcp://host:8786."
    )
    scheduler_file: Annotated[Path | None, Flag("FILE")] = Field(
        default=None, description="Scheduler file of a running Dask scheduler."
    )
    workers: Annotated[Count | None, Flag("N")] = Field(default=None, description="Embedded cluster: worker processes.")
    threads: Annotated[Count | None, Flag("N")] = Field(
        default=None, description="Embedded cluster: threads of each worker."
    )
    memory_limit: Annotated[str | None, Flag("4GiB")] = Field(
        default=None, description="Embedded cluster: memory of each worker."
    )
    dashboard_address: Annotated[str | None, Flag(":8787")] = Field(
        default=None,
        description="Embedded cluster: address of the dashboard; on loopback, unless a host is given (0.0.0.0:8787).",
    )

    @property
    def embedded(self) -> dict[str, Any]:
        """Options of an embedded cluster that are given."""
        fields = ("workers", "threads", "memory_limit", "dashboard_address")
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}
