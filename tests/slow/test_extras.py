"""The package without the libraries of its extras."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from conftest import ANY_PORT, ROOT, run_job
from processes import run_commands

from reben_dask.cli import SUBCOMMANDS
from reben_dask.cli.base import EXTRAS
from reben_dask.demo import DemoRegion

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BROUGHT_ALONG = {"affine", "markupsafe", "tornado", "urllib3"}
"""Libraries whose objects rasterio, jinja2, distributed and requests take and return."""

ONLY_IN_A_NOTEBOOK = {"ipython"}
USED_IF_INSTALLED = {"lightning"}
SENTENCE = "{} is not installed; run: pip install 'reben_dask[{}]'"


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in requirements}


def test_extras_are_those_of_the_project() -> None:
    for library, extra in EXTRAS.items():
        assert library.replace("_", "-") in _names(PROJECT["optional-dependencies"][extra])


def test_all_other_libraries_come_with_the_package() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "reben_dask").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    modules = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"reben_dask"}
    providers = packages_distributions()
    found = {module: {name.lower().replace("_", "-") for name in providers.get(module, ())} for module in modules}
    core = _names(PROJECT["dependencies"]) | BROUGHT_ALONG | ONLY_IN_A_NOTEBOOK
    assert {module for module, names in found.items() if not names & core} - USED_IF_INSTALLED == EXTRAS.keys()


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of processes, workers included, that find none of these libraries."""
    folder = tmp_path_factory.mktemp("hidden")
    for library in EXTRAS:
        text = f'raise ModuleNotFoundError("No module named {library!r}", name="{library}")\n'
        (folder / f"{library}.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


@pytest.fixture(scope="module")
def finished(
    small_region: DemoRegion, without_extras: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Dataset of one tile, and what the job printed."""
    out = tmp_path_factory.mktemp("run") / "out"
    (product,) = small_region.s2.glob("*20180725*UVP*")
    inputs = ("--s2", product, "--landcover", small_region.landcover)
    done = run_job(*inputs, "--out", out, "--report", *ANY_PORT, **without_extras)
    assert done.returncode == 0, done.stderr
    return out, " ".join(done.stdout.split())


def test_help(without_extras: dict[str, str]) -> None:
    helps = run_commands(["--help"], *([command, "--help"] for command in SUBCOMMANDS), **without_extras)
    assert all(code == 0 and said.startswith("Usage:") for code, said, _ in helps)


def test_a_job_completes_and_names_the_extra_of_its_report(finished: tuple[Path, str]) -> None:
    out, printed = finished
    assert f"could not be made ({SENTENCE.format('matplotlib', 'report')}); run `reben report {out}`" in printed
    assert (out / "metadata.parquet").exists()


NEED_NONE = ("status {}", "verify {}", "table {}", "compare {} {}")
NEED_ONE = {
    "report {}": "matplotlib",
    "compare {} --plot {}.png": "matplotlib",
    "compare {} --report {}-page": "matplotlib",
    "train {} --out {}-run": "torch",
    "evaluate {}-run {}": "torch",
}


def test_commands(finished: tuple[Path, str], without_extras: dict[str, str]) -> None:
    """Those that need an extra name it."""
    told = (*NEED_NONE, *NEED_ONE)
    commands = (command.replace("{}", str(finished[0])).split() for command in told)
    found = dict(zip(told, run_commands(*commands, **without_extras), strict=True))
    for command in NEED_NONE:
        assert found[command][0] == 0, found[command]
    for command, library in NEED_ONE.items():
        assert found[command] == (1, "", f"Error: {SENTENCE.format(library, EXTRAS[library])}\n")
