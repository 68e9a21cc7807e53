"""L2A products as archives, mirrors and old baselines keep them: all are read as the present form is."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from reben_dask.errors import InputError
from reben_dask.sources.sentinel2 import read_band, read_tile
from reben_dask.sources.sentinel2.lazy_cube import open_tile

METADATA = "MTD_MSIL2A.xml"
IMAGES = {"B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B11", "B12", "B8A", "SCL"}


@pytest.fixture(scope="module")
def mini(data_dir: Path) -> Path:
    return next((data_dir / "mini").glob("*.SAFE"))


@pytest.fixture
def product(mini: Path, tmp_path: Path) -> Path:
    """A copy of the small product that a test may change."""
    return Path(shutil.copytree(mini, tmp_path / "copy" / mini.name, copy_function=shutil.copyfile))


def three_lists(xml: str) -> str:
    """One list of the same granule for each resolution, as up to baseline 02.07."""
    head, granule, images, rest = re.fullmatch(
        r"(.*)<Granule_List>\s*(<Granule [^>]*>)(.*?)</Granule>\s*</Granule_List>(.*)", xml, re.DOTALL
    ).groups()
    files = re.findall(r"<IMAGE_FILE>.*?</IMAGE_FILE>", images)
    lists = (granule + "".join(file for file in files if f"/R{metres}m/" in file) for metres in (60, 20, 10))
    return head + "".join(f"<Granule_List>{each}</Granule></Granule_List>" for each in lists) + rest


def old_names(image: str) -> Callable[[str], str]:
    """The element names up to baseline 02.06."""

    def change(xml: str) -> str:
        xml = three_lists(xml)
        for tag in ("Product_Info", "Product_Organisation", "Product_Image_Characteristics"):
            xml = re.sub(rf"<(/?){tag}>", rf"<\1L2A_{tag}>", xml)
        xml = re.sub(r"<(/?)IMAGE_FILE>", rf"<\1{image}>", xml)
        uri = re.search(r"<PRODUCT_URI>(.*?)</PRODUCT_URI>", xml)[1]
        old = (
            f"<PRODUCT_URI_1C>{uri.replace('MSIL2A', 'MSIL1C')}</PRODUCT_URI_1C><PRODUCT_URI_2A>{uri}</PRODUCT_URI_2A>"
        )
        return xml.replace(f"<PRODUCT_URI>{uri}</PRODUCT_URI>", old)

    return change


def names_only(xml: str) -> str:
    """Images by their names alone, without folders."""
    return re.sub(r"(<IMAGE_ID_2A>)[^<]*/", r"\1", old_names("IMAGE_ID_2A")(xml))


@pytest.mark.parametrize(
    "change",
    [three_lists, old_names("IMAGE_FILE_2A"), old_names("IMAGE_ID_2A"), names_only],
    ids=["02.07", "02.06", "02.04", "names only"],
)
def test_baselines_of_2017_and_2018(mini: Path, product: Path, change: Callable[[str], str]) -> None:
    path = product / METADATA
    path.write_text(change(path.read_text()))
    tile, present = read_tile(product), read_tile(mini)
    assert (tile.name, tile.product, tile.epsg, tile.sensing_time) == (
        present.name,
        present.product,
        present.epsg,
        present.sensing_time,
    )
    assert set(tile.images) == IMAGES
    assert {name: Path(image.location).name for name, image in tile.images.items()} == {
        name: Path(image.location).name for name, image in present.images.items()
    }
    assert (read_band(tile, "B09") == read_band(present, "B09")).all()


def test_several_granules_are_refused(product: Path) -> None:
    path = product / METADATA
    xml = three_lists(path.read_text())
    path.write_text(re.sub('granuleIdentifier="', 'granuleIdentifier="ANOTHER_', xml, count=1))
    with pytest.raises(InputError, match="lists 2 granules; only products of one granule"):
        read_tile(product)


def to_geotiff(product: Path, *, crs: bool) -> None:
    for jp2 in list(product.rglob("*.jp2")):
        with rasterio.open(jp2) as source:
            kept = ("height", "width", "count", "dtype", "transform", *(["crs"] if crs else []))
            profile = {key: source.profile[key] for key in kept}
            with rasterio.open(jp2.with_suffix(".tif"), "w", driver="GTiff", **profile) as made:
                made.write(source.read())
        jp2.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("crs", [True, False])
def test_images_that_a_mirror_made_to_geotiffs(mini: Path, product: Path, crs: bool) -> None:  # noqa: FBT001
    """The metadata still say JPEG2000; some GeoTIFFs have no coordinate system."""
    to_geotiff(product, crs=crs)
    tile = read_tile(product)
    assert set(tile.images) == IMAGES
    assert all(image.location.endswith(".tif") for image in tile.images.values())
    assert (read_band(tile, "B11") == read_band(read_tile(mini), "B11")).all()
    assert open_tile(tile, bands=["B01"])["r60m"].to_dataset().rio.crs.to_epsg() == 32633


def test_a_geotiff_at_another_place_is_still_refused(product: Path) -> None:
    to_geotiff(product, crs=False)
    with rasterio.open(next(product.rglob("*B01_60m.tif")), "r+") as image:
        image.transform = rasterio.transform.from_origin(0, 0, 60, 60)
    with pytest.raises(InputError, match="is not at the position in the metadata"):
        read_band(read_tile(product), "B01")


def pack(product: Path, path: Path, separator: str = "/", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(product.rglob("*")):
            if file.is_file():
                name = str(Path(product.name) / file.relative_to(product)).replace("/", separator)
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes(), method)
    return path


def test_a_zip_file_with_backslashes(mini: Path, tmp_path: Path) -> None:
    path = pack(mini, tmp_path / "windows.zip", separator="\\")
    tile = read_tile(path)
    assert set(tile.images) == IMAGES
    assert tile.has_checksum("B09")
    tile.require_intact("B09")
    assert (read_band(tile, "B09") == read_band(read_tile(mini), "B09")).all()


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
@pytest.mark.parametrize("chosen", [METADATA, "_B02_10m.jp2"])
def test_a_zip_file_that_cannot_be_read_in_place(
    mini: Path, tmp_path: Path, method: int, name: str, chosen: str
) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in mini.rglob("*"):
            if file.is_file():
                how = method if file.name.endswith(chosen) else zipfile.ZIP_STORED
                archive.write(file, f"{mini.name}/{file.relative_to(mini)}", how)
    with pytest.raises(InputError, match=rf"{chosen} in .* is compressed with {name}, .* unpack it, and give the fold"):
        read_tile(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_granule_folder_of_another_name(mini: Path, product: Path, packed: bool) -> None:  # noqa: FBT001
    """Long paths are shortened by programs on Windows; sums of the manifest still count."""
    listed = next(re.finditer(r"<IMAGE_FILE>(.*_B01_60m)<", (product / METADATA).read_text()))[1]
    sums = hashlib.md5((product / f"{listed}.jp2").read_bytes(), usedforsecurity=False).hexdigest()
    (product / "manifest.safe").write_text(
        f'<x><dataObject><byteStream><fileLocation href="./{listed}.jp2"/>'
        f'<checksum checksumName="MD5">{sums}</checksum></byteStream></dataObject></x>'
    )
    granule = next((product / "GRANULE").iterdir())
    granule.rename(granule.with_name("L2A_SHORT"))
    tile = read_tile(pack(product, product.parent / "x.zip") if packed else product)
    assert set(tile.images) == IMAGES
    assert all("/L2A_SHORT/" in image.location for image in tile.images.values())
    assert {name for name, image in tile.images.items() if image.checksum} == {"B01"}
    tile.require_intact("B01")
    assert np.array_equal(read_band(tile, "B01"), read_band(read_tile(mini), "B01"))
