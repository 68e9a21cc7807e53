"""Images of Sentinel-1 scenes: polarisation, satellite and start time from the names of common processors, or a CSV.

=====================  ===============================================================================
processor              example
=====================  ===============================================================================
SNAP                   ``S1A_IW_GRDH_1SDV_20180724T165131_…_ABCD_Orb_Cal_TC_dB_VV.tif``
SNAP (BEAM-DIMAP)      ``S1A_IW_GRDH_1SDV_20180724T165131_…_TC.data/Sigma0_VV_db.img``
HyP3                   ``S1A_IW_20180724T165131_DVP_RTC20_G_gpuned_ABCD_VV.tif``
pyroSAR                ``S1A__IW___A_20180724T165131_VV_gamma0-rtc_db.tif``
ESA COG                ``s1a-iw-grd-vv-20180724t165131-…-001-cog.tiff``
OPERA RTC-S1           ``OPERA_L2_RTC-S1_T124-264302-IW1_20180724T165131Z_…_S1A_30_v1.0_VV.tif``
Planetary Computer     ``S1A_IW_GRDH_1SDV_20180724T165131_…_rtc/measurement/iw-vv.rtc.tiff``
=====================  ===============================================================================

What the name of a file lacks is taken from the nearest folder above it that has satellite and time.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import POLARISATIONS

CSV_COLUMNS = ("file", "polarisation", "satellite", "time")
"""Columns of a table of images; ``file`` is relative to the table, ``time`` in ISO 8601, UTC without an offset."""

_ENDINGS = (".tif", ".tiff", ".img")
_ALONE = r"(?<![A-Za-z0-9]){}(?![A-Za-z0-9])"
_POLARISATION = re.compile(_ALONE.format("(VV|VH)"), re.IGNORECASE)
_SEPARATED = re.compile(rf"[_-]?{_POLARISATION.pattern}", re.IGNORECASE)
_SATELLITE = re.compile(_ALONE.format("(S1[A-D])"), re.IGNORECASE)
_TIME = re.compile(_ALONE.format(r"(\d{8}T\d{6})Z?"), re.IGNORECASE)
_MODE = re.compile(_ALONE.format("(IW|EW|SM)"), re.IGNORECASE)
_PRODUCT = re.compile(_ALONE.format("(GRD[HMF]_1S[DS][VH])"), re.IGNORECASE)
_FOLDER_ENDINGS = (".data", ".SAFE")


@dataclass
class SceneImages:
    """Images of one scene by polarisation."""

    name: str
    """Name of its files without the polarisation, or of its folder."""
    short_name: str
    """Satellite, mode, product and time: the start of patch names, such as ``S1A_IW_GRDH_1SDV_20180724T165131``."""
    time: datetime
    """Start of sensing, in UTC."""
    images: dict[str, str] = field(default_factory=dict)

    def add(self, polarisation: str, path: Path) -> None:
        """Add an image; :class:`InputError` if there is one of this polarisation."""
        other = self.images.setdefault(polarisation, str(path))
        if other != str(path):
            raise InputError(
                f"The Sentinel-1 scene {self.name} has two images of {polarisation}, {other} and {path}; leave one out."
            )


def find_images(path: str) -> list[SceneImages]:
    """Group the images of a folder, at any depth, or of a CSV table by scene, in the order of their names.

    :class:`InputError` if there is none, one is given twice, or the table is damaged.
    """
    root = Path(path).absolute()
    scenes: dict[tuple[str, ...], SceneImages] = {}
    if root.is_file():
        found = _read_table(root)
    elif root.is_dir():
        found = _find_in_folder(root)
    else:
        raise InputError(missing("The folder of Sentinel-1 scenes", path))
    for key, scene, polarisation, image in found:
        scenes.setdefault(key, scene).add(polarisation, image)
    if not scenes:
        raise InputError(
            f"No Sentinel-1 scene found in {path}; expected files such as S1A_IW_GRDH_1SDV_20170613T165043_…_VV.tif, "
            f"or a CSV with the columns {', '.join(CSV_COLUMNS)} that describes each file."
        )
    return [scenes[key] for key in sorted(scenes)]


def _find_in_folder(root: Path) -> Iterator[tuple[tuple[str, ...], SceneImages, str, Path]]:
    for file in sorted(root.rglob("*")):
        polarisations = {found.upper() for found in _POLARISATION.findall(file.stem)}
        if file.suffix.lower() not in _ENDINGS or len(polarisations) != 1:
            continue
        rest = _SEPARATED.sub("", file.stem)
        above = [folder.name for folder in file.parents if folder.is_relative_to(root)]
        for text in (file.stem, *above):
            if scene := _parse(text):
                if text == file.stem:
                    scene.name = rest
                yield (scene.name, rest), scene, polarisations.pop(), file
                break


def _parse(text: str) -> SceneImages | None:
    satellite, time = _SATELLITE.search(text), _TIME.search(text)
    if satellite is None or time is None:
        return None
    try:
        start = datetime.strptime(time[1].upper(), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    mode, product = _MODE.search(text), _PRODUCT.search(text)
    name = next((text.removesuffix(ending) for ending in _FOLDER_ENDINGS if text.endswith(ending)), text)
    short = _short_name(satellite[1], start, mode[1] if mode else "IW", product[1] if product else None)
    return SceneImages(name, short, start)


def _short_name(satellite: str, time: datetime, mode: str = "IW", product: str | None = None) -> str:
    # Products of other processors do not say what they were made of; both polarisations are always there.
    return f"{satellite}_{mode}_{product or 'RTC_1SDV'}_{time:%Y%m%dT%H%M%S}".upper()


def _read_table(path: Path) -> Iterator[tuple[tuple[str, ...], SceneImages, str, Path]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            rows, columns = list(table), table.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The table of Sentinel-1 images {path} cannot be read ({error}).") from None
    if lacking := [name for name in CSV_COLUMNS if name not in columns]:
        raise InputError(
            f"{path} has no column {', '.join(lacking)}; a table of Sentinel-1 images has {', '.join(CSV_COLUMNS)}."
        )
    for line, row in enumerate(rows, start=2):
        name, polarisation, satellite, text = ((row[name] or "").strip() for name in CSV_COLUMNS)
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise InputError(f"Line {line} of {path} has the time {text!r}; give it as 2018-07-24T16:51:31.") from None
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if polarisation.upper() not in POLARISATIONS:
            raise InputError(f"Line {line} of {path} has the polarisation {polarisation!r}; it must be VV or VH.")
        if not _SATELLITE.fullmatch(satellite):
            raise InputError(f"Line {line} of {path} has the satellite {satellite!r}; it must be S1A, S1B, S1C or S1D.")
        image = path.parent / name
        if not image.is_file():
            raise InputError(f"Line {line} of {path} names {name!r}, which does not exist.")
        scene = _short_name(satellite, time)
        yield (scene,), SceneImages(scene, scene, time), polarisation.upper(), image
