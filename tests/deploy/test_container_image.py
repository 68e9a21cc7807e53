"""The image without Docker: the steps of its Dockerfile in a folder, and the services of the Compose file from it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from importlib.metadata import distribution, requires
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

import pytest
from compose import compose
from conftest import ROOT
from deployed import TIMEOUT_S, Cluster, cluster, on_loopback, run, running, wait_until
from distributed.utils import json_load_robust
from dockerfile import environment, ignore_patterns, is_sent, stages
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from processes import status_of

_, BUILD, FINAL = stages()
EXTRAS = "notebooks"
PROVIDED = {"libexpat1": "libexpat.so.1"}
"""Libraries of the packages that the image installs."""

SLIM = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"}
SLIM |= {"libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
"""What a slim image of Debian has: its package manager needs them."""


class Image(NamedTuple):
    """Paths of the image's environment and of the folder ``/data``, and the variables of its processes."""

    environment: Path
    data: Path
    variables: dict[str, str]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Result of the stages of the Dockerfile, with the extra of the notebooks.

    The environment finds the libraries of the tests' own, so that pip checks all requirements and installs the package.
    """
    root = tmp_path_factory.mktemp("image")
    source, target = root / "src", root / "opt" / "reben"
    source.mkdir()
    for instruction in BUILD:
        if instruction.keyword == "COPY":
            *names, _ = instruction.value.split()
            _copy(names, source)
        if instruction.keyword == "RUN":
            command = instruction.value.replace("/opt/reben", str(target)).replace("python -m venv", _own_venv())
            variables = os.environ | {"EXTRAS": EXTRAS, "PYTHONPATH": ""}
            subprocess.run(["/bin/sh", "-ec", command], check=True, cwd=source, env=variables, timeout=500)
            if "-m venv" in instruction.value:
                _lend_libraries(target)
    shutil.rmtree(source)
    home, data = root / "home", root / "data"
    home.mkdir()
    data.mkdir()
    said = {name: value.replace("/opt/reben", str(target)) for name, value in environment(FINAL).items()}
    said["PATH"] = said["PATH"].replace("${PATH}", os.environ["PATH"])
    return Image(target, data, said | {"HOME": str(home), "COLUMNS": "120"})


SCRIPT = """#!{python}
import sys
from importlib.metadata import distribution
if __name__ == "__main__":
    (entry,) = distribution("{distribution}").entry_points.select(group="console_scripts", name="{name}")
    sys.exit(entry.load()())
"""


def _lend_libraries(environment: Path) -> None:
    """Give an environment the libraries of this one that the image has, and their commands."""
    for folder in environment.glob("lib/python*/site-packages"):
        (folder / "lent.pth").write_text(f"{sysconfig.get_path('platlib')}\n", encoding="utf-8")
    for library in _required("reben-dask", EXTRAS) - {"reben-dask"}:
        for entry in distribution(library).entry_points.select(group="console_scripts"):
            script = environment / "bin" / entry.name
            script.write_text(
                SCRIPT.format(python=environment / "bin" / "python", distribution=library, name=entry.name)
            )
            script.chmod(0o755)


def _required(name: str, extra: str = "") -> set[str]:
    """Names of a distribution and of all that it requires."""
    found, waiting = set(), [(name, extra)]
    while waiting:
        if (pair := waiting.pop()) in found:
            continue
        found.add(pair)
        library, extra = pair
        for line in requires(library) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), each) for each in ("", *needed.extras)]
    return {library for library, _ in found}


def _own_venv() -> str:
    return f"{sys.executable} -m venv"


def _copy(names: list[str], destination: Path) -> None:
    def left_out(folder: str, names: list[str]) -> set[str]:
        within = Path(folder).relative_to(ROOT)
        return {name for name in names if not is_sent(str(within / name), ignore_patterns())}

    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, destination / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, destination)


@pytest.fixture(scope="module")
def services(image: Image) -> Iterator[Cluster]:
    """Scheduler and workers of the Compose file."""
    described = compose()["services"]
    scheduler, worker = (_command(described[name], image) for name in ("scheduler", "worker"))
    replicas = int(described["worker"]["deploy"]["replicas"])
    stop = signal.Signals[next(line.value for line in FINAL if line.keyword == "STOPSIGNAL")]
    with cluster(scheduler, [worker] * replicas, image.data.parent, image.variables, stop) as found:
        yield found


def _command(service: Mapping[str, list[str]], image: Image) -> list[str]:
    scratch = str(image.data.parent)
    return on_loopback([*service["entrypoint"], *service["command"]], {"/tmp": scratch})  # noqa: S108 - the image's


@pytest.fixture(scope="module")
def client(image: Image, services: Cluster) -> dict[str, str]:
    """Variables of the service of the client."""
    (name,) = compose()["services"]["run"]["environment"]
    return image.variables | {name: services.address}


def test_without_an_extra_the_package_alone_is_installed() -> None:
    (install,) = (line.value for line in BUILD if line.keyword == "RUN" and "pip" in line.value)
    said = {extras: run(["sh", "-c", f"echo {install}"], ROOT, {"EXTRAS": extras}) for extras in ("", "notebooks")}
    assert said[""].split()[-1] == "."
    assert said["notebooks"].split()[-1] == ".[notebooks]"


def test_it_prints_help(image: Image) -> None:
    entry, arguments = (line.words for line in FINAL if line.keyword in {"ENTRYPOINT", "CMD"})
    assert "Start with `reben demo`" in run([*entry, *arguments], image.data, image.variables)


def test_the_system_has_all_libraries_that_the_wheels_need() -> None:
    files = [file for name in _required("reben-dask", EXTRAS) for file in distribution(name).files or ()]
    libraries = [Path(str(file.locate())) for file in files if ".so" in file.suffixes]
    done = subprocess.run(["ldd", *map(str, libraries)], capture_output=True, text=True, check=False)  # noqa: S607
    lines = [line.split() for line in done.stdout.splitlines() if "=>" in line]
    bundled = {path.name for path in libraries}
    needed = {Path(words[0]).name for words in lines if sysconfig.get_path("platlib") not in words[2]} - bundled
    (install,) = (line.value for line in FINAL if line.keyword == "RUN" and "apt-get" in line.value)
    packages = install.partition("--no-install-recommends")[2].partition("&&")[0].split()
    assert needed - SLIM == {PROVIDED[package] for package in packages}


def test_the_health_check_of_the_scheduler(image: Image, services: Cluster) -> None:
    kind, *command = compose()["services"]["scheduler"]["healthcheck"]["test"]
    assert kind == "CMD"
    run(on_loopback(command, {"127.0.0.1:8787": services.dashboard}), image.data, image.variables)


def test_a_job_of_the_client(image: Image, client: dict[str, str], tile_inputs: list[object]) -> None:
    (entry,) = compose()["services"]["run"]["entrypoint"]
    names = {"--s2": "tiles", "--landcover": "map.gpkg", "--countries": "countries.gpkg"}
    for option, path in zip(tile_inputs[::2], tile_inputs[1::2], strict=True):
        (image.data / names[str(option)]).symlink_to(str(path))
    words = [word for option in names.items() for word in option]
    said = run([entry, *words, "--no-report", "--out", "dataset"], image.data, client)
    assert f"those of the scheduler at {client['DASK_SCHEDULER_ADDRESS']}" in said
    assert status_of(image.data / "dataset")["is_settled"]
    assert run([entry, "status", "dataset"], image.data, client)


def test_jupyter_draws_a_token_and_asks_for_it(image: Image) -> None:
    service = compose()["services"]["jupyter"]
    assert service["environment"]["JUPYTER_TOKEN"] == ""
    command = on_loopback([*service["entrypoint"], *service["command"]], {"0.0.0.0": "127.0.0.1", "8888": "0"})  # noqa: S104
    as_root = ["--allow-root"] * (os.geteuid() == 0)
    folder = image.data.parent / "jupyter"
    folder.mkdir()
    variables = image.variables | {"HOME": str(folder), "JUPYTER_TOKEN": ""}
    with running([*command, *as_root], folder, variables, signal.Signals[service["stop_signal"]]) as process:
        wait_until(lambda: process.poll() is not None or list(folder.rglob("jpserver-*.json")), "Jupyter started")
        (file,) = folder.rglob("jpserver-*.json")
        told = json_load_robust(file, timeout=TIMEOUT_S)
        wait_until(lambda: _status(f"{told['url']}api"), "Jupyter answers")
        assert len(told["token"]) > 16
        assert _status(f"{told['url']}api/contents") == HTTPStatus.FORBIDDEN
        assert _status(f"{told['url']}api/contents?token={told['token']}") == HTTPStatus.OK
    assert process.returncode == 0


def _status(url: str) -> int | None:
    """The status of an answer, if there is one."""
    assert url.startswith("http://127.0.0.1:")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - the line above
            return answer.status
    except HTTPError as error:
        return error.code
    except OSError:
        return None
