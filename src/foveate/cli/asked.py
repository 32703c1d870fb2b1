"""How a model is asked: by which recipe, by whom it is answered, and where it is written down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli.common import console

if TYPE_CHECKING:
    from foveate.evaluations import NamedModel
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
        "Default: with an endpoint one in runs/eval, else none."
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
AnsweredBy = Annotated[
    str | None,
    typer.Option(
        "--answerer",
        metavar="MODEL",
        help="Another model for the answer turn: --model only locates. Needs a protocol that answers afresh (locate).",
    ),
]
AnswererUrl = Annotated[
    str | None,
    typer.Option(
        "--answerer-endpoint", metavar="URL", help="Ask --answerer at this API. Default: it is loaded, as --model is."
    ),
]
AnswererSet = Annotated[
    list[str] | None,
    typer.Option("--answerer-set", metavar="SETTING=VALUE", help="As --endpoint-set, of where the answerer answers."),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of a command come to.

    Attributes:
        model: as the user named it.
        recipe: by whose protocol and pixel budgets the model is asked.
        endpoint: where it answers; in this process where None.
        answering: another model that is asked the answer turns; None where there is one model.
    """

    model: str
    recipe: Recipe
    endpoint: Endpoint | None
    answering: NamedModel | None

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
        answerer: str | None = None,
        answerer_endpoint: str | None = None,
        answerer_settings: list[str] | None = None,
    ) -> Asked:
        """Resolved, and said aloud: the protocol, and of an endpoint the family, which may be a guess.

        Raises:
            BadParameter: there are settings without an endpoint, or an answerer's endpoint without its name.
            EndpointError: a setting cannot be used.
            RecipeError: as `load_recipe`.
        """
        from foveate.evaluations import NamedModel
        from foveate.generators import Endpoint
        from foveate.recipes import USUAL_RECIPE, load_recipe

        if endpoint_settings and not endpoint:
            raise typer.BadParameter("--endpoint-set is about an endpoint: name it with --endpoint URL")
        if answerer is None and (answerer_endpoint or answerer_settings):
            raise typer.BadParameter(
                "--answerer-endpoint and --answerer-set are about an answerer: name it with --answerer MODEL"
            )
        if answerer_settings and not answerer_endpoint:
            raise typer.BadParameter("--answerer-set is about an endpoint: name it with --answerer-endpoint URL")
        there = Endpoint.of(endpoint, endpoint_settings or []) if endpoint else None
        elsewhere = Endpoint.of(answerer_endpoint, answerer_settings or []) if answerer_endpoint else None
        changed = [*([f"protocol.name={protocol}"] if protocol else []), *(settings or [])]
        # A model that answers elsewhere is no run of this machine, whatever it is called.
        if there:
            resolved = load_recipe(recipe or USUAL_RECIPE, changed)
        else:
            from foveate.runs import recipe_for  # it brings torch, which an endpoint does not need

            resolved = recipe_for(model, recipe, changed)
        console.print(f"asked by the recipe {resolved.name}, protocol {resolved.protocol.name}", highlight=False)
        said = [_said(model, there, "--endpoint-set")] if there else []
        if answerer:
            by = _said(answerer, elsewhere, "--answerer-set") if elsewhere else answerer
            said = [f"located by {said[0] if said else model}", f"answered by {by}"]
        for line in said:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        return cls(model, resolved, there, NamedModel(answerer, elsewhere) if answerer else None)

    def folder(self, out: Path | None, data: str, purpose: str | None = None) -> Path | None:
        """Where it is written down: what an endpoint answers always is, as its replies cost money.

        Args:
            out: as the user named it.
            data: likewise.
            purpose: of what is asked, where that is another than an evaluation's, which would be refused its folder.
        """
        other = self.answering
        if out is None and (self.endpoint or (other and other.endpoint)):
            parts = (self.model, other and other.name, self.recipe.protocol.name, data, purpose)
            named = "-".join(part for part in parts if part)
            out = Path("runs", "eval", re.sub(r"[^A-Za-z0-9._-]+", "-", named).strip("-.")[-100:])
            console.print(f"written down in {out}", highlight=False, markup=False, soft_wrap=True)
        return out


def _said(model: str, there: Endpoint, settings: str) -> str:
    """Where a model answers, and as which family it is spoken to."""
    guessed = "" if there.family else f" (a guess: {settings} family=...)"
    return f"{model} at {there.shown_url}, spoken to as {there.family_of(model).name}{guessed}"
