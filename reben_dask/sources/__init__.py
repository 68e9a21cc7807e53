"""Readers of inputs: Sentinel-2 products, Sentinel-1, land-cover maps, polygon layers, published trees and tables.

Nothing here depends on the outputs of a job.
"""
