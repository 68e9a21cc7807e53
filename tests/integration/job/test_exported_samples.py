"""Samples in shards as a job exports them: read by tarfile, NumPy, pyarrow and Pillow, against cubes and patch table;
reproducible and resumable; and each kind of damage is found by verification."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import xarray as xr
import yaml
from building import build
from click.testing import CliRunner
from distributed import Client
from verifying import listing, problems_of, verified, with_copies

from reben_dask.cli.verify import verify as command
from reben_dask.demo import DemoRegion
from reben_dask.errors import InputError, RecipeError
from reben_dask.formats.sample_shards import SHARD_FORMS
from reben_dask.job import run
from reben_dask.job.plan import Plan, make_plan
from reben_dask.job.published import Published
from reben_dask.job.sentinel1 import Sentinel1Inputs
from reben_dask.recipes import load_recipe
from reben_dask.stores.sample_shards import plan_sample_shards, write_sample_shard

FORMS = ("webdataset", "parquet")
SUFFIX = dict(zip(FORMS, ("tar", "parquet"), strict=True))
PER_FILE, PER_GROUP = 6, 4
NODES = {
    "r10m": ("B02", "B03", "B04", "B08"),
    "r20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "r60m": ("B01", "B09"),
    "s1": ("VV", "VH"),
}
SIDE = {"r10m": 120, "r20m": 60, "r60m": 20, "s1": 120, "reference_map": 120}
COLUMNS = ("patch_id", "labels", "split", "country", "s1_name", "s2v1_name")
FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")
EDGES = ("minx", "miny", "maxx", "maxy")

Members = list[tuple[str, bytes]]


@pytest.fixture(scope="module", autouse=True)
def _small_files() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reben_dask.stores.sample_shards.PATCHES_PER_SHARD", PER_FILE)
        patch.setattr("reben_dask.stores.sample_shards.ROWS_PER_GROUP", PER_GROUP)
        yield


@pytest.fixture(scope="module")
def plan(small_region: DemoRegion) -> Plan:
    """One place on two days, one of them with flagged patches; days share their partners."""
    recipe = load_recipe("reben")
    return make_plan(
        s2=[str(path) for day in ("20180725", "20190116") for path in small_region.s2.glob(f"*_{day}*UVP*")],
        landcover=str(small_region.landcover),
        recipe=recipe.model_copy(update={"sky": recipe.sky.model_copy(update={"flag_from": 0.1})}),
        sentinel1=Sentinel1Inputs(patches=str(small_region.s1)),
        published=Published(pairs=small_region.s1_pairs),
        exports=FORMS,
    )


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        yield client


@pytest.fixture(scope="module")
def out(client: Client, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose job was interrupted; beside it, the files that the attempts have written."""
    folder, export = tmp_path_factory.mktemp("samples"), run.export_samples

    def failing(*task: Any) -> None:
        if task[1].name == "parquet" and task[-1].file.group == "test":
            raise InputError("stopped")
        _log_export(folder / "first.txt", export, *task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "export_samples", failing)
        with pytest.raises(InputError, match="stopped"):
            build(client, plan, folder / "out")
        patch.setattr(run, "export_samples", partial(_log_export, folder / "second.txt", export))
        return build(client, plan, folder / "out")


def _log_export(log: Path, export: Callable[..., None], *task: Any) -> None:
    export(*task)
    with log.open("a") as file:
        file.write(f"{task[1].name}/{task[-1].file}\n")


@pytest.fixture(scope="module")
def kept(out: Path) -> pd.DataFrame:
    """Rows of kept patches in the order of tiles and cubes, with their groups."""
    rows = pd.read_parquet(out / "patches.parquet", filters=[("status", "=", "kept")])
    rows = rows.sort_values(["tile", "grid", "x", "y"], ignore_index=True)
    flagged = rows[list(FLAGS)].eq(True).any(axis=1)
    return rows.assign(group=rows["split"].where(~flagged, "flagged"))


@cache
def _stack(group: Path) -> dict[str, np.ndarray]:
    """Images of a node of the cubes by name."""
    ((name, stack),) = xr.open_zarr(group.parent, group=group.name, consolidated=False).data_vars.items()
    return {name: stack.to_numpy()} if stack.ndim == 2 else dict(zip(NODES[group.name], stack.to_numpy(), strict=True))


def _images(out: Path, row: Any) -> dict[str, np.ndarray]:
    """Images of a patch in the cubes, by name."""
    found = {}
    for node, side in SIDE.items():
        place = (slice(row.y * side, (row.y + 1) * side), slice(row.x * side, (row.x + 1) * side))
        found |= {name: image[place] for name, image in _stack(out / "cubes.zarr" / row.tile / node).items()}
    return found


def _members(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]


def _samples(path: Path) -> dict[str, dict[str, bytes]]:
    """Members of each sample by ending, as WebDataset divides names."""
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, content in _members(path):
        key, _, ending = name.partition(".")
        found[key][ending] = content
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != "samples.json")


# Contents


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_each_kept_patch_is_once_in_the_files_of_its_group(out: Path, kept: pd.DataFrame, form: str) -> None:
    found = defaultdict(list)
    for path in _files(out / form):
        names = [*_samples(path)] if form == "webdataset" else pq.read_table(path)["patch_id"].to_pylist()
        found[path.name.partition("-")[0]] += names
        assert 0 < len(names) <= PER_FILE
    assert found == {group: rows["patch_id"].tolist() for group, rows in kept.groupby("group")}
    assert set(found) == {"train", "validation", "test", "flagged"}
    for group, names in found.items():
        count = -(-len(names) // PER_FILE)
        expected = [f"{group}-{number:05d}-of-{count:05d}.{SUFFIX[form]}" for number in range(count)]
        assert [path.name for path in _files(out / form) if path.name.startswith(group)] == expected


def test_tar_files_have_an_index(out: Path, plan: Plan) -> None:
    index = json.loads((out / "webdataset" / "samples.json").read_text())
    assert index["classes"] == sorted(plan.nomenclature.classes)
    assert index["shards"] == {path.name: len(_samples(path)) for path in _files(out / "webdataset")}


@pytest.mark.slow
def test_samples_of_tar_files_are_those_of_the_cubes_and_the_table(out: Path, kept: pd.DataFrame) -> None:
    samples = {name: members for path in _files(out / "webdataset") for name, members in _samples(path).items()}
    for row in kept.itertuples():
        members = samples[row.patch_id]
        document = json.loads(members.pop("json"))
        arrays = {name: np.load(io.BytesIO(content), allow_pickle=False) for name, content in members.items()}
        expected = _images(out, row)
        assert {f"{name.lower()}.npy" for name in expected} == arrays.keys()
        for name, pixels in expected.items():
            np.testing.assert_array_equal(arrays[f"{name.lower()}.npy"], pixels, strict=True)
        _expect_columns(document, row)


def _expect_columns(found: dict[str, Any], row: Any) -> None:
    assert list(found) == [*COLUMNS, *FLAGS, "epsg", *EDGES]
    for name, value in found.items():
        expected = getattr(row, name)
        if name in FLAGS:
            assert value is (expected is True)
        elif name == "labels":
            assert value == list(expected)
        else:
            assert value == (None if pd.isna(expected) else expected)


def test_rows_of_parquet_files_are_those_of_the_cubes_and_the_table(out: Path, kept: pd.DataFrame) -> None:
    rows = {row["patch_id"]: row for path in _files(out / "parquet") for row in pq.read_table(path).to_pylist()}
    for row in kept.itertuples():
        found, expected = rows[row.patch_id], _images(out, row)
        images = {name: found.pop(name) for name in expected}
        _expect_columns(found, row)
        for name, pixels in expected.items():
            assert images[name]["path"] == f"{row.patch_id}_{name}.tif"
            image = PIL.Image.open(io.BytesIO(images[name]["bytes"]))
            np.testing.assert_array_equal(np.asarray(image), pixels, strict=True)
            with rasterio.MemoryFile(images[name]["bytes"]) as memory, memory.open() as image:
                assert (image.crs.to_epsg(), *image.bounds) == (row.epsg, row.minx, row.miny, row.maxx, row.maxy)


def test_parquet_files_carry_types_and_classes(out: Path, plan: Plan) -> None:
    for path in _files(out / "parquet"):
        metadata = pq.read_schema(path).metadata
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        assert list(features) == pq.read_schema(path).names
        assert {name for name, kind in features.items() if kind == {"_type": "Image"}} == {
            *(band for bands in NODES.values() for band in bands),
            "reference_map",
        }
        assert json.loads(metadata[b"reben:classes"]) == sorted(plan.nomenclature.classes)
        groups = pq.read_metadata(path)
        assert all(groups.row_group(number).num_rows <= PER_GROUP for number in range(groups.num_row_groups))


def test_a_patch_without_partner_has_no_sentinel1(out: Path, plan: Plan, tmp_path: Path) -> None:
    (part, *_) = sorted((out / "patches.parquet").glob("*.parquet"))
    table = pq.read_table(part, partitioning=None)
    number = table.schema.get_field_index("s1_name")
    pq.write_table(table.set_column(number, "s1_name", pa.nulls(len(table), pa.string())), tmp_path / part.name)
    shard = plan_sample_shards([tmp_path / part.name])[0]
    for form in FORMS:
        write_sample_shard(tmp_path, SHARD_FORMS[form], plan.sample_contents, out / "cubes.zarr", shard)
    for members in _samples(tmp_path / f"{shard.file}.tar").values():
        assert {"b02.npy", "reference_map.npy"} <= members.keys()
        assert not {"vv.npy", "vh.npy"} & members.keys()
    rows = pq.read_table(tmp_path / f"{shard.file}.parquet")
    assert rows["VV"].null_count == rows["VH"].null_count == len(rows) == shard.patches


def test_card_and_croissant_list_the_samples(out: Path) -> None:
    _, front, text = (out / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    (images,) = [config for config in yaml.safe_load(front)["configs"] if config["config_name"] == "images"]
    assert {entry["split"] for entry in images["data_files"]} == {"train", "validation", "test", "flagged"}
    found = [path for entry in images["data_files"] for path in sorted(out.glob(entry["path"]))]
    assert sorted(found) == _files(out / "parquet")
    assert "and the images of kept patches by split as `images`." in text
    croissant = json.loads((out / "croissant.json").read_text(encoding="utf-8"))
    kinds = {entry["@id"]: entry["encodingFormat"] for entry in croissant["distribution"]}
    assert (kinds["webdataset"], kinds["parquet"]) == ("application/x-tar", "application/x-parquet")


# Writing


def test_an_interrupted_export_is_resumed(out: Path) -> None:
    first, second = (out.with_name(name).read_text().split() for name in ("first.txt", "second.txt"))
    assert any(name.startswith("webdataset/test") for name in first)
    assert any(name.startswith("parquet/test") for name in second)
    # A file that was being written when the first attempt ended may be written again.
    assert not {name for name in first if name.startswith("webdataset")} & {*second}
    assert {*first, *second} == {f"{form}/{path.stem}" for form in FORMS for path in _files(out / form)}


def test_files_are_reproducible(out: Path, plan: Plan, tmp_path: Path) -> None:
    shards = plan_sample_shards(sorted((out / "patches.parquet").glob("*.parquet")))
    for form in FORMS:
        for shard in reversed(shards):
            write_sample_shard(tmp_path / form, SHARD_FORMS[form], plan.sample_contents, out / "cubes.zarr", shard)
        content = {path.name: path.read_bytes() for path in _files(out / form)}
        assert {path.name: path.read_bytes() for path in (tmp_path / form).iterdir()} == content


# Before anything is computed


def test_names_with_a_dot_are_no_samples_of_webdataset(plan: Plan, small_region: DemoRegion) -> None:
    recipe = plan.recipe.model_copy(update={"patch_name": "{tile}_{xx}.{yy}"})
    inputs = {"s2": [plan.tiles[0].location], "landcover": str(small_region.landcover), "recipe": recipe}
    with pytest.raises(RecipeError, match=r"ends at its first dot; change patch_name, or export parquet\."):
        make_plan(**inputs, exports=["webdataset"])
    assert make_plan(**inputs, exports=["parquet"]).export_names == ("parquet",)


def test_a_column_cannot_have_the_name_of_an_image(plan: Plan) -> None:
    recipe = plan.recipe.model_copy(update={"attributes": {"B05": None}})
    with pytest.raises(RecipeError, match="a column B05, which is the name of an image"):
        _ = replace(plan, recipe=recipe).sample_contents


# Verification


def test_a_sound_dataset(out: Path, kept: pd.DataFrame) -> None:
    before = listing(out)
    done = CliRunner().invoke(command, [str(out), "--full", "--digest"])
    assert done.exit_code == 0, done.output
    assert done.output.endswith(f"{out}: {len(kept)} patches: complete and consistent.\n")
    for form in FORMS:
        assert f"ok            {form}: {len(kept)} patches; {len(_files(out / form))} files\n" in done.output
        assert f"  {form}\n" in done.output
    assert listing(out) == before


@pytest.mark.parametrize("form", FORMS)
def test_samples_alone(out: Path, kept: pd.DataFrame, tmp_path: Path, form: str) -> None:
    (tmp_path / form).symlink_to(out / form)
    text = f"{len(kept)} patches: complete and consistent, without metadata."
    assert verified(tmp_path / form, digest=True).verdict() == verified(tmp_path).verdict() == text
    (tmp_path / "mine").symlink_to(out / form)
    (tmp_path / "run").symlink_to(out / "run")
    for name in ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet"):
        (tmp_path / name).symlink_to(out / name)
    assert verified(tmp_path / "mine").verdict() == f"{len(kept)} patches: complete and consistent."


@dataclass
class _Found:
    """Patches with one kind of damage each, and all problems of one verification."""

    problems: dict[str, list[str]]
    damaged: dict[str, str]


def _npy(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, change(np.load(io.BytesIO(content))))
        return buffer.getvalue()

    return damage


def _document(**changed: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **changed}).encode()


def _with_pixel(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        pixels[0, 0] = value
        return pixels

    return change


IN_TAR: dict[str, tuple[str, Callable[[bytes], bytes | None], str, str]] = {
    "image missing": ("b05.npy", lambda _: None, "", "has no image B05"),
    "radar missing": ("vv.npy", lambda _: None, "", "has no image VV"),
    "map missing": ("reference_map.npy", lambda _: None, "", "has no image reference_map"),
    "document missing": ("json", lambda _: None, "", ".json is missing"),
    "no array": ("b05.npy", lambda _: b"array", "", "B05 "),
    "empty": ("b05.npy", lambda _: b"", "", "B05 "),
    "type": ("b05.npy", _npy(lambda pixels: pixels.astype(np.int16)), "", "B05 has the type int16, not uint16"),
    "byte order": ("b05.npy", _npy(lambda pixels: pixels.astype(">u2")), "", "B05 has the type >u2, not uint16"),
    "shape": ("b05.npy", _npy(lambda pixels: pixels[:59]), "", "B05 has the shape (59, 60), not (60, 60)"),
    "order": ("b05.npy", _npy(np.asfortranarray), "", "B05 has the order 'columns', not 'rows'"),
    "objects": ("b05.npy", _npy(lambda _: np.array([{}], object)), "", "B05 has the type object, not uint16"),
    "cut short": ("b05.npy", lambda content: content[:-2], "", "B05 has 7,198 bytes of pixels, not 7,200"),
    "version": ("b05.npy", lambda content: content[:6] + b"\2" + content[7:], "", "B05 is of another version"),
    "large": ("b05.npy", lambda content: content + bytes(2**20), "", "B05 has 1,055,904 bytes"),
    "pixel": ("b05.npy", _npy(_with_pixel(7)), "Zarr pixels as in webdataset", "differs in B05"),
    "nodata": ("b05.npy", _npy(_with_pixel(0)), "No NODATA in webdataset", "in B05"),
    "backscatter": ("vv.npy", _npy(lambda pixels: pixels * np.nan), "Backscatter in webdataset", "without backscatter"),
    "code": ("reference_map.npy", _npy(_with_pixel(445)), "Labels as in the maps of webdataset", "unknown code 445"),
    "no JSON": ("json", lambda _: b"{", "", ".json is not a JSON document"),
    "no object": ("json", lambda _: b"[]", "", ".json is not a JSON object"),
    "label": ("json", _document(labels=["Bog"]), "", "has the unknown label 'Bog'"),
    "labels": ("json", _document(labels="Pastures"), "", "has the labels 'Pastures'"),
    "label null": ("json", _document(labels=[None]), "", "has the labels [None]"),
    "no text": ("json", _document(country="\ud800"), "", "has the country '\\ud800'"),
    "name": ("json", _document(patch_id="S2"), "", "has the patch_id 'S2'"),
    "edge": ("json", _document(minx=5), "", "has the minx 5, not"),
    "column": ("json", _document(more=1), "", "also has the column more"),
}
"""Member, damage, title of the finding (by default that of the files), and text."""


@pytest.fixture(scope="module")
def in_tar(out: Path, kept: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> _Found:
    """One kind of damage to each of as many patches; patches are taken again where there are fewer."""
    found = _Found({}, {})
    kinds = [*IN_TAR]
    for number in range(0, len(kinds), len(kept)):
        folder = with_copies(out, tmp_path_factory.mktemp("tar") / "out", ("webdataset",))
        chosen = dict(zip(kept["patch_id"], kinds[number : number + len(kept)], strict=False))
        for path in _files(folder / "webdataset"):
            _write_tar(path, [*_damaged(_members(path), chosen)])
        found.damaged |= {kind: patch for patch, kind in chosen.items()}
        _add_problems(found, folder)
    return found


def _damaged(members: Members, chosen: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    for name, content in members:
        patch, _, ending = name.partition(".")
        member, damage, _, _ = IN_TAR[chosen[patch]] if patch in chosen else (None, None, None, None)
        after = damage(content) if ending == member else content
        if after is not None:
            yield name, after


def _write_tar(path: Path, members: Members, **changed: Any) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), 0o644, 1_704_067_200
            for field, value in changed.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))


def _add_problems(found: _Found, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reben_dask.verify.findings.SHOWN", 1_000)
        for check in verified(folder, full=True).checks:
            found.problems.setdefault(check.title, []).extend(check.examples)


@pytest.mark.slow
@pytest.mark.parametrize("kind", IN_TAR)
def test_damage_to_a_member_of_a_tar_file_is_found(in_tar: _Found, kind: str) -> None:
    _, _, title, text = IN_TAR[kind]
    of_patch = [line for line in in_tar.problems[title or "webdataset"] if in_tar.damaged[kind] in line]
    assert any(text in line for line in of_patch), of_patch


def test_only_damaged_patches_have_problems(in_tar: _Found, in_parquet: _Found) -> None:
    for found in (in_tar, in_parquet):
        lines = [line for lines in found.problems.values() for line in lines]
        assert not [line for line in lines if not any(patch in line for patch in found.damaged.values())]


def _tiff(change: Callable[[np.ndarray], np.ndarray], shift: int = 0) -> Callable[[dict[str, Any]], object]:
    def damage(cell: dict[str, Any]) -> None:
        with rasterio.MemoryFile(cell["bytes"]) as memory, memory.open() as image:
            pixels, profile = change(image.read(1)), image.profile
        profile |= {"dtype": pixels.dtype, "height": len(pixels)}
        profile["transform"] = profile["transform"].translation(shift, 0) @ profile["transform"]
        with rasterio.MemoryFile() as memory:
            with memory.open(**profile) as image:
                image.write(pixels, 1)
            cell["bytes"] = memory.read()

    return damage


def _cell(damage: Callable[[dict[str, Any]], object], image: str = "B05") -> Callable[[dict[str, Any]], object]:
    return lambda row: damage(row[image])


IN_PARQUET: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "image null": (lambda row: row.update(B05=None), "", "has no image B05"),
    "bytes null": (_cell(lambda cell: cell.update(bytes=None)), "", "B05 has no bytes"),
    "no image": (_cell(lambda cell: cell.update(bytes=b"II*\0")), "", "B05 cannot be decoded"),
    "cut short": (_cell(lambda cell: cell.update(bytes=cell["bytes"][:4_000])), "", "B05 cannot be decoded"),
    "path": (_cell(lambda cell: cell.update(path="x.tif")), "", "has the B05 'x.tif', not 'S2"),
    "type": (_cell(_tiff(lambda pixels: pixels.astype(np.float32))), "", "B05 has the type float32, not uint16"),
    "shape": (_cell(_tiff(lambda pixels: pixels[:59])), "", "B05 has the shape (1, 59, 60), not (1, 60, 60)"),
    "place": (_cell(_tiff(lambda pixels: pixels, shift=20)), "", "B05 does not cover the square of the others"),
    "pixel": (_cell(_tiff(_with_pixel(7))), "Zarr pixels as in parquet", "differs in B05"),
    "nodata": (_cell(_tiff(_with_pixel(0))), "No NODATA in parquet", "in B05"),
    "code": (_cell(_tiff(_with_pixel(445)), "reference_map"), "Labels as in the maps of parquet", "unknown code 445"),
    "labels": (lambda row: row.update(labels=["Pastures"]), "", "has the labels ['Pastures'], not"),
    "labels null": (lambda row: row.update(labels=None), "", "has the labels None"),
    "partner": (lambda row: row.update(s1_name="S1"), "", "has the s1_name 'S1', not 'S1"),
    "edge": (lambda row: row.update(minx=5), "", "has the minx 5, not"),
    "flag": (lambda row: row.update(contains_seasonal_snow=None), "", "has the contains_seasonal_snow None"),
}
"""Damage to a row, title of the finding (by default that of the files), and text."""


def _change_rows(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


@pytest.fixture(scope="module")
def in_parquet(out: Path, kept: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> _Found:
    folder = with_copies(out, tmp_path_factory.mktemp("parquet") / "out", ("parquet",))
    chosen = dict(zip(kept["patch_id"], IN_PARQUET, strict=False))
    assert len(chosen) == len(IN_PARQUET)

    def damage(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["patch_id"] in chosen:
                IN_PARQUET[chosen[row["patch_id"]]][0](row)

    for path in _files(folder / "parquet"):
        _change_rows(path, damage)
    found = _Found({}, {kind: patch for patch, kind in chosen.items()})
    _add_problems(found, folder)
    return found


@pytest.mark.parametrize("kind", IN_PARQUET)
def test_damage_to_a_row_of_a_parquet_file_is_found(in_parquet: _Found, kind: str) -> None:
    _, title, text = IN_PARQUET[kind]
    of_patch = [line for line in in_parquet.problems[title or "parquet"] if in_parquet.damaged[kind] in line]
    assert any(text in line for line in of_patch), of_patch


def _members_of(change: Callable[[Members], Members], **changed: Any) -> Callable[[Path], object]:
    """Damage to the members of the first tar file."""

    def damage(folder: Path) -> None:
        path = _files(folder)[0]
        _write_tar(path, change(_members(path)), **changed)

    return damage


def _first(damage: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: damage(_files(folder)[0])


def _index(**changed: Any) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "samples.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return damage


def _drop(column: str) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pq.read_table(path).drop_columns([column]), path)


def _without(key: bytes) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        table = pq.read_table(path)
        metadata = {name: value for name, value in table.schema.metadata.items() if name != key}
        pq.write_table(table.replace_schema_metadata(metadata), path)

    return damage


def _to_other_group(folder: Path) -> None:
    """The files of train and test change their names."""
    train, test = (next(iter(folder.glob(f"{group}-*"))) for group in ("train", "test"))
    content = train.read_bytes()
    train.write_bytes(test.read_bytes())
    test.write_bytes(content)


def _beside(members: Members) -> tuple[str, bytes]:
    return f"{members[0][0].partition('.')[0]}.zip", b""


def _numbered(path: Path) -> Path:
    """Name of the first of nine files."""
    return path.with_name(f"flagged-00000-of-00009{path.suffix}")


def _rows(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], object]:
    return lambda path: _change_rows(path, change)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (_first(Path.unlink), "is missing"),
    "cut short": (_first(lambda path: path.write_bytes(path.read_bytes()[:5_000])), "flagged-00000-of-0000"),
    "nothing": (_first(lambda path: path.write_bytes(b"")), "flagged-00000-of-0000"),
    "of other files": (_first(lambda path: path.rename(_numbered(path))), "flagged-00001-of-00009"),
    "other group": (_to_other_group, "belongs to t"),
}
"""Damage to a folder of any form, and text of the finding."""

TAR_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut in a member": (_first(lambda path: path.write_bytes(path.read_bytes()[:5_000])), "is cut short in"),
    "no tar": (_first(lambda path: path.write_bytes(b"PAR1" * 512)), "has a damaged header"),
    "patch twice": (_members_of(lambda members: [*members, *members[:16]]), "occurs twice"),
    "patch missing": (_members_of(lambda members: members[16:]), "is missing"),
    "member twice": (_members_of(lambda members: [members[0], *members]), ".b01.npy occurs twice"),
    "order": (_members_of(lambda members: [*members[1::-1], *members[2:]]), ".b01.npy comes after .b02.npy"),
    "other member": (_members_of(lambda members: [*members[:16], _beside(members), *members[16:]]), "also holds .zip"),
    "owner": (_members_of(list, uid=7), "has the uid 7, not 0"),
    "link": (_members_of(list, type=tarfile.SYMTYPE, size=0), "is a symbolic link"),
    "index missing": (lambda folder: (folder / "samples.json").unlink(), "samples.json is missing"),
    "index without a file": (_index(shards={}), "samples.json has no flagged"),
    "index of others": (_index(shards={"x.tar": 1}), "x.tar is not in the folder"),
    "index of nothing": (_index(shards=None), "samples.json has the shards None"),
    "other classes": (_index(classes=[]), "has another class list"),
}

PARQUET_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "row missing": (_first(_rows(lambda rows: rows.pop())), "is missing"),
    "row twice": (_first(_rows(lambda rows: rows.append(rows[0]))), "occurs twice"),
    "column missing": (_first(_drop("country")), "has no column country"),
    "images missing": (_first(_drop("B05")), "has no column B05"),
    "names missing": (_first(_drop("patch_id")), "has no column patch_id"),
    "no types": (_first(_without(b"huggingface")), "has other types for Hugging Face"),
    "no classes": (_first(_without(b"reben:classes")), "has another class list"),
}

LEFT_OVER: dict[str, Callable[[Path], object]] = {
    "notes.txt": lambda folder: (folder / "notes.txt").touch(),
    "/etc/x": _members_of(lambda members: [*members, ("/etc/x.npy", b"")]),
    "train-00000-of-00001.txt": lambda folder: (folder / "train-00000-of-00001.txt").touch(),
}


def _damaged_copy(out: Path, form: str, folder: Path, damage: Callable[[Path], object]) -> Path:
    """Samples beside the metadata and the run record of their dataset."""
    for name in ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet", "run"):
        (folder / name).symlink_to(out / name)
    shutil.copytree(out / form, folder / form)
    damage(folder / form)
    return folder / form


@pytest.mark.parametrize(
    ("form", "damage", "text"),
    [
        *((form, *damage) for form in FORMS for damage in FILES.values()),
        *(("webdataset", *damage) for damage in TAR_FILES.values()),
        *(("parquet", *damage) for damage in PARQUET_FILES.values()),
    ],
    ids=[*(f"{form}: {kind}" for form in FORMS for kind in FILES), *TAR_FILES, *PARQUET_FILES],
)
def test_damage_to_files_is_found(
    out: Path, tmp_path: Path, form: str, damage: Callable[[Path], object], text: str
) -> None:
    assert text in problems_of(_damaged_copy(out, form, tmp_path, damage))[form]


@pytest.mark.parametrize("name", LEFT_OVER)
def test_other_files_and_patches_are_left_over(out: Path, tmp_path: Path, name: str) -> None:
    folder = _damaged_copy(out, "webdataset", tmp_path, LEFT_OVER[name])
    assert name in problems_of(folder)["Nothing left over in webdataset"]
