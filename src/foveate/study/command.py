"""`foveate study`: what it costs, the run, the report."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveate.display import counting
from foveate.study.design import Study
from foveate.study.report import write_report
from foveate.study.results import StudyError, read_cells
from foveate.study.run import Task, run_tasks, tasks_of


def narrowed(study: Study, only: Sequence[str], seeds: int | None) -> Study:
    """The study with some of its methods, and what these start from, and fewer or more seeds.

    Raises:
        StudyError: there is no such method.
    """
    by_name = {method.name: method for method in study.methods}
    if unknown := [name for name in only if name not in by_name]:
        raise StudyError(f"no method {', '.join(unknown)} in this study; there are: {', '.join(by_name)}")
    wanted = set(only or by_name)
    wanted |= {by_name[name].after or name for name in wanted}
    methods = [method for method in study.methods if method.name in wanted]
    return replace(study, methods=methods, seeds=range(seeds) if seeds else study.seeds)


def run_study(
    study: Study, folder: Path, *, command: str, workers: int | None, dry_run: bool, console: Console
) -> Path | None:
    """Says what is left and what it costs, runs it, and writes the report.

    Returns:
        The report's path; None for a dry run.
    """
    tasks = tasks_of(study, folder)
    workers = workers or min(len(tasks) or 1, os.cpu_count() or 1)
    console.print(cost(study, tasks, workers))
    if dry_run:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    if tasks:
        with counting(console, study.name, sum(task.seconds for task in tasks)) as progress:

            def done(task: Task) -> None:
                progress(task.seconds)
                if not console.is_terminal:
                    console.print(f"{time.monotonic() - started:6.0f} s  {task.name}", highlight=False)

            run_tasks(tasks, workers, done)
        console.print(f"ran {len(tasks)} tasks in {time.monotonic() - started:.0f} s", highlight=False)
    names = {method.name for method in study.methods}
    cells = [cell for cell in read_cells(folder / "cells") if cell.method in names and cell.seed in study.seeds]
    return write_report(cells, study.claims, study.groups, folder, command, study.sweeps)


def cost(study: Study, tasks: Sequence[Task], workers: int) -> Table:
    """What is left of a study, and what it takes."""
    cells = len(study.methods) * len(study.seeds)
    bases = [task for task in tasks if task.name.startswith("base ")]
    hours = sum(task.seconds for task in tasks) / 3600
    table = Table(title=f"study {study.name}", show_header=False)
    table.add_row("methods x seeds", f"{len(study.methods)} x {len(study.seeds)} = {cells} cells")
    left = sum(task.name.rpartition(", seed ")[1] != "" for task in tasks)
    table.add_row("left to run", f"{left} cells" + (f", {len(bases)} bases to build first" if bases else ""))
    table.add_row("held-out questions a cell", str(study.held_out))
    table.add_row("about", f"{hours:.1f} CPU hours; {60 * hours / workers:.0f} minutes with {workers} at a time")
    return table
