"""Reading the patches of a tile back from the Zarr store, one column of patches at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from reben_dask.formats.cube import MAP_NODE, RADAR_NODE, group_of
from reben_dask.stores.arrays import open_array


class TileReader:
    """Patches of one tile, by grid.

    Parameters
    ----------
    store : Path
        The Zarr store.
    tile : str
        Name of the tile.
    """

    def __init__(self, store: Path, tile: str) -> None:
        self._store, self._tile = store, tile
        self._grids: dict[int, PatchReader] = {}

    def __getitem__(self, grid: int) -> PatchReader:
        if grid not in self._grids:
            self._grids[grid] = PatchReader(self._store, group_of(self._tile, grid))
        return self._grids[grid]

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the tile's group."""
        return zarr.open_group(self._store / self._tile, mode="r").attrs.asdict()


class PatchReader:
    """Patches of one group; read column by column (``x`` first, then ``y``), each chunk of the store is decoded once.

    Of each array, one column of patches is held in memory, from the time it is first asked for.

    Parameters
    ----------
    store : Path
        The Zarr store.
    group_path : str
        Path of the group, see :func:`~reben_dask.formats.cube.group_of`.
    """

    def __init__(self, store: Path, group_path: str) -> None:
        group = store / group_path
        nodes = sorted(path for path in group.iterdir() if (path / "dn").is_dir())
        self._bands = [_Stack(node / "dn", node / "band") for node in nodes]
        self._map = _Layer(group / MAP_NODE / MAP_NODE)
        radar = group / RADAR_NODE
        self._radar = _Stack(radar / "db", radar / "polarisation") if (radar / "db").is_dir() else None

    def patch(self, x: int, y: int) -> tuple[Mapping[str, npt.NDArray[np.uint16]], npt.NDArray[np.uint16]]:
        """Bands and reference map of a patch; see :meth:`bands` and :meth:`reference_map`."""
        return self.bands(x, y), self.reference_map(x, y)

    def bands(self, x: int, y: int) -> Mapping[str, npt.NDArray[np.uint16]]:
        """Sentinel-2 bands of a patch.

        Parameters
        ----------
        x, y : int
            Column (eastwards) and row (southwards) of the patch.

        Returns
        -------
        mapping of str to ndarray of uint16, shape (y, x)
            Digital numbers by band name, at native resolution.
        """
        return {name: pixels for stack in self._bands for name, pixels in stack.images(x, y).items()}

    def reference_map(self, x: int, y: int) -> npt.NDArray[np.uint16]:
        """CLC codes of a patch, shape ``(y, x)``."""
        return self._map.patch(x, y)

    def sentinel1(self, x: int, y: int) -> Mapping[str, npt.NDArray[np.float32]]:
        """Backscatter in dB of a patch by polarisation, shape ``(y, x)``; nothing for a tile without Sentinel-1."""
        return {} if self._radar is None else self._radar.images(x, y)


class _Layer:
    """An array of which one column of patches is in memory; its last two axes are ``(y, x)``."""

    def __init__(self, path: Path) -> None:
        self._array = open_array(path, "r")
        self._x: int | None = None

    def patch(self, x: int, y: int) -> npt.NDArray[Any]:
        side = self._array.chunks[-1]
        if x != self._x:
            self._column: npt.NDArray[Any] = np.asarray(self._array[..., x * side : (x + 1) * side])
            self._x = x
        return self._column[..., y * side : (y + 1) * side, :]


class _Stack(_Layer):
    """A layer of several images, with the array of their names."""

    def __init__(self, path: Path, names: Path) -> None:
        super().__init__(path)
        labels: Sequence[Any] = np.asarray(zarr.open_array(names, mode="r")[:]).tolist()
        self._names = [str(label) for label in labels]

    def images(self, x: int, y: int) -> dict[str, npt.NDArray[Any]]:
        return dict(zip(self._names, self.patch(x, y), strict=True))
