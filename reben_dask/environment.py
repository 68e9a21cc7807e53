"""Checks of a machine's software and settings before a job starts."""

from __future__ import annotations

import os

from reben_dask.errors import SetupError

_PROJ_SETTINGS = ("PROJ_DATA", "PROJ_LIB")
_QUERY_PLANNING = "dataframe.query-planning"


def require_building() -> None:
    """Raise :class:`SetupError` on systems where datasets can only be read, verified and used."""
    try:
        import fcntl  # noqa: F401, PLC0415
    except ImportError:
        raise SetupError(
            "Datasets are built and converted on Linux, macOS, or Windows with WSL only: this Python has no module "
            "fcntl. Reading, verifying and training work here."
        ) from None
    if problem := dask_problem():
        raise SetupError(problem)


def require_libraries(*, jpeg2000: bool) -> None:
    """Raise :class:`SetupError` if coordinate systems, or images in JPEG 2000 if needed, cannot be read here."""
    if problem := library_problem(jpeg2000=jpeg2000):
        raise SetupError(problem)


def library_problem(*, jpeg2000: bool) -> str | None:
    """Describe why coordinate systems, or images in JPEG 2000 if needed, cannot be read here."""
    return proj_problem() or (jpeg2000_problem() if jpeg2000 else None)


def dask_problem() -> str | None:
    """Describe a setting of Dask with which its data frames cannot be imported."""
    from dask import config  # noqa: PLC0415 - takes long to import, for --help

    if config.get(_QUERY_PLANNING, None) is not False:
        return None
    files = [path for path, found in config.collect_yaml(config.paths, return_paths=True) if _is_switched_off(found)]
    where = f"in {files[-1]}" if files else "in the variable DASK_DATAFRAME__QUERY_PLANNING"
    return f"Dask's configuration sets {_QUERY_PLANNING}: false {where}, which Dask no longer supports; remove it."


def proj_problem() -> str | None:
    """Describe why coordinate systems are not found: mostly the PROJ data of another installation."""
    import pyproj  # noqa: PLC0415 - takes long to import, for --help
    import rasterio  # noqa: PLC0415
    from rasterio.crs import CRS  # noqa: PLC0415
    from rasterio.errors import CRSError  # noqa: PLC0415

    try:
        library = f"rasterio {rasterio.__version__}"
        with rasterio.Env():  # or GDAL prints its errors
            CRS.from_epsg(32633).to_wkt()
        library = f"pyproj {pyproj.__version__}"
        pyproj.CRS.from_epsg(32633)
    except (CRSError, pyproj.exceptions.ProjError) as error:
        cause = str(error).rpartition("PROJ: ")[2].rstrip(".")
    else:
        return None
    settings = [f"{name}={os.environ[name]}" for name in _PROJ_SETTINGS if name in os.environ]
    if not settings:
        return f"{library} finds no usable PROJ data ({cause}); install it again."
    names = " and ".join(setting.partition("=")[0] for setting in settings)
    return (
        f"{' and '.join(settings)} gives the PROJ data of another installation, in which {library} finds no coordinate "
        f"systems ({cause}); unset {names}."
    )


def names_proj_data() -> bool:
    """Test if the environment names PROJ data, which may be those of another installation."""
    return not os.environ.keys().isdisjoint(_PROJ_SETTINGS)


def jpeg2000_problem() -> str | None:
    """Describe why images in JPEG 2000 cannot be read."""
    import rasterio  # noqa: PLC0415 - takes long to import, for --help

    with rasterio.Env() as environment:
        if any(name.startswith(("JP2", "JPEG2000")) for name in environment.drivers()):
            return None
    skipped = os.environ.get("GDAL_SKIP", "")
    if "JP2" in skipped:
        cause, remedy = f"GDAL_SKIP={skipped} leaves it out", "unset GDAL_SKIP"
    else:
        cause, remedy = (
            f"rasterio {rasterio.__version__}",
            "install libgdal-jp2openjpeg with conda, or rasterio with pip",
        )
    return f"GDAL has no driver for JPEG 2000 ({cause}), in which the images of Sentinel-2 products are; {remedy}."


def _is_switched_off(settings: object) -> bool:
    """Check a file of Dask's settings, in which names may be nested or joined by a dot."""
    from dask import config  # noqa: PLC0415

    return isinstance(settings, dict) and config.get(_QUERY_PLANNING, None, config=settings) is False
