"""Readers of inputs: Sentinel-2 products, Sentinel-1, land-cover maps, polygon layers, published trees and tables.

Independent of the outputs of a job.
"""
