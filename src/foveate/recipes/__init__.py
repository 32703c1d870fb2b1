"""The methods as data."""

from foveate.recipes.schema import Recipe, RecipeError, dump_recipe, load_recipe, recipe_names

__all__ = ["Recipe", "RecipeError", "dump_recipe", "load_recipe", "recipe_names"]
