"""How a model is asked: by which recipe, by whom it is answered, and where it is written down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli.common import console

if TYPE_CHECKING:
    from foveate.generators import Endpoint
    from foveate.recipes import Recipe

AskedBy = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Whose protocol and pixel budgets to use. Default: a run's own, as its last stage was trained; else hart.",
    ),
]
AskedIn = Annotated[
    str | None,
    typer.Option(
        "--protocol", help="direct, locate or zoom (or another that recipes name), instead of the recipe's own."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the evaluation. The same command goes on with it, and asks nothing again. "
        "Default: with --endpoint one in runs/eval, else none."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Ask only the first questions.")]
Quarantine = Annotated[
    bool, typer.Option("--quarantine", help="Leave bad rows of the data out, counted and listed, instead of stopping.")
]
EndpointUrl = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="Ask --model at this OpenAI-compatible API instead of loading it."),
]
EndpointSet = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint-set",
        metavar="SETTING=VALUE",
        help="family (qwen2.5-vl, qwen2-vl, qwen3-vl, internvl, generic, tiny; guessed from the name), max_pixels "
        "(of a view), api_key_env, concurrency, requests_per_minute, timeout, retries, jpeg_quality, extra (JSON, put "
        "into every request), prompt_price, completion_price (a million tokens); docs/endpoints.md has them all.",
    ),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of a command come to.

    Attributes:
        model: as the user named it.
        recipe: by whose protocol and pixel budgets the model is asked.
        endpoint: where it answers; in this process where None.
    """

    model: str
    recipe: Recipe
    endpoint: Endpoint | None

    @classmethod
    def of(
        cls,
        model: str,
        *,
        recipe: str | None,
        protocol: str | None,
        settings: list[str] | None = None,
        endpoint: str | None,
        endpoint_settings: list[str] | None,
    ) -> Asked:
        """Resolved, and said aloud: the protocol, and of an endpoint the family, which may be a guess.

        Raises:
            BadParameter: there are settings without an endpoint.
            EndpointError: a setting cannot be used.
            RecipeError: as `load_recipe`.
        """
        from foveate.generators import Endpoint
        from foveate.recipes import load_recipe
        from foveate.runs import USUAL_RECIPE, recipe_for

        if endpoint_settings and not endpoint:
            raise typer.BadParameter("--endpoint-set is about an endpoint: name it with --endpoint URL")
        there = Endpoint.of(endpoint, endpoint_settings or []) if endpoint else None
        changed = [*([f"protocol.name={protocol}"] if protocol else []), *(settings or [])]
        # A model that answers elsewhere is no run of this machine, whatever it is called.
        resolved = load_recipe(recipe or USUAL_RECIPE, changed) if there else recipe_for(model, recipe, changed)
        console.print(f"asked by the recipe {resolved.name}, protocol {resolved.protocol.name}", highlight=False)
        if there:
            guessed = "" if there.family else " (a guess: --endpoint-set family=...)"
            spoken = f"spoken to as {there.family_of(model).name}{guessed}"
            console.print(f"{model} at {there.shown_url}, {spoken}", highlight=False, markup=False, soft_wrap=True)
        return cls(model, resolved, there)

    def folder(self, out: Path | None, data: str, purpose: str | None = None) -> Path | None:
        """Where it is written down: what an endpoint answers always is, as its replies cost money.

        Args:
            out: as the user named it.
            data: likewise.
            purpose: of what is asked, where that is another than an evaluation's, which would be refused its folder.
        """
        if out is None and self.endpoint:
            named = "-".join(part for part in (self.model, self.recipe.protocol.name, data, purpose) if part)
            out = Path("runs", "eval", re.sub(r"[^A-Za-z0-9._-]+", "-", named).strip("-.")[-100:])
            console.print(f"written down in {out}", highlight=False, markup=False, soft_wrap=True)
        return out
