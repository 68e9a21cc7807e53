"""What a job is made from, in a form that tells it from other jobs: see :mod:`reben_dask.output.origin`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reben_dask import __version__
from reben_dask.job.plan import Plan
from reben_dask.output.origin import TILES, Origin, digest_of, file_identity
from reben_dask.sources.sentinel2 import tile_identity
from reben_dask.sources.vector_layers import files_of


def origin_of(plan: Plan) -> Origin:
    """Everything of a plan that decides what is in the dataset; the files are looked at, and no pixels are read."""
    published = plan.published
    names = {str(code): name for code, name in sorted(plan.nomenclature.class_of.items())}
    return {
        "version of reben_dask": __version__,
        "recipe": digest_of([plan.recipe.model_dump(mode="json"), names]),
        TILES: {tile.name: tile_identity(tile) for tile in plan.tiles},
        "land-cover map": digest_of(plan.landcover.record["source"]),
        "country layer": _layer(plan.countries),
        "choice of layers": {name: _layer(path) for name, path in plan.layers.items()},
        "Sentinel-1": digest_of(plan.partners.identity()) if plan.partners else None,
        "published metadata": digest_of([file_identity(path) for path in published.metadata]),
        "lists of names": _files(filter(None, (published.pairs, published.snow_list, published.cloud_list))),
        "number of LMDB environments": plan.lmdb_shards,
        "choice of exports": sorted(plan.exports),
    }


def _layer(path: str | None) -> str | None:
    return None if path is None else _files(file for file in files_of(Path(path)) if file.is_file())


def _files(paths: Iterable[Path]) -> Any:
    return digest_of([file_identity(path) for path in sorted(paths)])
