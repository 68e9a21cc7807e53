"""Files of products at a provider: those that a job reads, and paths that no response may give."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cdse import make_product, manifest_of

from reben_dask.errors import FetchError
from reben_dask.sources.fetch import PROVIDERS, RemoteProduct
from reben_dask.sources.fetch.contents import Contents, is_needed, item_contents, list_contents

L2A = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP_20230718T052230"
L1C = "S2A_MSIL1C_20180725T100031_N0500_R122_T33UVP_20230718T052230"
S1 = "S1A_IW_GRDH_1SDV_20180724T165131_20180724T165156_022939_027D4A_0B5F"
GRANULE = "GRANULE/L2A_T33UVP_A016135_20180725T100500"


class _Memory:
    """Source of files in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def address(self, path: str) -> str:
        return f"memory:{path}"

    def list_files(self) -> list[tuple[str, int]]:
        return [(path, len(content)) for path, content in self.files.items()]


def _listed(name: str, files: dict[str, bytes], out: Path, *, whole: bool = False) -> Contents:
    collection = "s1" if name.startswith("S1") else name[7:10].lower()
    product = RemoteProduct(name, collection, datetime(2018, 7, 25, tzinfo=UTC), None)
    source = _Memory(files)
    spec = PROVIDERS["cdse"].spec(collection)
    return list_contents(product, spec, lambda at: files[at.removeprefix("memory:")], source, out, whole=whole)


def _item(
    provider: str, item: dict[str, object], collection: str = "l2a", files: dict[str, str] | None = None
) -> Contents:
    product = RemoteProduct(L2A, collection, datetime(2018, 7, 25, tzinfo=UTC), None, item=item)
    spec = PROVIDERS[provider].spec(collection)
    return list_contents(product, spec, lambda at: (files or {})[at].encode(), None, Path(), whole=False)


@pytest.mark.parametrize(
    ("path", "collection", "needed"),
    [
        ("MTD_MSIL2A.xml", "l2a", True),
        (f"{GRANULE}/MTD_TL.xml", "l2a", True),
        (f"{GRANULE}/IMG_DATA/R10m/T33UVP_20180725T100031_B02_10m.jp2", "l2a", True),
        (f"{GRANULE}/IMG_DATA/R20m/T33UVP_20180725T100031_B02_20m.jp2", "l2a", False),
        (f"{GRANULE}/IMG_DATA/R20m/T33UVP_20180725T100031_SCL_20m.jp2", "l2a", True),
        (f"{GRANULE}/IMG_DATA/R60m/T33UVP_20180725T100031_SCL_60m.jp2", "l2a", False),
        (f"{GRANULE}/IMG_DATA/R10m/T33UVP_20180725T100031_TCI_10m.jp2", "l2a", False),
        (f"{GRANULE}/QI_DATA/T33UVP_20180725T100031_B02_10m.jp2", "l2a", False),
        ("MTD_MSIL1C.xml", "l2a", False),
        ("MTD_MSIL1C.xml", "l1c", True),
        ("GRANULE/L1C_T33UVP_A016135_20180725T100500/IMG_DATA/T33UVP_20180725T100031_B10.jp2", "l1c", True),
        ("GRANULE/L1C_T33UVP_A016135_20180725T100500/IMG_DATA/T33UVP_20180725T100031_TCI.jp2", "l1c", False),
        ("measurement/s1a-iw-grd-vv-20180724t165131.tiff", "s1", True),
    ],
)
def test_files_that_a_job_reads(path: str, collection: str, *, needed: bool) -> None:
    assert is_needed(path, collection) == needed


def test_a_product_by_its_manifest(tmp_path: Path) -> None:
    made = make_product(L2A)
    contents = _listed(L2A, dict(made.files), tmp_path)
    images = [file for file in contents.files if file.path.endswith(".jp2")]
    assert len(images) == 13
    assert contents.key == "MTD_MSIL2A.xml"
    assert contents.written == {"manifest.safe": made.files["manifest.safe"]}
    assert all(file.checksum and file.size == len(made.files[file.path]) for file in contents.files)
    assert {file.checksum.name for file in contents.files if file.checksum} == {"MD5", "SHA3-256"}


def test_a_whole_product_has_its_empty_folders(tmp_path: Path) -> None:
    made = make_product(L1C)
    contents = _listed(L1C, dict(made.files), tmp_path, whole=True)
    assert {file.path for file in contents.files} == made.files.keys() - {"manifest.safe"}
    granule, strip = "GRANULE/L1C_T33UVP_A012345_20180725T100031", "DATASTRIP/DS_ESRI_20180507T120000_S20180507T100029"
    expected = {"AUX_DATA", "HTML", "rep_info", f"{granule}/AUX_DATA", f"{granule}/QI_DATA", f"{strip}/QI_DATA"}
    assert set(contents.folders) == expected


def test_a_manifest_that_is_there_is_not_read_again(tmp_path: Path) -> None:
    made = make_product(L2A)
    (tmp_path / f"{L2A}.SAFE").mkdir()
    (tmp_path / f"{L2A}.SAFE" / "manifest.safe").write_bytes(made.files["manifest.safe"])
    files = {path: content for path, content in made.files.items() if path != "manifest.safe"}
    assert len(_listed(L2A, files, tmp_path).files) == 15


def test_a_sentinel1_product_is_fetched_as_a_whole(tmp_path: Path) -> None:
    files = {"measurement/s1a-iw-grd-vv.tiff": b"1", "annotation/a.xml": b"2"}
    contents = _listed(S1, files | {"manifest.safe": manifest_of(files)}, tmp_path)
    assert (contents.key, len(contents.files)) == ("manifest.safe", 2)


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "GRANULE/../../evil", "a\\b", ".ssh/config", "c:evil", ""])
def test_no_manifest_leads_out_of_its_product(tmp_path: Path, path: str) -> None:
    files = {path: b"1"}
    with pytest.raises(FetchError, match=r"names the file"):
        _listed(L2A, files | {"manifest.safe": manifest_of(files)}, tmp_path)


@pytest.mark.parametrize(
    "manifest", [b"<a>", b"", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', b"<a/>"]
)
def test_a_manifest_that_is_none(tmp_path: Path, manifest: bytes) -> None:
    with pytest.raises(FetchError):
        _listed(L2A, {"manifest.safe": manifest}, tmp_path)


def test_assets_of_an_item() -> None:
    keys = PROVIDERS["planetary-computer"].spec("l2a").assets
    assets = {key: {"href": f"https://a.example/x/{key}.tif?sv=1", "title": key} for key in (*keys, "visual")}
    assets["B02"] |= {"file:checksum": "1220" + "ab" * 32, "file:size": 7}
    contents = _item("planetary-computer", {"id": L2A, "assets": assets, "links": [{"href": "https://a.example"}]})
    by_path = {file.path: file for file in contents.files}
    assert by_path.keys() == {f"{key}.tif" for key in keys}
    assert by_path["B02.tif"].checksum == ("SHA-256", "ab" * 32)
    assert by_path["B02.tif"].address == "https://a.example/x/B02.tif?sv=1"
    item = json.loads(contents.written[f"{L2A}.json"])
    assert item["assets"]["B02"]["href"] == "./B02.tif"
    assert item["links"] == []
    with pytest.raises(FetchError, match="no asset B02"):
        _item("planetary-computer", {"id": L2A, "assets": {key: assets[key] for key in assets if key != "B02"}})


@pytest.mark.parametrize("href", ["https://a.example/..", "https://a.example/%2e%2e%2fevil", "https://a.example/.evil"])
def test_no_item_leads_out_of_its_folder(href: str) -> None:
    assets = {key: {"href": href} for key in PROVIDERS["planetary-computer"].spec("s1").assets}
    with pytest.raises(FetchError, match=r"names the file"):
        _item("planetary-computer", {"id": S1, "assets": assets}, "s1")


def test_an_asset_that_is_not_on_the_web() -> None:
    for href in ("./vv.tif", "s3://bucket/vv.tif", "file:///etc/passwd"):
        assets = {key: {"href": href} for key in PROVIDERS["planetary-computer"].spec("s1").assets}
        with pytest.raises(FetchError, match="not an http or https URL"):
            _item("planetary-computer", {"id": S1, "assets": assets}, "s1")


@pytest.mark.parametrize("name", ["../evil", "a/b", ".evil", ""])
def test_no_item_names_another_folder(name: str) -> None:
    assets = {key: {"href": "https://a.example/x.tif"} for key in PROVIDERS["planetary-computer"].spec("s1").assets}
    product = RemoteProduct(name, "s1", datetime(2018, 7, 25, tzinfo=UTC), None, item={"assets": assets})
    with pytest.raises(FetchError, match="not a product name"):
        item_contents(product, PROVIDERS["planetary-computer"].spec("s1"), whole=False)


def test_chunks_of_a_zarr_store() -> None:
    root = "https://a.example/p.zarr"
    array = {"shape": [5, 7], "chunks": [2, 4], "zarr_format": 2, "dtype": "<u2"}
    r10m, r20m = "measurements/reflectance/r10m", "measurements/reflectance/r20m"
    scl = "conditions/mask/l2a_classification/r20m/scl"
    arrays = [f"{r10m}/b02", f"{r20m}/b02", f"{r20m}/b8a", scl, "quality/atmosphere/r10m/aot"]
    metadata = {f"{path}/.zarray": array for path in arrays} | {".zattrs": {"stac_discovery": {}}, ".zgroup": {}}
    metadata |= {f"{r10m}/.zgroup": {}, f"{r10m}/x/.zarray": {"shape": [7], "chunks": [7]}, "quality/.zgroup": {}}
    text = json.dumps({"metadata": metadata, "zarr_consolidated_format": 1})
    contents = _item("eopf", {"id": L2A, "assets": {"product": {"href": root}}}, files={f"{root}/.zmetadata": text})
    found = {file.path for file in contents.files}
    kept = (f"{r10m}/b02", f"{r20m}/b8a", scl)
    assert found == {f"{path}/{row}.{column}" for path in kept for row in range(3) for column in range(2)} | {
        f"{r10m}/x/0"
    }
    assert contents.folder == f"{L2A}.zarr"
    listed = json.loads(contents.written[".zmetadata"])["metadata"]
    assert f"{r20m}/b02/.zarray" not in listed
    assert "quality/.zgroup" not in listed
    assert {".zattrs", ".zgroup", f"{r10m}/.zgroup", f"{r10m}/b02/.zarray"} <= listed.keys()


def test_no_zarr_store_leads_out_of_its_folder() -> None:
    root = "https://a.example/p.zarr"
    array = {"shape": [1], "chunks": [1], "dimension_separator": "/../../../../../evil"}
    metadata = {"measurements/reflectance/r10m/b02/.zarray": array | {"shape": [1, 1], "chunks": [1, 1]}}
    text = json.dumps({"metadata": metadata})
    with pytest.raises(FetchError, match=r"names the file"):
        _item("eopf", {"id": L2A, "assets": {"product": {"href": root}}}, files={f"{root}/.zmetadata": text})
