"""The methods as data."""

from foveate.recipes.schema import AdamW, Recipe, RecipeError, Split, StageName, dump_recipe, load_recipe, recipe_names

__all__ = [
    "AdamW",
    "Recipe",
    "RecipeError",
    "Split",
    "StageName",
    "dump_recipe",
    "load_recipe",
    "recipe_names",
]
