"""Products of a plan: mixed offsets, damaged products, and patches that two data strips share."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from click.testing import CliRunner

from reben_dask.cli import main
from reben_dask.errors import InputError
from reben_dask.job.plan import Plan, make_plan
from reben_dask.job.tasks import find_in_earlier_strips
from reben_dask.patches.candidates import candidate_patches
from reben_dask.patches.decision import decide
from reben_dask.recipes import load_recipe

METADATA = "MTD_MSIL2A.xml"
NAME = "S2B_MSIL2A_20180507T100029_N9999_R122_T33UXU_20240101T000000"
OFFSETS = "".join(f'<BOA_ADD_OFFSET band_id="{number}">-1000</BOA_ADD_OFFSET>' for number in range(13))
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


@pytest.fixture
def copies(data_dir: Path, tmp_path: Path):
    """Makes copies of the small product with other names and metadata; images are empty unless asked for."""
    mini = next((data_dir / "mini").glob("*.SAFE"))

    def make(old: str = "", new: str = "", *, xml: tuple[str, str] = ("", ""), pixels: bool = False) -> Path:
        copy = tmp_path / "s2" / mini.name.replace(old, new)
        for file in filter(Path.is_file, mini.rglob("*")):
            target = copy / file.relative_to(mini)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes() if pixels or file.suffix == ".xml" else b"")
        text = (copy / METADATA).read_text().replace(NAME, NAME.replace(old, new))
        if xml[0]:
            assert re.search(xml[0], text)
            text = re.sub(xml[0], xml[1], text)
        (copy / METADATA).write_text(text)
        return copy

    return make


@pytest.fixture
def landcover(data_dir: Path) -> str:
    return str(data_dir / "landcover" / "clc2018_poznan_3035.gpkg")


def _plan(landcover: str, *products: Path, **recipe: object) -> Plan:
    chosen = load_recipe("reben").model_copy(update=recipe)
    return make_plan(s2=list(map(str, products)), landcover=landcover, recipe=chosen)


def _with_offset(copies, start: str = "20180508T100029") -> Path:
    changed = r"(<PROCESSING_BASELINE>)[^<]+(</PROCESSING_BASELINE>)"
    made = copies("20180507T100029_N9999", f"{start}_N0500", xml=(changed, rf"\g<1>05.00\2{OFFSETS}"))
    path = made / METADATA
    path.write_text(re.sub(r"(<PRODUCT_START_TIME>2018-05-)07", r"\g<1>08", path.read_text()))
    return made


def test_mixed_offsets_are_told(copies, landcover: str) -> None:
    plan = _plan(landcover, copies(), _with_offset(copies))
    note = next(text for text in plan.warnings if "BOA_ADD_OFFSET" in text)
    assert note.startswith(
        "The tiles differ in BOA_ADD_OFFSET: 1 tile with -1000 DN (baseline 05.00), 1 tile with none (baseline 99.99)."
    )
    assert not [text for text in _plan(landcover, _with_offset(copies)).warnings if "BOA_ADD_OFFSET" in text]
    both = _plan(landcover, copies(), _with_offset(copies), harmonize=True)
    assert not [text for text in both.warnings if "BOA_ADD_OFFSET" in text]


@pytest.mark.parametrize(("harmonize", "expected"), [(False, [None, -1000]), (True, [None, 0])])
def test_each_patch_has_the_offset_that_it_carries(copies, landcover: str, harmonize: bool, expected: list) -> None:  # noqa: FBT001
    plan = _plan(landcover, copies(), _with_offset(copies), harmonize=harmonize)
    frames = [candidate_patches(plan.scene(tile), plan.recipe) for tile in plan.tiles]
    found = [frame["boa_add_offset"].astype(object).where(frame["boa_add_offset"].notna(), None) for frame in frames]
    assert [set(column) for column in found] == [{value} for value in expected]
    assert {source for frame in frames for source in frame["boa_offset_source"]} == {"metadata"}


def test_a_reprocessing_is_left_out(copies, landcover: str) -> None:
    old, new = copies("N9999", "N0206"), copies("N9999", "N0500")
    for path, baseline in ((old, "02.06"), (new, "05.00")):
        text = (path / METADATA).read_text()
        (path / METADATA).write_text(re.sub(r"(<PROCESSING_BASELINE>)[^<]+", rf"\g<1>{baseline}", text))
    plan = _plan(landcover, old.parent)
    assert [tile.location for tile in plan.tiles] == [new]
    assert any(f"{old.stem} (newest: 05.00)" in note for note in plan.warnings)
    inputs = {"s2": [str(old.parent)], "landcover": landcover, "recipe": load_recipe("reben")}
    assert len(make_plan(**inputs, keep_reprocessed=True).tiles) == 2


def test_damaged_products_are_all_named_and_set_aside(copies, landcover: str) -> None:
    good, other = copies(), copies("T33UXU", "T33UXT")
    next(other.rglob("MTD_TL.xml")).unlink()
    cut = good.parent / f"{NAME.replace('T33UXU', 'T33UXV')}.zip"
    cut.write_bytes(b"PK\x03\x04 cut short")
    page = good.parent / f"{NAME.replace('T33UXU', 'T33UYU')}.zip"
    page.write_text("<html>429 Too many requests</html>")
    lacking = copies("T33UXU", "T33UYV")
    next(lacking.rglob("*_B11_20m.jp2")).unlink()
    plan = _plan(landcover, good.parent)
    assert [tile.location for tile in plan.tiles] == [good]
    assert {product.location for product in plan.damaged} == {other, cut, page, lacking}
    tile = NAME.rpartition("_")[0]
    names = {tile[:-5] + mgrs for mgrs in ("33UXT", "33UXV", "33UYU", "33UYV")}
    assert {product.name for product in plan.damaged} == names
    for product in plan.damaged:
        assert f"{product.name} cannot be built: {product.error}" in plan.warnings
    for path in (good, lacking):
        (path / METADATA).unlink()
    (good.parent / "x.zip").write_bytes(b"")
    with pytest.raises(InputError, match="None of the 3 products can be read") as caught:
        _plan(landcover, good.parent)
    assert all(str(path) in str(caught.value) for path in (other, cut, page))


def test_a_damaged_copy_of_a_good_product_is_only_noted(copies, landcover: str) -> None:
    good = copies()
    (good.parent / f"{NAME}.zip").write_bytes(b"PK\x03\x04 cut short")
    plan = _plan(landcover, good.parent)
    assert plan.damaged == ()
    assert any("A damaged copy of a product is ignored" in note for note in plan.warnings)


def _blank(product: Path, rows: slice) -> None:
    """Set rows of 60 m pixels, and those of other resolutions on the same ground, to NODATA; images become GeoTIFFs."""
    for jp2 in list(product.rglob("*.jp2")):
        with rasterio.open(jp2) as source:
            pixels, factor = source.read(1), 60 // round(source.res[0])
            profile = {key: source.profile[key] for key in ("height", "width", "count", "dtype", "transform", "crs")}
        if "_SCL_" not in jp2.name:
            pixels[slice(*(edge and edge * factor for edge in (rows.start, rows.stop)))] = 0
        with rasterio.open(jp2.with_suffix(".tif"), "w", driver="GTiff", **profile) as made:
            made.write(pixels, 1)
        jp2.unlink()


@pytest.fixture
def strips(copies) -> tuple[Path, Path]:
    """Two data strips of the small tile: the northern one ends in patch row 4, the southern one begins in row 2."""
    north = copies(pixels=True)
    south = copies("T000000", "T063344", xml=("_S20180507T100029", "_S20180507T100341"), pixels=True)
    _blank(north, slice(90, None))
    _blank(south, slice(None, 50))
    return north, south


@pytest.mark.slow
def test_a_patch_of_two_strips_is_kept_once(strips: tuple[Path, Path], landcover: str) -> None:
    """By hand: a patch has 20 rows of 60 m; rows 0-3 are whole in the north, rows 3-7 in the south."""
    plan = _plan(landcover, *strips)
    first, second = plan.tiles
    assert (first.location, second.location) == strips
    assert plan.earlier_strips(first) == ()
    assert plan.earlier_strips(second) == (first,)
    found = find_in_earlier_strips([first], ["B01", "B12"], plan.grids(second))["is_duplicate"]
    y = plan.grids(second)[0].indices_xy()[1]
    assert (found.to_numpy() == (y <= 3)).all()
    patches = pd.DataFrame(
        {"failed_quality": None, "nodata": y < 3, "labeled_fraction": 1.0, "is_duplicate": found.to_numpy()}
    )
    decided = decide(patches, labeled_fraction=0.75, comparison="at_least")
    reasons = np.select([y < 3, y == 3], ["nodata", "duplicate_acquisition"], "")
    assert decided["reason"].fillna("").tolist() == reasons.tolist()


@pytest.mark.slow
def test_a_job_of_two_strips_and_a_damaged_product(strips: tuple[Path, Path], landcover: str, tmp_path: Path) -> None:
    folder, out = strips[0].parent, tmp_path / "out"
    (folder / f"{NAME.replace('T33UXU', 'T33UXV')}.zip").write_bytes(b"PK\x03\x04 cut short")
    command = ["run", "--s2", str(folder), "--landcover", landcover, "--out", str(out), "--no-report"]
    result = CliRunner().invoke(main, [*command, "--workers", "1", "--threads", "2", "--dashboard-address", ":0"])
    assert result.exit_code == 3, result.output
    tile = NAME.rpartition("_")[0]
    table = pd.read_parquet(out / "patches.parquet")
    # The map ends in the first row.
    chosen = table[table["reason"].isna() | (table["reason"] == "too_little_labeled")]
    assert (chosen["status"] == "kept").sum() > 40
    assert chosen.groupby("tile")["y"].agg(set).to_dict() == {
        tile: {0, 1, 2, 3},
        f"{tile}_20240101T063344": {4, 5, 6, 7},
    }
    duplicates = table[table["reason"] == "duplicate_acquisition"]
    assert {*zip(duplicates["tile"], duplicates["y"], strict=True)} == {(f"{tile}_20240101T063344", 3)}
    assert len(duplicates) == 8
    record = json.loads((out / "run" / "record.json").read_text())
    assert [failure["tile"] for failure in record["failures"]] == [tile.replace("T33UXU", "T33UXV")]
    card = (out / "README.md").read_text()
    assert "comes in 2 data strips" in card
    assert str(folder) not in card
    verified = CliRunner().invoke(main, ["verify", str(out), "--full"])
    assert verified.exit_code == 0, verified.output
