"""The demo region against every convention of real inputs, read with other people's readers."""

from __future__ import annotations

import csv
import re
import zipfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import shapely
from click.testing import CliRunner, Result
from defusedxml import ElementTree
from rasterio import features

from reben_dask.cli.demo import demo
from reben_dask.demo import DemoRegion, make_demo_region, open_demo_region
from reben_dask.demo.landcover import Parcels, draw_land_cover
from reben_dask.demo.products import list_acquisitions
from reben_dask.demo.scene import Weather
from reben_dask.demo.surface import survey_tile
from reben_dask.demo.terrain import FULL, SMALL, Terrain
from reben_dask.errors import OutputError
from reben_dask.formats.bands import BAND_RESOLUTION_M as BANDS
from reben_dask.nomenclature import load_nomenclature

if TYPE_CHECKING:
    from pathlib import Path

CORNERS = {"33UVP": (490_680, 5_400_000), "33UWP": (499_980, 5_400_000)}
SIDE_M, OVERLAP_M, PATCHES = 10_200, 900, 8
LAYER = "U2018_CLC2018_V2020_20u1"
NAME = re.compile(r"S2[AB]_MSIL2A_\d{8}T\d{6}_N\d{4}_R\d{3}_T(\d{2}[A-Z]{3})_\d{8}T\d{6}")
Pixels = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Product:
    """A product as a stranger finds it: a folder of files, or an archive."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def tile(self) -> str:
        return NAME.fullmatch(self.name)[1]  # type: ignore[index]

    @cached_property
    def files(self) -> list[str]:
        if self.path.suffix == ".zip":
            return zipfile.ZipFile(self.path).namelist()
        return [f.relative_to(self.path.parent).as_posix() for f in self.path.rglob("*") if f.is_file()]

    def gdal_path(self, ending: str) -> str:
        (file,) = [file for file in self.files if file.endswith(ending)]
        root = f"/vsizip/{self.path}" if self.path.suffix == ".zip" else str(self.path.parent)
        return f"{root}/{file}"

    def text(self, ending: str) -> bytes:
        (file,) = [file for file in self.files if file.endswith(ending)]
        if self.path.suffix == ".zip":
            return zipfile.ZipFile(self.path).read(file)
        return (self.path.parent / file).read_bytes()

    def xml(self, ending: str = "MTD_MSIL2A.xml") -> ElementTree.Element:
        return ElementTree.fromstring(self.text(ending))

    def pixels(self, band: str) -> Pixels:
        with rasterio.open(self.gdal_path(f"_{band}_{BANDS.get(band, 20)}m.jp2")) as image:
            return image.read(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Make the region once, the way a user does."""
    folder = tmp_path_factory.mktemp("demo") / "region one"
    return folder, CliRunner().invoke(demo, [str(folder)], catch_exceptions=False)


@pytest.fixture(scope="module")
def region(made: tuple[Path, Result]) -> DemoRegion:
    return DemoRegion.inside(made[0])


@pytest.fixture(scope="module")
def products(region: DemoRegion) -> dict[str, Product]:
    """Products by season and tile, such as ``winter 33UWP``."""
    found = [Product(path) for path in sorted(region.s2.iterdir())]
    season = {"01": "winter", "04": "spring", "07": "summer"}
    return {f"{season[product.name[15:17]]} {product.tile}": product for product in found}


@pytest.fixture(scope="module")
def landcover(region: DemoRegion) -> gpd.GeoDataFrame:
    return gpd.read_file(region.landcover, layer=LAYER)


@pytest.fixture(scope="module")
def pairs(region: DemoRegion) -> list[dict[str, str]]:
    with region.s1_pairs.open(encoding="utf-8") as file:  # type: ignore[union-attr]
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tile_boxes() -> dict[str, shapely.Polygon]:
    return {tile: shapely.box(x, y - SIDE_M, x + SIDE_M, y) for tile, (x, y) in CORNERS.items()}


def by_patch(pixels: Pixels, side: int) -> Pixels:
    """Cut complete patches, shape (patch_y, patch_x, pixel)."""
    cut = pixels[: PATCHES * side, : PATCHES * side].reshape(PATCHES, side, PATCHES, side)
    return cut.swapaxes(1, 2).reshape(PATCHES, PATCHES, -1)


def full_patches(scl: Pixels, values: list[int]) -> int:
    """Count patches all of whose SCL pixels have one of these values."""
    return int(np.isin(by_patch(scl, 60), values).all(axis=2).sum())


def code_grid(landcover: gpd.GeoDataFrame, tile: str) -> Pixels:
    placed = landcover.to_crs(32633)
    x, y = CORNERS[tile]
    return features.rasterize(
        zip(placed.geometry, placed["Code_18"].astype(int), strict=True), out_shape=(1020, 1020), dtype="int16",
        transform=rasterio.transform.from_origin(x, y, 10, 10), fill=0,
    )  # fmt: skip


class TestCommand:
    def test_says_what_it_made_and_what_to_do_next(self, made: tuple[Path, Result]) -> None:
        folder, result = made
        assert result.exit_code == 0
        assert result.output.splitlines()[-1] == (
            f"reben run --s2 '{folder}/sentinel2' --landcover '{folder}/landcover.gpkg' "
            f"--countries '{folder}/countries.gpkg' --s1 '{folder}/sentinel1' --s1-pairs '{folder}/s1_pairs.csv' "
            f"--out '{folder}-dataset'"
        )
        assert sum(line.startswith("product S2") for line in result.output.splitlines()) == 5

    def test_help_teaches(self) -> None:
        result = CliRunner().invoke(demo, ["--help"])
        assert result.exit_code == 0
        assert "--full-size" in result.output
        assert "CORINE" in result.output

    def test_leaves_what_is_there_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("keep")
        result = CliRunner().invoke(demo, [str(tmp_path)])
        assert result.exit_code == 1
        assert "name a folder that does not exist yet" in result.output
        assert "Traceback" not in result.output
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class TestAllOrNothing:
    def test_refuses_a_folder_with_something_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        with pytest.raises(OutputError, match="name a folder that does not exist yet"):
            make_demo_region(tmp_path)

    def test_refuses_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="not an empty folder"):
            make_demo_region(tmp_path / "file")

    def test_takes_an_empty_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reben_dask.demo.products.build_region", lambda region, **_: region.s2.mkdir())
        (tmp_path / "empty").mkdir()
        region = make_demo_region(tmp_path / "empty")
        assert region.s2 == tmp_path / "empty" / "sentinel2"
        assert region.s2.is_dir()

    def test_leaves_nothing_behind_when_it_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(region: DemoRegion, **_: object) -> None:
            region.s2.mkdir()
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("reben_dask.demo.products.build_region", fail)
        with pytest.raises(OutputError, match="No space left"):
            make_demo_region(tmp_path / "new")
        assert list(tmp_path.iterdir()) == []

    def test_whole_region_is_small(self, made: tuple[Path, Result]) -> None:
        assert sum(path.stat().st_size for path in made[0].rglob("*") if path.is_file()) < 40e6

    def test_makes_nothing_beside_it(self, made: tuple[Path, Result]) -> None:
        folder, _ = made
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        assert not [path for path in folder.rglob("*") if path.name.endswith(".aux.xml")]


class TestProducts:
    def test_five_products_one_of_them_zipped(self, products: dict[str, Product]) -> None:
        assert sorted(products) == ["spring 33UVP", "summer 33UVP", "summer 33UWP", "winter 33UVP", "winter 33UWP"]
        assert [season for season, product in products.items() if product.path.suffix == ".zip"] == ["winter 33UWP"]
        for product in products.values():
            assert {file.split("/")[0] for file in product.files} == {f"{product.name}.SAFE"}

    def test_images_listed_are_the_images_on_disk(self, products: dict[str, Product]) -> None:
        for season, product in products.items():
            listed = sorted(node.text for node in product.xml().iter("IMAGE_FILE"))
            found = sorted(file.split("/", 1)[1] for file in product.files if file.endswith(".jp2"))
            assert [f"{image}.jp2" for image in listed] == found
            bands = sorted(re.findall(r"_(\w{3})_\d0m", " ".join(listed)))
            assert bands == sorted({*BANDS, "SCL"} | ({"AOT"} if season == "summer 33UVP" else set()))

    def test_images_are_georeferenced_and_made_of_several_blocks(self, products: dict[str, Product]) -> None:
        for product in products.values():
            for band, resolution in {**BANDS, "SCL": 20}.items():
                with rasterio.open(product.gdal_path(f"R{resolution}m/{product_image(product, band)}")) as image:
                    assert image.driver == "JP2OpenJPEG"
                    assert image.shape == (SIDE_M // resolution,) * 2
                    assert image.crs.to_epsg() == 32633
                    x, y = CORNERS[product.tile]
                    assert image.transform[:6] == (resolution, 0, x, 0, -resolution, y)
                    assert image.dtypes == ("uint8" if band == "SCL" else "uint16",)
                    if resolution == 10:
                        assert image.block_shapes == [(512, 512)]

    def test_granule_metadata_agrees_with_the_images(self, products: dict[str, Product]) -> None:
        for product in products.values():
            root = product.xml("MTD_TL.xml")
            assert root.findtext(".//HORIZONTAL_CS_CODE") == "EPSG:32633"
            sizes = {int(node.get("resolution")): int(node.findtext("NROWS")) for node in root.iter("Size")}
            assert sizes == {10: 1020, 20: 510, 60: 170}
            for node in root.iter("Geoposition"):
                assert (int(node.findtext("ULX")), int(node.findtext("ULY"))) == CORNERS[product.tile]
                assert int(node.findtext("XDIM")) == -int(node.findtext("YDIM")) == int(node.get("resolution"))

    def test_product_metadata(self, products: dict[str, Product]) -> None:
        for season, product in products.items():
            root = product.xml()
            assert root.findtext(".//PRODUCT_URI") == f"{product.name}.SAFE"
            start = root.findtext(".//PRODUCT_START_TIME")
            assert re.sub(r"[-:]|\..*", "", start) == product.name.split("_")[2]
            special = dict(zip(*[[node.findtext(f"SPECIAL_VALUE_{part}") for node in root.iter("Special_Values")]
                                 for part in ("TEXT", "INDEX")], strict=True))  # fmt: skip
            assert special == {"NODATA": "0", "SATURATED": "65535"}
            assert root.findtext(".//BOA_QUANTIFICATION_VALUE") == "10000"
            baseline = {"summer": "05.00", "winter": "99.99", "spring": "02.12"}[season.split()[0]]
            assert root.findtext(".//PROCESSING_BASELINE") == baseline
            assert product.name.split("_")[3] == "N" + baseline.replace(".", "")

    def test_offsets_are_declared_and_applied_in_summer_only(self, products: dict[str, Product]) -> None:
        for season, product in products.items():
            offsets = [int(node.text) for node in product.xml().iter("BOA_ADD_OFFSET")]
            assert offsets == ([-1000] * 13 if "summer" in season else [])
            darkest = np.median(product.pixels("B12")[product.pixels("SCL") == 6])
            assert abs(darkest + sum(offsets[:1]) - 20) < 60

    def test_one_product_failed_one_indicator(self, products: dict[str, Product]) -> None:
        for season, product in products.items():
            checks = {node.get("checkType"): node.text for node in product.xml().iter("quality_check")}
            assert len(checks) == 5
            failed = [check for check, result in checks.items() if result != "PASSED"]
            assert failed == (["GEOMETRIC_QUALITY"] if season == "spring 33UVP" else [])

    def test_cloud_cover_is_counted_from_the_scene_classification(self, products: dict[str, Product]) -> None:
        for season, product in products.items():
            scl = product.pixels("SCL")
            declared = float(product.xml().findtext(".//Cloud_Coverage_Assessment"))
            assert declared == pytest.approx(100 * np.isin(scl, (8, 9, 10)).sum() / (scl > 0).sum(), abs=1e-5)
            assert (declared > 5) == (season == "summer 33UWP")


class TestScenes:
    def test_wedge_is_nodata_in_every_band(self, products: dict[str, Product]) -> None:
        product = products["winter 33UWP"]
        for band in [*BANDS, "SCL"]:
            missing = product.pixels(band) == 0
            widths = missing.sum(axis=1)
            assert 0.05 < missing.mean() < 0.12
            assert (np.diff(widths.astype(int)) >= 0).all()
            for row in np.flatnonzero(widths):
                assert missing[row, -widths[row] :].all()

    def test_three_dead_pixels_in_one_band(self, products: dict[str, Product]) -> None:
        product = products["winter 33UVP"]
        rows, columns = np.nonzero(product.pixels("B11") == 0)
        assert len(rows) == len(set(zip((columns // 60).tolist(), (rows // 60).tolist(), strict=True))) == 3
        assert max(*rows, *columns) < PATCHES * 60
        assert all((product.pixels(band) > 0).all() for band in BANDS if band != "B11")

    def test_no_other_pixel_is_nodata(self, products: dict[str, Product]) -> None:
        for season, product in products.items():
            if "winter" not in season:
                assert all((product.pixels(band) > 0).all() for band in [*BANDS, "SCL"])

    def test_snow_lies_on_high_ground_in_winter(self, products: dict[str, Product]) -> None:
        for tile in CORNERS:
            product = products[f"winter {tile}"]
            scl = product.pixels("SCL")
            assert full_patches(scl, [11]) >= 3
            share = (by_patch(scl, 60) == 11).mean(axis=2)
            assert ((share > 0) & (share < 1)).sum() >= 3
            blue = product.pixels("B02")[::2, ::2]
            assert np.median(blue[scl == 11]) > 2 * np.median(blue[(scl != 11) & (scl > 0)])

    def test_clouds_and_their_shadows_in_one_summer_product(self, products: dict[str, Product]) -> None:
        product = products["summer 33UWP"]
        scl = product.pixels("SCL")
        assert {3, 8, 9, 10} <= set(np.unique(scl).tolist())
        assert full_patches(scl, [8, 9, 10]) >= 2
        infrared = product.pixels("B8A").astype(int)
        assert np.median(infrared[scl == 9]) > 2 * np.median(infrared[scl == 3])
        cloud_row, cloud_column = (axis.mean() for axis in np.nonzero(scl == 9))
        shadow_row, shadow_column = (axis.mean() for axis in np.nonzero(scl == 3))
        assert shadow_row < cloud_row
        assert shadow_column < cloud_column
        assert not np.isin(products["summer 33UVP"].pixels("SCL"), (3, 8, 9, 10)).any()

    def test_both_tiles_show_the_same_where_they_overlap(self, products: dict[str, Product]) -> None:
        for season in ("summer", "winter"):
            for band, resolution in {**BANDS, "SCL": 20}.items():
                shared = OVERLAP_M // resolution
                west = products[f"{season} 33UVP"].pixels(band)[:, -shared:]
                east = products[f"{season} 33UWP"].pixels(band)[:, :shared]
                np.testing.assert_array_equal(west, east)

    def test_pixels_agree_with_the_map(self, products: dict[str, Product], landcover: gpd.GeoDataFrame) -> None:
        product = products["summer 33UVP"]
        codes = code_grid(landcover, "33UVP")
        water = product.pixels("SCL") == 6
        np.testing.assert_array_equal(water[codes[::2, ::2] > 0], (codes[::2, ::2] >= 500)[codes[::2, ::2] > 0])
        red, infrared = product.pixels("B04").astype(float), product.pixels("B08").astype(float)
        ndvi = (infrared - red) / (infrared + red - 2000)
        for code, low, high in ((312, 0.6, 0.95), (311, 0.6, 0.95), (331, -0.1, 0.2), (523, -1, 0.1)):
            assert low < np.median(ndvi[codes == code]) < high

    def test_fields_of_one_class_differ(self, products: dict[str, Product], landcover: gpd.GeoDataFrame) -> None:
        codes = code_grid(landcover, "33UVP")
        arable = products["summer 33UVP"].pixels("B04")[codes == 211]
        assert np.percentile(arable, 90) - np.percentile(arable, 10) > 300


class TestLandCover:
    def test_schema_is_the_official_one(self, landcover: gpd.GeoDataFrame) -> None:
        assert landcover.crs.to_epsg() == 3035
        assert {"Code_18", "ID", "Area_Ha", "geometry"} <= set(landcover.columns)
        assert set(landcover.geom_type) == {"MultiPolygon"}
        assert landcover["ID"].is_unique
        np.testing.assert_allclose(landcover["Area_Ha"], landcover.area / 1e4)

    def test_every_class_lies_within_the_tiles(
        self, landcover: gpd.GeoDataFrame, tile_boxes: dict[str, shapely.Polygon]
    ) -> None:
        placed = landcover.to_crs(32633)
        inside = placed[placed.intersection(shapely.union_all(list(tile_boxes.values()))).area > 5e4]
        assert set(inside["Code_18"]) == {str(code) for code in load_nomenclature("clc44").class_of}

    def test_polygons_are_a_valid_coverage(self, landcover: gpd.GeoDataFrame) -> None:
        polygons = landcover.geometry.explode().to_numpy()
        assert shapely.is_valid(polygons).all()
        assert shapely.coverage_is_valid(polygons)
        assert shapely.union_all(polygons).area == pytest.approx(landcover.area.sum(), rel=1e-9)

    def test_polygons_have_winding_borders(self, landcover: gpd.GeoDataFrame) -> None:
        assert len(landcover) > 300
        assert 40 < landcover.count_coordinates().mean() < 150

    def test_map_covers_everything_but_a_corner(
        self, landcover: gpd.GeoDataFrame, tile_boxes: dict[str, shapely.Polygon]
    ) -> None:
        covered = shapely.union_all(landcover.to_crs(32633).geometry.to_numpy())
        missing = tile_boxes["33UVP"].difference(covered)
        x, y = CORNERS["33UVP"]
        assert 3e6 < missing.area < 6e6
        assert missing.within(shapely.box(x, y - SIDE_M, x + 2600, y - SIDE_M + 2600).buffer(1))
        assert missing.convex_hull.area > 1.02 * missing.area
        assert tile_boxes["33UWP"].buffer(500).difference(covered).area == 0
        unlabelled = by_patch(code_grid(landcover, "33UVP") == 0, 120).mean(axis=2)
        assert (unlabelled == 1).sum() >= 1
        assert ((unlabelled > 0) & (unlabelled < 1)).sum() >= 3

    def test_neighbours_of_one_class_are_one_polygon(self, landcover: gpd.GeoDataFrame) -> None:
        for _, group in landcover.groupby("Code_18"):
            parts = group.geometry.explode().to_numpy()
            merged = shapely.get_parts(shapely.coverage_union_all(parts))
            assert len(merged) == len(parts)


class TestCountries:
    def test_invented_countries_divide_the_region(
        self, region: DemoRegion, tile_boxes: dict[str, shapely.Polygon]
    ) -> None:
        countries = gpd.read_file(region.countries)
        assert countries.crs.to_epsg() == 4326
        assert set(countries["name"]) == {"Austria", "Luxembourg", "Portugal", "Switzerland"}
        assert countries.is_valid.all()
        placed = countries.to_crs(32633)
        parts = placed.intersection(shapely.union_all(list(tile_boxes.values()))).area
        assert parts.sum() == pytest.approx((2 * SIDE_M - OVERLAP_M) * SIDE_M, rel=1e-5)
        assert (parts > 1e7).all()


class TestSentinel1:
    def test_every_complete_patch_but_one_has_a_partner(
        self, pairs: list[dict[str, str]], products: dict[str, Product]
    ) -> None:
        good = [product.name.rsplit("_", 1)[0] for season, product in products.items() if "spring" not in season]
        patches = {f"{name}_{x}_{y}" for name in good for x in range(PATCHES) for y in range(PATCHES)}
        names = [pair["s2_name"] for pair in pairs]
        assert names == sorted(set(names))
        assert set(names) < patches
        assert len(patches - set(names)) == 1

    def test_pairs_name_the_files_on_disk(self, pairs: list[dict[str, str]], region: DemoRegion) -> None:
        expected = {f"{p['s1_name']}_{band}.tif" for p in pairs for band in ("VV", "VH")}
        found = list(region.s1.rglob("*.*"))  # type: ignore[union-attr]
        assert {path.name for path in found} == expected
        for path in found:
            name = path.parent.name
            assert re.fullmatch(r"S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6}_33U[VW]P_\d_\d", name)
            assert path.parents[1].name == name.rsplit("_", 3)[0]

    def test_partners_lie_on_their_patches(self, pairs: list[dict[str, str]], region: DemoRegion) -> None:
        for pair in pairs[:: len(pairs) // 12]:
            tile, column, row = re.search(r"_T(\w{5})_(\d)_(\d)$", pair["s2_name"]).groups()  # type: ignore[union-attr]
            assert pair["s1_name"].endswith(f"_{tile}_{column}_{row}")
            x, y = CORNERS[tile]
            for band, low, high in (("VV", -22, 0), ("VH", -30, -8)):
                folder = region.s1 / pair["s1_name"].rsplit("_", 3)[0] / pair["s1_name"]  # type: ignore[operator]
                with rasterio.open(folder / f"{pair['s1_name']}_{band}.tif") as image:
                    assert (image.shape, image.dtypes, image.nodata) == ((120, 120), ("float32",), None)
                    assert image.crs.to_epsg() == 32633
                    assert image.transform[:6] == (10, 0, x + 1200 * int(column), 0, -10, y - 1200 * int(row))
                    values = image.read(1)
                assert low < values.mean() < high
                assert values.std() > 1
                np.testing.assert_array_equal(values * 16, np.rint(values * 16))


def test_the_region_comes_out_the_same_again(products: dict[str, Product], landcover: gpd.GeoDataFrame) -> None:
    terrain, parcels = Terrain(SMALL), Parcels(SMALL)
    covers = [draw_land_cover(terrain, parcels) for _ in range(2)]
    assert shapely.equals_exact(covers[0].polygons, covers[1].polygons).all()
    assert covers[0].codes.astype(str).tolist() == landcover["Code_18"].tolist()
    (cloudy,) = (acquisition for acquisition in list_acquisitions(SMALL) if acquisition.cloudy)
    scene = Weather(terrain).observe(survey_tile(cloudy.tile, covers[1], terrain, parcels), cloudy)
    for band in ("B02", "B11", "B01"):
        np.testing.assert_array_equal(scene.render_band(band), products["summer 33UWP"].pixels(band))


class TestFullSize:
    def test_tiles_lie_where_the_real_grid_has_them(self) -> None:
        west, east = FULL.tiles
        assert west.box == (399_960, 5_290_200, 509_760, 5_400_000)
        assert east.box == (499_980, 5_290_200, 609_780, 5_400_000)
        assert FULL.block_px == {10: 1024, 20: 640, 60: 192}
        assert west.grid.shape_yx == (91, 91)

    def test_has_no_sentinel_1(self, tmp_path: Path) -> None:
        region = DemoRegion.inside(tmp_path, full_size=True)
        assert (region.s1, region.s1_pairs) == (None, None)


def product_image(product: Product, band: str) -> str:
    """File name of a band: tile, sensing time, band, resolution."""
    return f"T{product.tile}_{product.name.split('_')[2]}_{band}_{BANDS.get(band, 20)}m.jp2"


def test_a_region_that_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr("reben_dask.demo.make_demo_region", made.append)
    open_demo_region(tmp_path / "region")
    (tmp_path / "region" / "sentinel2").mkdir(parents=True)
    assert open_demo_region(tmp_path / "region") == DemoRegion.inside(tmp_path / "region")
    assert made == [tmp_path / "region"]
