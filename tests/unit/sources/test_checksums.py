"""Damage that JPEG 2000 does not notice is found by checksums of the product and of its zip file."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest

from reben_dask.demo import DemoRegion
from reben_dask.errors import InputError
from reben_dask.sources.sentinel2 import read_band, read_tile
from reben_dask.sources.sentinel2.metadata import parse_manifest

MANIFEST = '<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1"><dataObjectSection>{}</dataObjectSection></xfdu:XFDU>'
ENTRY = (
    '<dataObject ID="IMG_DATA_Band_B02_10m_Tile1_Data"><byteStream mimeType="application/octet-stream" size="1">'
    '<fileLocation locatorType="URL" href="./{}"/><checksum checksumName="{}">{}</checksum></byteStream></dataObject>'
)
CHECKED = {"MD5": hashlib.md5, "SHA3-256": hashlib.sha3_256}


def _flip(path: Path, image: bytes | None = None) -> None:
    """Change one bit in the middle of a file, or of a run of bytes in it."""
    content = bytearray(path.read_bytes())
    start, length = (0, len(content)) if image is None else (content.index(image), len(image))
    content[start + length // 2] ^= 4
    path.write_bytes(content)


@pytest.fixture
def mini(data_dir: Path, tmp_path: Path) -> Path:
    """The small real product; it has no manifest."""
    return Path(
        shutil.copytree(next((data_dir / "mini").iterdir()), tmp_path / next((data_dir / "mini").iterdir()).name)
    )


def _sign(safe: Path, algorithm: str) -> None:
    images = sorted(safe.rglob("*.jp2"))
    digests = [CHECKED[algorithm](image.read_bytes()).hexdigest() for image in images]
    entries = [
        ENTRY.format(image.relative_to(safe), algorithm, digest) for image, digest in zip(images, digests, strict=True)
    ]
    (safe / "manifest.safe").write_text(MANIFEST.format("".join(entries)))


@pytest.mark.parametrize("algorithm", CHECKED)
def test_a_flipped_bit_is_found(mini: Path, algorithm: str) -> None:
    _sign(mini, algorithm)
    tile = read_tile(mini)
    for image in tile.images:
        tile.require_intact(image)
    pixels = read_band(tile, "B08")
    _flip(Path(tile.images["B08"].location))
    # This is why checksums are needed: the decoder does not mind.
    assert (read_band(tile, "B08") != pixels).any()
    with pytest.raises(InputError, match=rf"B08_10m.jp2 is damaged: its {algorithm} is .* download it again"):
        tile.require_intact("B08")
    tile.require_intact("B04")


def test_without_a_manifest_nothing_can_be_said(mini: Path) -> None:
    tile = read_tile(mini)
    _flip(Path(tile.images["B08"].location))
    tile.require_intact("B08")


def test_other_algorithms_are_passed_over(mini: Path) -> None:
    (mini / "manifest.safe").write_text(MANIFEST.format(ENTRY.format("a.jp2", "BLAKE2", "00")))
    assert {image.checksum for image in read_tile(mini).images.values()} == {None}


@pytest.mark.parametrize(
    "entry", ["<byteStream/>", '<byteStream><checksum checksumName="MD5">0</checksum></byteStream>', "<dataObject/>"]
)
def test_incomplete_entries_are_passed_over(entry: str) -> None:
    assert parse_manifest(MANIFEST.format(entry).encode(), "x") == {}


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (MANIFEST.format("")[:-3], "manifest.safe is not well-formed XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "manifest.safe declares XML entities"),
    ],
)
def test_a_manifest_that_is_none(mini: Path, manifest: str, said: str) -> None:
    (mini / "manifest.safe").write_text(manifest)
    with pytest.raises(InputError, match=said):
        read_tile(mini)


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_flipped_bit_in_a_zip_file(mini: Path, tmp_path: Path, has_manifest: bool) -> None:  # noqa: FBT001
    """A zip file has a checksum of its own of each member, which GDAL does not look at."""
    if has_manifest:
        _sign(mini, "MD5")
    archive = tmp_path / f"{mini.stem}.zip"
    image = next(mini.rglob("*B08_10m.jp2"))
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(path for path in mini.rglob("*") if path.is_file()):
            packed.write(file, file.relative_to(mini.parent))
    tile = read_tile(archive)
    tile.require_intact("B08")
    _flip(archive, image.read_bytes())
    with pytest.raises(InputError, match=r"cannot be unpacked \(Bad CRC-32"):
        read_tile(archive).require_intact("B08")
    read_tile(archive).require_intact("B04")


def test_products_of_the_demo_have_a_manifest(small_region: DemoRegion) -> None:
    safe = next(small_region.s2.glob("*.SAFE"))
    tile = read_tile(safe)
    for name, image in tile.images.items():
        assert image.checksum is not None, name
        assert image.checksum.digest == hashlib.sha3_256((safe / image.name).read_bytes()).hexdigest()
