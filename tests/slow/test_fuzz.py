"""Damaged files, ten thousand of them, are read or refused; nothing else happens.

``make fuzz`` gives each reader more of them, and others each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from conftest import ROOT
from forms import write_cogs, write_eopf
from targets import READERS

from reben_dask.demo import DemoRegion
from reben_dask.formats.dataset import FORMAT, FailedTile, RecordedInputs, RecordedMap, RecordedTile, RunRecord

GROUPS = {
    "text": {
        "product-xml": 1600,
        "granule-xml": 1600,
        "manifest": 800,
        "recipe": 250,
        "patch-name": 2000,
        "nomenclature": 1200,
        "names": 1500,
        "record": 300,
        "state": 300,
        "item": 800,
    },
    "tables and images": {"pairs": 700, "metadata": 400, "tiff": 1000, "scene": 150},
    "containers": {"store": 100, "zip": 40, "map": 40, "shapes": 20, "countries": 60, "jp2": 80},
}
"""Damaged files of each kind, by processes; some take microseconds, others tenths of a second."""

INPUTS = {target: inputs for group in GROUPS.values() for target, inputs in group.items()}
TIMEOUT_S = 6 * 3600
FUZZ = ROOT / "tests" / "fuzz" / "fuzz.py"


def test_every_reader_gets_its_share() -> None:
    assert INPUTS.keys() == {*READERS, "jp2"}
    assert sum(INPUTS.values()) >= 10_000


@pytest.fixture(scope="module")
def whole_files(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind that is in order."""
    folder, safe = tmp_path_factory.mktemp("whole"), min(small_region.s2.glob("*.SAFE"))
    patches = min(small_region.s1.rglob("*_VV.tif"))
    contents = {
        "patch-name": b"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
        "names": b"S2A_MSIL2A_20170613T101031_26_57\nS2B_MSIL2A_20170613T101031_26_58,x\n",
        "recipe": (resources.files("reben_dask.recipes") / "seasonet.yaml").read_bytes(),
        "nomenclature": (resources.files("reben_dask") / "nomenclatures" / "bigearthnet19.csv").read_bytes(),
        "record": _RECORD.model_dump_json().encode(),
        "state": json.dumps({"origin": {"tiles": {"a": "b"}, "recipe": "c"}, "paths": {"a": "d"}}).encode(),
        "shapes": b"".join(shapely.to_wkb(shapely.box(x, 0, x + 1000, 900)) for x in range(12)),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    _write_metadata(folder / "metadata")
    store, item = write_eopf(safe, folder), write_cogs(safe, folder / "cogs")
    return {
        **{name: folder / name for name in (*contents, "metadata")},
        "product-xml": safe / "MTD_MSIL2A.xml",
        "granule-xml": next(safe.rglob("MTD_TL.xml")),
        "manifest": safe / "manifest.safe",
        "jp2": next(safe.rglob("*_B01_60m.jp2")),
        "zip": next(small_region.s2.glob("*.zip")),
        "store": store / ".zmetadata",
        "item": item,
        "pairs": small_region.s1_pairs,
        "tiff": patches,
        "scene": patches,
        "map": small_region.landcover,
        "countries": small_region.countries,
    }


_RECORD = RunRecord(
    format=FORMAT,
    finished="2024-01-01T00:00:00+00:00",
    recipe={"name": "reben"},
    classes=("Arable land",),
    class_of_code={211: "Arable land"},
    inputs=RecordedInputs(
        tiles=(RecordedTile(tile="a", path="b", metadata_sha256=""),), landcover=RecordedMap(path="map.gpkg")
    ),
    failures=(FailedTile(tile="a", error="b", tries=3),),
    exports=("spring",),
    origin={"tiles": {"a": "b"}, "recipe": "c"},
)


def _write_metadata(path: Path) -> None:
    names = [f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_{number}" for number in range(50)]
    columns = {
        "patch_id": names,
        "labels": [["Pastures", "Arable land"]] * 50,
        "split": ["train"] * 50,
        "country": ["Austria"] * 50,
        "s1_name": ["S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57"] * 50,
        "s2v1_name": ["S2A_MSIL2A_20170613T101031_26_57"] * 50,
        "contains_seasonal_snow": [False] * 50,
        "contains_cloud_or_shadow": [False] * 50,
    }
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("group", GROUPS)
def test_damaged_files_are_read_or_refused(whole_files: dict[str, Path], group: str) -> None:
    times = float(os.environ.get("REBEN_FUZZ_TIMES", "1"))
    inputs = {target: int(count * times) for target, count in GROUPS[group].items()}
    targets = [f"{target}={count}={whole_files[target]}" for target, count in inputs.items()]
    command = [sys.executable, str(FUZZ), *targets, "--seed", os.environ.get("REBEN_FUZZ_SEED", "0")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    for target, count in inputs.items():
        assert f"{target}: {count:,} files" in done.stdout
    print(done.stdout)
