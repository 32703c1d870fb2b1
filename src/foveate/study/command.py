"""`foveate study`: what it costs, the run, the report."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveate.study.design import Study
from foveate.study.processes import Task, run_tasks
from foveate.study.progress import StudyDisplay
from foveate.study.report import write_report
from foveate.study.results import StudyError
from foveate.study.run import cells_of, tasks_of


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
        StudyError: a task failed, and what is finished is kept; or the same study runs already.
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
            with _alone_in(folder), StudyDisplay(console) as display:
                run_tasks(tasks, workers, display)
        except KeyboardInterrupt:
            console.print("stopped; what is finished is kept: run it again to go on", highlight=False)
            raise
        console.print(f"ran {len(tasks)} tasks in {display.seconds:.0f} s", highlight=False)
    return write_report(cells_of(study, folder), study.claims, study.groups, folder, command, study.sweeps)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two runs of a study would train the same cells in the same folders, and spoil both."""
    with (folder / ".running").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go when the process ends, however it does
        except BlockingIOError:
            raise StudyError(f"a study is running in {folder}: wait for it, or choose another folder (--out)") from None
        yield


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
