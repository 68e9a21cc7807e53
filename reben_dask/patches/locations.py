"""Stub."""


def home_blocks(footprints, block_m):
    raise NotImplementedError


def patch_blocks(footprints, block_m):
    raise NotImplementedError


def sets_of_patches(blocks, set_of_block):
    raise NotImplementedError
