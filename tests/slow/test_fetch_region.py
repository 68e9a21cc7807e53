"""A region of 200 products from a provider with faults, by a process that is killed; and from a real S3 server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import pyarrow.parquet as pq
import pytest
from cdse import PASSWORD, USER, Cdse, Faults, Product, make_product, manifest_of, serve_cdse
from click.testing import CliRunner
from processes import TIMEOUT_S
from s3_server import s3_server, upload

from reben_dask.cli import main

MIB = 2**20
LARGE = 24 * MIB
KILLS = 3
SECRETS = (USER, PASSWORD, "secret-token", "refresh-", "an-access-key", "a-secret-key", "X-Amz-Signature")
SEARCH = ("--bbox", "16.5,52.2,17.3,52.6", "--dates", "2018")


def _products(number: int) -> list[Product]:
    start = datetime(2018, 1, 1, 10, tzinfo=UTC)
    times = (f"{start + timedelta(hours=number):%Y%m%dT%H%M%S}" for number in range(number))
    return [make_product(f"S2A_MSIL2A_{time}_N0500_R122_T33UVP_20230718T052230", nbytes=3000) for time in times]


def _with_large_file(product: Product) -> tuple[Product, str]:
    path = next(path for path in product.files if path.endswith("B08_10m.jp2"))
    content = hashlib.shake_128(product.name.encode()).digest(LARGE)
    files = {name: product.files[name] for name in product.files if name != "manifest.safe"} | {path: content}
    return Product(product.name, files | {"manifest.safe": manifest_of(files)}), path


def _start(provider: Path, out: Path, log: Path, **credentials: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "reben_dask", "fetch", "--provider", provider, "--out", out, *SEARCH]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CDSE_")}
    with log.open("a") as file:
        return subprocess.Popen(
            list(map(str, command)),
            stdout=file,
            stderr=file,
            text=True,
            env={**environment, "NETRC": "/nowhere", **credentials},
        )


def _require_complete(out: Path, products: list[Product]) -> None:
    """Every product has exactly the files that a job reads, as they are at the provider."""
    record = json.loads((out / "fetch-record.json").read_text())
    assert record["failed"] == {}
    assert record["products"].keys() == {f"{product.name}.SAFE" for product in products}
    for product in products:
        folder = out / f"{product.name}.SAFE"
        content = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        assert len(content) == 16
        assert content.items() <= product.files.items()
        sums = {entry["path"]: entry["sha256"] for entry in record["products"][folder.name]["files"]}
        assert sums == {path: hashlib.sha256(text).hexdigest() for path, text in content.items()}


def _require_no_secrets(*places: Path) -> None:
    files = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()]
    texts = [path for path in files if path.suffix in {".json", ".parquet", ".log", ".safe", ".xml"}]
    assert texts
    assert not [(path, secret) for path in texts for secret in SECRETS if secret.encode() in path.read_bytes()]


@dataclass
class _Region:
    out: Path
    log: Path
    cdse: Cdse
    products: list[Product]
    large: list[str]


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> _Region:
    """Two hundred products, fetched by a process that is killed three times, each time within a large file."""
    folder = tmp_path_factory.mktemp("region")
    out, log = folder / "out", folder / "fetch.log"
    products, large = _products(200), []
    for number in (20, 90, 150):
        products[number], path = _with_large_file(products[number])
        large.append(f"{products[number].name}/{path}")
    faults = Faults(5, busy=0.02, cut=0.02, wrong=0.01, token_uses=200, bytes_per_s=100e6)
    with serve_cdse(products, faults) as cdse:
        running: list[subprocess.Popen[str]] = []
        left = list(large)

        def kill_in_the_middle(name: str, sent: int) -> None:
            if left and name == left[0] and sent > LARGE // 2:
                left.pop(0)
                running[-1].kill()

        cdse.watch = kill_in_the_middle
        # Without the catalogue's redirects, which would double the requests.
        provider = cdse.provider(folder, download=f"{cdse.download}/odata/v1")
        codes = []
        for _ in range(KILLS + 1):
            running.append(_start(provider, out, log, CDSE_USERNAME=USER, CDSE_PASSWORD=PASSWORD))
            try:
                codes.append(running[-1].wait(timeout=TIMEOUT_S))
            finally:
                running[-1].kill()
    assert codes == [-9] * KILLS + [0], log.read_text()
    return _Region(out, log, cdse, products, large)


def test_every_product_is_complete(region: _Region) -> None:
    _require_complete(region.out, region.products)
    assert not list(region.out.rglob("*.part"))
    assert min(region.cdse.statuses[status] for status in (206, 401, 429, 503)) > 0
    assert sum(region.cdse.flipped.values()) > 0


def test_little_is_transferred_twice(region: _Region) -> None:
    sizes = {f"{product.name}/{path}": len(text) for product in region.products for path, text in product.files.items()}
    for name, sent in region.cdse.sent.items():
        # Files with a wrong sum are transferred again as a whole.
        assert sent - region.cdse.flipped[name] <= sizes[name] + KILLS * 8 * MIB, name
    assert all(region.cdse.sent[name] >= LARGE for name in region.large)


def test_the_provider_is_not_burdened(region: _Region) -> None:
    assert region.cdse.logins == KILLS + 1
    assert region.cdse.busiest <= 4
    assert not [path for path in region.cdse.requests if re.fullmatch(r".*Products\([^)]*\)/\$value", path)]


def test_credentials_are_nowhere(region: _Region) -> None:
    _require_no_secrets(region.out, region.log)


def test_published_products_are_found_and_missing_ones_named(data_dir: Path, tmp_path: Path) -> None:
    names = pq.read_table(data_dir / "bigearthnet" / "metadata.parquet", columns=["patch_id"])["patch_id"].to_pylist()
    tiles = sorted({name.rsplit("_", 2)[0] for name in names})
    assert len(tiles) == 115
    products = [
        Product(f"{tile.replace('L2A', 'L1C').replace('N9999', 'N0205')}_20170613T101608", {}, "S2MSI1C")
        for tile in tiles[1:]
    ]
    with serve_cdse(products) as cdse:
        arguments = ["--provider", cdse.provider(tmp_path), "--published", data_dir / "bigearthnet", "--dry-run"]
        done = CliRunner().invoke(main, ["fetch", *map(str, arguments), "--out", str(tmp_path / "out")])
        assert cdse.requests == {"/odata/v1/Products": 115}
    assert done.exit_code == 0, done.output
    assert f"without a product at the provider: {tiles[0]}." in done.output
    found = gpd.read_parquet(tmp_path / "out" / "selection.parquet")
    assert set(found["name"]) == {product.name for product in products}


def test_products_from_an_s3_server(tmp_path: Path) -> None:
    products = _products(20)
    products[3], path = _with_large_file(products[3])
    out, log = tmp_path / "out", tmp_path / "fetch.log"
    keys = {"CDSE_S3_ACCESS_KEY": "an-access-key", "CDSE_S3_SECRET_KEY": "a-secret-key"}
    with s3_server(tmp_path) as endpoint, serve_cdse(products) as cdse:
        files = {f"{product.s3}/{path}": content for product in products for path, content in product.files.items()}
        upload(endpoint, "eodata", files)
        provider = cdse.provider(tmp_path, s3_endpoint=endpoint)
        part = out / f"{products[3].name}.SAFE" / path
        part = part.with_name(f".{part.name}.part")
        part.parent.mkdir(parents=True)
        part.write_bytes(products[3].files[path][: LARGE // 2])
        assert _start(provider, out, log, **keys).wait(timeout=TIMEOUT_S) == 0, log.read_text()
        assert cdse.requests.keys() == {"/odata/v1/Products"}
        wrong = tmp_path / "wrong.log"
        assert (
            _start(provider, tmp_path / "other", wrong, **keys | {"CDSE_S3_SECRET_KEY": "no"}).wait(timeout=TIMEOUT_S)
            == 1
        )
        assert "denied access (403), 5 times in a row" in wrong.read_text()
    _require_complete(out, products)
    _require_no_secrets(out, log, wrong)
