"""Recipes: the choices of a dataset as data, with the typed model that checks them."""

from reben_dask.recipes.load import load_recipe, shipped_recipes
from reben_dask.recipes.model import Recipe

__all__ = ["Recipe", "load_recipe", "shipped_recipes"]
