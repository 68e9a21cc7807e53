"""Each acquisition counts once: copies, reprocessings and data strips of products."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest

from reben_dask.errors import InputError
from reben_dask.formats.names import V2, NameTemplate, mgrs_of, tile_names
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.sources.sentinel2 import Form, Tile, choose_products
from reben_dask.sources.sentinel2.gdal_image import GdalImage

START, PLACE = "S2A_MSIL2A_20180725T100031", "R122_T33UVP"


def tile(  # noqa: PLR0913 - these tell products apart
    baseline: str = "05.00",
    made: str = "20230718T052230",
    *,
    strip: str = "20180725T100509",
    start: str = START,
    place: str = PLACE,
    path: str = "",
    form: Form = Form.FOLDER,
    images: int = 13,
    sha: str = "a",
) -> Tile:
    name = f"{start}_N{baseline.replace('.', '')}_{place}"
    return Tile(
        name=name,
        product=f"{name}_{made}",
        location=Path(path or f"/data/{name}_{made}.SAFE"),
        form=form,
        mgrs=place[-5:],
        sensing_time=datetime(2018, 7, 25, 10, 0, 31, tzinfo=UTC),
        baseline=baseline,
        epsg=32633,
        ulx=0,
        uly=0,
        shape_yx={},
        images={str(number): GdalImage("") for number in range(images)},
        offsets={},
        quality={},
        metadata_sha256=sha,
        strip=strip,
    )


def _names(tiles: tuple[Tile, ...]) -> list[str]:
    return [each.name for each in tiles]


@pytest.mark.parametrize(
    ("baselines", "taken"),
    [
        (["02.06", "05.00"], "05.00"),
        (["05.10", "05.09", "05.00"], "05.10"),
        (["99.99", "02.12"], "02.12"),
        (["99.99"], "99.99"),
        (["02.04", "99.99", "05.11"], "05.11"),
    ],
)
def test_the_newest_baseline_is_taken(baselines: list[str], taken: str) -> None:
    for order in permutations(baselines):
        choice = choose_products([tile(baseline) for baseline in order])
        assert [each.baseline for each in choice.tiles] == [taken]
        others = [f"{tile(other).product} (newest: {taken})" for other in sorted(baselines) if other != taken]
        left_out = "left out, unless --keep-reprocessed is given: "
        assert [note.partition(left_out)[2] for note in choice.notes] == ([", ".join(others) + "."] if others else [])


def test_all_baselines_are_kept_on_request() -> None:
    choice = choose_products([tile("05.00"), tile("02.06")], keep_reprocessed=True)
    assert [each.baseline for each in choice.tiles] == ["02.06", "05.00"]
    assert choice.notes == ()


@pytest.mark.parametrize("published", ["02.06", "99.99"])
def test_the_published_baseline_wins(published: str) -> None:
    products = [tile("02.06"), tile("05.00"), tile("99.99")]
    choice = choose_products(products, is_published=lambda name: name == tile(published).name)
    assert [each.baseline for each in choice.tiles] == [published]
    assert f"(published: {published})" in choice.notes[0]


@pytest.mark.parametrize(
    "other", [{"start": START.replace("S2A", "S2B")}, {"start": START[:-1] + "2"}, {"place": "R079_T33UVP"}]
)
def test_other_acquisitions_are_not_the_same(other: dict[str, str]) -> None:
    assert len(choose_products([tile("05.00"), tile("02.06", **other)]).tiles) == 2


def test_a_copy_counts_once() -> None:
    """The folder before its zip file and other forms, but a complete copy before one that lacks an image."""
    packed = tile(path="/data/x.zip", form=Form.ZIP)
    others = [tile(path="/data/a.zarr", form=Form.EOPF, sha="b"), tile(path="/data/a.json", form=Form.STAC, sha="c")]
    for order in permutations([packed, tile(path="/data/x.SAFE"), *others]):
        choice = choose_products(order)
        assert [each.location for each in choice.tiles] == [Path("/data/x.SAFE")]
        note = "Products given more than once are used once, from the path named here"
        assert choice.notes == (f"{note}: {tile().product} (/data/x.SAFE).",)
    complete = choose_products([tile(path="/data/x.SAFE", images=12), packed]).tiles
    assert [each.location for each in complete] == [Path("/data/x.zip")]


def test_copies_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"given more than once, with different metadata: /data/a, /data/b"):
        choose_products([tile(path="/data/a"), tile(path="/data/b", sha="b")])


def test_data_strips_are_both_built() -> None:
    """Names by hand: the earlier strip keeps that of the tile, although its product was made later."""
    first, second = tile(made="20230718T063344"), tile(strip="20180725T100821")
    for order in permutations([first, second]):
        choice = choose_products(order)
        assert _names(choice.tiles) == [first.name, f"{first.name}_20230718T052230"]
        assert [each.product for each in choice.tiles] == [first.product, second.product]
        assert "comes in 2 data strips" in choice.notes[0]


def test_a_strip_that_was_generated_twice_counts_once() -> None:
    older, newer = tile(made="20230626T022157"), tile(made="20230626T022158")
    choice = choose_products([newer, older])
    assert [each.product for each in choice.tiles] == [newer.product]
    note = f"Data strips that were generated twice are used once; left out as older: {older.product}."
    assert choice.notes == (note,)


def test_names_of_patches_of_strips_are_unique() -> None:
    first, second = f"{START}_N0500_{PLACE}", f"{START}_N0500_{PLACE}_20230718T063344"
    names = tile_names([first, second])
    grid = PatchGrid(32633, 0, 0, ShapeYX(2400, 2400))
    assert V2.names(names[second], grid)[1] == f"{second}_0_1"
    assert mgrs_of(first) == mgrs_of(second) == "33UVP"
    parsed = V2.parse(f"{second}_05_07")
    assert parsed == ("33UVP", (5, 7))
    short = NameTemplate("{product}_{x}_{y}")
    made = [short.names(names[tile], grid)[0] for tile in (first, second)]
    assert made == [f"{START}_T33UVP_0_0", f"{START}_T33UVP_20230718T063344_0_0"]
    assert [short.parse(name) for name in made] == [("33UVP", (0, 0))] * 2
