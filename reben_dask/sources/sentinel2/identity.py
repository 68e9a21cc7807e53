"""What tells one product from another of the same name."""

from __future__ import annotations

import hashlib
import json

from reben_dask.sources.sentinel2.product import Tile


def tile_identity(tile: Tile) -> str:
    """Digest of a product's metadata and of the sizes of its images, or of its zip file.

    Pixels are not read. Images are compressed: those with other pixels have another size. Where a product lies and when
    it was copied there makes no difference.
    """
    paths = [tile.path / image for image in tile.images.values()] if tile.path.is_dir() else [tile.path]
    sizes = {path.name: path.stat().st_size for path in paths}
    return hashlib.sha256(f"{tile.metadata_sha256} {json.dumps(sizes, sort_keys=True)}".encode()).hexdigest()
