"""Published Sentinel-1 patches: a folder for each, with one GeoTIFF for each polarisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import POLARISATIONS
from reben_dask.sources.published.tiff import read_tiff

PUBLISHED_FOLDER = "BigEarthNet-S1"


@dataclass(frozen=True)
class PatchTree:
    """A folder of published patches, ``<scene>/<s1_name>/<s1_name>_VV.tif``, with or without the folder of the scene.

    Parameters
    ----------
    root : Path
        The folder.
    """

    root: Path

    def find(self, s1_name: str) -> Path | None:
        """Folder of a patch, if it is there."""
        if not s1_name.startswith("S1") or Path(s1_name).name != s1_name:
            return None
        scene = s1_name.rsplit("_", 3)[0]
        places = (self.root / scene / s1_name, self.root / s1_name)
        return next((place for place in places if place.is_dir()), None)

    def read(self, s1_name: str, side_px: int) -> npt.NDArray[np.float32] | None:
        """Backscatter of a patch.

        Parameters
        ----------
        s1_name : str
            Name of the patch.
        side_px : int
            Expected side in pixels of 10 m.

        Returns
        -------
        ndarray of float32, shape (polarisation, y, x), or None
            dB, ``VH`` then ``VV``; ``None`` if the patch is not there.

        Raises
        ------
        InputError
            If it is damaged, lacks a polarisation, or has another size.
        """
        folder = self.find(s1_name)
        if folder is None:
            return None
        files = [folder / f"{s1_name}_{polarisation}.tif" for polarisation in POLARISATIONS]
        db: npt.NDArray[np.float32] = np.stack([read_tiff(file).astype(np.float32) for file in files])
        if db.shape[1:] != (side_px, side_px):
            raise InputError(
                f"The Sentinel-1 patch {folder} has {db.shape[1:]} pixels instead of {side_px} x {side_px}."
            )
        return db


def open_patch_tree(path: str) -> PatchTree:
    """Find the published patches below a folder.

    Raises
    ------
    InputError
        If the folder does not exist, or is empty.
    """
    root = Path(path).absolute()
    if not root.is_dir():
        raise InputError(missing("The Sentinel-1 folder", path))
    inner = root / PUBLISHED_FOLDER
    tree = PatchTree(inner if inner.is_dir() else root)
    if not any(tree.root.iterdir()):
        raise InputError(f"The Sentinel-1 folder {tree.root} is empty.")
    return tree
