"""`foveate export`: what comes out of a run, for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.common import console, friendly


@friendly
def export(
    run: Annotated[
        str, typer.Argument(help="Folder of a run, for its newest checkpoint, or of one of its checkpoints.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model; empty or missing.")],
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapters alone, not added to their base.")] = False,
    dtype: Annotated[
        str, typer.Option(metavar="float32|bfloat16", help="Of the weights: as they were trained, or half of that.")
    ] = "float32",
    scores: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="An evaluation's folder or score file, for the model card; several times."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="For the model card. Default: that of the base, where it is known.")
    ] = None,
    push_to_hub: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Upload the folder there.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Of a repository that the upload makes.")] = False,
) -> None:
    """Write a run's model as a folder that anybody can load, with a model card.

    Example: `foveate export runs/hart --out models/hart-7b --dtype bfloat16 --scores runs/hart/eval`

    Adapters are added to the weights of their base, unless --adapter asks for them alone. The card has the recipe, the
    data's hash, the scores, and how to ask the model as it was trained.
    """
    from foveate.publishing import export_run, push_folder, refuse_no_token

    if dtype not in ("float32", "bfloat16"):
        raise typer.BadParameter(f"--dtype is {dtype!r}: float32 or bfloat16")
    if push_to_hub:
        refuse_no_token()
    exported = export_run(
        run,
        out,
        adapter=adapter,
        dtype=dtype,  # type: ignore[arg-type]  # checked above
        scores=scores or [],
        licence=licence,
    )
    console.print(
        f"{exported.checkpoint} is in {out}, with its model card in README.md", highlight=False, soft_wrap=True
    )
    if push_to_hub:
        console.print(f"uploaded: {push_folder(exported, push_to_hub, private=private)}", highlight=False)
