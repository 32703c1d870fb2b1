"""`foveate study`: what it costs, the run, the report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveate.study.design import Study
from foveate.study.processes import Task, run_tasks
from foveate.study.progress import StudyDisplay
from foveate.study.report import write_report
from foveate.study.results import StudyError, read_cell
from foveate.study.run import jobs_of, places_of, tasks_of


def narrowed(study: Study, only: Sequence[str], seeds: int | None) -> Study:
    """The study with some of its methods, and what these start from, and fewer or more seeds.

    Raises:
        StudyError: there is no such method.
    """
    by_name = {method.name: method for method in study.methods}
    if unknown := [name for name in only if name not in by_name]:
        raise StudyError(f"no method {', '.join(unknown)} in this study; there are: {', '.join(by_name)}")
    wanted: set[str] = set()
    for name in only or by_name:
        while name and name not in wanted:
            wanted.add(name)
            name = by_name[name].after or ""
    methods = [method for method in study.methods if method.name in wanted]
    return replace(study, methods=methods, seeds=range(seeds) if seeds else study.seeds)


def run_study(
    study: Study, folder: Path, *, command: str, workers: int | None, dry_run: bool, console: Console
) -> Path | None:
    """Says what is left and what it costs, runs it, and writes the report.

    Args:
        folder: of the study; made where it is not there.
        command: as a person would type it, for the report.
        workers: tasks at a time; one a core where None.
        dry_run: only say what would be done.

    Returns:
        The report's path; None for a dry run.

    Raises:
        StudyError: a task failed; what is finished is kept.
        KeyboardInterrupt: Ctrl-C, after a word about that.
    """
    tasks = tasks_of(study, folder)
    workers = workers or min(len(tasks) or 1, os.cpu_count() or 1)
    console.print(cost(study, tasks, workers))
    if dry_run:
        return None
    if tasks:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with StudyDisplay(console) as display:
                run_tasks(tasks, workers, display)
        except KeyboardInterrupt:
            console.print("stopped; what is finished is kept: run it again to go on", highlight=False)
            raise
        console.print(f"ran {len(tasks)} tasks in {display.seconds:.0f} s", highlight=False)
    # By name, not whatever lies in the folder: cells of methods that have left the study lie there too.
    cells = [read_cell(places_of(job, folder).cell_of(job)) for job in jobs_of(study)]
    return write_report(cells, study.claims, study.groups, folder, command, study.sweeps)


def cost(study: Study, tasks: Sequence[Task], workers: int) -> Table:
    """What is left of a study, and what it takes."""
    cells = len(study.methods) * len(study.seeds)
    left = Counter(task.kind for task in tasks)
    hours = sum(task.seconds for task in tasks) / 3600
    table = Table(title=f"study {study.name}", show_header=False)
    table.add_row("methods x seeds", f"{len(study.methods)} x {len(study.seeds)} = {cells} cells")
    bases = "1 base" if left["base"] == 1 else f"{left['base']} bases"
    table.add_row("left to run", f"{left['cell']} cells" + (f", {bases} to build first" if left["base"] else ""))
    table.add_row("held-out questions a cell", str(study.held_out))
    table.add_row("about", f"{hours:.1f} CPU hours; {60 * hours / workers:.0f} minutes with {workers} at a time")
    return table
