"""Products in EOPF Zarr and as STAC items give the tile of their ``.SAFE`` folder; files are written by `forms`."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from forms import (
    BANDS,
    CHUNK_PX,
    COPERNICUS,
    EARTH_SEARCH,
    IMAGES,
    PLANETARY_COMPUTER,
    with_offsets,
    write_cogs,
    write_eopf,
    zip_folder,
)
from results import error_of
from serving import Served, serving

from reben_dask.errors import InputError, ReadError
from reben_dask.sources import remote
from reben_dask.sources.sentinel2 import (
    Form,
    find_products,
    read_band,
    read_scene_classification,
    read_tile,
    read_tiles,
    search_products,
    tile_identity,
)
from reben_dask.sources.sentinel2.discovery import ZARR
from reben_dask.sources.sentinel2.lazy_cube import open_tile

INDICATORS = ("GEOMETRIC", "GENERAL", "RADIOMETRIC", "SENSOR")
SMALL_CHUNKS = {10: 200, 20: 100, 60: 50}


@pytest.fixture(scope="module")
def safe(small_folders: list[Path]) -> Path:
    """A product whose metadata state offsets of -1000."""
    return next(folder for folder in small_folders if "N0500" in folder.name and "UVP" in folder.name)


@pytest.fixture(scope="module")
def plain(small_folders: list[Path]) -> Path:
    """A product of an own sen2cor, which states no offset."""
    return next(folder for folder in small_folders if "N9999" in folder.name and "UVP" in folder.name)


@pytest.fixture(scope="module")
def folder(safe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both forms of the product on disk, in several ways."""
    root = tmp_path_factory.mktemp("forms")
    store = write_eopf(safe, root / "eopf", chunk_px=SMALL_CHUNKS)
    zip_folder(store, root / "zip" / "a.zarr.zip", f"{store.name}/")
    zip_folder(store, root / "flat" / "b.zip")
    write_cogs(safe, root / "cogs")
    write_cogs(safe, root / "pc", assets=PLANETARY_COMPUTER, offset_key=None, product_metadata="product-metadata")
    return root


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Path:
    """A copy of the store that a test may damage."""
    return Path(shutil.copytree(_find(folder, "eopf/*.zarr"), tmp_path / "a.zarr"))


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serving(folder) as running:
        yield running


def _find(folder: Path, pattern: str) -> Path:
    return next(folder.glob(pattern))


FORMS: dict[str, tuple[str, Form]] = {
    "eopf": ("eopf/*.zarr", Form.EOPF),
    "zip": ("zip/*.zip", Form.EOPF),
    "flat zip": ("flat/*.zip", Form.EOPF),
    "earth search": ("cogs/*.json", Form.STAC),
    "planetary computer": ("pc/*.json", Form.STAC),
}


@pytest.fixture(params=[*FORMS, "eopf over http", "earth search over http"])
def form(request: pytest.FixtureRequest, folder: Path, served: Served) -> tuple[str, Form]:
    """Location of the product in each form, and the form."""
    name, over, _ = request.param.partition(" over http")
    pattern, kind = FORMS[name]
    path = _find(folder, pattern)
    return (f"{served.address}/{path.relative_to(folder)}" if over else str(path)), kind


def test_a_tile_is_that_of_the_folder(form: tuple[str, Form], safe: Path) -> None:
    location, kind = form
    tile, expected = read_tile(location), read_tile(safe)
    assert (tile.form, str(tile.location)) == (kind, location)
    for name in ("name", "product", "mgrs", "sensing_time", "baseline", "epsg", "ulx", "uly", "shape_yx", "level"):
        assert getattr(tile, name) == getattr(expected, name), name
    assert set(tile.images) == set(expected.images) == tile.listed
    assert {tile.offsets[band] for band in BANDS} == {-1000}
    assert tile.boa_offset(("B02", "B11")) == -1000
    assert tile.failed_quality(INDICATORS) == []
    assert tile.notes == ()


def test_where_offsets_are_stated(folder: Path) -> None:
    found = {name: read_tile(_find(folder, pattern)).offset_source for name, (pattern, _) in FORMS.items()}
    assert found == {
        "eopf": "attributes",
        "zip": "attributes",
        "flat zip": "attributes",
        "earth search": "raster:bands",
        "planetary computer": "metadata",
    }


def test_pixels_are_those_of_the_folder(form: tuple[str, Form], safe: Path) -> None:
    tile, expected = read_tile(form[0]), read_tile(safe)
    for band in ("B02", "B8A", "B01"):
        dn = read_band(tile, band)
        assert (dn.dtype, dn.shape) == (np.uint16, expected.shape_yx[BANDS[band]])
        assert (dn == read_band(expected, band)).all()
        assert (read_band(tile, band, (60, 90)) == dn[:60, :90]).all()
    scl = read_scene_classification(tile)
    assert scl.dtype == np.uint8
    assert (scl == read_scene_classification(expected)).all()


@pytest.mark.parametrize("name", ["eopf", "earth search"])
def test_a_lazy_cube_has_the_blocks_of_the_form(folder: Path, safe: Path, name: str) -> None:
    tile = read_tile(_find(folder, FORMS[name][0]))
    cube, expected = (open_tile(each, bands=("B02", "B01"), harmonized=True) for each in (tile, read_tile(safe)))
    rows = cube["r10m"]["dn"].chunks[1][0]
    assert rows == {"eopf": 200, "earth search": 504}[name]
    assert expected.load().equals(cube.load())
    part = open_tile(tile, bands=("B02",))["r10m"]["dn"][0, 100:300:3, 50:60]
    assert (part.values == read_band(tile, "B02")[100:300:3, 50:60]).all()


def test_the_identity_changes_with_metadata_and_sizes(folder: Path, safe: Path, tmp_path: Path) -> None:
    """But not with the place."""
    for pattern, _ in FORMS.values():
        path = _find(folder, pattern)
        copy = tmp_path / path.parent.name
        shutil.copytree(path.parent, copy)
        assert tile_identity(read_tile(copy / path.name)) == tile_identity(read_tile(path))
    store = _find(tmp_path, "eopf/*.zarr")
    before = tile_identity(read_tile(store))
    _find(store, "measurements/reflectance/r10m/b02/0/0").write_bytes(b"")
    assert tile_identity(read_tile(store)) != before
    cogs = _find(tmp_path, "cogs/*.json")
    before = tile_identity(read_tile(cogs))
    _edit(cogs, lambda item: item["properties"].update(updated="2026-01-01T00:00:00Z"))
    assert tile_identity(read_tile(cogs)) == before
    _edit(cogs, lambda item: item["properties"].update({"eo:cloud_cover": 7}))
    assert tile_identity(read_tile(cogs)) != before
    assert tile_identity(read_tile(safe)) != before


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def _describe(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the attributes of the root, which consolidated metadata repeat."""
    _edit(store / ".zattrs", change)
    _edit(store / ".zmetadata", lambda content: change(content["metadata"][".zattrs"]))


@pytest.fixture
def item(folder: Path) -> Callable[..., Path]:
    """Makes a changed copy of an item whose images stay where they are."""

    def make(change: Callable[[dict[str, Any]], object] = lambda _: None, name: str = "cogs") -> Path:
        source = _find(folder, f"{name}/*.json")
        copy = source.with_name(f"changed-{len(list(source.parent.iterdir()))}.json")
        shutil.copyfile(source, copy)
        return _edit(copy, change)

    yield make
    for copy in folder.glob("*/changed-*.json"):
        copy.unlink()


# Names


@pytest.mark.parametrize("stated", [None, "", "S2B_33UXU_20180507_0_L2A", 7])
def test_an_item_without_the_name_of_its_product(item: Callable[..., Path], stated: object) -> None:
    path = item(lambda content: content["properties"].update({"s2:product_uri": stated}))
    tiles, (damaged,) = read_tiles(search_products([], items=[path]).products)
    assert tiles == []
    assert "s2:product_uri of the item 'S2B_33UXU_20180507_0_L2A'" in str(damaged.error)
    assert "it must be the name of a Sentinel-2 product" in str(damaged.error)


def test_an_item_of_the_copernicus_data_space_is_named_by_its_id(safe: Path, tmp_path: Path) -> None:
    path = write_cogs(safe, tmp_path, assets=COPERNICUS, id=safe.stem)
    _edit(path, lambda content: content["properties"].pop("s2:product_uri"))
    assert read_tile(path).product == safe.stem


@pytest.mark.parametrize(("stated", "said"), [(None, "is missing"), ("x", "is 'x'")])
def test_a_store_without_the_name_of_its_product(store: Path, stated: object, said: str) -> None:
    _describe(store, lambda attributes: attributes["stac_discovery"].update(id=stated))
    _, (damaged,) = read_tiles(search_products([store]).products)
    assert damaged.name == "a.zarr"
    assert str(damaged.error).startswith(f"{store}: stac_discovery.id {said}; it must be the name of a Sentinel-2")


@pytest.mark.parametrize("times", [{"datetime": "2018-07-25T10:05:09Z"}, {"datetime": None}, {"datetime": "x"}])
def test_another_time_than_the_start_of_sensing(
    item: Callable[..., Path], safe: Path, times: Mapping[str, object]
) -> None:
    """Catalogues state the time of the tile's centre; the second is in the name of the product."""
    tile = read_tile(item(lambda content: content["properties"].update(times)))
    assert tile.sensing_time == read_tile(safe).sensing_time.replace(microsecond=0)


# Offsets


@pytest.mark.parametrize(
    ("stated", "offset"),
    [
        ({"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}, -1000),
        ({"bands": [{"raster:scale": 0.0001, "raster:offset": -0.1}]}, -1000),
        ({"raster:scale": 0.0001, "raster:offset": -0.1}, -1000),
        ({"raster:bands": [{"scale": 0.0001, "offset": 0}]}, 0),
        ({"raster:bands": [{"offset": -900}]}, -900),
    ],
)
def test_offsets_of_raster_bands(item: Callable[..., Path], stated: Mapping[str, object], offset: int) -> None:
    def change(content: dict[str, Any]) -> None:
        for asset in content["assets"].values():
            asset.pop("raster:bands", None)
            asset.update(stated)

    tile = read_tile(item(change))
    assert tile.offsets == dict.fromkeys(BANDS, offset)
    assert tile.offset_source == "raster:bands"


def test_raster_bands_go_before_the_metadata_of_the_product(item: Callable[..., Path]) -> None:
    """A provider may have applied the offset that the product's own metadata state."""

    def change(content: dict[str, Any]) -> None:
        for asset in content["assets"].values():
            asset["raster:bands"] = [{"scale": 0.0001, "offset": 0}]

    tile = read_tile(item(change, "pc"))
    assert (tile.boa_offset(BANDS), tile.offset_source) == (0, "raster:bands")
    assert tile.quality["GEOMETRIC"] == "PASSED"


def _shifted(safe: Path, folder: Path, shift: int) -> Path:
    """The product as COGs whose valid DN are shifted."""
    path = write_cogs(safe, folder)
    for file in folder.rglob("*.tif"):
        if file.stem != "SCL":
            with rasterio.open(file) as dataset:
                dn, profile = dataset.read(1), dataset.profile
            kept = {key: profile[key] for key in ("height", "width", "count", "dtype", "crs", "transform")}
            with rasterio.open(file, "w", driver="GTiff", **kept) as dataset:
                dataset.write(np.where(dn == 0, 0, np.maximum(dn.astype(int) + shift, 1)).astype(np.uint16), 1)
    return path


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize(("shift", "offset"), [(0, -1000), (-1000, 0)])
def test_pixels_decide_where_items_are_unreliable(
    safe: Path,
    tmp_path: Path,
    shift: int,
    offset: int,
    claimed: bool,  # noqa: FBT001
) -> None:
    """Whatever the item of Earth Search claims. The DN of the product carry the offset."""
    path = _shifted(safe, tmp_path, shift)
    _edit(path, lambda content: content["properties"].update({"earthsearch:boa_offset_applied": claimed}))
    tile = read_tile(path)
    assert tile.offsets == dict.fromkeys(BANDS, offset)
    assert tile.offset_source == "pixels"
    (note,) = tile.notes
    assert f"the offset of -1000 DN {'is still in them' if offset else 'has been applied'}." in note
    darkest = float(re.search(r"percentile of the DN is ([\d,]+)", note)[1].replace(",", ""))
    dark = [read_band(tile, band) for band in ("B01", "B04", "B12")]
    assert darkest == pytest.approx(min(np.percentile(dn[dn > 0], 1) for dn in dark), abs=1)


def test_the_collection_1_of_earth_search_is_reliable(item: Callable[..., Path]) -> None:
    def change(content: dict[str, Any]) -> None:
        content["properties"]["earthsearch:boa_offset_applied"] = True
        content["collection"] = "sentinel-2-c1-l2a"

    assert read_tile(item(change)).offset_source == "raster:bands"


def test_pixels_decide_where_no_offset_is_stated(safe: Path, plain: Path, tmp_path: Path) -> None:
    """Baselines since 04.00 have one; an own sen2cor has none."""
    new, own = (write_cogs(each, tmp_path / each.name, offset_key=None) for each in (safe, plain))
    assert (read_tile(new).boa_offset(BANDS), read_tile(new).offset_source) == (-1000, "pixels")
    assert (read_tile(own).boa_offset(BANDS), read_tile(own).offset_source) == (None, None)


def test_a_store_without_offsets(plain: Path, tmp_path: Path) -> None:
    tile = read_tile(write_eopf(plain, tmp_path))
    assert (tile.offsets, tile.offset_source, tile.strip) == ({}, "attributes", "")


def test_an_offset_that_is_no_number(item: Callable[..., Path]) -> None:
    path = item(lambda content: content["assets"]["red"].update({"raster:bands": [{"offset": "x", "scale": 1}]}))
    assert error_of(lambda: read_tile(path)) == "offset 'x' and scale 1 of a band are not numbers."


# Quality


@pytest.mark.parametrize(("status", "failed"), [("PASSED", []), ("passed", []), ("DEGRADED", ["OVERALL"]), (None, [])])
def test_the_overall_status_of_a_store(store: Path, status: str | None, failed: list[str]) -> None:
    _describe(store, lambda attributes: attributes["other_metadata"].update(product_quality_status=status))
    assert read_tile(store).failed_quality(INDICATORS) == failed


def test_quality_in_the_metadata_of_the_product(small_region: Any, tmp_path: Path) -> None:
    failed = next(path for path in small_region.s2.glob("*.SAFE") if "FAILED" in (path / "MTD_MSIL2A.xml").read_text())
    with_metadata = write_cogs(failed, tmp_path / "a", product_metadata="product_metadata")
    without = write_cogs(failed, tmp_path / "b")
    assert read_tile(with_metadata).failed_quality(INDICATORS) == ["GEOMETRIC"]
    assert read_tile(without).failed_quality(INDICATORS) == []
    assert read_tile(without).quality == {}


def test_metadata_behind_a_login_are_not_read(item: Callable[..., Path]) -> None:
    """Images on disk or by https, metadata in a bucket whose reader pays."""
    path = item(lambda content: content["assets"].update(product_metadata={"href": "s3://bucket/MTD_MSIL2A.xml"}))
    assert read_tile(path).quality == {}


# Search


def test_all_forms_are_found_in_one_folder(folder: Path, safe: Path) -> None:
    found = find_products([folder, safe])
    assert sorted(map(str, found)) == [*sorted(str(_find(folder, pattern)) for pattern, _ in FORMS.values()), str(safe)]
    assert find_products([], items=[folder]) == [_find(folder, "cogs/*.json"), _find(folder, "pc/*.json")]


def test_stores_of_another_kind_are_passed_over(folder: Path, tmp_path: Path, safe: Path) -> None:
    zarr.create_group(tmp_path / "cubes.zarr")
    (tmp_path / "area.json").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "notes.json").write_text("[1")
    shutil.copytree(_find(folder, "cogs/*.json").parent, tmp_path / "item")
    search = search_products([tmp_path])
    assert [product.location.name for product in search.products] == [f"{safe.stem}.json"]
    assert search.passed_over == {ZARR: [tmp_path / "cubes.zarr"]}


def test_a_collection_of_items(folder: Path, tmp_path: Path, safe: Path) -> None:
    source = _find(folder, "cogs/*.json")
    first = json.loads(source.read_text())
    for asset in first["assets"].values():
        asset["href"] = str(source.parent / asset["href"])
    second = {**first, "id": "other", "properties": {}}
    items = [first, second, {"type": "Feature", "id": "bare"}]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    search = search_products([], items=[path])
    tiles, damaged = read_tiles(search.products)
    assert [tile.product for tile in tiles] == [safe.stem]
    assert tiles[0].location == f"{path}#{first['id']}"
    assert set(tiles[0].paths) == {source.parent / safe.stem / f"{image}.tif" for image in IMAGES}
    assert sorted(each.name for each in damaged) == ["bare", "other"]
    assert read_tile(tiles[0].location).product == safe.stem
    assert "holds 3 items; give one, as FILE#ID." in error_of(lambda: read_tile(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a JSON document"),
        (b'{"type": "Catalog", "links": []}', "neither a STAC item nor a collection of items; its type is 'Catalog'."),
        (b"[]", "its type is None"),
        (b'{"type": "FeatureCollection", "features": []}', "No STAC item found in"),
    ],
)
def test_a_file_that_holds_no_item(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "items.json"
    path.write_bytes(content)
    assert said in error_of(lambda: search_products([], items=[path]))


# Damage


def test_a_store_whose_download_was_interrupted(store: Path) -> None:
    _find(store, "measurements/reflectance/r10m/b02/0/1").unlink()
    tile = read_tile(store)
    # 504, 252 and 84 pixels in chunks of 200, 100 and 50: 9, 9 and 4 chunks.
    advice = "whose pixels are read as NODATA; complete the download if it was interrupted."
    assert tile.notes == (f"{tile.name} has no file for 1 of {9 * 4 + 9 * 7 + 4 * 2} chunks, {advice}",)
    assert (read_band(tile, "B02")[:200, 200:400] == 0).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [("b02/0/0", b""), ("b02/0/0", b"\0" * 100), ("b02/.zarray", b"{"), ("x/0", b"")],
)
def test_a_damaged_store(store: Path, name: str, content: bytes) -> None:
    tile = read_tile(store)
    (store / "measurements/reflectance/r10m" / name).write_bytes(content)
    with pytest.raises(ReadError) as caught:
        read_band(tile, "B02")
    assert str(caught.value).startswith(f"The image B02 of {tile.name} cannot be decoded (")
    assert str(caught.value).endswith(f"download it again: {store}/measurements/reflectance/r10m/b02")
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", [".zmetadata", "conditions", "measurements/reflectance/r60m"])
def test_a_store_without_a_part(safe: Path, store: Path, name: str) -> None:
    """Without consolidated metadata each node is read by itself."""
    path = store / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (store / ".zmetadata").unlink(missing_ok=True)
    if name.endswith("r60m"):
        assert "has no bands in measurements/reflectance/r60m; download" in error_of(lambda: read_tile(store))
        return
    tile = read_tile(store)
    assert ("SCL" in tile.images) == (name == ".zmetadata")
    assert (read_band(tile, "B01") == read_band(read_tile(safe), "B01")).all()


@pytest.mark.parametrize(
    ("name", "band", "stated"),
    [("blue", "B02", {"proj:transform": [10, 0, 60, 0, -10, 0]}), ("coastal", "B01", {"proj:shape": [60, 60]})],
)
def test_an_image_at_another_place(
    item: Callable[..., Path], name: str, band: str, stated: Mapping[str, object]
) -> None:
    tile = read_tile(item(lambda content: content["assets"][name].update(stated)))
    with pytest.raises(InputError, match=rf"The image {band} of .* is not at the position in the metadata"):
        read_band(tile, band)


def test_items_without_a_position_are_placed_by_their_images(item: Callable[..., Path], safe: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["properties"].pop("proj:epsg")
        for asset in content["assets"].values():
            asset.pop("proj:shape")

    tile, expected = read_tile(item(change)), read_tile(safe)
    assert (tile.epsg, tile.ulx, tile.uly, tile.shape_yx) == (
        expected.epsg,
        expected.ulx,
        expected.uly,
        expected.shape_yx,
    )


@pytest.mark.parametrize("href", ["", None, "/vsicurl/http://127.0.0.1/x.tif", "ftp://host/x.tif", "file:///x.tif"])
def test_names_of_files_that_are_not_read(item: Callable[..., Path], href: object) -> None:
    path = item(lambda content: content["assets"]["red"].update(href=href))
    assert "which cannot be read; use http, https or s3 URLs" in error_of(lambda: read_tile(path))


@pytest.mark.parametrize("href", ["/etc/hostname", "../../../etc/hostname", "file:///etc/hostname"])
def test_an_item_at_an_address_names_no_file_here(folder: Path, served: Served, href: str) -> None:
    item = json.loads(_find(folder, "cogs/*.json").read_text())
    item["assets"]["red"]["href"] = href
    served.answers["/evil.json"] = [(200, json.dumps(item).encode())] * 2
    try:
        tile = read_tile(f"{served.address}/evil.json")
    except InputError as error:
        assert "which cannot be read" in str(error)  # noqa: PT017
    else:
        assert tile.images["B04"].location.startswith(served.address)


def test_an_image_that_names_further_files_is_not_opened(folder: Path, item: Callable[..., Path]) -> None:
    source = _find(folder, "cogs/*/B04.tif")
    vrt = source.with_name("B04.vrt")
    with rasterio.open(source) as dataset:
        size = f'rasterXSize="{dataset.width}" rasterYSize="{dataset.height}"'
    vrt.write_text(f"<VRTDataset {size}></VRTDataset>")
    path = item(lambda content: content["assets"]["red"].update(href=str(vrt)))
    assert "cannot be decoded" in error_of(lambda: read_band(read_tile(path), "B04"), ReadError)
    vrt.unlink()


# Addresses


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.0)


@pytest.mark.usefixtures("no_pauses")
def test_a_busy_server_is_asked_again(folder: Path, served: Served) -> None:
    path = _find(folder, "cogs/*.json").relative_to(folder)
    served.answers[f"/{path}"] = [(503, b""), (429, b"")]
    assert read_tile(f"{served.address}/{path}").form is Form.STAC


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (500, remote.ATTEMPTS)])
def test_a_server_that_does_not_answer(served: Served, status: int, asked: int) -> None:
    served.asked.clear()
    served.answers["/x.json"] = [(status, b"")] * remote.ATTEMPTS
    address = served.address.replace("//", "//user:secret@")
    message = error_of(lambda: search_products([], items=[f"{served.address}/x.json?sig=secret"]), ReadError)
    assert message.startswith(f"{served.address}/x.json cannot be read (HTTP status {status}")
    assert "secret" not in message
    assert served.asked == ["/x.json?sig=secret"] * asked
    assert "secret" not in error_of(search_products([f"{address}/a.zarr"]).products[0].read_tile)


def test_pages_of_a_search_are_followed(folder: Path, served: Served, safe: Path) -> None:
    first = json.loads(_find(folder, "cogs/*.json").read_text())
    for asset in first["assets"].values():
        asset["href"] = f"{served.address}/cogs/{asset['href']}"
    other = first | {"id": "other", "links": [{"rel": "self", "href": f"{served.address}/items/other"}]}
    following = [{"rel": "next", "href": "/search?page=2"}]
    pages = [
        {"type": "FeatureCollection", "features": [first], "links": following},
        {"type": "FeatureCollection", "features": [other], "links": [{"rel": "next", "href": "/search?page=2"}]},
    ]
    served.answers["/search"] = [(200, json.dumps(page).encode()) for page in pages]
    address = f"{served.address}/search?collections=sentinel-2-l2a&token=secret"
    products = search_products([], items=[address]).products
    assert [product.location for product in products] == [f"{address}#{first['id']}", f"{served.address}/items/other"]
    assert [product.read_tile().product for product in products] == [safe.stem] * 2
    pages[0]["links"][0] |= {"method": "POST"}
    served.answers["/search"] = [(200, json.dumps(pages[0]).encode())]
    assert "gives its next page only to POST requests" in error_of(lambda: search_products([], items=[address]))


def test_files_that_need_a_token(served: Served, safe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Planetary Computer gives one to anyone; it ends, and is not part of what is recorded."""
    monkeypatch.setattr(remote, "_BLOBS", ".0.0.1")
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{served.address.replace('127.0.0.1', 'localhost')}/token")
    remote._token.cache_clear()

    def answer(token: str, year: int) -> tuple[int, bytes]:
        return 200, json.dumps({"token": f"sig={token}", "msft:expiry": f"{year}-01-01T00:00:00Z"}).encode()

    served.answers["/token/127/cogs"] = [answer("old", 2020), answer("new", 2999)]
    try:
        image = f"{served.address}/cogs/{safe.stem}/B01.tif"
        assert remote.signed(image) == f"{image}?sig=new"
        assert remote.signed(f"{image}?sig=own") == f"{image}?sig=own"
        assert remote.signed(f"{served.address}/unknown/x") == f"{served.address}/unknown/x"
        assert remote.without_secrets(f"{image}?sig=own#id") == f"{image}#id"
    finally:
        remote._token.cache_clear()


@pytest.mark.parametrize("pattern", ["eopf/*.zarr", "cogs/*.json"])
def test_products_in_a_bucket(
    folder: Path, served: Served, safe: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"AWS_ENDPOINT_URL": served.address, "AWS_SKIP_SIGNATURE": "true", "AWS_ALLOW_HTTP": "true"}
    for name, value in {**settings, "AWS_REGION": "default"}.items():
        monkeypatch.setenv(name, value)
    tile, expected = read_tile(f"s3://{_find(folder, pattern).relative_to(folder)}"), read_tile(safe)
    assert tile.paths == ()
    assert tile.name == expected.name
    assert (read_band(tile, "B01") == read_band(expected, "B01")).all()


def test_offsets_of_all_bands_are_copied(plain: Path, tmp_path: Path) -> None:
    """The copy of a product with 13 offsets, in each form."""
    copy = with_offsets(plain, tmp_path / "safe")
    tiles = [
        read_tile(path)
        for path in (
            copy,
            write_eopf(copy, tmp_path, chunk_px=CHUNK_PX),
            write_cogs(copy, tmp_path / "c", assets=EARTH_SEARCH),
        )
    ]
    assert [tile.boa_offset(BANDS) for tile in tiles] == [-1000] * 3
    assert len(tiles[0].offsets) == 13
