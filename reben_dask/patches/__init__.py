"""Deciding: grid, validity, labels, splits, nomenclatures.

Pure functions on arrays and (geo)pandas frames; nothing here opens a file of pixels or writes one.
"""
