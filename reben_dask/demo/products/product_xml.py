"""The two metadata files of a Level-2A product: ``MTD_MSIL2A.xml`` and the granule's ``MTD_TL.xml``."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
import pyproj

from reben_dask.demo.ground.layout import EPSG
from reben_dask.demo.products.acquisitions import QUALITY_CHECKS, RELATIVE_ORBIT, Acquisition
from reben_dask.demo.products.scene import WEDGE_SIDES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import numpy.typing as npt

_SCHEMAS = "https://psd-14.sentinel2.eo.esa.int/PSD"
_SCL_NAMES = (
    "NODATA", "SATURATED_DEFECTIVE", "CAST_SHADOW", "CLOUD_SHADOW", "VEGETATION", "NOT_VEGETATED", "WATER",
    "UNCLASSIFIED", "CLOUD_MEDIUM_PROBA", "CLOUD_HIGH_PROBA", "THIN_CIRRUS", "SNOW_ICE",
)  # fmt: skip
_CLOUDS = (8, 9, 10)
_SHARES = {
    "SATURATED_DEFECTIVE_PIXEL_PERCENTAGE": 1, "CLOUD_SHADOW_PERCENTAGE": 3, "VEGETATION_PERCENTAGE": 4,
    "NOT_VEGETATED_PERCENTAGE": 5, "WATER_PERCENTAGE": 6, "UNCLASSIFIED_PERCENTAGE": 7,
    "MEDIUM_PROBA_CLOUDS_PERCENTAGE": 8, "HIGH_PROBA_CLOUDS_PERCENTAGE": 9, "THIN_CIRRUS_PERCENTAGE": 10,
    "SNOW_ICE_PERCENTAGE": 11,
}  # fmt: skip
_PHYSICAL_BANDS = 13


def product_metadata(acquisition: Acquisition, images: Iterable[str], scl: npt.NDArray[np.uint8]) -> bytes:
    """Write ``MTD_MSIL2A.xml``.

    Parameters
    ----------
    acquisition : Acquisition
        What the product is.
    images : iterable of str
        ``IMAGE_FILE`` entries: exactly the images on disk.
    scl : ndarray of uint8, shape (y, x)
        Scene classification, from which the percentages are counted.

    Returns
    -------
    bytes
        The file's content.
    """
    root = _root("Level-2A_User_Product", "User_Product_Level-2A.xsd")
    general = _child(root, "n1:General_Info")
    _product_info(_child(general, "Product_Info"), acquisition, images)
    _image_characteristics(_child(general, "Product_Image_Characteristics"), acquisition)
    _footprint(_child(root, "n1:Geometric_Info"), acquisition)
    _quality(_child(root, "n1:Quality_Indicators_Info"), acquisition, scl)
    return _text(root)


def granule_metadata(acquisition: Acquisition, scl: npt.NDArray[np.uint8]) -> bytes:
    """Write ``MTD_TL.xml``; see :func:`product_metadata`."""
    tile = acquisition.tile
    root = _root("Level-2A_Tile_ID", "S2_PDI_Level-2A_Tile_Metadata.xsd")
    general = _child(root, "n1:General_Info")
    _child(general, "TILE_ID", _long_name(acquisition, "TL"), metadataLevel="Brief")
    _child(general, "DATASTRIP_ID", _long_name(acquisition, "DS"), metadataLevel="Standard")
    _child(general, "DOWNLINK_PRIORITY", "NOMINAL", metadataLevel="Standard")
    _child(general, "SENSING_TIME", _iso(acquisition.start), metadataLevel="Standard")
    coding = _child(_child(root, "n1:Geometric_Info"), "Tile_Geocoding", metadataLevel="Brief")
    _child(coding, "HORIZONTAL_CS_NAME", "WGS84 / UTM zone 33N")
    _child(coding, "HORIZONTAL_CS_CODE", f"EPSG:{EPSG}")
    for resolution in (10, 20, 60):
        _fill(_child(coding, "Size", resolution=str(resolution)), NROWS=tile.side_m // resolution,
              NCOLS=tile.side_m // resolution)  # fmt: skip
    for resolution in (10, 20, 60):
        _fill(_child(coding, "Geoposition", resolution=str(resolution)), ULX=tile.ulx, ULY=tile.uly, XDIM=resolution,
              YDIM=-resolution)  # fmt: skip
    quality = _child(_child(root, "n1:Quality_Indicators_Info", metadataLevel="Standard"), "Image_Content_QI")
    _fill(quality, CLOUDY_PIXEL_PERCENTAGE=_cloud_cover(scl), DEGRADED_MSI_DATA_PERCENTAGE=0)
    return _text(root)


def _product_info(info: ET.Element, acquisition: Acquisition, images: Iterable[str]) -> None:
    start = _iso(acquisition.start)
    _fill(info, PRODUCT_START_TIME=start, PRODUCT_STOP_TIME=start, PRODUCT_URI=acquisition.product,
          PROCESSING_LEVEL="Level-2A", PRODUCT_TYPE="S2MSI2A", PROCESSING_BASELINE=acquisition.baseline,
          GENERATION_TIME=_iso(acquisition.generated), PREVIEW_IMAGE_URL="Not applicable",
          PREVIEW_GEO_INFO="Not applicable")  # fmt: skip
    orbit = f"{acquisition.absolute_orbit:06d}_N{acquisition.baseline}"
    datatake = _child(info, "Datatake", datatakeIdentifier=f"G{acquisition.platform}_{acquisition.datatake}_{orbit}")
    _fill(datatake, SPACECRAFT_NAME=f"Sentinel-{acquisition.platform[1:]}", DATATAKE_TYPE="INS-NOBS",
          DATATAKE_SENSING_START=start, SENSING_ORBIT_NUMBER=RELATIVE_ORBIT,
          SENSING_ORBIT_DIRECTION="DESCENDING")  # fmt: skip
    _fill(_child(info, "Query_Options", completeSingleTile="true"), PRODUCT_FORMAT="SAFE_COMPACT")
    listing = _child(_child(info, "Product_Organisation"), "Granule_List")
    granule = _child(listing, "Granule", datastripIdentifier=_long_name(acquisition, "DS"),
                     granuleIdentifier=_long_name(acquisition, "TL"), imageFormat="JPEG2000")  # fmt: skip
    for image in images:
        _child(granule, "IMAGE_FILE", image)


def _image_characteristics(node: ET.Element, acquisition: Acquisition) -> None:
    for name, value in (("NODATA", 0), ("SATURATED", 65535)):
        _fill(_child(node, "Special_Values"), SPECIAL_VALUE_TEXT=name, SPECIAL_VALUE_INDEX=value)
    _fill(_child(node, "Image_Display_Order"), RED_CHANNEL=3, GREEN_CHANNEL=2, BLUE_CHANNEL=1)
    scale = _child(node, "QUANTIFICATION_VALUES_LIST")
    _child(scale, "BOA_QUANTIFICATION_VALUE", "10000", unit="none")
    _child(scale, "AOT_QUANTIFICATION_VALUE", "1000.0", unit="none")
    _child(scale, "WVP_QUANTIFICATION_VALUE", "1000.0", unit="cm")
    if acquisition.offset:
        offsets = _child(node, "BOA_ADD_OFFSET_VALUES_LIST")
        for band in range(_PHYSICAL_BANDS):
            _child(offsets, "BOA_ADD_OFFSET", str(-acquisition.offset), band_id=str(band))
    classes = _child(node, "Scene_Classification_List")
    for index, name in enumerate(_SCL_NAMES):
        _fill(_child(classes, "Scene_Classification_ID"), SCENE_CLASSIFICATION_TEXT=f"SC_{name}",
              SCENE_CLASSIFICATION_INDEX=index)  # fmt: skip


def _footprint(node: ET.Element, acquisition: Acquisition) -> None:
    """Write the corners of what was seen, as latitude and longitude, clockwise from the upper left."""
    box, side = acquisition.tile.box, acquisition.tile.side_m
    corners = [(box.west, box.north), (box.east, box.north), (box.east, box.south), (box.west, box.south)]
    if acquisition.wedge:
        corners[2:3] = [(box.east, box.south + WEDGE_SIDES[1] * side), (box.east - WEDGE_SIDES[0] * side, box.south)]
    to_degrees = pyproj.Transformer.from_crs(EPSG, 4326)
    points = [to_degrees.transform(*corner) for corner in [*corners, corners[0]]]
    outer = _child(node, "Product_Footprint")
    ring = _child(_child(outer, "Product_Footprint"), "Global_Footprint")
    _child(ring, "EXT_POS_LIST", "".join(f"{latitude:.6f} {longitude:.6f} " for latitude, longitude in points))
    _fill(outer, RASTER_CS_TYPE="POINT", PIXEL_ORIGIN=1)
    system = _child(node, "Coordinate_Reference_System")
    _child(system, "GEO_TABLES", "EPSG", version="1")
    _fill(system, HORIZONTAL_CS_TYPE="GEOGRAPHIC")


def _quality(node: ET.Element, acquisition: Acquisition, scl: npt.NDArray[np.uint8]) -> None:
    _fill(node, Cloud_Coverage_Assessment=_cloud_cover(scl))
    _fill(_child(node, "Technical_Quality_Assessment"), DEGRADED_ANC_DATA_PERCENTAGE="0.0",
          DEGRADED_MSI_DATA_PERCENTAGE=0)  # fmt: skip
    checks = _child(node, "Quality_Control_Checks")
    inspections = _child(checks, "Quality_Inspections")
    for check in QUALITY_CHECKS:
        _child(inspections, "quality_check", "FAILED" if check in acquisition.failed else "PASSED", checkType=check)
    failures = _child(checks, "Failed_Inspections")
    for check in acquisition.failed:
        _child(failures, "Datastrip_Report", check, datastripId=_long_name(acquisition, "DS"))
    content = _child(node, "Image_Content_QI")
    counts = np.bincount(scl.ravel(), minlength=len(_SCL_NAMES))
    _fill(content, NODATA_PIXEL_PERCENTAGE=_percent(counts[0], scl.size))
    valid = scl.size - counts[0]
    _fill(content, **{name: _percent(counts[value], valid) for name, value in _SHARES.items()})


def _cloud_cover(scl: npt.NDArray[np.uint8]) -> str:
    return _percent(np.isin(scl, _CLOUDS).sum(), np.count_nonzero(scl))


def _percent(part: np.integer | int, whole: np.integer | int) -> str:
    return f"{100 * int(part) / int(whole):.6f}"


def _long_name(acquisition: Acquisition, kind: str) -> str:
    """Name of the datastrip (``DS``) or of the granule (``TL``) as the ground segment has it."""
    start = f"{acquisition.platform}_OPER_MSI_L2A_{kind}_DEMO_{acquisition.made}"
    if kind == "DS":
        return f"{start}_S{acquisition.sensed}_N{acquisition.baseline}"
    return f"{start}_A{acquisition.absolute_orbit:06d}_T{acquisition.tile.mgrs}_N{acquisition.baseline}"


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.024Z")


def _root(name: str, schema: str) -> ET.Element:
    return ET.Element(f"n1:{name}", {"xmlns:n1": f"{_SCHEMAS}/{schema}"})


def _child(parent: ET.Element, tag: str, content: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = content
    return element


def _fill(parent: ET.Element, **contents: object) -> None:
    """Add children that hold nothing but a value."""
    for tag, content in contents.items():
        _child(parent, tag, str(content))


def _text(root: ET.Element) -> bytes:
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text
