"""What an endpoint was asked, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Lock

from foveate.protocols.base import Usage


@dataclass(frozen=True, slots=True)
class Prices:
    """Per million tokens, in whatever currency."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost, in the currency of the prices."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Totals since a generator was made. What was answered from a record was not asked, and is not in them.

    Attributes:
        requests: that went out, every try counted.
        replies: that came back.
        failed: samples that got none, however often they were asked.
        prompt_tokens: as the endpoint counts them, pictures included.
        completion_tokens: likewise, hidden reasoning included where the endpoint does so.
        uncounted: replies that came without a count.
    """

    requests: int = 0
    replies: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0


class Account:
    """Adds up, for many threads."""

    def __init__(self) -> None:
        self._spent = Spent()
        self._lock = Lock()

    @property
    def spent(self) -> Spent:
        """So far."""
        return self._spent

    def asked(self) -> None:
        """A request went out."""
        with self._lock:
            self._spent = replace(self._spent, requests=self._spent.requests + 1)

    def failed(self) -> None:
        """A sample got no reply."""
        with self._lock:
            self._spent = replace(self._spent, failed=self._spent.failed + 1)

    def answered(self, usage: Usage | None) -> None:
        """A sample got its reply."""
        with self._lock:
            spent = self._spent
            self._spent = replace(
                spent,
                replies=spent.replies + 1,
                prompt_tokens=spent.prompt_tokens + (usage.prompt_tokens if usage else 0),
                completion_tokens=spent.completion_tokens + (usage.completion_tokens if usage else 0),
                uncounted=spent.uncounted + (usage is None),
            )
