"""The methods as data."""

from foveate.recipes.notes import Line, annotated, differences
from foveate.recipes.schema import (
    USUAL_RECIPE,
    Recipe,
    RecipeError,
    StageName,
    dump_recipe,
    load_recipe,
    recipe_names,
)
from foveate.recipes.sections import AdamW, Engine, Setup, Split, Tracker

__all__ = [
    "USUAL_RECIPE",
    "AdamW",
    "Engine",
    "Line",
    "Recipe",
    "RecipeError",
    "Setup",
    "Split",
    "StageName",
    "Tracker",
    "annotated",
    "differences",
    "dump_recipe",
    "load_recipe",
    "recipe_names",
]
