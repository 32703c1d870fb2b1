"""Methods side by side: in miniature, and as the papers' tables have them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.common import Json, Set, console, friendly, write_json


@friendly
def study(
    quick: Annotated[bool, typer.Option("--quick", help="Three methods, two seeds, from the shipped base.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: runs/study, or runs/study-quick.")] = None,
    only: Annotated[
        str | None, typer.Option(metavar="METHOD,...", help="Only these methods, and what they start from.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds. Default: 5, or 2 of the quick one.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time, each of about 1 GB. Default: one a core.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it costs, and run nothing.")] = False,
) -> None:
    """Compare methods in miniature: seeds, intervals, paired tests, plots, and the papers' claims put to the test.

    Examples: `foveate study --quick`, in minutes; `foveate study --dry-run`, what the full one costs: hours;
    `foveate study --only hart,mgpo --seeds 2`, a part of it

    What is finished is kept: run it again to go on. Bases beside the shipped one are built on first use and kept in
    ~/.cache/foveate. The folder gets report.md, plots/, a file for each cell in cells/, and the models in runs/.
    """
    from foveate.study.command import narrowed, run_study
    from foveate.study.plans import FULL, QUICK

    folder = out or Path("runs", "study-quick" if quick else "study")
    chosen = narrowed(QUICK if quick else FULL, [name.strip() for name in only.split(",")] if only else [], seeds)
    options = (" --quick" if quick else "", f" --only {only}" if only else "", f" --seeds {seeds}" if seeds else "")
    command = "foveate study" + "".join(options)
    report = run_study(chosen, folder, command=command, workers=workers, dry_run=dry_run, console=console)
    if report:
        console.print(f"the report is in {report}", highlight=False, soft_wrap=True)


@friendly
def reproduce(
    table: Annotated[str | None, typer.Argument(help="A results table; without one they are listed.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]PATH", help="The base model; NAME= for another than the table's own."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH", help="Where a data set lies: JSONL or Parquet, or a benchmark (NAME[:PATH])."
        ),
    ] = None,
    row: Annotated[list[str] | None, typer.Option(metavar="METHOD", help="Only this row; may be given again.")] = None,
    out: Annotated[Path, typer.Option(help="Folder; tables in the same one share trainings.")] = Path(
        "runs/reproduced"
    ),
    settings: Set = None,
    json_file: Json = None,
) -> None:
    """Run a results table of a paper, and set the figures beside the published ones.

    Example: `foveate reproduce hart/table-2 --dry-run`

    Then: foveate reproduce hart/table-2 --model Qwen/Qwen2.5-VL-7B-Instruct --data mme-realworld=train.jsonl --data
    mme-realworld-lite=mme-realworld-lite:/data/lite (a benchmark as it is published). What is finished is not done
    again; --set reaches every training and evaluation.
    """
    from foveate.reproduction.schema import load_table, table_names

    if table is None:
        for name in table_names():
            console.print(f"{name:18} {load_table(name).title}", highlight=False, soft_wrap=True)
        return
    from foveate.reproduction.plan import plan_of
    from foveate.reproduction.run import run_plan
    from foveate.reproduction.show import comparison, described

    models = dict(_named(one, optional=True) for one in model or [])
    given = dict(_named(one) for one in data or [])
    plan = plan_of(load_table(table), out, models=models, data=given, overrides=settings or [], methods=row or [])
    if dry_run:
        console.print(described(plan), highlight=False, markup=False, soft_wrap=True)
        return
    run_plan(plan, console)
    shown, figures = comparison(plan)
    console.print(shown)
    write_json(out / f"{table}.json", figures)
    write_json(json_file, figures)


def _named(given: str, *, optional: bool = False) -> tuple[str, str]:
    """NAME=PATH as a pair; without a name, where it need not have one, the name is empty."""
    name, found, path = given.partition("=")
    if not found and optional:
        return "", given
    if not (found and name and path):
        raise typer.BadParameter(f"{given!r}: write NAME=PATH")
    return name, path
