"""Comparing datasets over one area, and what their splits do to spatial correlation."""
