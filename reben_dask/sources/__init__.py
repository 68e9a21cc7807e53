"""Reading what others made: Sentinel-2 products, land-cover maps, countries.

Nothing here knows of patches or of what is written.
"""
