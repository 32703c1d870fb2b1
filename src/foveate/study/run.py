"""What is left of a study: bases that are not there yet, questions with resolutions, then every job that has no cell.

What is finished is never done again: a study that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from foveate.generators import LocalGenerator
from foveate.questions.scenes import Scenes
from foveate.runs import load_policy
from foveate.study.bases import checkpoint_of, make_base, missing_bases
from foveate.study.design import Base, Study
from foveate.study.jobs import SCENES, Job, Places, is_done, run_job
from foveate.study.processes import Task
from foveate.study.results import Cell, read_cell
from foveate.training.resolution import select_resolutions

SELECTION_SEED = 900
"""Of the scenes whose resolutions are selected, the same for all seeds: they belong to the base."""
_SELECTED_SECONDS = 40


def jobs_of(study: Study) -> list[Job]:
    """Every job of a study, those that others start from before these."""
    jobs: dict[tuple[str, int], Job] = {}
    for method in study.methods:
        for seed in study.seeds:
            start = jobs[method.after, seed] if method.after else None
            jobs[method.name, seed] = Job(method, study.bases[method.base], seed, study.held_out, start)
    return list(jobs.values())


def tasks_of(study: Study, folder: Path) -> list[Task]:
    """What is left to do, in an order in which nothing comes before what it needs."""
    left = [job for job in jobs_of(study) if not is_done(job, places_of(job, folder))]
    tasks = {task.name: task for task in (*_base_tasks(study, left), *_selection_tasks(left, folder))}
    for job in left:
        needed = [_base_task(job.base.name)]
        if job.method.selected:
            needed.append(_selection_task(job.base))
        if job.start:
            needed.append(job.start.name)
        after = tuple(name for name in needed if name in tasks)
        tasks[job.name] = Task(job.name, "cell", after, job.method.seconds, run_job, (job, places_of(job, folder)))
    return list(tasks.values())


def _base_tasks(study: Study, jobs: Iterable[Job]) -> list[Task]:
    tasks: dict[str, Task] = {}
    for base in {job.base.name: job.base for job in jobs}.values():
        before: tuple[str, ...] = ()
        for name in missing_bases(base.name):
            seconds = study.bases.get(name, base).seconds
            tasks.setdefault(name, Task(_base_task(name), "base", before, seconds, make_base, (name,)))
            before = (_base_task(name),)
    return list(tasks.values())


def _selection_tasks(jobs: Iterable[Job], folder: Path) -> list[Task]:
    tasks = []
    for base in {job.base.name: job.base for job in jobs if job.method.selected}.values():
        places = Places(folder, checkpoint_of(base.name), _selection(folder, base))
        if places.selected and not places.selected.is_file():
            after = (_base_task(base.name),) if missing_bases(base.name) else ()
            tasks.append(Task(_selection_task(base), "resolutions", after, _SELECTED_SECONDS, select, (base, places)))
    return tasks


def cells_of(study: Study, folder: Path) -> list[Cell]:
    """The study's finished cells, and not whatever else lies in its folder: cells of an older design lie there too.

    Raises:
        StudyError: one of them cannot be read.
    """
    places = [(job, places_of(job, folder)) for job in jobs_of(study)]
    return [read_cell(own.cell_of(job)) for job, own in places if is_done(job, own)]


def select(base: Base, places: Places) -> None:
    """The questions of LFPC's stage I: scenes with the resolution at which the base's answer changes."""
    scenes = Scenes(base.scenes, seed=SELECTION_SEED, length=SCENES)
    assert places.selected is not None
    generator = LocalGenerator(load_policy(places.base))
    select_resolutions(
        scenes, generator, places.selected.parent, model=base.name, max_new_tokens=12, resume=True, at_once=64
    )


def places_of(job: Job, folder: Path) -> Places:
    """Where a job of the study in this folder finds and puts what."""
    return Places(folder, checkpoint_of(job.base.name), _selection(folder, job.base) if job.method.selected else None)


def _selection(folder: Path, base: Base) -> Path:
    """Named after what the selection depends on: another base chooses other resolutions."""
    told = repr((Path(checkpoint_of(base.name)).name, base.scenes, SELECTION_SEED, SCENES))
    name = f"{base.name}-{blake2b(told.encode(), digest_size=6).hexdigest()}"
    return folder / "resolutions" / name / "questions.jsonl"


def _base_task(name: str) -> str:
    return f"base {name}"


def _selection_task(base: Base) -> str:
    return f"resolutions for {base.name}"
