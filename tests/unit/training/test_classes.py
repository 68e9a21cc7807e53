"""Classes and masks of training samples: the same columns for every split, whoever wrote the metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from safetensors.numpy import load

from reben_dask.cli import main
from reben_dask.errors import InputError
from reben_dask.formats.bands import PUBLISHED_BANDS
from reben_dask.formats.lmdb import Shard, ShardIndex, encode_bands, encode_reference_map, keys_of
from reben_dask.nomenclature import load_nomenclature
from reben_dask.stores.lmdb import new_environment
from reben_dask.training import close_environments, lmdb_samples

V2 = [f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{x:02}_05" for x in range(4)]
V1 = [f"S2A_MSIL2A_20170613T101031_{x}_5" for x in range(4)]
SEASONET = [f"32UME_20180418T104021_53_92842{x}_7_503876" for x in range(4)]
SPLITS = ["train", "train", "validation", "test"]


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_environments()


def _metadata(folder: Path, names: Sequence[str], labels: Sequence[Sequence[str]]) -> Path:
    """Metadata as pandas writes them: without a class list."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"patch_id": names, "labels": [list(each) for each in labels], "split": SPLITS, "s1_name": [None] * 4}
    pd.DataFrame(rows).to_parquet(folder / "metadata.parquet", index=False)
    return folder


def _environment(folder: Path, names: Sequence[str], *, maps: Callable[[int], bool] = lambda _: False) -> None:
    """An LMDB by the product's writer, with reference maps of some patches."""
    with new_environment(folder, 2**22) as environment, environment.begin(write=True) as transaction:
        for number, name in enumerate(names):
            s2, codes = list(keys_of(name, None).values())
            pixels = {
                name: np.full((band.side_px(),) * 2, number + 1, np.uint16) for name, band in PUBLISHED_BANDS.items()
            }
            transaction.put(s2.encode(), encode_bands(pixels))
            if maps(number):
                transaction.put(codes.encode(), encode_reference_map(np.full((120, 120), 231, np.uint16)))


LEVEL_3 = [["Pastures"], ["Non-irrigated arable land"], ["Olive groves"], ["Pastures", "Water bodies"]]
BOTH = [["Pastures"], ["Coniferous forest"], ["Mixed forest"], ["Pastures", "Mixed forest"]]
"""Names that the 19 classes and the level-3 ones share."""


@pytest.mark.parametrize(
    ("names", "labels", "nomenclature"),
    [
        pytest.param(V2, [["Urban fabric"], ["Arable land"], ["Pastures"], ["Pastures"]], "bigearthnet19", id="alone"),
        pytest.param(V2, BOTH, "bigearthnet19", id="by the names of reBEN"),
        pytest.param(V1, BOTH, "bigearthnet43", id="by the names of v1"),
        pytest.param(V1, LEVEL_3, "bigearthnet43", id="level 3 of v1"),
        pytest.param(SEASONET, BOTH, "seasonet33", id="by the names of SeasoNet"),
        pytest.param(V1, [*LEVEL_3[:3], ["Glaciers and perpetual snow"]], "clc44", id="a class of clc44 alone"),
    ],
)
def test_without_a_list_the_classes_are_a_whole_nomenclature(
    tmp_path: Path, names: Sequence[str], labels: Sequence[Sequence[str]], nomenclature: str
) -> None:
    expected = load_nomenclature(nomenclature).classes
    _metadata(tmp_path, names, labels)
    for split in (None, "train", "validation", "test"):
        samples = lmdb_samples(tmp_path, split=split)
        assert samples.classes == expected
        wanted = [set(each) for each, of in zip(labels, SPLITS, strict=True) if split in (None, of)]
        found = [{expected[column] for column in np.flatnonzero(row)} for row in samples.table.labels]
        assert found == wanted


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        pytest.param(V2, [["grass"], ["trees"], ["grass"], []], id="own classes"),
        pytest.param(["a", "b", "c", "d"], BOTH, id="several nomenclatures and unknown names"),
        pytest.param(V2, LEVEL_3, id="several nomenclatures, none of which the names have"),
    ],
)
def test_classes_are_asked_for_where_nothing_tells_them(
    tmp_path: Path, names: Sequence[str], labels: Sequence[Sequence[str]]
) -> None:
    _metadata(tmp_path, names, labels)
    with pytest.raises(InputError, match=r"has no class list, .*; give classes= with the names of all classes\.$"):
        lmdb_samples(tmp_path, split="train")
    given = ["unused", *sorted({label for each in labels for label in each}, reverse=True)]
    samples = lmdb_samples(tmp_path, split="validation", classes=given)
    assert samples.classes == tuple(given)
    assert np.flatnonzero(samples.table.labels[0]).tolist() == [given.index(labels[2][0])]


def test_given_classes_come_before_stored_ones_and_must_hold_all_labels(tmp_path: Path) -> None:
    _metadata(tmp_path, V2, BOTH)
    file = tmp_path / "metadata.parquet"
    stored = pq.read_table(file).replace_schema_metadata({b"reben:classes": b'["Mixed forest", "Pastures"]'})
    pq.write_table(stored, file)
    with pytest.raises(InputError, match="has the label 'Coniferous forest', which is not in its own class list"):
        lmdb_samples(tmp_path, split="test")
    with pytest.raises(InputError, match="has the label 'Mixed forest', which is not in the given classes"):
        lmdb_samples(tmp_path, split="train", classes=["Pastures", "Coniferous forest"])
    order = ("Pastures", "Mixed forest", "Coniferous forest")
    assert lmdb_samples(tmp_path, classes=order).classes == order
    with pytest.raises(InputError, match="'Pastures' more than once"):
        lmdb_samples(tmp_path, classes=[*order, "Pastures"])


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_published_patches_have_19_classes_and_no_mask(data_dir: Path, split: str) -> None:
    """The example of ConfigILM: no class list in its metadata, no reference maps in its LMDB."""
    folder = data_dir / "bigearthnet" / "configilm_24_patches"
    samples = lmdb_samples(folder / "BigEarthNet-V2-LMDB", split=split)
    table = pd.read_parquet(folder / "metadata.parquet").query("split == @split")
    assert samples.classes == load_nomenclature("bigearthnet19").classes
    assert samples.patch_ids == lmdb_samples(folder, split=split).patch_ids == table["patch_id"].tolist()
    sample = samples[0]
    assert sorted(sample) == ["image", "label"]
    assert sample["image"].shape == (10, 120, 120)
    with pytest.raises(InputError, match="has no reference map in this dataset; read it without masks"):
        samples.with_masks()[0]
    assert {samples.classes[column] for column in np.flatnonzero(sample["label"])} == set(table["labels"].iloc[0])


@pytest.mark.parametrize("bands", [("B04",), ("B05", "B01")])
def test_an_lmdb_without_maps_has_pixels_of_10_m_and_no_mask(tmp_path: Path, bands: tuple[str, ...]) -> None:
    _metadata(tmp_path, V2, BOTH)
    _environment(tmp_path / "lmdb", V2)
    sample = lmdb_samples(tmp_path, bands=bands)[0]
    assert sorted(sample) == ["image", "label"]
    np.testing.assert_array_equal(sample["image"], np.ones((len(bands), 120, 120)))


def test_one_map_that_is_missing_is_an_error_where_maps_are_read(tmp_path: Path) -> None:
    _metadata(tmp_path, V2, BOTH)
    _environment(tmp_path / "lmdb", V2, maps=lambda number: number == 0)
    samples = lmdb_samples(tmp_path)
    assert "mask" not in samples[1]
    masked = samples.with_masks("codes")
    assert (masked[0]["mask"] == 231).all()
    with pytest.raises(InputError, match=f"^The patch {V2[1]} has no reference map"):
        masked[1]


def test_a_merged_lmdb_has_the_metadata_of_its_patches(tmp_path: Path) -> None:
    dataset = _metadata(tmp_path / "dataset", V2, BOTH)
    shards = {f"part-0000{number}-of-00002": V2[2 * number : 2 * number + 2] for number in range(2)}
    for name, patches in shards.items():
        _environment(dataset / "lmdb" / name, patches, maps=lambda _: True)
    index = ShardIndex((), tuple(Shard(name, names[0], names[-1], 2, 4) for name, names in shards.items()))
    index.write(dataset / "lmdb")
    for sources, names in ((["lmdb"], V2), (["lmdb/part-00001-of-00002"], V2[2:])):
        merged = tmp_path / f"merged{len(names)}"
        done = CliRunner().invoke(main, ["lmdb", "merge", *(str(dataset / name) for name in sources), str(merged)])
        assert done.exit_code == 0, done.output
        assert "Note" not in done.output
        samples = lmdb_samples(merged, bands=["B02"]).with_masks("codes")
        assert samples.patch_ids == names
        with lmdb.open(str(merged), readonly=True, lock=False) as environment, environment.begin() as transaction:
            stored = [load(transaction.get(name.encode()))["B02"] for name in names]
        close_environments()
        for number, image in enumerate(stored):
            np.testing.assert_array_equal(samples[number]["image"][0], image)
            assert (samples[number]["mask"] == 231).all()
        close_environments()


def test_a_merge_without_metadata_says_so(tmp_path: Path) -> None:
    _environment(tmp_path / "a" / "lmdb", V2[:2])
    done = CliRunner().invoke(main, ["lmdb", "merge", str(tmp_path / "a" / "lmdb"), str(tmp_path / "merged")])
    assert done.exit_code == 0, done.output
    assert "lmdb_samples needs one" in " ".join(done.output.split())
    assert not (tmp_path / "merged" / "metadata.parquet").exists()
