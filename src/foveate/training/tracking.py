"""Experiment trackers through Accelerate: the metrics of metrics.jsonl, once more where people like to look at them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, ProjectConfiguration

from foveate.errors import FoveateError
from foveate.jsonl import replace_json
from foveate.recipes import Tracker

_NOTE = "trackers.json"
_PROJECT = "foveate"


class TrackerError(FoveateError, ImportError):
    """A tracker that cannot be used; the message says what to install."""


def refuse_missing(names: Sequence[Tracker]) -> None:
    """Before a run begins: a tracker that was asked for and is not installed.

    Raises:
        TrackerError: with the extra to install.
    """
    for name in names:
        if LoggerType(name) not in get_available_trackers():
            raise TrackerError(f'the tracker {name} is not installed: pip install "foveate[{name}]"')


class Tracking:
    """A run in its trackers. One that fails is left out from then on, with a warning: the run goes on.

    Args:
        accelerator: of the run; its main process tracks.
        names: the trackers.
        run_dir: TensorBoard's files go to its folder `tensorboard`; the others know the run by its folder's name.
        step: that the run begins with. A resumed run goes on in the run that each tracker has of it.
        config: the resolved recipe, flat.
        warn: told what does not work.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        names: Sequence[Tracker],
        run_dir: Path,
        *,
        step: int,
        config: Mapping[str, Any],
        warn: Callable[[str], None],
    ) -> None:
        self._accelerator, self._warn = accelerator, warn
        self._running: list[Any] = []
        if not names or not accelerator.is_main_process:
            return
        name, resumed = _run_name(run_dir)
        accelerator.project_configuration = ProjectConfiguration(str(run_dir), logging_dir=str(run_dir))
        for tracker in dict.fromkeys(names):
            # One by one: Accelerate starts all that it is given, and the first that fails ends that.
            accelerator.log_with, accelerator.trackers = [LoggerType(tracker)], []
            settings = {tracker: _settings(tracker, name, run_dir, step)}
            # TensorBoard makes a new run of each configuration it is told.
            told = (
                None if resumed and tracker == "tensorboard" else {key: _plain(value) for key, value in config.items()}
            )
            try:
                accelerator.init_trackers(_project(tracker), told, settings)
            except Exception as error:
                self._failed(tracker, error)
            else:
                self._running += accelerator.trackers
        accelerator.trackers = self._running

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """A step's metrics."""
        values = {name: value for name, value in metrics.items() if name != "step"}  # trackers have a step of their own
        self._each(lambda tracker: tracker.log(values, step=step))

    def finish(self) -> None:
        """Ends all; not by `Accelerator.end_training`, which ends the processes' group too, and a stage may follow."""
        self._each(lambda tracker: tracker.finish())
        self._running.clear()

    def _each(self, do: Callable[[Any], object]) -> None:
        for tracker in list(self._running):
            try:
                do(tracker)
            except Exception as error:
                self._running.remove(tracker)
                self._failed(tracker.name, error)

    def _failed(self, name: str, error: Exception) -> None:
        said = (str(error) or type(error).__name__).strip().splitlines()[0]
        self._warn(f"the tracker {name} fails and is left out from here on: {said}. All metrics are in metrics.jsonl")


def _run_name(run_dir: Path) -> tuple[str, bool]:
    """What a run is called in its trackers, and whether it was called so before; no two runs are called the same."""
    note = run_dir / _NOTE
    if note.is_file():
        return str(json.loads(note.read_text(encoding="utf-8"))["run"]), True
    whole = run_dir.absolute()
    stage = whole.name[:1].isdigit() and whole.name[1:2] == "-"
    title = f"{whole.parent.name}-{whole.name}" if stage else whole.name
    name = f"{title}-{uuid.uuid4().hex[:8]}"
    replace_json(note, {"run": name})
    return name, False


def _project(tracker: Tracker) -> str:
    """For TensorBoard a folder's name; `tensorboard --logdir RUNS` finds those of all runs under it."""
    if tracker == "tensorboard":
        return "tensorboard"
    return os.environ.get("WANDB_PROJECT", _PROJECT) if tracker == "wandb" else _PROJECT


def _settings(tracker: Tracker, name: str, run_dir: Path, step: int) -> dict[str, Any]:
    if tracker == "tensorboard":
        return {"purge_step": step}  # what a run that crashed has logged since its checkpoint
    if tracker == "trackio":
        return {"name": name, "resume": "allow", "embed": False}
    return {"name": name, "id": name, "resume": "allow", "dir": str(run_dir)}


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, (str, int, float, bool)) else json.dumps(value)
