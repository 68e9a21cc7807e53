"""Vector files as they are downloaded: a file, an archive or a folder that holds one, a path of GDAL, FILE:LAYER."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import pyarrow.parquet as pq
import pyogrio
import pyproj

from reben_dask.errors import InputError, missing
from reben_dask.locks import supports_record_locks
from reben_dask.sources.gdal import use_image

PARQUET = (".parquet", ".geoparquet")
_SUFFIXES = (".gpkg", ".gdb", ".shp", ".fgb", *PARQUET, ".geojson", ".geojsonl", ".json", ".gml", ".sqlite")
_SHAPE = (".shp", ".shx", ".dbf", ".prj", ".cpg")
_RASTERS = (".tif", ".tiff", ".img", ".vrt", ".jp2")
_READ_ERRORS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)


@dataclass(frozen=True)
class VectorFile:
    """File that GDAL or Arrow reads, by itself or inside an archive or a folder."""

    location: str
    """Path for GDAL, which starts with ``/vsizip/`` inside an archive."""

    inside: PurePosixPath
    """Path in the archive or folder; the name of a file that is given by itself."""

    @property
    def stem(self) -> str:
        """Name without suffixes."""
        name = self.inside.name
        return re.sub(r"(\.zip|\.gpkg|\.gdb|\.shp|\.fgb|\.parquet|\.geoparquet)+$", "", name, flags=re.IGNORECASE)

    @property
    def is_parquet(self) -> bool:
        """True for GeoParquet, a file or a folder of parts."""
        return self.inside.suffix.lower() in PARQUET


class Layer(NamedTuple):
    """Description of a layer that may hold polygons, without its rows."""

    file: VectorFile
    name: str
    fields: tuple[str, ...]
    crs: str | None
    rows: int
    bounds: tuple[float, ...] | None
    """``(minx, miny, maxx, maxy)`` in ``crs``, if the file stores them."""
    about: str


def split_layer(path: str) -> tuple[str, str | None]:
    """Split ``FILE:LAYER`` at its last colon, unless it exists as a path or the part before the colon does not."""
    file, colon, layer = path.rpartition(":")
    is_file = not colon or not layer or Path(path).exists() or not (Path(file).exists() or is_gdal_path(file))
    return (path, None) if is_file else (file, layer)


def is_gdal_path(path: str) -> bool:
    """Check for a path of GDAL's virtual file systems, such as ``/vsizip/``."""
    return path.startswith("/vsi")


def absolute_path(path: str) -> str:
    """Return the path for workers with another working directory; links and paths of GDAL stay as they are."""
    return path if is_gdal_path(path) else os.path.abspath(path)  # noqa: PTH100


def find_vector_files(path: str, what: str) -> list[VectorFile]:
    """List the vector files of a path, the least nested first.

    Parameters
    ----------
    path : str
        A vector file, a zip archive or a folder that holds some at any depth, or a path of GDAL.
    what : str
        Begins the sentence of an error, such as ``"The land-cover map"``.

    Raises
    ------
    InputError
        If the path does not exist, is a raster, or holds no vector file.
    """
    if is_gdal_path(path):
        archive = path.removeprefix("/vsizip/")
        if not (path.startswith("/vsizip/") and Path(archive).is_file()):
            return [VectorFile(path, PurePosixPath(PurePosixPath(path).name))]
        path = archive
    disk = Path(path)
    if not disk.exists():
        raise InputError(missing(what, path))
    is_folder = disk.is_dir() and disk.suffix.lower() not in (".gdb", *PARQUET)
    if not is_folder and disk.suffix.lower() != ".zip":
        return [VectorFile(path, PurePosixPath(disk.name))]
    names = list(_in_folder(disk) if is_folder else _in_archive(path, what))
    found = {VectorFile(location, inside) for location, inside in names if inside.suffix.lower() in _SUFFIXES}
    if found:
        return sorted(found, key=lambda file: (len(file.inside.parts), str(file.inside)))
    if rasters := [inside for _, inside in names if inside.suffix.lower() in _RASTERS]:
        raise InputError(_no_raster(what, path, f"holds the raster {rasters[0].name}"))
    raise InputError(
        f"{what} {path} holds no vector file ({', '.join(_SUFFIXES[:5])}, …); give the vector file itself."
    )


def without_locks(path: str) -> bool:
    """Test for a GeoPackage on a disk without locks, and let GDAL read it without them in this process.

    GDAL reports it as locked, after ten seconds.
    """
    is_database = path.lower().endswith((".gpkg", ".sqlite")) and not is_gdal_path(path)
    if not is_database or supports_record_locks(Path(path)):
        return False
    pyogrio.set_gdal_config_options({"SQLITE_USE_OGR_VFS": True})
    return True


def find_layers(path: str, what: str) -> list[Layer]:
    """Describe the layers of all vector files of a path; see :func:`find_vector_files` and :func:`read_layers`."""
    return [layer for file in find_vector_files(path, what) for layer in read_layers(file, what)]


def read_layers(file: VectorFile, what: str) -> list[Layer]:
    """Describe the layers of a file that may hold polygons; :class:`InputError` if it is unreadable or a raster."""
    without_locks(file.location)
    try:
        if file.is_parquet:
            return [_parquet_layer(file)]
        names = [str(name) for name, kind in pyogrio.list_layers(file.location) if kind and _may_hold_polygons(kind)]
        return [
            _described(file, pyogrio.read_info(file.location, layer=name, force_feature_count=True)) for name in names
        ]
    except (*_READ_ERRORS, OSError, ValueError, KeyError, pyproj.exceptions.CRSError) as error:
        cause = str(error).rstrip(".")
    if size := _raster_size(file.location):
        raise InputError(_no_raster(what, file.location, f"is a raster of {size}"))
    raise InputError(f"{what} {file.location} cannot be read ({cause}).")


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """Name layers for a message, with the file where there are several, and it is not named as the layer."""
    files = {layer.file for layer in layers}
    return [
        layer.name if len(files) == 1 or layer.file.stem == layer.name else f"{layer.name} in {layer.file.inside}"
        for layer in layers
    ]


def files_on_disk(location: str) -> list[Path]:
    """Files of a vector dataset, without locks, journals and hidden files.

    A shapefile has several side by side, a file geodatabase is a folder; for a path inside an archive it is the
    archive, and for a network path there is none.
    """
    path = Path(location)
    if is_gdal_path(location):
        inner = Path(re.sub(r"^(/vsizip/\{?)+", "", location).replace("}", ""))
        return [next(file for file in (inner, *inner.parents) if file.is_file() or file == file.parent)]
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and is_input(file.relative_to(path)))
    if path.suffix.lower() == ".shp":
        return sorted(
            file for file in path.parent.iterdir() if file.stem == path.stem and file.suffix.lower() in _SHAPE
        )
    return [path]


def is_input(relative: Path) -> bool:
    """Return False for hidden files, locks and journals that other programs leave beside data."""
    is_hidden = any(part.startswith(".") for part in relative.parts)
    return not is_hidden and not relative.name.lower().endswith((".lock", "-wal", "-shm", "-journal"))


def parquet_parts(file: VectorFile) -> Iterator[Path | IO[bytes]]:
    """Files of a GeoParquet dataset one after the other, opened where they are inside an archive."""
    if is_gdal_path(file.location):
        archive = str(files_on_disk(file.location)[0])
        name = file.location.partition(archive)[2].lstrip("}/")
        with zipfile.ZipFile(archive) as content, content.open(name) as member:
            yield member
        return
    whole = Path(file.location)
    yield from (part for part in files_on_disk(file.location) if part == whole or part.suffix.lower() in PARQUET)


def geo_metadata(opened: pq.ParquetFile) -> tuple[str, dict[str, Any]]:
    """Read the geometry column of a GeoParquet file and its metadata; ValueError if it has none."""
    stored = (opened.schema_arrow.metadata or {}).get(b"geo")
    if stored is None:
        raise ValueError("it is not GeoParquet: its metadata have no key geo; write it with GeoPandas or GDAL")
    geo = json.loads(stored)
    column = str(geo["primary_column"])
    return column, geo["columns"][column]


def _in_folder(folder: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Files of a folder and of the archives in it; a geodatabase counts as one file."""
    for file in sorted(folder.rglob("*")):
        inside = PurePosixPath(file.relative_to(folder).as_posix())
        if not is_input(Path(inside)) or _geodatabase_of(inside.parent):
            continue
        if file.suffix.lower() == ".zip" and file.is_file():
            yield from ((location, inside / name) for location, name in _in_archive(str(file), "The archive"))
        elif file.is_file() or file.suffix.lower() == ".gdb":
            yield str(file), inside


def _in_archive(path: str, what: str) -> Iterator[tuple[str, PurePosixPath]]:
    """Members of a zip archive and of the archives in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _members(archive, f"/vsizip/{{{path}}}")
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{what} {path} cannot be read ({error}); download it again.") from None


def _members(archive: zipfile.ZipFile, location: str) -> Iterator[tuple[str, PurePosixPath]]:
    for name in sorted(archive.namelist()):
        inside = PurePosixPath(name)
        if name.endswith("/") or not is_input(Path(inside)):
            continue
        if database := _geodatabase_of(inside):
            yield f"{location}/{database}", database
        elif inside.suffix.lower() == ".zip":
            with archive.open(name) as member, zipfile.ZipFile(member) as nested:
                found = list(_members(nested, f"/vsizip/{{{location}/{name}}}"))
            yield from ((place, inside / below) for place, below in found)
        else:
            yield f"{location}/{name}", inside


def _geodatabase_of(inside: PurePosixPath) -> PurePosixPath | None:
    return next((path for path in (inside, *inside.parents) if path.suffix.lower() == ".gdb"), None)


def _may_hold_polygons(kind: str) -> bool:
    """Test if a layer may hold polygons; many programs declare its type as unknown."""
    return "Polygon" in kind or "Surface" in kind or kind in {"Unknown", "Geometry", "GeometryCollection"}


def _described(file: VectorFile, info: dict[str, Any]) -> Layer:
    bounds = info["total_bounds"] if info["features"] else None
    return Layer(
        file=file,
        name=str(info["layer_name"]),
        fields=tuple(map(str, info["fields"])),
        crs=info["crs"],
        rows=int(info["features"]),
        bounds=None if bounds is None else tuple(map(float, bounds)),
        about=(info["layer_metadata"] or {}).get("DESCRIPTION", ""),
    )


def _parquet_layer(file: VectorFile) -> Layer:
    rows, boxes, first = 0, [], None
    for opened in map(pq.ParquetFile, parquet_parts(file)):
        column, geometry = geo_metadata(opened)
        rows += opened.metadata.num_rows
        boxes.append(geometry.get("bbox"))
        first = first or (column, geometry, opened.schema_arrow.names)
    if first is None:
        raise ValueError("it has no part")
    column, geometry, names = first
    return Layer(
        file=file,
        name=file.stem,
        fields=tuple(name for name in names if name != column),
        crs=_crs_of(geometry),
        rows=rows,
        bounds=_united(boxes) if rows else None,
        about="",
    )


def _crs_of(geometry: dict[str, Any]) -> str | None:
    """Coordinate reference system of GeoParquet: longitude and latitude by default, unknown if null."""
    stored = geometry.get("crs", "OGC:CRS84")
    if stored is None:
        return None
    crs = pyproj.CRS.from_user_input(stored)
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_wkt()


def _united(boxes: Sequence[Sequence[float] | None]) -> tuple[float, ...] | None:
    """Bounds of all parts; ``None`` if one stores none, or if they cross the 180th meridian."""
    known = [box for box in boxes if box and len(box) == 4 and box[0] <= box[2]]
    if len(known) < len(boxes):
        return None
    west, south, east, north = zip(*known, strict=True)
    return (min(west), min(south), max(east), max(north))


def _raster_size(location: str) -> str | None:
    try:
        return use_image(location, lambda image: f"{image.width:,} x {image.height:,} cells", str)
    except InputError:
        return None


def _no_raster(what: str, path: str, found: str) -> str:
    return (
        f"{what} {path} {found}; raster maps are not read yet. Give the vector map (polygons) of the same release, "
        "such as the GeoPackage U2018_CLC2018_V2020_20u1.gpkg."
    )
