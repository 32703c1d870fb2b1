"""Who answers: one interface for every way of generating."""

from __future__ import annotations

import collections.abc
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from foveate.context import Context
from foveate.protocols.base import Completion, FamilyTraits


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 is greedy.
        max_new_tokens: per turn, the end-of-reply token included.
    """

    temperature: float = 1.0
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.max_new_tokens < 1:
            raise ValueError(f"needs temperature >= 0 and max_new_tokens >= 1, not {self}")


@dataclass(frozen=True, slots=True)
class Request:
    """One context to be continued once per seed.

    Each sample's random numbers come from its own seed, so that a sample does not depend on what else is in the batch.
    """

    context: Context
    seeds: tuple[int, ...]


class Arrival(NamedTuple):
    """A completion, and where it belongs: the index of its request, and of its seed within it."""

    request: int
    sample: int
    completion: Completion


Arrivals = collections.abc.Generator[Arrival, None, None]
"""Completions as they arrive. Closing it stops what is still being asked."""


class Generator(ABC):
    """Continues contexts."""

    @property
    @abstractmethod
    def family(self) -> FamilyTraits:
        """What protocols need to know of the model that answers."""

    @property
    def identity(self) -> str:
        """What besides context, seed and sampling a reply depends on, so that recorded replies of another model are
        not taken for its own. Empty where the generator cannot tell.
        """
        return ""

    @property
    def recalled(self) -> int:
        """How many samples so far were not asked for, because a record had them."""
        return 0

    @abstractmethod
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """One list per request, one completion per seed, in order."""

    def arriving(self, requests: Sequence[Request], sampling: Sampling) -> Arrivals:
        """The same completions, each as soon as it is there, in any order; by default all of them at the end."""
        for i, completions in enumerate(self.generate(requests, sampling)):
            for j, completion in enumerate(completions):
                yield Arrival(i, j, completion)

    def converse(
        self, requests: Sequence[Request], sampling: Sampling, then: Callable[[Sequence[Arrival]], Sequence[Request]]
    ) -> None:
        """Answers requests, and those that follow from the answers, until none does; here turn by turn.

        Args:
            then: told what arrived, returns what to ask next. An arrival's `request` counts all requests so far.
        """
        asked = 0
        while requests:
            replies = self.generate(requests, sampling)
            arrivals = [
                Arrival(asked + i, j, completion)
                for i, (request, own) in enumerate(zip(requests, replies, strict=True))
                for j, (_, completion) in enumerate(zip(request.seeds, own, strict=True))
            ]
            asked += len(requests)
            requests = then(arrivals)


def in_order(requests: Sequence[Request], arrivals: Arrivals) -> list[list[Completion]]:
    """What `generate` returns, from what arrived. Each completion must arrive exactly once."""
    with closing(arrivals):
        there = {(arrival.request, arrival.sample): arrival.completion for arrival in arrivals}
    return [[there[i, j] for j in range(len(request.seeds))] for i, request in enumerate(requests)]
