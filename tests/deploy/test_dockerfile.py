"""The image by its Dockerfile: what it is made from, what it leaves out, and who it runs as."""

from __future__ import annotations

import re
import tomllib

import pytest
from conftest import ROOT
from dockerfile import environment, ignore_patterns, is_sent, stages

from reben_dask import cluster

BEFORE, BUILD, FINAL = stages()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _values(stage: list, keyword: str) -> list[str]:
    return [instruction.value for instruction in stage if instruction.keyword == keyword]


def test_both_stages_have_the_same_python_which_is_one_of_ours() -> None:
    (version,) = (value.partition("=")[2] for value in _values(BEFORE, "ARG"))
    bases = [value.split()[0] for stage in (BUILD, FINAL) for value in _values(stage, "FROM")]
    assert bases == ["python:${PYTHON_VERSION}-slim-bookworm"] * 2
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def test_what_is_copied_is_there_and_sent() -> None:
    for value in _values(BUILD, "COPY"):
        *sources, _ = value.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert is_sent(source, ignore_patterns())


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "demo-data/a.tif",
        "tests/conftest.py",
        "reben_dask/job/__pycache__/plan.pyc",
        "deploy/docker/data",
    ],
)
def test_what_the_image_does_not_need_is_not_sent(path: str) -> None:
    assert not is_sent(path, ignore_patterns())
    assert is_sent("reben_dask/recipes/reben.yaml", ignore_patterns())


def test_all_that_the_package_is_built_from_is_copied() -> None:
    copied = {word.rstrip("/") for value in _values(BUILD, "COPY") for word in value.split()[:-1]}
    assert {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"], "reben_dask"} == copied


def test_nobody_is_root_in_the_end() -> None:
    user, _, group = _values(FINAL, "USER")[-1].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    keywords = [instruction.keyword for instruction in FINAL]
    assert "RUN" not in keywords[keywords.index("USER") :]


def test_it_prints_help_and_ends_like_on_ctrl_c() -> None:
    assert [instruction.words for instruction in FINAL if instruction.keyword in {"ENTRYPOINT", "CMD"}] == [
        ["reben"],
        ["--help"],
    ]
    assert _values(FINAL, "STOPSIGNAL") == ["SIGINT"]


def test_workers_have_the_settings_of_the_embedded_cluster() -> None:
    interval, trim, mmap = cluster._WORKER_SETTINGS.values()
    expected = {"DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL": interval}
    expected |= {"MALLOC_TRIM_THRESHOLD_": str(trim), "MALLOC_MMAP_THRESHOLD_": str(mmap)}
    assert expected.items() <= environment(FINAL).items()
    script = (ROOT / "deploy" / "slurm" / "reben.sbatch").read_text(encoding="utf-8")
    assert all(re.search(rf"^export\b.*\b{name}={value}\b", script, re.MULTILINE) for name, value in expected.items())


def test_packages_of_the_system_leave_no_lists_behind() -> None:
    (install,) = (value for value in _values(FINAL, "RUN") if "apt-get" in value)
    assert "--no-install-recommends" in install
    assert install.endswith("rm -rf /var/lib/apt/lists/*")
