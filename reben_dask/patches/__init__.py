"""Decisions about patches: candidates, NODATA, SCL, reference map, labels, splits, selection.

Pure functions on arrays and (geo)pandas frames; nothing here reads or writes a file.
"""
