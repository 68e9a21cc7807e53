"""Products in ESA's EOPF Zarr: a folder, a zip file of one, or a remote store.

Bands are arrays ``/measurements/reflectance/r10m/b02`` of DN, with ``scale_factor`` and ``add_offset`` in their
attributes; coarser copies beside them are not read. The attributes of the root describe the product in
``stac_discovery`` and ``other_metadata``.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, ZipStore

from reben_dask.errors import InputError, ReadError
from reben_dask.formats.bands import BANDS, SCENE_CLASSIFICATION
from reben_dask.formats.dataset import without_credentials
from reben_dask.sources.remote import is_address, read_bytes, without_secrets, zarr_store
from reben_dask.sources.sentinel2.archive import read_members
from reben_dask.sources.sentinel2.tile import (
    OVERALL,
    Form,
    Header,
    Location,
    Tile,
    Window,
    baseline_of,
    epsg_of,
    mapping,
    nested,
    product_name,
    sensing_start,
    strip_of,
)

T = TypeVar("T")

ROOT_FILES = (".zmetadata", ".zattrs", "zarr.json")
"""Files with the attributes of the root, of a consolidated and a plain Zarr v2 group, and of Zarr v3."""

DISCOVERY = "stac_discovery"
SCL_NODE = "conditions/mask/l2a_classification/r20m/scl"
REFLECTANCE = "measurements/reflectance"
RESOLUTIONS = (10, 20, 60)
MAX_CHUNKS = 100_000

_ALL = (slice(None), slice(None))

# zarr raises what its stores and codecs raise.
_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, zipfile.BadZipFile)


def node_of(image: str) -> str:
    """Path of a band, or of ``SCL``, in the store."""
    if image == SCENE_CLASSIFICATION:
        return SCL_NODE
    return f"{REFLECTANCE}/r{BANDS[image].resolution_m}m/{image.lower()}"


@dataclass(frozen=True)
class ZarrRaster:
    """Opened array; see :class:`~reben_dask.sources.sentinel2.tile.Raster`."""

    array: zarr.Array[Any]
    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    """Centres of pixels in metres."""
    is_remote: bool

    @property
    def header(self) -> Header:
        """Type and position."""
        resolution = abs(float(self.x[1] - self.x[0]))
        epsg = epsg_of(_attribute(self.array.attrs, "proj:epsg"), _attribute(self.array.attrs, "proj:code"))
        corner = float(self.x[0]) - resolution / 2, float(self.y[0]) + resolution / 2
        rows, columns = self.array.shape
        return Header(str(self.array.dtype), epsg, *corner, resolution, (rows, columns), self.array.chunks[0])

    def read(self, window: Window | None) -> npt.NDArray[Any]:
        """Decode a window in pieces, as zarr holds up to ten decoded chunks, in several threads, beside its result."""
        rows, columns = (range(side)[part] for part, side in zip(window or _ALL, self.array.shape, strict=True))
        pixels = np.empty((len(rows), len(columns)), self.array.dtype)
        height, width = self.array.chunks
        # Of a remote store, the chunks of a row are requested together.
        for top, bottom in _spans(rows, height):
            for left, right in _spans(columns, self.array.shape[1] if self.is_remote else width):
                piece = self.array[top:bottom, left:right]
                pixels[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = piece
        return pixels


@dataclass(frozen=True)
class ZarrImage:
    """Array of a store; see :class:`~reben_dask.sources.sentinel2.tile.Image`."""

    store: Location
    root: str
    """Path of the product in the store, which may be a zip file of its folder."""
    node: str

    @property
    def location(self) -> str:
        """Path or URL without credentials."""
        return f"{without_secrets(self.store)}/{self.node}"

    @property
    def has_checksum(self) -> bool:
        """False, as chunks have none."""
        return False

    def use(self, read: Callable[[ZarrRaster], T], explain: Callable[[str], str], error: type[InputError]) -> T:
        """Open the array and its coordinates, pass them to ``read``, and close the store."""

        def opened(store: Store) -> T:
            path = PurePosixPath(self.root, self.node)
            x, y = (np.asarray(zarr.open_array(store, path=str(path.with_name(axis)), mode="r")[...]) for axis in "xy")
            array = zarr.open_array(store, path=str(path), mode="r")
            return read(ZarrRaster(array, x, y, is_address(self.store)))

        return _use_store(self.store, opened, explain, error)

    def require_intact(self) -> None:
        """Accept the array, which has no checksum."""

    def stored_bytes(self) -> tuple[str, int] | None:
        """Name and size of the array, or of its zip file; ``None`` if remote."""
        if is_address(self.store):
            return None
        path = Path(self.store)
        if path.is_file():
            return path.name, path.stat().st_size
        files = (Path(folder, name) for folder, _, names in os.walk(path / self.node) for name in names)
        return self.node, sum(file.stat().st_size for file in files if not file.name.startswith("."))


@dataclass(frozen=True)
class EopfProduct:
    """Store of one product."""

    location: Location

    def read_tile(self) -> Tile:
        """Read its metadata; see :class:`~reben_dask.sources.sentinel2.tile.Product`."""
        shown = without_secrets(self.location)
        root = _root_in(self.location)
        return _use_store(
            self.location,
            lambda store: self._read(zarr.open_group(store, path=root, mode="r"), root, shown),
            lambda cause: f"The product {shown} cannot be read ({cause}); is it a complete EOPF Zarr store?",
            InputError,
        )

    def _read(self, group: zarr.Group, root: str, shown: str) -> Tile:
        attributes: Mapping[str, Any] = dict(group.attrs)
        name = product_name(nested(attributes, DISCOVERY, "id"), f"{shown}: {DISCOVERY}.id")
        if name["level"] != "L2A":
            raise InputError(f"{shown} is the {name['level']} product {name[0]}; of EOPF Zarr, only L2A can be read.")
        stated, other = mapping(attributes, DISCOVERY, "properties"), mapping(attributes, "other_metadata")
        arrays = {image: array for image in (*BANDS, SCENE_CLASSIFICATION) if (array := _array(group, node_of(image)))}
        shapes = {
            BANDS[image].resolution_m: (array.shape[0], array.shape[1])
            for image, array in arrays.items()
            if image in BANDS
        }
        if shapes.keys() != {*RESOLUTIONS}:
            nodes = ", ".join(f"{REFLECTANCE}/r{resolution}m" for resolution in RESOLUTIONS if resolution not in shapes)
            raise InputError(f"The product {shown} has no bands in {nodes}; download it again.")
        images = {image: ZarrImage(self.location, root, node_of(image)) for image in arrays}
        first = next(image for image in arrays if image in BANDS and BANDS[image].resolution_m == 10)
        x, y = (_first_value(group, f"{REFLECTANCE}/r10m/{axis}") for axis in "xy")
        epsg = epsg_of(
            other.get("horizontal_crs_code"),
            *(nested(where, key) for key in ("proj:code", "proj:epsg") for where in _described(attributes)),
            _attribute(arrays[first].attrs, "proj:epsg"),
        )
        if epsg is None:
            raise InputError(f"{shown} states no coordinate system (horizontal_crs_code or proj:code in EPSG:32633).")
        status = str(other.get("product_quality_status") or stated.get("product_quality_status") or "").upper()
        return Tile(
            name=name["tile"],
            product=name[0],
            location=self.location,
            form=Form.EOPF,
            mgrs=name["mgrs"],
            sensing_time=sensing_start(name, (stated.get("start_datetime"), stated.get("datetime"))),
            baseline=baseline_of(name, stated.get("processing:version")),
            strip=strip_of(stated.get("eopf:datastrip_id") or other.get("datastrip_id")),
            epsg=epsg,
            ulx=round(x - 5),
            uly=round(y + 5),
            shape_yx=shapes,
            images=images,
            offsets={band: offset for band, array in arrays.items() if (offset := _offset(band, array)) is not None},
            offset_source="attributes",
            quality={OVERALL: status} if status else {},
            listed=frozenset(images),
            metadata_sha256=_digest(attributes, arrays),
            notes=_absent_chunks(self.location, root, arrays, name["tile"]),
            paths=() if is_address(self.location) else (Path(self.location),),
        )


def _spans(pixels: range, side: int) -> Iterator[tuple[int, int]]:
    """Divide pixels at the borders of chunks."""
    return pairwise([pixels.start, *range((pixels.start // side + 1) * side, pixels.stop, side), pixels.stop])


def is_eopf(folder: Path) -> bool:
    """Test if a folder is the root of a product in EOPF Zarr."""
    return any(_describes_product(file.read_bytes()) for name in ROOT_FILES if (file := folder / name).is_file())


def is_eopf_address(address: str) -> bool:
    """Test if a URL is that of a product in EOPF Zarr: by its name, else by its files."""
    path = urlsplit(address).path.rstrip("/").lower()
    if path.endswith((".zarr", ".json", ".geojson")) or urlsplit(address).query:
        return path.endswith(".zarr")
    for name in ROOT_FILES:
        with suppress(ReadError):
            return _describes_product(read_bytes(f"{address.rstrip('/')}/{name}"))
    return False


def is_eopf_zip(path: Path, members: Mapping[str, zipfile.ZipInfo]) -> bool:
    """Test if a zip file with these members holds one product in EOPF Zarr."""
    root = _root_of(members)
    if root is None:
        return False
    names = [f"{root}{name}" for name in ROOT_FILES if f"{root}{name}" in members]
    try:
        with zipfile.ZipFile(path) as archive:
            return any(_describes_product(archive.read(members[name])) for name in names)
    except (*_ERRORS, EOFError):
        return False


def _describes_product(content: bytes) -> bool:
    """Test if a file with attributes of a root, alone or among metadata of all nodes, has those of a product."""
    return DISCOVERY.encode() in content


def _root_of(members: Mapping[str, zipfile.ZipInfo]) -> str | None:
    """Path of the outermost Zarr group in a zip file, with ``/``; ``None`` if there is none."""
    roots = {name.removesuffix(file) for name in members for file in ROOT_FILES if f"/{name}".endswith(f"/{file}")}
    return min(roots, key=lambda root: (root.count("/"), root), default=None)


def _root_in(location: Location) -> str:
    if is_address(location) or Path(location).is_dir():
        return ""
    return (_root_of(read_members(Path(location))) or "").rstrip("/")


def _use_store(
    location: Location, use: Callable[[Store], T], explain: Callable[[str], str], error: type[InputError]
) -> T:
    try:
        with _opened(location) as store:
            return use(store)
    except InputError:
        raise
    except _errors_of(location) as raised:
        cause = without_credentials((str(raised) or type(raised).__name__).splitlines()[0]).rstrip(".")
    # Raised outside the handler: errors of stores, even as a context, may not be sent from a worker to the client.
    raise error(explain(cause))


@contextmanager
def _opened(location: Location) -> Iterator[Store]:
    with ExitStack() as stack:
        store: Store
        if is_address(location):
            store = zarr_store(str(location))
        elif Path(location).is_dir():
            store = LocalStore(location, read_only=True)
        else:
            store = ZipStore(location, mode="r")
        stack.callback(store.close)
        yield store


def _errors_of(location: Location) -> tuple[type[Exception], ...]:
    if not is_address(location):
        return _ERRORS
    from obstore.exceptions import BaseError  # noqa: PLC0415 - of the extra `remote`

    return (*_ERRORS, BaseError)


def _absent_chunks(location: Location, root: str, arrays: Mapping[str, zarr.Array[Any]], tile: str) -> tuple[str, ...]:
    """Note about chunks without a file, which are read as NODATA; remote stores are not checked."""
    if is_address(location):
        return ()
    path, total, absent = Path(location), 0, 0
    members = None if path.is_dir() else read_members(path)
    for image, array in arrays.items():
        sides = array.shards or array.chunks
        counts = [-(-px // side) for px, side in zip(array.shape, sides, strict=True)]
        if prod(counts) > MAX_CHUNKS:
            raise InputError(f"{image} of {tile} has {prod(counts):,} chunks, more than the limit of {MAX_CHUNKS:,}.")
        for place in np.ndindex(*counts):
            name = f"{node_of(image)}/{array.metadata.encode_chunk_key(place)}"
            total += 1
            absent += not ((path / name).is_file() if members is None else str(PurePosixPath(root, name)) in members)
    if not absent:
        return ()
    advice = "complete the download if it was interrupted"
    return (f"{tile} has no file for {absent:,} of {total:,} chunks, whose pixels are read as NODATA; {advice}.",)


def _array(group: zarr.Group, node: str) -> zarr.Array[Any] | None:
    found = group.get(node)
    return found if isinstance(found, zarr.Array) and found.ndim == 2 else None


def _first_value(group: zarr.Group, node: str) -> float:
    found = group.get(node)
    if isinstance(found, zarr.Array):
        return float(np.asarray(found[0:1])[0])
    raise LookupError(f"there is no array {node}")


def _described(attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """List the mappings in which ESA's writers state the position of a product."""
    discovery = attributes.get(DISCOVERY)
    return (nested(discovery, "properties"), discovery, attributes, attributes.get("other_metadata"))


def _attribute(attributes: Any, name: str) -> Any:
    """Attribute of an array, which ESA's writer may state in ``_eopf_attrs`` alone."""
    value = attributes.get(name)
    return nested(attributes.get("_eopf_attrs"), name) if value is None else value


def _offset(image: str, array: zarr.Array[Any]) -> int | None:
    """Offset of a band in DN; ``None`` if it is not stated."""
    offset, scale = _attribute(array.attrs, "add_offset"), _attribute(array.attrs, "scale_factor")
    if offset is None or image not in BANDS:
        return None
    try:
        return round(float(offset) / float(1 if scale is None else scale))
    except (ValueError, TypeError, ArithmeticError):
        raise InputError(f"add_offset {offset!r} and scale_factor {scale!r} of {image} are not numbers.") from None


def _digest(attributes: Mapping[str, Any], arrays: Mapping[str, zarr.Array[Any]]) -> str:
    described = {name: [each.shape, each.chunks, str(each.dtype), dict(each.attrs)] for name, each in arrays.items()}
    text = json.dumps([attributes, described], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
