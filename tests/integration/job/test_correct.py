"""Correction of L1C products on workers with the resource, by the stand-in of sen2cor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client
from stand_in import StandIn, install, l1c_names, write_l1c

from reben_dask.errors import ClusterError, InputError, OutputError
from reben_dask.job.correct import RESOURCES, CorrectionResult, correct_products
from reben_dask.options import Sen2CorOptions

NAMES = l1c_names(2)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Workers that are threads of this process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "resources": dict(RESOURCES)}
    with Client(processes=False, set_as_default=False, **options) as client:
        yield client


@pytest.fixture(scope="module")
def template(small_folders: list[Path]) -> Path:
    return small_folders[0]


def _correct(folder: Path, stand_in: StandIn, client: Client, **options: object) -> CorrectionResult:
    settings = Sen2CorOptions.of(**{"sen2cor": stand_in.root, **options})
    return correct_products([str(folder / "l1c")], folder / "l2a", settings, client)


def test_output_that_is_there_already(client: Client, template: Path, tmp_path: Path) -> None:
    """A complete product is taken over, an incomplete one is no output; neither meets a run."""
    stand_in, out = install(tmp_path / "sen2cor", template), tmp_path / "l2a"
    for name in NAMES:
        write_l1c(tmp_path / "l1c", name)
    made = _correct(tmp_path, stand_in, client).products
    (out / "l2a-record.json").unlink()
    (made[1] / "MTD_MSIL2A.xml").unlink()
    left = made[1].rename(made[1].with_name(made[1].name.replace("20260101", "20250101")))
    result = _correct(tmp_path, stand_in, client)
    assert result.products == (made[0], made[1].with_name(made[1].name.replace("T000000.", "T000001.")))
    assert [run["name"] for run in stand_in.noted()[2:]] == [NAMES[1]]
    assert left.is_dir()


def test_a_run_that_takes_too_long_is_set_aside(client: Client, template: Path, tmp_path: Path) -> None:
    stand_in = install(tmp_path / "sen2cor", template)
    write_l1c(tmp_path / "l1c", NAMES[0])
    stand_in.tell({NAMES[0]: ["hangs"]})
    (failure,) = _correct(tmp_path, stand_in, client, timeout="1s").failures
    assert "did not correct" in str(failure.error)
    assert len(stand_in.noted()) == 1  # not again in this command
    assert not list((tmp_path / "l2a").glob("*.SAFE"))


def test_products_are_not_mixed(client: Client, template: Path, tmp_path: Path) -> None:
    stand_in = install(tmp_path / "sen2cor", template)
    write_l1c(tmp_path / "l1c", NAMES[0])
    _correct(tmp_path, stand_in, client)
    write_l1c(tmp_path / "l1c", NAMES[1])
    other = tmp_path / "other.xml"
    other.write_text("<Other/>")
    with pytest.raises(OutputError, match=r"were corrected with another SHA-256 of the GIPP \("):
        _correct(tmp_path, stand_in, client, gipp=other)
    newer = install(tmp_path / "newer", template, "02.12.04")
    with pytest.raises(OutputError, match=r"version of sen2cor \(02\.11\.00, now 02\.12\.04\)"):
        _correct(tmp_path, newer, client)
    assert len(stand_in.noted() + newer.noted()) == 1


def test_what_is_checked_before_the_first_run(client: Client, template: Path, tmp_path: Path) -> None:
    stand_in = install(tmp_path / "sen2cor", template)
    write_l1c(tmp_path / "l1c", NAMES[0])
    with pytest.raises(InputError, match="The time limit 'soon' is not a duration"):
        _correct(tmp_path, stand_in, client, timeout="soon")
    with pytest.raises(InputError, match=r"The GIPP .* cannot be read"):
        _correct(tmp_path, stand_in, client, gipp=tmp_path / "nowhere.xml")
    with pytest.raises(ClusterError, match=r"cannot run sen2cor: The program L2A_Process .* does not exist"):
        _correct(tmp_path, stand_in, client, sen2cor=tmp_path)
    stand_in.gipp.unlink()
    with pytest.raises(InputError, match=r"No L2A_GIPP\.xml is found beside .*; give one"):
        _correct(tmp_path, stand_in, client)
    (tmp_path / "l2a" / "l2a-record.json").write_text("{")
    with pytest.raises(InputError, match=r"l2a-record\.json is damaged"):
        _correct(tmp_path, stand_in, client)
    assert stand_in.noted() == []


def test_workers_without_the_resource_are_refused(template: Path, tmp_path: Path) -> None:
    stand_in = install(tmp_path / "sen2cor", template)
    write_l1c(tmp_path / "l1c", NAMES[0])
    with (
        Client(processes=False, n_workers=1, dashboard_address=None, set_as_default=False) as client,
        pytest.raises(ClusterError, match=r'offers the resource sen2cor; start some .* --resources "sen2cor=1"'),
    ):
        _correct(tmp_path, stand_in, client)
