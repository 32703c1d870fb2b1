"""The methods as data."""

from foveate.recipes.notes import Line, annotated, differences
from foveate.recipes.schema import Recipe, RecipeError, StageName, dump_recipe, load_recipe, recipe_names
from foveate.recipes.sections import AdamW, Setup, Split

__all__ = [
    "AdamW",
    "Line",
    "Recipe",
    "RecipeError",
    "Setup",
    "Split",
    "StageName",
    "annotated",
    "differences",
    "dump_recipe",
    "load_recipe",
    "recipe_names",
]
