"""Recipes: the choices of a dataset as data, with a typed model."""

from reben_dask.recipes.load import load_recipe, shipped_recipes
from reben_dask.recipes.model import Recipe

__all__ = ["Recipe", "load_recipe", "shipped_recipes"]
