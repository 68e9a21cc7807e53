"""The files around the package: versions, requirements and hooks agree with each other."""

from __future__ import annotations

import re
import shlex
import tomllib

import yaml
from conftest import ROOT

from reben_dask import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere() -> None:
    assert yaml.safe_load(_read("CITATION.cff"))["version"] == __version__
    assert re.search(r"^## (\S+)", _read("CHANGELOG.md"), re.MULTILINE)[1] == __version__


def test_papers_in_the_citation_file_are_those_of_the_readme() -> None:
    papers = yaml.safe_load(_read("CITATION.cff"))["references"]
    assert all(paper["title"] in _read("README.md") for paper in papers)
    assert all(paper.get("doi", paper.get("url")) in _read("README.md") for paper in papers)


def test_pythons_of_the_makefile_are_the_classifiers() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert re.search(r"^PYTHONS \?= (.+)$", _read("Makefile"), re.MULTILINE)[1].split() == versions
    assert PROJECT["requires-python"] == f">={versions[0]}"


def test_every_requirement_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in _read("constraints.txt").splitlines()}
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines}
    assert names - pinned == {"reben-dask"}


def test_hooks_are_tools_of_the_environment() -> None:
    (repo,) = yaml.safe_load(_read(".pre-commit-config.yaml"))["repos"]
    assert repo["repo"] == "local"
    tools = {shlex.split(hook["entry"])[0] for hook in repo["hooks"] if hook["language"] == "system"}
    assert tools == {f".venv/bin/{name}" for name in ("ruff", "shellcheck", "python", "mypy")}
