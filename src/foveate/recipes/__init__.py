"""The methods as data."""

from foveate.recipes.notes import Line, annotated, differences
from foveate.recipes.schema import AdamW, Recipe, RecipeError, Split, StageName, dump_recipe, load_recipe, recipe_names

__all__ = [
    "AdamW",
    "Line",
    "Recipe",
    "RecipeError",
    "Split",
    "StageName",
    "annotated",
    "differences",
    "dump_recipe",
    "load_recipe",
    "recipe_names",
]
