"""Compose file and Kubernetes manifests: by the schemas of those who read them, and by rules of our own."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose import compose
from conftest import ROOT
from dask.utils import parse_bytes

from reben_dask import __version__

KUBERNETES = ROOT / "deploy" / "kubernetes"
SCHEMAS = {"dask-kubernetes": "2026.3.0", "check-jsonschema": "0.39.0"}
"""Packages that have the schemas among their files; only these are read, nothing of them is installed."""

FULL_TILE_WORKER_BYTES = 450 * 2**20 + 4 * 2 * 10_980**2
MEBI = 2**20


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("schemas")
    wanted = [f"{name}=={version}" for name, version in SCHEMAS.items()]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *wanted]
    subprocess.run(command, check=True, timeout=300)
    found = {}
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if "/crds/" in name or name.endswith("compose-spec.json")]
            found |= {Path(name).name: archive.read(name) for name in names}
    return found


def _manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((KUBERNETES / name).read_text(encoding="utf-8"))


def _closed(schema: Any) -> Any:
    """A schema of Kubernetes that also refuses what it does not name; the server would only leave it out."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _faults(schema: dict[str, Any], manifest: Any) -> list[str]:
    # Takes 4 s to import: it compiles the grammars of all formats that it may meet.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(manifest)]


# By their schemas


@pytest.mark.parametrize("kind", ["DaskCluster", "DaskJob"])
def test_what_the_operator_takes(files: dict[str, bytes], kind: str) -> None:
    (version,) = yaml.safe_load(files[f"{kind.lower()}.yaml"])["spec"]["versions"]
    manifest = _manifest({"DaskCluster": "cluster.yaml", "DaskJob": "job.yaml"}[kind])
    assert (manifest.pop("kind"), manifest.pop("apiVersion")) == (kind, f"kubernetes.dask.org/{version['name']}")
    manifest.pop("metadata")
    schema = _closed(version["schema"]["openAPIV3Schema"])
    assert not _faults(schema, manifest)
    manifest["spec"]["oops"] = 1
    assert _faults(schema, manifest)


def test_what_compose_takes(files: dict[str, bytes]) -> None:
    schema = json.loads(files["compose-spec.json"])
    assert not _faults(schema, compose())
    assert _faults(schema, {"services": {"run": {"imagee": "x"}}})


# By rules of our own: Compose


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert published == ["127.0.0.1:8787:8787", "127.0.0.1:8888:8888"]


def test_all_services_have_the_same_user_folder_and_bounds() -> None:
    for name, service in compose()["services"].items():
        assert int(service["user"].split(":")[0]) > 0
        assert service["volumes"] == ["./data:/data"]
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert parse_bytes(service["deploy"]["resources"]["limits"]["memory"]) > 2**30, name
        assert service["image"].startswith("reben-dask")


def test_workers_hold_a_full_tile() -> None:
    worker = compose()["services"]["worker"]
    options = dict(zip(worker["command"][::2], worker["command"][1::2], strict=True))
    assert (options["--nthreads"], worker["deploy"]["replicas"]) == ("1", "2")
    # Docker's 3g is 3 GiB, Dask's is 3 GB.
    assert options["--memory-limit"] == worker["deploy"]["resources"]["limits"]["memory"] == "3g"
    assert parse_bytes(options["--memory-limit"]) > 2 * FULL_TILE_WORKER_BYTES


def test_variables_reach_what_they_are_for() -> None:
    given = {"WORKERS": "5", "WORKER_MEMORY": "6g", "WORKER_THREADS": "2", "REBEN_DATA": "/disk", "JUPYTER_TOKEN": "t"}
    services = compose(given)["services"]
    assert services["worker"]["deploy"] == {"replicas": "5", "resources": {"limits": {"memory": "6g"}}}
    assert services["worker"]["command"][:4] == ["--nthreads", "2", "--memory-limit", "6g"]
    assert services["run"]["volumes"] == ["/disk:/data"]
    assert services["jupyter"]["environment"] == services["run"]["environment"] | {"JUPYTER_TOKEN": "t"}


def test_the_client_and_jupyter_start_only_when_asked() -> None:
    services = compose()["services"]
    assert {name: service.get("profiles") for name, service in services.items()} == {
        "scheduler": None,
        "worker": None,
        "run": ["run"],
        "jupyter": ["notebooks"],
    }
    assert all(need in services for service in services.values() for need in service.get("depends_on", ()))


# By rules of our own: Kubernetes


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    job = _manifest("job.yaml")["spec"]
    for file, cluster in (("cluster.yaml", _manifest("cluster.yaml")["spec"]), ("job.yaml", job["cluster"]["spec"])):
        yield f"{file} worker", cluster["worker"]["spec"]
        yield f"{file} scheduler", cluster["scheduler"]["spec"]
    yield "job.yaml job", job["job"]["spec"]


PODS = dict(_pods())


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_pods_are_bounded(pod: dict[str, Any]) -> None:
    user = pod["securityContext"]
    assert user["runAsNonRoot"]
    assert user["runAsUser"] == user["fsGroup"] == 1000
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    mounted = {volume["name"] for volume in pod["volumes"]}
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == f"reben-dask:{__version__}"
        resources = container["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert places["scratch"] == "/tmp"  # noqa: S108 - of the container
        assert places.keys() <= mounted


def test_workers_of_kubernetes_hold_a_full_tile() -> None:
    (container,) = PODS["job.yaml worker"]["containers"]
    options = dict(word.split("=", 1) for word in container["args"])
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * MEBI
    assert FULL_TILE_WORKER_BYTES * 2 < parse_bytes(options["--memory-limit"]) < limit
    assert options["--nthreads"] == container["resources"]["requests"]["cpu"]


def test_the_cluster_of_a_job_is_the_cluster_that_stays() -> None:
    alone, of_job = _manifest("cluster.yaml"), _manifest("job.yaml")
    assert alone["spec"]["worker"] == of_job["spec"]["cluster"]["spec"]["worker"]
    assert alone["spec"]["scheduler"]["spec"] == of_job["spec"]["cluster"]["spec"]["scheduler"]["spec"]
    for manifest, cluster in ((alone, alone["spec"]), (of_job, of_job["spec"]["cluster"]["spec"])):
        service = cluster["scheduler"]["service"]
        name = manifest["metadata"]["name"]
        assert service["selector"] == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
        (container,) = cluster["scheduler"]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
        assert container["args"] == ["--port=8786", "--dashboard-address=:8787"]


def test_a_job_begins_once_and_when_its_cluster_is_there() -> None:
    job = _manifest("job.yaml")
    pod = job["spec"]["job"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (wait,) = pod["initContainers"]
    assert f"tcp://{job['metadata']['name']}-scheduler:8786" in wait["args"][0]


def test_the_volume_is_one_for_all() -> None:
    claim = _manifest("volume.yaml")
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name in ("job.yaml worker", "job.yaml job"):
        (data,) = (volume for volume in PODS[name]["volumes"] if volume["name"] == "data")
        assert data["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert "data" not in [volume["name"] for volume in PODS["job.yaml scheduler"]["volumes"]]
