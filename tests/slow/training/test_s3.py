"""Samples of a dataset in a bucket are those of its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from s3_server import ACCESS_KEY, SECRET_KEY, s3_server, upload

import reben_dask as rb
from reben_dask.training import close_environments


def test_cubes_in_a_bucket_are_what_the_lmdb_has(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = rb.open_dataset(small_run).samples(split="train").with_masks()
    paths = [path for path in small_run.rglob("*") if path.is_file() and "lmdb" not in path.parts]
    files = {f"datasets/small/{path.relative_to(small_run)}": path.read_bytes() for path in paths}
    with s3_server(tmp_path) as endpoint:
        upload(endpoint, "bucket", files)
        for name, value in {
            "ENDPOINT": endpoint,
            "ACCESS_KEY_ID": ACCESS_KEY,
            "SECRET_ACCESS_KEY": SECRET_KEY,
            "REGION": "default",
            "ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        remote = rb.open_dataset("s3://bucket/datasets/small").samples(split="train").with_masks()
        found = {batch["image"][0].tobytes(): batch["mask"][0] for batch in rb.stream(remote, 1, seed=0)}
    assert len(found) == len(local) == len(remote)
    for sample in map(local.__getitem__, range(len(local))):
        np.testing.assert_array_equal(found[sample["image"].tobytes()], sample["mask"])
    close_environments()
