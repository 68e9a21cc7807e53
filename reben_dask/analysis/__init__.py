"""Measurement and comparison of datasets: counts, differences, and spatial correlation of labels and splits."""
