"""Measuring and comparing datasets: counts, differences, and spatial correlation of labels and splits."""
