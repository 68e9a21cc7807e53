"""Writing what others read: Zarr cubes, the patch table, metadata files, LMDB."""
