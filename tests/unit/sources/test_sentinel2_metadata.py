"""Product metadata: real files of five years, and anything else ends in an InputError."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.errors import InputError
from reben_dask.recipes import load_recipe
from reben_dask.sources.sentinel2.metadata import (
    Geocoding,
    ProductMetadata,
    parse_geocoding,
    parse_product_metadata,
)

SOURCE = "product.SAFE/MTD.xml"
BANDS_BY_ID = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
INDICATORS = ("GEOMETRIC", "GENERAL", "RADIOMETRIC", "SENSOR")
PASSED = dict.fromkeys(["FORMAT_CORRECTNESS", "GENERAL", "GEOMETRIC", "RADIOMETRIC", "SENSOR"], "PASSED")
WITH_L2A = {**PASSED, "L2A": "PASSED"}
FORMAT_FAILED = {**PASSED, "FORMAT_CORRECTNESS": "FAILED"}

REAL = {
    # product: baseline, sensing time, images, format, quality
    "S2A_MSIL2A_20150826T185436_N0212_R070_T11SLT_20210412T023147": (
        "02.12 2015-08-26T18:54:36.027 35 GeoTIFF",
        FORMAT_FAILED,
    ),
    "S2A_MSIL2A_20180721T053721_N0212_R062_T43MDV_20201011T181419": (
        "02.12 2018-07-21T05:37:21.024 35 GeoTIFF",
        PASSED,
    ),
    "S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857": (
        "02.12 2019-02-12T19:26:51.024 35 GeoTIFF",
        PASSED,
    ),
    "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157": (
        "05.09 2023-06-25T23:46:21.024 36 JPEG2000",
        WITH_L2A,
    ),
    "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158": (
        "05.09 2023-06-25T23:46:21.024 36 JPEG2000",
        WITH_L2A,
    ),
    "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157": (
        "05.09 2023-06-25T23:46:21.024 36 JPEG2000",
        WITH_L2A,
    ),
    "S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825": (
        "05.09 2023-08-21T22:19:41.024 36 JPEG2000",
        WITH_L2A,
    ),
    "S2A_MSIL2A_20240904T222541_N0511_R029_T59GPM_20240905T020950": (
        "05.11 2024-09-04T22:25:41.024 36 JPEG2000",
        WITH_L2A,
    ),
    "S2B_MSIL2A_20191228T210519_N0212_R071_T01CCV_20201003T104658": (
        "02.12 2019-12-28T21:05:19.024 35 GeoTIFF",
        PASSED,
    ),
    "S2B_MSIL2A_20200626T095029_N0214_R079_T34VFN_20200626T123234": (
        "02.14 2020-06-26T09:50:29.024 35 JPEG2000",
        PASSED,
    ),
    "S2B_MSIL2A_20210122T133229_N0214_R081_T22HBD_20210122T155500": (
        "02.14 2021-01-22T13:32:29.024 35 JPEG2000",
        PASSED,
    ),
    "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126": (
        "04.00 2022-04-13T15:07:59.024 36 GeoTIFF",
        PASSED,
    ),
    "S2B_MSIL2A_20231217T135659_N0510_R067_T21JUK_20231217T175625": (
        "05.10 2023-12-17T13:56:59.024 36 JPEG2000",
        WITH_L2A,
    ),
}

PRODUCT = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2018-05-07T10:00:29.024Z</PRODUCT_START_TIME>
      <PRODUCT_URI>S2B_MSIL2A_20180507T100029_N9999_R122_T33UXU_20240101T000000.SAFE</PRODUCT_URI>
      <PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>
      <Granule imageFormat="JPEG2000">
        <IMAGE_FILE>GRANULE/L2A_T33UXU/IMG_DATA/R10m/T33UXU_20180507T100029_B02_10m</IMAGE_FILE>
        <IMAGE_FILE>
          GRANULE/L2A_T33UXU/IMG_DATA/R20m/T33UXU_20180507T100029_SCL_20m
        </IMAGE_FILE>
      </Granule>
    </Product_Info>
    <BOA_ADD_OFFSET band_id="0">-1000</BOA_ADD_OFFSET>
    <BOA_ADD_OFFSET band_id="8">-900</BOA_ADD_OFFSET>
    <BOA_ADD_OFFSET band_id="12"> 0 </BOA_ADD_OFFSET>
  </n1:General_Info>
  <n1:Quality_Indicators_Info>
    <quality_check checkType="GEOMETRIC_QUALITY">PASSED</quality_check>
    <quality_check checkType="SENSOR_QUALITY">FAILED</quality_check>
  </n1:Quality_Indicators_Info>
</n1:Level-2A_User_Product>
"""
GRANULE = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd">
  <Tile_Geocoding metadataLevel="Brief">
    <HORIZONTAL_CS_CODE>EPSG:32633</HORIZONTAL_CS_CODE>
    <Size resolution="10"><NROWS>1080</NROWS><NCOLS>1200</NCOLS></Size>
    <Size resolution="20"><NROWS>540</NROWS><NCOLS>600</NCOLS></Size>
    <Size resolution="60"><NROWS>180</NROWS><NCOLS>200</NCOLS></Size>
    <Geoposition resolution="10"><ULX>634380</ULX><ULY>5840280</ULY></Geoposition>
  </Tile_Geocoding>
</n1:Level-2A_Tile_ID>
"""

Parse = Callable[[bytes, str], object]
BOTH = pytest.mark.parametrize(
    ("parse", "text"), [(parse_product_metadata, PRODUCT), (parse_geocoding, GRANULE)], ids=["product", "granule"]
)


def _refused(parse: Parse, xml: bytes) -> str:
    """Parse a document, which must be refused, and give the sentence."""
    with pytest.raises(InputError) as caught:
        parse(xml, SOURCE)
    message = str(caught.value)
    assert message.startswith(SOURCE)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def _product(pattern: str, replacement: str) -> bytes:
    assert re.search(pattern, PRODUCT, re.DOTALL)
    return re.sub(pattern, replacement, PRODUCT, count=1, flags=re.DOTALL).encode()


@pytest.fixture(scope="module")
def files(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "mtd").glob("*.MTD_MSIL2A.xml"))


def test_all_real_files_are_known_here(files: list[Path]) -> None:
    assert [path.name.removesuffix(".MTD_MSIL2A.xml") for path in files] == sorted(REAL)


@pytest.mark.parametrize("product", REAL)
def test_a_real_file(data_dir: Path, product: str) -> None:
    xml = (data_dir / "mtd" / f"{product}.MTD_MSIL2A.xml").read_bytes()
    metadata = parse_product_metadata(xml, product)
    facts, quality = REAL[product]
    baseline, time, images, image_format = facts.split()
    assert metadata.product == product
    assert metadata.baseline == baseline
    assert metadata.sensing_time == datetime.fromisoformat(f"{time}+00:00")
    assert metadata.sensing_time.utcoffset() == timedelta(0)
    assert metadata.image_format == image_format
    assert metadata.quality == quality
    assert metadata.offsets == (dict.fromkeys(BANDS_BY_ID, -1000) if baseline >= "04.00" else {})
    assert len(metadata.images) == int(images)
    assert list(metadata.images) == [name.decode() for name in re.findall(rb"<IMAGE_FILE>(.*?)</IMAGE_FILE>", xml)]
    for band in set(BANDS_BY_ID) - {"B10"}:
        assert any(f"_{band}_" in name for name in metadata.images)


def test_reben_takes_every_real_file(files: list[Path]) -> None:
    """FORMAT_CORRECTNESS has FAILED in one of them, at which the recipe does not look."""
    looked_at = load_recipe("reben").quality_indicators
    for path in files:
        quality = parse_product_metadata(path.read_bytes(), path.name).quality
        assert {name: quality[name] for name in looked_at} == dict.fromkeys(looked_at, "PASSED")


def test_a_small_document() -> None:
    assert parse_product_metadata(PRODUCT.encode(), SOURCE) == ProductMetadata(
        product="S2B_MSIL2A_20180507T100029_N9999_R122_T33UXU_20240101T000000",
        sensing_time=datetime(2018, 5, 7, 10, 0, 29, 24_000, tzinfo=UTC),
        baseline="05.09",
        images=(
            "GRANULE/L2A_T33UXU/IMG_DATA/R10m/T33UXU_20180507T100029_B02_10m",
            "GRANULE/L2A_T33UXU/IMG_DATA/R20m/T33UXU_20180507T100029_SCL_20m",
        ),
        image_format="JPEG2000",
        offsets={"B01": -1000, "B8A": -900, "B12": 0},
        quality={"GEOMETRIC": "PASSED", "SENSOR": "FAILED"},
    )
    assert parse_geocoding(GRANULE.encode(), SOURCE) == Geocoding(
        epsg=32633, ulx=634_380, uly=5_840_280, shape_yx={10: (1080, 1200), 20: (540, 600), 60: (180, 200)}
    )


@pytest.mark.parametrize("namespace", ["psd-12", "psd-15", "psd-99"])
def test_any_namespace(namespace: str) -> None:
    metadata = parse_product_metadata(PRODUCT.replace("psd-14", namespace).encode(), SOURCE)
    assert metadata == parse_product_metadata(PRODUCT.encode(), SOURCE)
    assert parse_product_metadata(PRODUCT.replace("n1:", "").encode(), SOURCE) == metadata


@pytest.mark.parametrize("outcome", ["PASSED", "FAILED"])
@pytest.mark.parametrize("indicator", INDICATORS)
@pytest.mark.parametrize(
    "spelling",
    [
        "<{0}_QUALITY_FLAG>{1}</{0}_QUALITY_FLAG>",
        "<{0}_QUALITY>{1}</{0}_QUALITY>",
        '<quality_check checkType="{0}_QUALITY">{1}</quality_check>',
        '<quality_check checkType="{0}_QUALITY_FLAG"> {1} </quality_check>',
        '<n1:quality_check checkType="{0}_QUALITY">{1}</n1:quality_check>',
    ],
)
def test_spellings_of_quality_indicators(spelling: str, indicator: str, outcome: str) -> None:
    xml = _product("<quality_check.*</quality_check>", spelling.format(indicator, outcome))
    assert parse_product_metadata(xml, SOURCE).quality == {indicator: outcome}


def test_without_quality_indicators_none_failed() -> None:
    assert parse_product_metadata(_product("<quality_check.*</quality_check>", ""), SOURCE).quality == {}


@pytest.mark.parametrize("other", ["FAILED", "NOT_RUN", "UNKNOWN"])
@pytest.mark.parametrize("is_first", [True, False])
def test_an_indicator_that_failed_once_did_not_pass(other: str, is_first: bool) -> None:  # noqa: FBT001
    outcomes = (other, "PASSED") if is_first else ("PASSED", other)
    checks = "".join(f'<quality_check checkType="GENERAL_QUALITY">{outcome}</quality_check>' for outcome in outcomes)
    quality = parse_product_metadata(_product("<quality_check.*</quality_check>", checks), SOURCE).quality
    assert quality["GENERAL"] == other


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2018-05-07T10:00:29.024Z", datetime(2018, 5, 7, 10, 0, 29, 24_000, tzinfo=UTC)),
        ("2018-05-07T10:00:29Z", datetime(2018, 5, 7, 10, 0, 29, tzinfo=UTC)),
        ("2018-05-07T10:00:29.024000", datetime(2018, 5, 7, 10, 0, 29, 24_000, tzinfo=UTC)),
        ("2018-05-07T12:00:29+02:00", datetime(2018, 5, 7, 10, 0, 29, tzinfo=UTC)),
    ],
)
def test_the_sensing_time_is_in_utc(text: str, expected: datetime) -> None:
    metadata = parse_product_metadata(_product("2018-05-07T10:00:29.024Z", text), SOURCE)
    assert metadata.sensing_time == expected
    assert metadata.sensing_time.utcoffset() == timedelta(0)


@pytest.mark.parametrize("name", ["PRODUCT_URI", "PRODUCT_START_TIME", "PROCESSING_BASELINE"])
@pytest.mark.parametrize("content", [None, "", "   ", "<b>x</b>"])
def test_a_missing_or_empty_element(name: str, content: str | None) -> None:
    instead = "" if content is None else f"<{name}>{content}</{name}>"
    message = _refused(parse_product_metadata, _product(f"<{name}>.*</{name}>", instead))
    assert message == f"{SOURCE} has no {name}; is it the metadata of a Sentinel-2 product?"


@pytest.mark.parametrize("name", ["HORIZONTAL_CS_CODE", "ULX", "ULY", "NROWS", "NCOLS", "Geoposition", "Size"])
def test_a_granule_without_an_element(name: str) -> None:
    xml = re.sub(f"<{name}.*?</{name}>", "", GRANULE, count=1)
    assert xml != GRANULE
    _refused(parse_geocoding, xml.encode())


@pytest.mark.parametrize(
    ("pattern", "replacement", "words"),
    [
        ("2018-05-07T10:00:29.024Z", "yesterday", "has the sensing time 'yesterday', which is not a time."),
        (">-1000<", ">minus<", "has 'minus' where a whole number is expected."),
        (">-1000<", "><", "has '' where a whole number is expected."),
        (">-1000<", ">-1000.5<", "has '-1000.5' where a whole number is expected."),
        ('band_id="8"', 'band_id="13"', "has a BOA_ADD_OFFSET for band_id 13; band_id is 0 to 12."),
        ('band_id="8"', 'band_id="-1"', "has a BOA_ADD_OFFSET for band_id -1; band_id is 0 to 12."),
        ('band_id="8"', "", "has '' where a whole number is expected."),
        ("<Granule.*</Granule>", "", "lists 0 granules; only products of one granule (tile) can be read."),
        ("(<Granule.*</Granule>)", r"\1<Granule/>", "lists 2 granules; only products of one granule (tile)"),
    ],
)
def test_a_wrong_value(pattern: str, replacement: str, words: str) -> None:
    assert words in _refused(parse_product_metadata, _product(pattern, replacement))


@pytest.mark.parametrize(("old", "new"), [(">634380<", ">634380.5<"), ("EPSG:32633", "EPSG:"), ('"20"', '"twenty"')])
def test_a_wrong_value_of_a_granule(old: str, new: str) -> None:
    assert "where a whole number is expected." in _refused(parse_geocoding, GRANULE.replace(old, new).encode())


def _with_doctype(text: str, doctype: str, entity: str = "") -> bytes:
    head, body = text.split("\n", 1)
    return f"{head}\n{doctype}\n{body.replace('32633', entity or '32633').replace('05.09', entity or '05.09')}".encode()


LOL = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))


@BOTH
@pytest.mark.parametrize(
    ("doctype", "entity"),
    [
        ("<!DOCTYPE x>", ""),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd">', ""),
        ('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">', ""),
        ('<!DOCTYPE x [<!ENTITY e "5">]>', "&e;"),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', "&e;"),
        ('<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;]>', ""),
        (f'<!DOCTYPE x [<!ENTITY l0 "lol">{LOL}]>', "&l9;"),
        (f'<!DOCTYPE x [<!ENTITY a "{"a" * 50_000}">]>', "&a;" * 5_000),
    ],
    ids=["dtd", "dtd file", "dtd url", "entity", "external entity", "parameter entity", "laughs", "blowup"],
)
def test_entities_and_dtds_are_refused(parse: Parse, text: str, doctype: str, entity: str) -> None:
    message = _refused(parse, _with_doctype(text, doctype, entity))
    assert message == f"{SOURCE} declares XML entities or a DTD, which no Sentinel product does."


@BOTH
def test_cut_short_anywhere(parse: Parse, text: str) -> None:
    xml = text.encode()
    whole = parse(xml, SOURCE)
    for length in range(len(xml)):
        try:
            assert parse(xml[:length], SOURCE) == whole  # only white space is missing
        except InputError as error:
            assert "is not well-formed XML" in str(error)  # noqa: PT017


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        lambda xml: xml.replace(b"2024", b"20\xff24").replace(b"EPSG", b"EP\xffSG"),
        lambda xml: xml.decode().encode("utf-16"),
        lambda xml: xml.replace(b"UTF-8", b"UTF-16"),
        lambda xml: xml.replace(b"UTF-8", b"klingon"),
        lambda xml: xml.replace(b"UTF-8", b"shift_jis"),
        lambda xml: xml.replace(b"UTF-8", b"utf-7"),
        lambda xml: xml.replace(b"UTF-8", b""),
        lambda xml: xml.replace(b"UTF-8", b"rot13"),
        lambda xml: xml.replace(b"UTF-8", b"hex"),
        lambda xml: xml.replace(b"<n1:", b"<n2:"),
        lambda xml: xml.replace(b"Tile", b"Ti\x00le").replace(b"Product_Info", b"Product\x00Info"),
        lambda _: b"",
        lambda _: b"\x89PNG\r\n\x1a\n",
        lambda _: b"<html><body>404 Not Found</body></html>",
        lambda _: b"<a>" * 100_000,
        lambda _: b"<a>" * 100_000 + b"</a>" * 100_000,
    ],
)
def test_what_is_no_such_document(parse: Parse, text: str, change: Callable[[bytes], bytes]) -> None:
    xml = change(text.encode())
    assert xml != text.encode()
    try:
        parse(xml, SOURCE)
    except InputError:
        return
    # A declaration may lie about an encoding that ASCII text survives.
    assert b"encoding" in xml


def _spliced(xml: bytes) -> st.SearchStrategy[bytes]:
    """The document with one piece replaced by other bytes, or by another piece of itself."""
    place = st.tuples(st.integers(0, len(xml)), st.integers(0, 80))
    piece = st.binary(max_size=12) | place.map(lambda span: xml[span[0] : sum(span)])
    return st.builds(lambda span, new: xml[: span[0]] + new + xml[sum(span) :], place, piece)


def _reworded(text: str) -> st.SearchStrategy[bytes]:
    """The document with any text or attribute value in it replaced by other text."""
    spans = [match.span(1) for match in re.finditer(r'>([^<>]+)<|="([^"]*)"', text) if match.group(1)]
    spans += [match.span(1) for match in re.finditer(r'="([^"]*)"', text)]
    values = st.one_of(
        st.text(st.characters(exclude_characters='<>&"', exclude_categories=["Cs", "Cc"]), max_size=30),
        st.integers().map(str),
        st.floats().map(str),
        st.datetimes().map(str),
        st.just("9" * 5000),
        st.sampled_from(["1_000", "٣", "0x10", "1e3", "0001-01-01T00:00:00+14:00", "2018-W19-1", "24:00"]),
    )
    return st.builds(
        lambda span, new: (text[: span[0]] + new + text[span[1] :]).encode(), st.sampled_from(spans), values
    )


@given(_spliced(PRODUCT.encode()) | _reworded(PRODUCT))
def test_a_damaged_product_document(xml: bytes) -> None:
    try:
        metadata = parse_product_metadata(xml, SOURCE)
    except InputError as error:
        assert str(error).startswith(SOURCE)  # noqa: PT017
    else:
        assert metadata.product
        assert metadata.baseline
        assert metadata.sensing_time.tzinfo is not None
        assert set(metadata.offsets) <= set(BANDS_BY_ID)


@given(_spliced(GRANULE.encode()) | _reworded(GRANULE))
def test_a_damaged_granule_document(xml: bytes) -> None:
    try:
        place = parse_geocoding(xml, SOURCE)
    except InputError as error:
        assert str(error).startswith(SOURCE)  # noqa: PT017
    else:
        assert {10, 20, 60} <= place.shape_yx.keys()


def test_damage_to_a_real_document(data_dir: Path) -> None:
    xml = (data_dir / "mtd" / f"{max(REAL)}.MTD_MSIL2A.xml").read_bytes()

    @given(_spliced(xml))
    def damage(damaged: bytes) -> None:
        try:
            parse_product_metadata(damaged, SOURCE)
        except InputError as error:
            assert str(error).startswith(SOURCE)  # noqa: PT017

    damage()
