"""When a request may go out, and what a run of failures means."""

from __future__ import annotations

import random
import time
from threading import Event, Lock

LONGEST_BACKOFF = 60.0
"""Seconds between two tries of a request, unless the server asks for more."""


class Pace:
    """Spaces requests evenly in time, and holds all of them back for as long as the server asks. For many threads.

    Args:
        per_minute: requests that may go out; any number where None.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = Lock()

    def take_turn(self, stop: Event) -> bool:
        """Waits for a turn; False when `stop` was set meanwhile."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        return not stop.wait(turn - now)

    def hold(self, seconds: float) -> None:
        """Nothing goes out for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def backoff(failed: int, first: float) -> float:
    """Seconds before the next try: doubled after each failure, half of it at random so that threads do not meet.

    Args:
        failed: tries so far, from 1.
        first: seconds after the first failure.
    """
    longest: float = min(LONGEST_BACKOFF, first * 2.0 ** min(failed - 1, 30))
    return longest * random.uniform(0.5, 1.0)


class Breaker:
    """Counts requests that failed for good in a row. For many threads.

    Args:
        limit: of them, at which the endpoint is taken for dead.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._in_a_row = 0
        self._answered = False
        self._lock = Lock()

    @property
    def answered(self) -> bool:
        """Whether any request was ever answered."""
        return self._answered

    def succeeded(self) -> None:
        """A request was answered."""
        with self._lock:
            self._in_a_row = 0
            self._answered = True

    def failed(self, *, alone: bool) -> bool:
        """A request failed for good; True when that is one too many.

        Args:
            alone: it was the request's own fault. That says nothing of the endpoint, once it has answered others.
        """
        with self._lock:
            self._in_a_row += not (alone and self._answered)
            return self._in_a_row >= self.limit
