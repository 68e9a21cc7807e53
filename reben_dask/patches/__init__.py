"""Decisions about patches: candidates, NODATA, SCL, reference map, labels, splits, selection.

Pure functions on arrays and (geo)pandas frames; no file access.
"""
