"""A recipe beside its paper: where its settings differ from the paper's, and where the paper is silent."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from foveate.recipes.schema import Recipe


class Line(NamedTuple):
    """A line of a recipe as YAML, and what is to be said beside it."""

    text: str
    paper: str | None = None
    """The paper's value, where the recipe's is another."""
    assumed: bool = False
    """The paper is silent; the recipe's `assumptions` have the reason."""

    @property
    def comment(self) -> str:
        """What is said beside it, as a YAML comment; empty when there is nothing to say."""
        said = [f"paper: {self.paper}"] if self.paper is not None else []
        said += ["assumed"] if self.assumed else []
        return f"# {'; '.join(said)}" if said else ""


def differences(recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Each setting whose published value is another: (the recipe's, the paper's)."""
    settings = recipe.settings()
    return {name: (settings[name], value) for name, value in recipe.published.items() if settings[name] != value}


def annotated(recipe: Recipe) -> list[Line]:
    """The resolved recipe as lines of YAML with comments: together they load as the same recipe."""
    settings, differing = recipe.settings() | recipe.setup.settings(), differences(recipe)
    lines = [Line(f"{name}: {_inline(getattr(recipe, name))}") for name in ("name", "title", "paper")]
    section = ""
    for name, value in settings.items():
        outer, found, inner = name.rpartition(".")
        if found and outer != section:
            lines.append(Line(f"{outer}:"))
        section = outer
        paper = _inline(differing[name][1]) if name in differing else None
        lines.append(Line(f"{'  ' if found else ''}{inner}: {_inline(value)}", paper, name in recipe.assumptions))
    notes = {"published": recipe.published, "assumptions": recipe.assumptions}
    rest = yaml.safe_dump(notes, sort_keys=False, allow_unicode=True, width=110)
    return lines + [Line(text) for text in rest.splitlines()]


def _inline(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.strip().removesuffix("...").strip()
