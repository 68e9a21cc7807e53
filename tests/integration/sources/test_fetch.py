"""``reben fetch`` against stand-ins of the Copernicus Data Space and of STAC providers, on loopback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zarr
from cdse import PASSWORD, USER, Cdse, Faults, Product, make_product, manifest_of, product_of_folder, serve_cdse
from click.testing import CliRunner
from stac_api import item_of, serve_stac

from reben_dask.cli import main
from reben_dask.sources.sentinel1_names import find_images
from reben_dask.sources.sentinel2 import search_products

NEW = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP_20230718T052230"
OLD = "S2A_MSIL2A_20180725T100031_N0208_R122_T33UVP_20180725T120000"
NEXT = "S2B_MSIL2A_20180730T100029_N0500_R122_T33UVP_20230719T052230"
LOGIN = {"CDSE_USERNAME": USER, "CDSE_PASSWORD": PASSWORD}
BOX = ("--bbox", "16.5,52.2,17.3,52.6", "--dates", "2018-07/2018-08")


def _fetch(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = dict.fromkeys(("CDSE_USERNAME", "CDSE_PASSWORD", "CDSE_TOTP", "CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY"))
    done = CliRunner(env={**clean, "COLUMNS": None, "NETRC": "/nowhere", **environment}).invoke(
        main, ["fetch", *map(str, arguments)], prog_name="reben"
    )
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def _from(cdse: Cdse, folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Fetch from the stand-in into ``folder/out``."""
    provider = cdse.provider(folder)
    return _fetch("--provider", provider, "--out", folder / "out", *arguments, **{**LOGIN, **environment})


def _record(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "fetch-record.json").read_text())
    return record


def _content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_products_that_a_job_reads(small_folders: list[Path], tmp_path: Path) -> None:
    products = [product_of_folder(folder, bounds=(16.5, 52.0, 17.0, 52.5)) for folder in small_folders]
    with serve_cdse(products) as cdse:
        done = _from(cdse, tmp_path, "--bbox", "16.5,52.2,17.3,52.6", "--dates", "2018/2019", "--baseline", "all")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        asked = cdse.requests.copy()
        again = _from(cdse, tmp_path, "--bbox", "16.5,52.2,17.3,52.6", "--dates", "2018/2019", "--baseline", "all")
    out = tmp_path / "out"
    found = search_products([out])
    assert [product.location.name for product in found.products] == sorted(folder.name for folder in small_folders)
    assert found.note is None
    for product in found.products:
        tile = product.read_tile()
        for image in tile.images:
            tile.require_intact(image)
    assert not [path for path in asked if path.endswith(")/$value") and "Nodes" not in path]
    assert f"{len(products)} of {len(products)} products complete and checked" in done.stdout
    # The second time only the catalogue is asked.
    assert again.returncode == 0
    assert {path for path, number in (cdse.requests - asked).items() if number} == {"/odata/v1/Products"}
    record = _record(out)
    assert record["products"].keys() == {folder.name for folder in small_folders}
    files = record["products"][small_folders[0].name]["files"]
    assert {file["checked"] for file in files if file["path"].endswith(".jp2")} == {"SHA3-256"}
    assert gpd.read_parquet(out / "selection.parquet")["name"].tolist() == [
        product.name for product in _by_time(products)
    ]


def _by_time(products: list[Product]) -> list[Product]:
    return sorted(products, key=lambda product: (product.start, product.name))


def test_only_needed_files_of_the_newest_baseline(tmp_path: Path) -> None:
    with serve_cdse([make_product(name) for name in (OLD, NEW)]) as cdse:
        done = _from(cdse, tmp_path, *BOX)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert [path.name for path in (tmp_path / "out").glob("*.SAFE")] == [f"{NEW}.SAFE"]
    content = _content(tmp_path / "out" / f"{NEW}.SAFE")
    assert len(content) == 16
    assert content.items() <= cdse.products[1].files.items()
    assert "1 product left out" in done.stdout
    assert cdse.busiest <= 4


def test_a_partial_product_becomes_a_whole_one(tmp_path: Path) -> None:
    with serve_cdse([make_product(NEW)]) as cdse:
        assert _from(cdse, tmp_path, *BOX).returncode == 0
        before = cdse.sent.copy()
        assert _from(cdse, tmp_path, *BOX, "--whole").returncode == 0
    folder = tmp_path / "out" / f"{NEW}.SAFE"
    assert _content(folder) == cdse.products[0].files
    assert all((cdse.sent - before)[name] == 0 for name in before)
    assert {"AUX_DATA", "HTML", "rep_info"} <= {path.name for path in folder.iterdir()}


def test_a_dry_run_stops_at_the_plan(tmp_path: Path) -> None:
    with serve_cdse([make_product(NEW)]) as cdse:
        done = _from(cdse, tmp_path, *BOX, "--dry-run", "--plot", tmp_path / "map.png")
    assert done.returncode == 0
    assert "% of the 12 TB in 30 days" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["selection.parquet"]
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert cdse.requests.keys() == {"/odata/v1/Products"}
    assert cdse.logins == 0


def test_faults_of_the_network(tmp_path: Path) -> None:
    products = [make_product(name, nbytes=300_000) for name in (NEW, NEXT)]
    faults = Faults(seed=3, busy=0.1, cut=0.2, wrong=0.1, token_uses=10)
    with serve_cdse(products, faults) as cdse:
        done = _from(cdse, tmp_path, *BOX)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for product in products:
        content = _content(tmp_path / "out" / f"{product.name}.SAFE")
        assert len(content) == 16
        assert content.items() <= product.files.items()
    assert min(cdse.statuses[status] for status in (206, 302, 401, 429, 503)) > 0
    assert cdse.logins == 1
    assert cdse.refreshes > 0
    assert sum(cdse.flipped.values()) > 0


def test_a_part_of_a_file_is_completed(tmp_path: Path) -> None:
    product = make_product(NEW, nbytes=100_000)
    path = next(path for path in product.files if path.endswith("B02_10m.jp2"))
    part = tmp_path / "out" / f"{NEW}.SAFE" / path
    part = part.with_name(f".{part.name}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(product.files[path][:60_000])
    with serve_cdse([product]) as cdse:
        assert _from(cdse, tmp_path, *BOX).returncode == 0
    assert cdse.sent[f"{NEW}/{path}"] == 40_000
    assert not part.exists()
    assert _content(tmp_path / "out" / f"{NEW}.SAFE")[path] == product.files[path]


@pytest.mark.parametrize("damage", ["wrong part", "longer part", "wrong file", "cut file"])
def test_what_is_there_and_wrong_is_fetched_again(tmp_path: Path, damage: str) -> None:
    product = make_product(NEW)
    path = next(path for path in product.files if path.endswith("B02_10m.jp2"))
    content, target = product.files[path], tmp_path / "out" / f"{NEW}.SAFE" / path
    target.parent.mkdir(parents=True)
    part = target.with_name(f".{target.name}.part")
    texts = {
        "wrong part": b"x" * 100,
        "longer part": content + b"x",
        "wrong file": b"x" * 2000,
        "cut file": content[:9],
    }
    (part if "part" in damage else target).write_bytes(texts[damage])
    with serve_cdse([product]) as cdse:
        assert _from(cdse, tmp_path, *BOX).returncode == 0
    assert target.read_bytes() == content


def test_a_file_that_is_damaged_at_the_provider(tmp_path: Path) -> None:
    damaged, good = make_product(NEW), make_product(NEXT)
    path = next(path for path in damaged.files if path.endswith("B02_10m.jp2"))
    with serve_cdse([replace(damaged, files={**damaged.files, path: b"x" * 2000}), good]) as cdse:
        done = _from(cdse, tmp_path, *BOX)
        assert done.returncode == 3
        assert cdse.sent[f"{NEW}/{path}"] == 3 * 2000
    assert "is damaged at the provider" in done.stdout
    record = _record(tmp_path / "out")
    assert record["failed"].keys() == {NEW}
    assert record["products"].keys() == {f"{NEXT}.SAFE"}
    # Without its metadata, no reader takes it for a product.
    found = search_products([tmp_path / "out"])
    assert [product.location.name for product in found.products] == [f"{NEXT}.SAFE"]
    assert found.note
    assert "unfinished downloads" in found.note
    with serve_cdse([damaged, good]) as cdse:
        assert _from(cdse, tmp_path, *BOX).returncode == 0
        assert f"{NEXT}/{path}" not in cdse.sent
    assert _record(tmp_path / "out")["failed"] == {}


def test_products_that_are_not_on_line_are_listed(tmp_path: Path) -> None:
    with serve_cdse([make_product(NEW), make_product(NEXT, is_online=False)]) as cdse:
        done = _from(cdse, tmp_path, *BOX)
    assert done.returncode == 3
    assert f"Offline; order from the provider: {NEXT}" in done.stdout
    assert _record(tmp_path / "out")["offline"] == [NEXT]
    assert gpd.read_parquet(tmp_path / "out" / "selection.parquet")["online"].tolist() == [True, False]


def test_a_product_without_a_manifest_is_listed_by_its_nodes(tmp_path: Path) -> None:
    made = make_product(NEW)
    files = {path: content for path, content in made.files.items() if path != "manifest.safe"}
    with serve_cdse([replace(made, files=files)]) as cdse:
        assert _from(cdse, tmp_path, *BOX).returncode == 0
    content = _content(tmp_path / "out" / f"{NEW}.SAFE")
    assert len(content) == 15
    assert content.items() <= files.items()
    assert {file["checked"] for file in _record(tmp_path / "out")["products"][f"{NEW}.SAFE"]["files"]} == {None}


def test_more_products_than_the_catalogue_gives_at_once(tmp_path: Path) -> None:
    times = (
        f"201807{day:02d}T10{minute:02d}{second:02d}" for day in (1, 2) for minute in range(60) for second in range(27)
    )
    products = [Product(f"S2A_MSIL2A_{time}_N0500_R122_T33UVP_20230718T052230", {}) for time in times]
    with serve_cdse(products, max_skip=1000) as cdse:
        done = _from(cdse, tmp_path, *BOX, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert cdse.statuses[422] > 0
    assert len(set(gpd.read_parquet(tmp_path / "out" / "selection.parquet")["name"])) == len(products) == 3240


def test_published_tiles_and_those_without_a_product(tmp_path: Path) -> None:
    tiles = [f"S2A_MSIL2A_201706{day}T101031_N9999_R022_T33UUP" for day in (11, 13, 15)]
    table = pa.table({"patch_id": [f"{tile}_{x}_57" for tile in tiles for x in (26, 27)]})
    pq.write_table(table, tmp_path / "metadata.parquet")
    products = [
        make_product(f"{tile.replace('L2A', 'L1C').replace('N9999', baseline)}_20170613T101608")
        for tile in tiles[:2]
        for baseline in ("N0205", "N0500")
    ]
    other = make_product(products[0].name.replace("R022", "R023"))
    with serve_cdse([*products, other]) as cdse:
        done = _from(cdse, tmp_path, "--published", tmp_path / "metadata.parquet", "--whole")
    assert done.returncode == 3
    assert f"without a product at the provider: {tiles[2]}" in done.stdout
    names = {path.name for path in (tmp_path / "out").glob("*.SAFE")}
    assert names == {f"{product.name}.SAFE" for product in products if "N0500" in product.name}
    assert _record(tmp_path / "out")["missing"] == [tiles[2]]
    assert cdse.requests["/odata/v1/Products"] == 3


def test_scenes_of_sentinel1_beside_the_products(tmp_path: Path) -> None:
    names = [f"S1A_IW_GRDH_1SDV_201807{day}T165131_201807{day}T165156_022939_027D4A_0B5F" for day in (12, 24, 30)]
    files = {"measurement/s1a-iw-grd-vv.tiff": b"1" * 100}
    scenes = [Product(name, files | {"manifest.safe": manifest_of(files)}, "IW_GRDH_1S") for name in names]
    with serve_cdse([make_product(NEW), *scenes]) as cdse:
        done = _from(cdse, tmp_path, *BOX, "--sentinel1")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert {path.name for path in (tmp_path / "out").glob("*.SAFE")} == {f"{NEW}.SAFE", f"{names[1]}.SAFE"}
    table = gpd.read_parquet(tmp_path / "out" / "selection.parquet").set_index("name")
    assert table.loc[names[1], "partner_of"] == NEW


def _everything(folder: Path, done: subprocess.CompletedProcess[str]) -> str:
    records = [path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()]
    return "".join((done.stdout, done.stderr, *records))


def test_a_login_that_is_refused_is_not_repeated(tmp_path: Path) -> None:
    with serve_cdse([make_product(name) for name in (NEW, NEXT)]) as cdse:
        done = _from(cdse, tmp_path, *BOX, CDSE_PASSWORD="a wrong secret")  # noqa: S106
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The login at 127.0.0.1 was refused (401, invalid_grant); check CDSE_USERNAME")
    assert "a wrong secret" not in _everything(tmp_path, done)
    assert USER not in done.stderr
    assert cdse.refused == 1


def test_without_a_login(tmp_path: Path) -> None:
    with serve_cdse([make_product(NEW)]) as cdse:
        done = _fetch("--provider", cdse.provider(tmp_path), "--out", tmp_path / "out", *BOX)
    assert done.returncode == 1
    assert "set CDSE_USERNAME and CDSE_PASSWORD" in done.stderr


def test_credentials_appear_nowhere(tmp_path: Path) -> None:
    damaged = make_product(NEW)
    path = next(path for path in damaged.files if path.endswith("B02_10m.jp2"))
    files = {name: content for name, content in damaged.files.items() if name != path}
    with serve_cdse([replace(damaged, files=files), make_product(NEXT)]) as cdse:
        done = _from(cdse, tmp_path, *BOX)
    assert done.returncode == 3
    shown = _everything(tmp_path, done)
    assert not [secret for secret in (USER, PASSWORD, "secret-token", "refresh-", "Bearer") if secret in shown]


def test_no_product_of_a_search(tmp_path: Path) -> None:
    with serve_cdse([]) as cdse:
        done = _from(cdse, tmp_path, *BOX)
    assert done.returncode == 1
    assert "has no product for this search; widen --dates" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--bbox", "1,2,3,4"), "Give --dates"),
        (("--dates", "2018"), "Give --bbox, --area or --tiles"),
        (("--dates", "2018", "--bbox", "1,2,3,4", "--area", "x"), "not both"),
        (("--published", "x", "--dates", "2018"), "--dates is for a search"),
        (("--dates", "2018", "--tiles", "33UUP", "--collection", "s1"), "has no MGRS tiles"),
    ],
)
def test_options_that_do_not_belong_together(arguments: tuple[str, ...], said: str) -> None:
    done = _fetch(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_the_land_cover_map_is_named_and_checked(data_dir: Path) -> None:
    done = _fetch("--landcover")
    assert done.returncode == 0
    for words in ("https://land.copernicus.eu/", "U2018_CLC2018_V2020_20u1.gpkg", "licence"):
        assert words in done.stdout
    path = data_dir / "landcover" / "clc2018_poznan_3035.gpkg"
    done = _fetch("--landcover", path)
    assert "1,521 polygons" in done.stdout
    done = _fetch("--landcover", data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg")
    assert done.returncode == 1


ProviderFile = Callable[..., Path]


@pytest.fixture
def provider_file(tmp_path: Path) -> ProviderFile:
    """Write the file of a STAC provider."""

    def write(kind: str, address: str, **more: str) -> Path:
        path = tmp_path / "provider.yaml"
        path.write_text(yaml.safe_dump({"kind": kind, "stac": f"{address}/stac", **more}))
        return path

    return write


@pytest.mark.slow
def test_items_of_the_planetary_computer(tmp_path: Path, provider_file: ProviderFile) -> None:
    keys = [*(f"B{number:02d}" for number in range(1, 13) if number != 10), "B8A", "SCL", "product-metadata"]
    files = {f"/data/{key}.tif": key.encode() * 1000 for key in [*keys, "visual"]}
    with serve_stac(files, signature_uses=12) as api:
        hrefs = {key: f"{api.address}/data/{key}.tif" for key in [*keys, "visual"]}
        made = item_of("item", "2018-07-25T10:05:00Z", (16, 52, 17, 53), hrefs, **{"s2:product_uri": f"{NEW}.SAFE"})
        api.items = [made, made | {"id": "cloudy", "properties": made["properties"] | {"eo:cloud_cover": 99}}]
        provider = provider_file("planetary-computer", api.address, token=f"{api.address}/sas")
        done = _fetch("--provider", provider, "--out", tmp_path / "out", *BOX, "--cloud", 10)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    folder = tmp_path / "out" / NEW
    assert _content(folder).keys() == {f"{key}.tif" for key in keys} | {f"{NEW}.json"}
    assert (folder / "B02.tif").read_bytes() == files["/data/B02.tif"]
    assert json.loads((folder / f"{NEW}.json").read_text())["assets"]["B02"]["href"] == "./B02.tif"
    assert api.searches[0]["collections"] == ["sentinel-2-l2a"]
    assert len(api.signatures) > 1
    assert "secret-signature" not in _everything(tmp_path, done)


def test_terrain_corrected_scenes_of_the_planetary_computer(tmp_path: Path, provider_file: ProviderFile) -> None:
    name = "S1A_IW_GRDH_1SDV_20180724T165131_20180724T165156_022939_027D4A_rtc"
    files = {f"/rtc/{name}/measurement/iw-{each}.rtc.tiff": each.encode() for each in ("vv", "vh")}
    with serve_stac(files) as api:
        hrefs = {each: f"{api.address}/rtc/{name}/measurement/iw-{each}.rtc.tiff" for each in ("vv", "vh")}
        api.items = [item_of(name, "2018-07-24T16:51:43Z", (15, 51, 18, 54), hrefs)]
        provider = provider_file("planetary-computer", api.address)
        done = _fetch("--provider", provider, "--out", tmp_path / "out", *BOX, "--collection", "s1")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (scene,) = find_images(str(tmp_path / "out"))
    assert scene.short_name == "S1A_IW_GRDH_1SDV_20180724T165131"
    assert scene.images.keys() == {"VV", "VH"}


def test_a_zarr_store_of_eopf(tmp_path: Path, provider_file: ProviderFile) -> None:
    store = tmp_path / "store"
    group = zarr.open_group(store, mode="w", zarr_format=2, attributes={"stac_discovery": {"id": f"{NEW}.SAFE"}})
    made = {}
    for node, bands in (("r10m", ("b02", "b03")), ("r20m", ("b02", "b05"))):
        for band in bands:
            path = f"measurements/reflectance/{node}/{band}"
            array = group.create_array(path, shape=(50, 50), chunks=(20, 20), dtype="uint16", fill_value=0)
            made[path] = np.arange(2500, dtype=np.uint16).reshape(50, 50)
            made[path][:20, :20] = 0  # a chunk that is not written
            array[:] = made[path]
    zarr.consolidate_metadata(store)
    files = {f"/p.zarr/{path}": content for path, content in _content(store).items()}
    with serve_stac(files) as api:
        api.items = [item_of(NEW, "2018-07-25T10:05:00Z", (16, 52, 17, 53), {"product": f"{api.address}/p.zarr"})]
        provider = provider_file("eopf", api.address)
        done = _fetch("--provider", provider, "--out", tmp_path / "out", *BOX)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    found = zarr.open_consolidated(tmp_path / "out" / f"{NEW}.zarr", zarr_format=2)
    assert found.attrs["stac_discovery"]["id"] == f"{NEW}.SAFE"
    for path, pixels in made.items():
        is_native = path.endswith(("r10m/b02", "r10m/b03", "r20m/b05"))
        assert (path in found) == is_native
        if is_native:
            assert np.array_equal(found[path][:], pixels)
