"""Sentinel-1: published patches and terrain-corrected scenes, in dB."""

from reben_dask.sources.sentinel1.patches import PatchTree, open_patch_tree
from reben_dask.sources.sentinel1.scenes import RadarScene, find_scenes, warp_scene

__all__ = ["PatchTree", "RadarScene", "find_scenes", "open_patch_tree", "warp_scene"]
