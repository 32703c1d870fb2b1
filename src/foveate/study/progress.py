"""What a person sees while a study runs: how far it is, what is running now, and how long it will take."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from foveate.display import LiveDisplay
from foveate.study.processes import Standing


class StudyDisplay(LiveDisplay):
    """Shows each standing of a study.

    Args:
        console: where to show; one that is no terminal gets a line for each task that ends.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._began, self._told = console, time.monotonic(), 0
        super().__init__(Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None)

    @property
    def seconds(self) -> float:
        """Since the display was made."""
        return time.monotonic() - self._began

    def __call__(self, standing: Standing) -> None:
        """Shows how far the study is."""
        if self._live:
            self._live.update(picture(standing, self.seconds), refresh=True)
            return
        for task in list(standing.done)[self._told :]:
            self._told += 1
            left = _spoken(standing.seconds_left) if standing.waiting or standing.running else "nothing"
            line = f"{_spoken(self.seconds):>8}  {self._told}/{_all(standing)}  {task.name}  ({left} left)"
            self._console.print(line, highlight=False, soft_wrap=True)


def picture(standing: Standing, seconds: float) -> Group:
    """A bar with what is done and what is left, and a line for each task under way.

    Args:
        seconds: since the study began.
    """
    done, left = len(standing.done), standing.seconds_left
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1.0, seconds + left), completed=seconds, width=40)
    head.add_row(bar, f"{done}/{_all(standing)} done", f"{_spoken(seconds)} so far", f"about {_spoken(left)} left")
    now = Table.grid(padding=(0, 2))
    for task, taken in standing.running.items():
        now.add_row("", task.name, f"{_spoken(taken)} of about {_spoken(task.seconds)}")
    return Group(head, now)


def _all(standing: Standing) -> int:
    return len(standing.done) + len(standing.running) + len(standing.waiting)


def _spoken(seconds: float) -> str:
    """In the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
