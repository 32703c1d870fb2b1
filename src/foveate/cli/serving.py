"""`foveate serve-rollouts`: vLLM's own server, set up to sample for a trainer elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from foveate.cli.common import Model, Set, friendly


@friendly
def serve_rollouts(
    model: Model = "tiny",
    recipe_name: Annotated[
        str, typer.Option("--recipe", help="The recipe in training, or its file: how large its pictures are.")
    ] = "hart",
    overrides: Set = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Whoever reaches it can give it weights.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    more: Annotated[
        list[str] | None, typer.Argument(help="After `--`: more arguments of `vllm serve`.", metavar="[-- ARGUMENTS]")
    ] = None,
) -> None:
    """Sample for a trainer on other GPUs or another machine, with vLLM.

    Example: `foveate serve-rollouts --model Qwen/Qwen2.5-VL-7B-Instruct --recipe hart --host 10.0.0.2 -- -tp 2`

    Then, where the trainer is: foveate train hart ... --set setup.engine.name=vllm_server
    --set setup.engine.url=http://10.0.0.2:8000 --set setup.engine.shared_folder=/shared/weights
    """
    from foveate.generators.serving import serve
    from foveate.recipes import load_recipe
    from foveate.runs import load_policy

    recipe = load_recipe(recipe_name, overrides or [])
    vlm = load_policy(model)
    engine = recipe.setup.engine
    status = serve(
        vlm,
        max_pixels=recipe.images.largest(vlm.family.budget),
        max_images=engine.max_images,
        max_length=engine.max_length,
        precision=recipe.setup.precision,
        host=host,
        port=port,
        more=more or [],
    )
    raise typer.Exit(status)
