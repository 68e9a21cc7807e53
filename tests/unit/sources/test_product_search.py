"""A folder of downloads: what is taken, and what is passed over is counted by kind."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from reben_dask.errors import InputError
from reben_dask.sources.sentinel2.discovery import (
    LEVEL_1C,
    LOOSE_BANDS,
    OLD_NAMES,
    OTHER_ARCHIVE,
    OTHER_SAFE,
    OTHER_ZIP,
    UNFINISHED,
    UNREADABLE_ZIP,
    ZARR,
    find_products,
    search_products,
)

NAME = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP_20230718T052230"
OTHER = NAME.replace("T33UVP", "T33UWP")
LEVEL_1 = NAME.replace("MSIL2A", "MSIL1C")
OLD = "S2A_USER_PRD_MSIL2A_PDMC_20160507T191021_R079_V20160507T095029_20160507T095029"


def _touch(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _zip(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What downloads leave behind: four products, and things of every kind beside them."""
    root = tmp_path / "downloads"
    _touch(root / f"{NAME}.SAFE" / "MTD_MSIL2A.xml")
    _touch(root / f"{NAME}.SAFE" / "manifest.safe")
    _zip(root / f"{OTHER}.SAFE", f"{OTHER}.SAFE/MTD_MSIL2A.xml")
    _zip(root / "0f6d3c0e-1f6c-5b21-9d0a-7a3a3f6f4d55.zip", f"{OTHER}.SAFE\\MTD_MSIL2A.xml")
    _touch(root / f"{OTHER}.zip", b"PK\x03\x04 cut short")
    _touch(root / f"{OTHER}X.SAFE" / "GRANULE" / "x" / "IMG_DATA" / "R10m" / "x_B02_10m.jp2")
    _touch(root / f"{OTHER}.SAFE.zip.part")
    _touch(root / "unnamed" / "GRANULE" / "x.txt")
    _touch(root / f"{LEVEL_1}.SAFE" / "MTD_MSIL1C.xml")
    _zip(root / "level1.zip", f"{LEVEL_1}.SAFE/MTD_MSIL1C.xml")
    _touch(root / f"{OLD}.SAFE" / "S2A_USER_MTD_SAFL2A_PDMC.xml")
    _touch(root / "S1A_IW_GRDH_1SDV_20180724T165131.SAFE" / "manifest.safe")
    _zip(root / "landcover.zip", "clc.gpkg")
    _touch(root / "notes.zip")
    with tarfile.open(root / f"{OTHER}.SAFE.tar", "w"):
        pass
    _touch(root / f"{OTHER}.zarr" / "zarr.json")
    _touch(root / "tiles" / "33" / "U" / "VP" / "2018" / "7" / "25" / "0" / "R10m" / "B02.jp2")
    _touch(root / "readme.txt")
    return root


def test_products_are_found_by_their_content(folder: Path) -> None:
    assert find_products([folder]) == [
        folder / "0f6d3c0e-1f6c-5b21-9d0a-7a3a3f6f4d55.zip",
        folder / f"{NAME}.SAFE",
        folder / f"{OTHER}.SAFE",
        folder / f"{OTHER}.zip",
    ]


def test_nothing_else_is_passed_over_in_silence(folder: Path) -> None:
    passed = search_products([folder, folder / f"{NAME}.SAFE", folder]).passed_over
    assert {kind: [path.relative_to(folder).as_posix() for path in paths] for kind, paths in passed.items()} == {
        UNFINISHED: [f"{OTHER}.SAFE.zip.part", f"{OTHER}X.SAFE", "unnamed"],
        LEVEL_1C: [f"{LEVEL_1}.SAFE", "level1.zip"],
        OLD_NAMES: [f"{OLD}.SAFE"],
        OTHER_SAFE: ["S1A_IW_GRDH_1SDV_20180724T165131.SAFE"],
        OTHER_ZIP: ["landcover.zip"],
        UNREADABLE_ZIP: ["notes.zip"],
        OTHER_ARCHIVE: [f"{OTHER}.SAFE.tar"],
        ZARR: [f"{OTHER}.zarr"],
        LOOSE_BANDS: ["tiles/33/U/VP/2018/7/25/0/R10m"],
    }


def test_the_note_counts_each_kind(folder: Path) -> None:
    note = search_products([folder]).note
    assert note is not None
    assert note.startswith("Skipped in the Sentinel-2 folders, as they cannot be read as products: ")
    assert f"L1C products: 2 ({LEVEL_1}.SAFE, level1.zip)" in note
    assert "zip files that cannot be opened: 1 (notes.zip)" in note
    assert search_products([folder / f"{NAME}.SAFE"]).note is None


def test_a_folder_without_products_says_what_is_in_it(folder: Path) -> None:
    for product in find_products([folder]):
        product.rename(folder.parent / product.name)
    with pytest.raises(InputError, match=r"No Sentinel-2 L2A product found in .*; .*Zarr stores without a product: 1"):
        search_products([folder])
