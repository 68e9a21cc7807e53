"""The trees of reBEN: patches in a folder for each tile, or Sentinel-1 scene.

``BigEarthNet-S2/<tile>/<patch>/<patch>_B02.tif``, ``BigEarthNet-S1/<scene>/<s1_name>/<s1_name>_VV.tif`` and
``Reference_Maps/<tile>/<patch>/<patch>_reference_map.tif``, with the tags of the published files.
"""

from __future__ import annotations

from reben_dask.formats.trees.layout import (
    CODES,
    RADAR_FILES,
    Contents,
    Tree,
    TreeLayout,
    one_each,
    radar_scene,
    radar_scene_and_place,
    reference_map,
    tile_of,
)
from reben_dask.stores.patch_reader import PatchReader

S2_TREE, S1_TREE, MAP_TREE = "BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps"

_MAPS = Tree(MAP_TREE, reference_map, tile_of, tile_of, files=one_each([CODES]), nodata=0, compress="deflate")
_S1 = Tree(
    S1_TREE,
    PatchReader.sentinel1,
    radar_scene,
    radar_scene_and_place,
    order=("s1_name",),
    name_column="s1_name",
    files=RADAR_FILES,
    is_shared=True,
)


def bigearthnet_v2(contents: Contents) -> TreeLayout:
    """The layout; the tree of Sentinel-1 is there if the dataset has Sentinel-1."""
    s2 = Tree(S2_TREE, PatchReader.bands, tile_of, tile_of, files=one_each(contents.bands), nodata=0)
    return TreeLayout((s2, _MAPS, *((_S1,) if contents.has_sentinel1 else ())))
