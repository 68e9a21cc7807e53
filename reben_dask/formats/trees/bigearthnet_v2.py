"""Trees of reBEN: patches in a folder for each tile or Sentinel-1 scene.

``BigEarthNet-S2/<tile>/<patch>/<patch>_B02.tif``, ``BigEarthNet-S1/<scene>/<s1_name>/<s1_name>_VV.tif`` and
``Reference_Maps/<tile>/<patch>/<patch>_reference_map.tif``, with the tags of the published files.
"""

from __future__ import annotations

from reben_dask.formats.bands import REFERENCE_MAP
from reben_dask.formats.columns import S1_NAME
from reben_dask.formats.trees.layout import (
    BY_TILE,
    S1_FILES,
    Contents,
    Group,
    Tree,
    TreeLayout,
    map_images,
    one_band_each,
    s1_images,
    s1_scene,
    s1_scene_and_mgrs,
    s2_images,
)

LAYOUT = "bigearthnet-v2"
S2_TREE, S1_TREE, MAP_TREE = "BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps"


def layout(contents: Contents) -> TreeLayout:
    """Trees of Sentinel-2 and reference maps, and of Sentinel-1 if the dataset has it."""
    s2 = Tree(S2_TREE, s2_images, one_band_each(contents.bands), (BY_TILE,), BY_TILE, nodata=0)
    maps = Tree(
        MAP_TREE, map_images, one_band_each([REFERENCE_MAP.name]), (BY_TILE,), BY_TILE, nodata=0, compress="deflate"
    )
    s1 = Tree(
        S1_TREE,
        s1_images,
        S1_FILES,
        (Group(S1_NAME, s1_scene),),
        Group(S1_NAME, s1_scene_and_mgrs),
        order=(S1_NAME,),
        name_column=S1_NAME,
        is_shared=True,
    )
    return TreeLayout((s2, maps, *((s1,) if contents.has_sentinel1 else ())))
