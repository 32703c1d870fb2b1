"""Tasks that wait for one another, each done by a process of its own, so many at a time.

A process has one thread, so that two of them use two cores fully and no result depends on how many run side by side.
One that fails or is killed takes nothing else with it, and none outlives the process that started it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Thread
from types import FrameType
from typing import Literal, NamedTuple

from foveate.errors import FoveateError
from foveate.study.results import StudyError

_LOOKS_EVERY = 1.0
"""Seconds between two looks at what is under way, for whoever is told."""
_PATIENCE = 10.0
"""Seconds that a process has to tidy up when it is told to stop."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A piece of a study that is done by one process.

    Attributes:
        name: unique; for people.
        kind: what it makes.
        after: names of the tasks that have to be done before.
        seconds: that it takes on one thread, roughly.
        run: what the process calls, with `arguments`; both have to pickle.
    """

    name: str
    kind: Literal["base", "resolutions", "cell"]
    after: tuple[str, ...]
    seconds: int
    run: Callable[..., None]
    arguments: tuple[object, ...]


class Standing(NamedTuple):
    """How far the tasks are.

    Attributes:
        waiting: those not yet begun.
        running: those under way, with the seconds that each has taken so far.
        done: those finished, with the seconds that each took, in the order in which they ended.
        workers: how many run at a time.
    """

    waiting: Sequence[Task]
    running: Mapping[Task, float]
    done: Mapping[Task, float]
    workers: int

    @property
    def seconds_left(self) -> float:
        """That it will take from now, roughly: what was expected, corrected by how wrong that was so far."""
        pace = sum(self.done.values()) / max(1, sum(task.seconds for task in self.done)) if self.done else 1.0
        under_way = [max(0.0, pace * task.seconds - taken) for task, taken in self.running.items()]
        work = sum(under_way) + pace * sum(task.seconds for task in self.waiting)
        return max([work / self.workers, *under_way])


class _Worker(NamedTuple):
    process: SpawnProcess
    told: Connection
    began: float


def run_tasks(tasks: Sequence[Task], workers: int, observe: Callable[[Standing], None] = lambda standing: None) -> None:
    """Runs tasks in their order, `workers` at a time, each as soon as what it comes after is done.

    Args:
        observe: called when a task begins or ends, and every second between.

    Raises:
        StudyError: a task failed, or was killed; those that were under way were finished first.
        ValueError: a task comes after one that is not there.
        KeyboardInterrupt: Ctrl-C; those that were under way were stopped.
    """
    waiting, running = list(tasks), dict[Task, _Worker]()
    done, failed = dict[Task, float](), list[str]()
    with _single_threaded():
        try:
            while running or (waiting and not failed):
                names = {task.name for task in done}
                for task in [] if failed else [task for task in waiting if names.issuperset(task.after)]:
                    if len(running) < workers:
                        waiting.remove(task)
                        running[task] = _started(task)
                if not running:
                    raise ValueError(
                        f"{waiting[0].name} comes after {', '.join(waiting[0].after)}, which are not all there"
                    )
                now = time.monotonic()
                taken = {task: now - worker.began for task, worker in running.items()}
                observe(Standing(tuple(waiting), taken, dict(done), workers))
                connection.wait([worker.process.sentinel for worker in running.values()], _LOOKS_EVERY)
                for task in [task for task, worker in running.items() if not worker.process.is_alive()]:
                    worker = running.pop(task)
                    if (failure := _failure(worker)) is None:
                        done[task] = time.monotonic() - worker.began
                    else:
                        failed.append(f"{task.name}: {failure}")
            observe(Standing(tuple(waiting), {}, done, workers))
        finally:
            for worker in running.values():
                worker.process.terminate()
            for worker in running.values():
                worker.process.join(_PATIENCE)
                worker.process.kill()
    if failed:
        raise StudyError("; ".join(failed) + ". What is finished is kept: run the study again to go on.")


def _started(task: Task) -> _Worker:
    context = get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(tell, task.run, task.arguments), name=task.name)
    # Ctrl-C reaches a terminal's processes all at once. Only the study itself hears it, and ends the others.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    tell.close()
    return _Worker(process, told, time.monotonic())


def _work(tell: Connection, run: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """What the process does; it ends with status 1 and a message where that fails."""
    signal.signal(signal.SIGTERM, _leave)
    Thread(target=_leave_with_parent, daemon=True).start()
    try:
        run(*arguments)
    except FoveateError as error:
        tell.send(str(error))
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()  # it is a mistake of ours, and the message alone would not tell where
        tell.send(f"{type(error).__name__}: {error}")
        sys.exit(1)


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process by way of its `finally` clauses, which remove what is half made."""
    sys.exit(1)


def _leave_with_parent() -> None:
    """A study that was killed must not go on in secret, beside the one that is started next."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _failure(worker: _Worker) -> str | None:
    """What went wrong in a process that has ended."""
    worker.process.join()
    status = worker.process.exitcode
    if status == 0:
        return None
    if worker.told.poll():
        with suppress(EOFError):
            return str(worker.told.recv())
    if status is not None and status < 0:
        return f"was killed by {signal.Signals(-status).name}; where memory ran out, use fewer workers"
    return f"ended with status {status}"


@contextmanager
def _single_threaded() -> Iterator[None]:
    """The processes that are started inside use one thread each, and leave the display alone."""
    settings = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
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
