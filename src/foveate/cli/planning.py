"""`foveate plan`: what fits, and how to set it up."""

from __future__ import annotations

from typing import Annotated

import typer

from foveate.cli.common import Json, Set, console, friendly, write_json


@friendly
def plan(
    gpus: Annotated[str, typer.Option(help="8x80GB, 24GB, a name such as 2xH100, or cpu.")],
    model: Annotated[str, typer.Option(help="Folder with a config.json, hub id, or 'tiny'. No weights are read.")],
    recipe: Annotated[str, typer.Option(help="A recipe's name or a .yaml file.")] = "hart",
    settings: Set = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Assumed: text tokens of a context.")] = 192,
    reply_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Assumed: tokens of a usual reply. Default: a quarter of the longest."),
    ] = None,
    crops: Annotated[int, typer.Option(min=1, help="Assumed: crops that an answer usually sees.")] = 1,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Assumed: share of the chip's TFLOP/s in an update.")
    ] = 0.4,
    json_file: Json = None,
) -> None:
    """What fits on GPUs: memory by phase, tokens and seconds per step, and the settings to take.

    Example: `foveate plan --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 8x80GB --set images.max_pixels=1003520`

    Memory is that of the longest rows that there can be (docs/plan.md: how it is computed, and how far it was right).
    Seconds are estimates from the assumptions that are printed.
    """
    from foveate.display import plan_tables
    from foveate.planning.machines import machine_of
    from foveate.planning.models import shapes_of
    from foveate.planning.option import Speed
    from foveate.planning.plan import make_plan
    from foveate.planning.report import as_json
    from foveate.planning.workload import Assumed
    from foveate.recipes import load_recipe

    machine = machine_of(gpus)
    resolved = load_recipe(recipe, settings or [])
    with console.status("reading the configuration") as status:
        found = make_plan(
            shapes_of(model),
            resolved,
            machine,
            assumed=Assumed(prompt_tokens, reply_tokens, crops),
            speed=Speed(update=utilisation),
            on_progress=lambda flags: status.update(f"a step with {flags or 'the settings as they are'}"),
        )
    typed = " ".join(f"--set {setting}" for setting in settings or [])
    figures = as_json(found, recipe, typed)
    console.print(plan_tables(figures), highlight=False)
    write_json(json_file, figures)
