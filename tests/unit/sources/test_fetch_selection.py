"""Selection among products: periods, areas, baselines, the clearest, Sentinel-1 partners, published tiles, sizes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from reben_dask.errors import InputError
from reben_dask.sources.fetch import (
    PROVIDERS,
    Query,
    RemoteProduct,
    Selection,
    arranged,
    choose_baseline,
    choose_clearest,
    find_partners,
    find_published,
    parse_area,
    parse_dates,
    published_acquisitions,
    read_area,
    selection_frame,
    transfer_days,
    write_selection,
)
from reben_dask.sources.fetch.catalogue import parse_name, start_of
from reben_dask.sources.fetch.provider import Limits

TILE = "S2A_MSIL2A_20180725T100031_{}_R122_T33UVP_20230718T052230"


def _product(name: str, **more: object) -> RemoteProduct:
    parts = parse_name(name)
    baseline = f"{parts['baseline'][:2]}.{parts['baseline'][2:]}" if parts else None
    values = {"collection": "l2a", "time": start_of(name), "footprint": None, "mgrs": parts.get("mgrs")} | more
    return RemoteProduct(name=name, baseline=baseline, **values)  # type: ignore[arg-type]


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2018-04-01/2018-09-30", _day(2018, 4, 1), _day(2018, 10, 1)),
        ("2018-04-01..2018-09-30", _day(2018, 4, 1), _day(2018, 10, 1)),
        ("2018-12", _day(2018, 12, 1), _day(2019, 1, 1)),
        ("2018-02/2018-04", _day(2018, 2, 1), _day(2018, 5, 1)),
        ("2017/2018", _day(2017, 1, 1), _day(2019, 1, 1)),
        ("2018-02-28", _day(2018, 2, 28), _day(2018, 3, 1)),
    ],
)
def test_dates(text: str, start: datetime, end: datetime) -> None:
    assert parse_dates(text) == (start, end)


@pytest.mark.parametrize("text", ["", "summer", "2018-13", "2018-02-30", "2018-05/2018-04", "1/2/3", "2018-01-01-01"])
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(InputError, match="--dates"):
        parse_dates(text)


def test_an_area_across_the_180th_meridian_has_two_parts() -> None:
    assert parse_area("16.5,52.2,17.3,52.6").bounds == (16.5, 52.2, 17.3, 52.6)
    assert parse_area("179,-17,-179,-16").area == pytest.approx(2.0)


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "10,60,12,50", "0,0,200,10", "5,1,5,2"])
def test_what_is_no_box(text: str) -> None:
    with pytest.raises(InputError, match="--bbox"):
        parse_area(text)


def test_an_area_in_another_system(tmp_path: Path) -> None:
    box = shapely.box(16.5, 52.2, 17.3, 52.6)
    gpd.GeoSeries([box], crs=4326).to_crs(3035).to_file(tmp_path / "area.gpkg")
    assert shapely.hausdorff_distance(read_area(str(tmp_path / "area.gpkg")), box) < 1e-6
    gpd.GeoSeries([shapely.Point(16, 52)], crs=4326).to_file(tmp_path / "points.gpkg")
    with pytest.raises(InputError, match="no polygon"):
        read_area(str(tmp_path / "points.gpkg"))


@pytest.mark.parametrize(
    ("baselines", "choice", "expected"),
    [
        (["N0208", "N0500", "N9999"], "newest", ["N0500"]),
        (["N0208", "N0500", "N9999"], "oldest", ["N0208"]),
        (["N0208", "N0500", "N9999"], "all", ["N0208", "N0500", "N9999"]),
        (["N0208", "N0500", "N9999"], "02.08", ["N0208"]),
        (["N0208", "N0500", "N9999"], "99.99", ["N9999"]),
        (["N9999"], "newest", ["N9999"]),
        (["N0208"], "05.00", []),
    ],
)
def test_one_baseline_of_an_acquisition(baselines: list[str], choice: str, expected: list[str]) -> None:
    chosen, left_out = choose_baseline([_product(TILE.format(name)) for name in baselines], choice)
    assert [product.name for product in chosen] == [TILE.format(name) for name in expected]
    assert len(left_out) == len(baselines) - len(expected)


def test_two_data_strips_are_one_baseline() -> None:
    strips = [_product(TILE.format("N0500")), _product(TILE.format("N0500").replace("052230", "052231"))]
    assert choose_baseline(strips)[0] == strips


def test_the_clearest_of_each_tile_and_season() -> None:
    def made(day: str, cloud: float | None, tile: str = "33UVP") -> RemoteProduct:
        return _product(f"S2A_MSIL2A_{day}T100031_N0500_R122_T{tile}_20230718T052230", cloud=cloud)

    april, may, none, july = made("20180410", 9), made("20180510", 3), made("20180511", None), made("20180710", 50)
    june, other = made("20180610", 0), made("20180410", 80, "33UWP")
    seasons = {"spring": (4, 5), "summer": (7, 8)}
    found = choose_clearest([april, may, none, july, june, other], 1, seasons)
    assert {product.name for product in found} == {may.name, july.name, other.name}
    assert len(choose_clearest([april, may, none], 2, seasons)) == 2


def test_partners_are_the_closest_scenes_that_cover_a_product() -> None:
    product = _product(TILE.format("N0500"), footprint=shapely.box(0, 0, 10, 10))

    def scene(name: str, hours: float, bounds: tuple[float, ...]) -> RemoteProduct:
        time = product.time + timedelta(hours=hours)
        return RemoteProduct(name, "s1", time, shapely.box(*bounds))

    west, east = scene("west", -3, (-1, -1, 6, 11)), scene("east", 5, (4, -1, 11, 11))
    again, late = scene("again", 4, (-1, -1, 5, 11)), scene("late", 20, (-1, -1, 11, 11))
    asked: list[Query] = []

    def search(query: Query) -> Iterator[RemoteProduct]:
        asked.append(query)
        return iter([late, again, east, west])

    found = find_partners([product], 6, search)
    assert [scene.name for scene in found.products] == ["west", "east"]
    assert found.partner_of == {"west": (product.name,), "east": (product.name,)}
    assert asked[0].end - asked[0].start == timedelta(days=12)
    alone = find_partners([product], 6, lambda _: iter([]))
    assert "No Sentinel-1 scene within 6 days" in alone.notes[0]


def test_the_published_metadata_are_of_115_products(data_dir: Path) -> None:
    tiles = published_acquisitions([data_dir / "bigearthnet"])
    assert len(tiles) == 115
    asked: list[Query] = []
    lost = "S2B_MSIL2A_20170914T093029_N9999_R136_T34TEP"

    def search(query: Query) -> Iterator[RemoteProduct]:
        asked.append(query)
        for tile, place in tiles.items():
            time = datetime.strptime(place.start, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
            if query.start <= time < query.end and tile != lost:
                name = tile.replace("L2A", "L1C").replace("N9999", "N0205")
                yield _product(f"{name}_20170914T093028", collection="l1c")

    found = find_published(tiles, "l1c", search)
    assert [(query.collection, query.tiles) for query in asked] == [("l1c", (place.mgrs,)) for place in tiles.values()]
    assert len(found.products) == 114
    assert found.missing == (lost,)


def test_published_patches_that_are_not_named_after_tiles(tmp_path: Path) -> None:
    table = pa.table({"patch_id": ["S2A_MSIL2A_20170613T101031_26_57"]})
    pq.write_table(table, tmp_path / "metadata.parquet")
    with pytest.raises(InputError, match="not named after a product"):
        published_acquisitions([tmp_path])


@pytest.mark.parametrize(
    ("nbytes", "days"), [(0, 0), (80e6 * 86_400, 1.0), (12e12, 30), (12e12 + 80e6 * 86_400, 31), (36e12, 90)]
)
def test_days_under_the_quota(nbytes: float, days: float) -> None:
    assert transfer_days(int(nbytes), PROVIDERS["cdse"].limits) == pytest.approx(days)
    assert transfer_days(10**9, Limits(1, 1e6)) == pytest.approx(1000 / 86_400)


def test_the_table_of_a_selection_is_geoparquet(tmp_path: Path) -> None:
    box = shapely.box(16, 52, 17, 53)
    there = _product(TILE.format("N0500"), footprint=box, nbytes=1000, cloud=4.5, id="a-b")
    ordered = _product(TILE.format("N0208"), is_online=False)
    specs = {"l2a": PROVIDERS["cdse"].spec("l2a")}
    selection = arranged(Selection((there, ordered)))
    assert (selection.products, selection.offline) == ((there,), (ordered,))
    path = write_selection(selection_frame(selection, "cdse", specs, whole=False), tmp_path)
    table = gpd.read_parquet(path)
    assert table["name"].tolist() == [there.name, ordered.name]
    assert table["online"].tolist() == [True, False]
    assert table["transfer_bytes"].tolist() == [600, 0]
    assert table.crs.to_epsg() == 4326
    assert table.geometry.iloc[0].equals(box)
    assert str(table["sensing_time"].dt.tz) == "UTC"
