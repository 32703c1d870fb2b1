"""Runs a study: bases that are not there yet, questions with resolutions, then every job that has no cell.

Each task is a process of one thread, so that two of them use two cores fully and no result depends on how many run side
by side. What is finished is never done again: a study that was stopped goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from foveate.generators import LocalGenerator
from foveate.questions.scenes import Scenes
from foveate.runs import load_policy
from foveate.study.bases import checkpoint_of, make_base, missing_bases
from foveate.study.design import Base, Study
from foveate.study.jobs import SCENES, Job, Places, is_done, run_job
from foveate.study.results import StudyError
from foveate.training.resolution import select_resolutions

SELECTION_SEED = 900
"""Of the scenes whose resolutions are selected, the same for all seeds: they belong to the base."""
_SELECTED_SECONDS = 40


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of a study that is done by one process.

    Attributes:
        name: for people.
        after: names of the tasks that have to be done before.
        seconds: that it takes on one thread, roughly.
        run: what the process calls, with `arguments`.
    """

    name: str
    after: tuple[str, ...]
    seconds: int
    run: Callable[..., None]
    arguments: tuple[object, ...]


def tasks_of(study: Study, folder: Path) -> list[Task]:
    """What is left to do, in an order in which nothing comes before what it needs."""
    jobs = [
        Job(method, study.bases[method.base], seed, study.held_out) for method in study.methods for seed in study.seeds
    ]
    left = [job for job in jobs if not is_done(job, _places(job, folder))]
    tasks: dict[str, Task] = {}
    for base in {job.base.name: job.base for job in left}.values():
        for name in missing_bases(base.name):
            before = tuple(_base_task(other) for other in missing_bases(name)[:-1])
            seconds = study.bases[name].seconds if name in study.bases else base.seconds
            tasks.setdefault(_base_task(name), Task(_base_task(name), before, seconds, make_base, (name,)))
    for base in {job.base.name: job.base for job in left if job.method.selected}.values():
        places = Places(folder, checkpoint_of(base.name), _selection(folder, base))
        if places.selected and not places.selected.is_file():
            name = f"resolutions for {base.name}"
            tasks[name] = Task(name, (_base_task(base.name),), _SELECTED_SECONDS, select, (base, places))
    for job in left:
        needed = [_base_task(job.base.name)]
        if job.method.selected:
            needed.append(f"resolutions for {job.base.name}")
        if job.method.after:
            needed.append(f"{job.method.after}, seed {job.seed}")
        tasks[job.name] = Task(job.name, tuple(needed), job.method.seconds, run_job, (job, _places(job, folder)))
    return [
        Task(task.name, tuple(name for name in task.after if name in tasks), task.seconds, task.run, task.arguments)
        for task in tasks.values()
    ]


def select(base: Base, places: Places) -> None:
    """The questions of LFPC's stage I: scenes with the resolution at which the base's answer changes."""
    scenes = Scenes(base.scenes, seed=SELECTION_SEED, length=SCENES)
    assert places.selected is not None
    generator = LocalGenerator(load_policy(places.base))
    select_resolutions(
        scenes, generator, places.selected.parent, model=base.name, max_new_tokens=12, resume=True, at_once=64
    )


def run_tasks(tasks: list[Task], workers: int, on_done: Callable[[Task], None]) -> None:
    """Runs tasks as soon as what they need is done, `workers` at a time; the longest waits never for the shortest.

    Raises:
        StudyError: a task failed; those that were under way are finished, and nothing of them is lost.
    """
    waiting, done, running = list(tasks), set[str](), dict[Future[None], Task]()
    failed: list[tuple[Task, BaseException]] = []
    with _single_threaded(), ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=1) as pool:
        while running or (waiting and not failed):
            for task in [] if failed else list(waiting):
                if len(running) < workers and done.issuperset(task.after):
                    waiting.remove(task)
                    running[pool.submit(task.run, *task.arguments)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                if error := future.exception():
                    failed.append((task, error))
                else:
                    done.add(task.name)
                    on_done(task)
    if failed:
        task, error = failed[0]
        raise StudyError(f"{task.name}: {error}. What is finished is kept: run the study again to go on.") from error


def _places(job: Job, folder: Path) -> Places:
    return Places(folder, checkpoint_of(job.base.name), _selection(folder, job.base) if job.method.selected else None)


def _selection(folder: Path, base: Base) -> Path:
    return folder / "resolutions" / base.name / "questions.jsonl"


def _base_task(name: str) -> str:
    return f"base {name}"


@contextmanager
def _single_threaded() -> Iterator[None]:
    """The processes that are started inside use one thread each, and no progress bars of their own."""
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
