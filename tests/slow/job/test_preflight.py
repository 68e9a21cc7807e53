"""Workers that cannot do the job are found before the first task, over encrypted connections too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import run_job
from distributed.utils import json_load_robust
from processes import status_of

import reben_dask
from reben_dask.errors import ClusterError
from reben_dask.job.preflight import SIMILAR, WorkerEnvironment, check_environment, inspect_worker

STARTUP_S = 60
HERE = WorkerEnvironment({"reben_dask": "1.0", "python": "3.11", **dict.fromkeys(SIMILAR, "1")}, [], is_writable=True)


# One worker


def test_a_process_sees_what_there_is(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.write_text(tmp_path.name)
    found = inspect_worker([str(tmp_path), str(tmp_path / "no such file")], str(probe))
    assert (found.missing_paths, found.is_writable) == ([str(tmp_path / "no such file")], True)
    assert found.versions["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert [path.name for path in tmp_path.iterdir()] == ["probe"]


@pytest.mark.parametrize("content", [None, "of another disk"])
def test_a_probe_that_is_not_ours(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "probe").write_text(content)
    assert not inspect_worker([], str(tmp_path / "probe")).is_writable


@pytest.mark.parametrize(
    ("sight", "said"),
    [
        (HERE._replace(versions=HERE.versions | {"reben_dask": "0.9"}), "has reben_dask 0.9, and this process 1.0"),
        (HERE._replace(versions=HERE.versions | {"python": "3.13"}), "has python 3.13, and this process 3.11"),
        (HERE._replace(missing_paths=["/data/a", "/data/b"]), "does not see the input /data/a; all workers must"),
        (HERE._replace(is_writable=False), "does not see the output folder, or cannot write to it"),
    ],
)
def test_what_a_worker_lacks_is_named_with_the_worker(sight: WorkerEnvironment, said: str) -> None:
    assert check_environment("w", HERE, HERE) == []
    with pytest.raises(ClusterError, match=f"^Worker w {said}"):
        check_environment("w", sight, HERE)


def test_other_versions_of_libraries_are_only_told() -> None:
    other = HERE._replace(versions=HERE.versions | {"zarr": "2"})
    assert check_environment("w", other, HERE) == ["Worker w has zarr 2, and this process 1; that usually works."]


# Real clusters


class Cluster(NamedTuple):
    """A scheduler that takes encrypted connections only."""

    address: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key, file = (folder / name for name in ("certificate.pem", "key.pem", "scheduler.json"))
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    command = [*request.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    names = {"CA_FILE": certificate}
    names |= {
        f"{role}__{part}": path
        for role in ("SCHEDULER", "WORKER", "CLIENT")
        for part, path in (("CERT", certificate), ("KEY", key))
    }
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in names.items()}
    environment = {**tls, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}
    options = ["--protocol", "tls", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with _process(folder, "scheduler", *options, "--scheduler-file", str(file), environment=environment):
        yield Cluster(json_load_robust(file, timeout=STARTUP_S)["address"], environment)


@contextmanager
def _process(
    folder: Path, *arguments: str, environment: dict[str, str], before: tuple[str, ...] = ()
) -> Iterator[None]:
    command = [*before, sys.executable, "-m", "dask", *arguments]
    with (folder / f"{arguments[0]}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment}, cwd=folder)
        try:
            yield
        finally:
            process.terminate()
            process.wait(STARTUP_S)


def _worker(cluster: Cluster, folder: Path, *, before: tuple[str, ...] = (), path: Path | None = None) -> object:
    options = ["--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory"]
    environment = cluster.environment | ({"PYTHONPATH": str(path)} if path else {})
    return _process(
        folder, "worker", cluster.address, *options, str(folder / "dask"), environment=environment, before=before
    )


def test_a_job_over_encrypted_connections(encrypted: Cluster, tile_inputs: list[object], tmp_path: Path) -> None:
    with _worker(encrypted, tmp_path):
        out = tmp_path / "out"
        done = run_job(*tile_inputs, "--out", out, "--scheduler", encrypted.address, **encrypted.environment)
    assert done.returncode == 0, done.stderr
    assert status_of(out)["is_settled"]
    said = done.stdout + (out / "run" / "record.json").read_text()
    assert "key.pem" not in said


def test_a_client_without_a_certificate(encrypted: Cluster, tile_inputs: list[object], tmp_path: Path) -> None:
    done = run_job(*tile_inputs, "--out", tmp_path / "out", "--scheduler", encrypted.address)
    assert done.returncode == 1
    assert encrypted.address in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_worker_with_another_version(encrypted: Cluster, tile_inputs: list[object], tmp_path: Path) -> None:
    package = tmp_path / "older" / "reben_dask"
    shutil.copytree(Path(reben_dask.__file__).parent, package)
    initial = package / "__init__.py"
    initial.write_text(initial.read_text().replace(f'"{reben_dask.__version__}"', '"0.0.1"'))
    with _worker(encrypted, tmp_path, path=package.parent):
        out = tmp_path / "out"
        done = run_job(*tile_inputs, "--out", out, "--scheduler", encrypted.address, **encrypted.environment)
    assert done.returncode == 1
    assert "has reben_dask 0.0.1, and this process" in done.stderr
    assert not (out / "run").exists()


@pytest.mark.parametrize("hidden", ["input", "output"])
def test_a_worker_that_does_not_see_the_files(
    encrypted: Cluster, tile_inputs: list[object], tmp_path: Path, hidden: str
) -> None:
    folder = tmp_path / "hidden"
    folder.mkdir()
    hide = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh")
    if subprocess.run([*hide, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process have mounts of its own")
    inputs, out = list(tile_inputs), tmp_path / "out"
    if hidden == "input":
        place = inputs.index("--landcover") + 1
        inputs[place] = shutil.copy(str(inputs[place]), folder)
    else:
        out = folder / "out"
    with _worker(encrypted, tmp_path, before=hide):
        done = run_job(*inputs, "--out", out, "--scheduler", encrypted.address, **encrypted.environment)
    assert done.returncode == 1
    said = f"does not see the input {folder}" if hidden == "input" else "does not see the output folder"
    assert "Error: Worker tls://127.0.0.1:" in done.stderr
    assert said in done.stderr
