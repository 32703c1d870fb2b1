"""`foveate data`: making and checking data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.common import FILES, Json, Seed, console, friendly, write_json


@friendly
def scenes(
    out: Annotated[Path, typer.Option(help="Folder for questions.jsonl and the pictures.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many scenes.")] = 1000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=64, max=8192, help="Side of the originals, in pixels.")] = 1024,
    kind: Annotated[
        str, typer.Option(help="read, compare (two crops needed), relation (none needed) or count (with true points).")
    ] = "read",
    writing: Annotated[str, typer.Option(help="digit, word or code.")] = "digit",
    writing_px: Annotated[int | None, typer.Option(help="Height of the writing, in pixels of the original.")] = None,
    distractors: Annotated[int, typer.Option(min=0, help="Pieces of clutter.")] = 8,
    view_pixels: Annotated[int, typer.Option(min=784, help="Pixel budget of the small view.")] = 112 * 112,
    multiple_choice: Annotated[bool, typer.Option("--multiple-choice", help="Lettered choices.")] = False,
) -> None:
    """Draw procedural scenes as an ordinary data set.

    Example: `foveate data scenes --n 1000 --size 2048 --out data/scenes`
    """
    from foveate.questions.scenes import SceneConfig, export

    try:
        config = SceneConfig(
            size=size,
            kind=kind,  # type: ignore[arg-type]  # checked by SceneConfig, whose message names the choices
            writing=writing,  # type: ignore[arg-type]
            writing_px=writing_px,
            distractors=distractors,
            view_pixels=view_pixels,
            multiple_choice=multiple_choice,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    console.print(f"{n} scenes in {export(config, n, seed, out)}")


@friendly
def check(
    data: Annotated[str, typer.Argument(help=f"{FILES}.")],
    json_file: Json = None,
) -> None:
    """Look at every row and picture; name each bad row and its mend. Status 1 when there are any.

    Example: `foveate data check my.jsonl`

    A benchmark as it is published: `foveate data check treebench:/data/TreeBench.tsv`
    """
    from foveate.questions.check import check_data

    report = check_data(data)
    console.print(str(report), highlight=False, markup=False, soft_wrap=True)
    write_json(json_file, report.as_json())
    if not report.ok:
        raise typer.Exit(1)


@friendly
def benchmarks(json_file: Json = None) -> None:
    """List the benchmarks that are read as they are published, and their official figures.

    Example: `foveate data benchmarks`, then `foveate eval --data vstar` or `--data vstar:/data/vstar_bench`
    """
    from rich.table import Table

    from foveate.questions.benchmarks import BENCHMARKS

    table = Table("name", "questions", "hub", "read from", "official figure")
    for one in BENCHMARKS.values():
        count = f"{one.questions:,}" if one.questions is not None else "by part"
        table.add_row(one.name, count, f"{one.hub} ({one.split})", one.read, one.figure)
    console.print(table)
    said = ("name", "title", "questions", "hub", "split", "read", "figure")
    figures = [{key: getattr(one, key) for key in said} for one in BENCHMARKS.values()]
    write_json(json_file, figures)
