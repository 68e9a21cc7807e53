"""The containers of the Kubernetes manifests as processes: the job waits for its workers, and builds the dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT
from deployed import HERE, cluster, on_loopback, run
from processes import status_of


def _command(pod: dict[str, Any], replaced: dict[str, str], part: str = "containers") -> list[str]:
    (container,) = pod[part]
    return on_loopback([*container["command"], *container["args"]], replaced)


def test_a_job_on_its_cluster(tile_inputs: list[object], tmp_path: Path) -> None:
    manifest = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "job.yaml").read_text(encoding="utf-8"))
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    worker, scheduler = (spec["cluster"]["spec"][role] for role in ("worker", "scheduler"))
    data, scratch = tmp_path / "data", tmp_path / "scratch"
    data.mkdir()
    scratch.mkdir()
    job = spec["job"]["spec"]
    options = dict(word.split("=", 1) for word in job["containers"][0]["args"])
    given = dict(zip(tile_inputs[::2], tile_inputs[1::2], strict=True))
    for option, path in given.items():
        (data / Path(options[str(option)]).name).symlink_to(str(path))
    variables = {entry["name"]: entry["value"] for entry in worker["spec"]["containers"][0]["env"]}
    assert variables.keys() == {"DASK_TEMPORARY_DIRECTORY"}
    environment = os.environ | HERE | dict.fromkeys(variables, str(scratch))
    workers = [
        _command(worker["spec"], {"$(DASK_WORKER_NAME)": f"{name}-default-worker-{number}"})
        for number in range(worker["replicas"])
    ]
    with cluster(_command(scheduler["spec"], {}), workers, tmp_path, environment) as found:
        run(_command(job, {f"tcp://{name}-scheduler:8786": found.address}, "initContainers"), tmp_path, environment)
        known = environment | {"DASK_SCHEDULER_ADDRESS": found.address}
        run([*_command(job, {"=/data/": f"={data}/"}), "--no-report"], tmp_path, known)
    assert status_of(data / "dataset")["is_settled"]
