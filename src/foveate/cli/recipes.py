"""`foveate recipes`: the methods, as settings."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from foveate.cli.common import Set, console, friendly


@friendly
def list_recipes() -> None:
    """The recipes that ship with foveate."""
    from foveate.recipes import load_recipe, recipe_names

    for name in recipe_names():
        console.print(f"{name:12} {load_recipe(name).title}", highlight=False, soft_wrap=True)


@friendly
def show(recipe: Annotated[str, typer.Argument(help="A recipe's name or a .yaml file.")], settings: Set = None) -> None:
    """A recipe with every setting, as a run would use it: YAML, to change and to train with.

    Example: `foveate recipes show hart --set objective.k=0.3 > mine.yaml`

    Beside a setting stands the paper's value where it is another, and "assumed" where the paper is silent: the reasons
    are under `assumptions`.

    --set protocol.name=... shows another way of asking with its settings: direct, locate (short for locate_answer),
    multi_turn (MGPO's fixed turns), multi_turn_free (its general form: an answer as soon as there can be one),
    ground_answer, zoom, count.
    """
    from foveate.recipes import annotated, load_recipe

    lines = annotated(load_recipe(recipe, settings or []))
    column = 2 + max(len(line.text) for line in lines if line.comment) if any(line.comment for line in lines) else 0
    for line in lines:
        colour = "yellow" if line.paper is not None else "dim"
        text = Text(line.text.ljust(column) if line.comment else line.text)
        console.print(text.append(line.comment, style=colour), soft_wrap=True, highlight=False)
