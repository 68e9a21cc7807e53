"""Files of which a vector dataset consists."""

from __future__ import annotations

import glob
from pathlib import Path


def files_of(path: Path) -> list[Path]:
    """Files that make up a vector dataset: a shapefile keeps its columns beside it, a file geodatabase is a folder."""
    if path.is_dir():
        return [path, *path.rglob("*")]
    if path.suffix.lower() == ".shp":
        return [path, *(file for file in path.parent.glob(f"{glob.escape(path.stem)}.*") if file != path)]
    return [path]
