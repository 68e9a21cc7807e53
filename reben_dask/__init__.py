"""Labelled Sentinel datasets, built as one distributed Dask job.

Data flows one way: :mod:`reben_dask.sources` reads, :mod:`reben_dask.patches` decides, :mod:`reben_dask.stores` writes,
and :mod:`reben_dask.job` composes them. The names below are the public face; they are imported on first use.

- :func:`open_tile` opens a Sentinel-2 product as lazy xarray cubes.
- :func:`open_landcover`, :func:`patches` and :func:`label` make lazy frames, with one partition per tile.
- :func:`plan` and :func:`build` plan and build a dataset, as ``reben run`` does.
- :func:`open_dataset` opens a finished dataset: patch table, cubes, samples for training, single patches.
- :func:`open_cubes` opens a Zarr store lazily, shard by shard.
- :func:`train`, :func:`evaluate` and :func:`leaderboard` train networks, measure and compare them; :func:`load_run`
  loads a trained one. They need the extra ``train``.
- :func:`batches` and :func:`stream` yield samples in batches; :class:`PatchDataset`, :class:`PatchStream` and
  :class:`PatchDataModule` give them to PyTorch and Lightning.
- :func:`surface_reflectance`, :func:`natural_colour` and :func:`map_colours` convert pixels to display values.
- :func:`open_demo_region` makes a small synthetic region to try all of this.

Examples
--------
Candidates of all tiles in a folder, labelled with a map. Nothing is computed before ``compute``.

>>> import reben_dask as rb
>>> candidates = rb.patches(region.s2, recipe="reben")
>>> labelled = rb.label(candidates, rb.open_landcover(region.landcover))
>>> labelled.npartitions
5

A finished dataset:

>>> dataset = rb.open_dataset(out)
>>> train = dataset.samples(split="train", bands=("B04", "B03", "B02"))
>>> train[0]["image"].shape
(3, 120, 120)
>>> dataset.patch(train.patch_ids[0])["r20m"]["dn"].dims
('band', 'y', 'x')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reben_dask.analysis.legend import map_colours as map_colours
    from reben_dask.dataset import Dataset as Dataset
    from reben_dask.dataset import open_dataset as open_dataset
    from reben_dask.demo import open_demo_region as open_demo_region
    from reben_dask.job.build import build as build
    from reben_dask.job.build import plan as plan
    from reben_dask.job.frame import label as label
    from reben_dask.job.frame import open_landcover as open_landcover
    from reben_dask.job.frame import patches as patches
    from reben_dask.options import ClusterOptions as ClusterOptions
    from reben_dask.options import Sen2CorOptions as Sen2CorOptions
    from reben_dask.report.examples import natural_colour as natural_colour
    from reben_dask.sources.sentinel2.lazy_cube import open_tile as open_tile
    from reben_dask.stores.lazy_cubes import open_cubes as open_cubes
    from reben_dask.stores.lazy_cubes import surface_reflectance as surface_reflectance
    from reben_dask.training import BandScale as BandScale
    from reben_dask.training import batches as batches
    from reben_dask.training import stream as stream
    from reben_dask.training.data_module import PatchDataModule as PatchDataModule
    from reben_dask.training.evaluation import evaluate as evaluate
    from reben_dask.training.evaluation import load_run as load_run
    from reben_dask.training.fit import train as train
    from reben_dask.training.leaderboard import leaderboard as leaderboard
    from reben_dask.training.loaders import PatchDataset as PatchDataset
    from reben_dask.training.loaders import PatchStream as PatchStream

__version__ = "0.2.0"

_MODULES = {
    "open_tile": "sources.sentinel2.lazy_cube",
    "open_landcover": "job.frame",
    "patches": "job.frame",
    "label": "job.frame",
    "plan": "job.build",
    "build": "job.build",
    "open_dataset": "dataset",
    "Dataset": "dataset",
    "ClusterOptions": "options",
    "Sen2CorOptions": "options",
    "open_demo_region": "demo",
    "open_cubes": "stores.lazy_cubes",
    "batches": "training",
    "stream": "training",
    "BandScale": "training",
    "PatchDataset": "training.loaders",
    "PatchStream": "training.loaders",
    "PatchDataModule": "training.data_module",
    "train": "training.fit",
    "evaluate": "training.evaluation",
    "load_run": "training.evaluation",
    "leaderboard": "training.leaderboard",
    "surface_reflectance": "stores.lazy_cubes",
    "natural_colour": "report.examples",
    "map_colours": "analysis.legend",
}

__all__ = [*_MODULES]  # noqa: PLE0604 - the names of a table


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "patches":
        return import_module("reben_dask.patches")
    try:
        return getattr(import_module(f"reben_dask.{_MODULES[name]}"), name)
    except (ImportError, NotImplementedError):
        import_module("reben_dask.environment").require_building()
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
