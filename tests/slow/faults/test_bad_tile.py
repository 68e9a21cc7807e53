"""A tile that cannot be built is skipped, and added when it has been fixed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from digest import digest_of
from processes import Cluster, Ended, Job, contents, status_of

from reben_dask.demo import DemoRegion

TILE = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP"


@dataclass(frozen=True)
class Mended:
    """A job on a damaged tile, and the one after the tile was mended."""

    out: Path
    damaged: Ended
    board: dict[str, Any]
    digest: dict[str, str]
    is_untouched: bool
    states: list[str]
    mended: Ended


@pytest.fixture(scope="module")
def mended(
    small_region: DemoRegion, three_inputs: list[object], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Mended:
    folder = tmp_path_factory.mktemp("bad-tile")
    (product,) = small_region.s2.glob(f"{TILE}*")
    damaged = shutil.copytree(product, folder / product.name)
    (image,) = damaged.glob("GRANULE/*/IMG_DATA/R10m/*_B02_10m.jp2")
    intact = image.read_bytes()
    image.write_bytes(intact[: len(intact) // 2])
    out = folder / "out"
    inputs = [damaged if argument == product else argument for argument in three_inputs]
    first = Job(*inputs, "--out", out, *cluster.options).end()
    board = _board(first)
    states, digest = list(status_of(out)["dataset"].values()), digest_of(out)
    # Second names of all files that were published: what is written in place is seen there.
    published = folder / "published"
    shutil.copytree(out, published, copy_function=_link, ignore=shutil.ignore_patterns(".building"))
    before = contents(published)
    image.write_bytes(intact)
    ended = Job(*inputs, "--out", out, *cluster.options).end()
    return Mended(out, first, board, digest, contents(published) == before, states, ended)


def _board(job: Ended) -> dict[str, Any]:
    """Latest job on the page of the scheduler."""
    (page,) = re.findall(r"^Tiles: +(http://127\.0\.0\.1:\d+/reben)$", job.said, re.MULTILINE)
    with urlopen(f"{page}/jobs.json", timeout=60) as answer:  # noqa: S310 - on loopback
        latest: dict[str, Any] = json.load(answer)["jobs"][0]
    return latest


def _link(source: str, destination: str) -> None:
    Path(destination).hardlink_to(source)


def test_the_others_are_a_complete_dataset(mended: Mended, three_digest: dict[str, str]) -> None:
    assert mended.damaged.code == 3
    assert "Traceback" not in mended.damaged.said + mended.damaged.complained
    (line,) = (line for line in mended.damaged.said.splitlines() if line.startswith("Failed: "))
    assert line.startswith(f"Failed: {TILE}: ")
    assert sorted(mended.states) == ["done"] * 2 + ["failed"]
    assert not [name for name in mended.digest if TILE in name]
    pixels = {name: digest for name, digest in mended.digest.items() if "_T33" in name}
    assert pixels == {name: digest for name, digest in three_digest.items() if "_T33" in name and TILE not in name}


def test_the_page_of_the_scheduler_tells_it_as_it_happened(mended: Mended) -> None:
    board, told = mended.board, {}
    assert (board["out"], board["tiles"], board["ended"]) == (str(mended.out), 3, "")
    for name, state, remark in board["changes"]:
        told.setdefault(name, []).append(state)
        assert bool(remark) == (state in {"again", "failed"})
    assert told.pop(TILE) == ["working", "failed"]
    assert sorted(told.values()) == [["working", "done"], ["working", "rejected"]]
    stages = {stage["title"]: (stage["done"], stage["total"]) for stage in board["stages"]}
    assert stages["LMDB"][0] == stages["LMDB"][1] > 0
    assert "will be retried" not in mended.damaged.said


def test_a_tile_that_was_mended_is_added(mended: Mended, three_digest: dict[str, str]) -> None:
    assert mended.mended.code == 0, mended.mended.complained
    assert "2 of 3 tiles were finished by an earlier attempt, and are kept." in mended.mended.said
    assert digest_of(mended.out) == three_digest
    assert status_of(mended.out)["is_settled"]


def test_what_was_published_did_not_change_meanwhile(mended: Mended) -> None:
    assert mended.is_untouched
