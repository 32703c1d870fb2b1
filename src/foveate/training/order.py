"""Which questions each step takes, and which process has which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from foveate.recipes import Recipe, StageName

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """Every question once before any comes again, in an order of each epoch's own.

    Attributes:
        questions: how many there are.
        drawn: how many the steps take altogether, repeats counted; shared out among them evenly, within one.
        steps: of the stage.
        seed: decides the order.
    """

    questions: int
    drawn: int
    steps: int
    seed: int

    def of(self, step: int) -> list[int]:
        """The places in the data of a step's questions."""
        places = range(step * self.drawn // self.steps, (step + 1) * self.drawn // self.steps)
        return [int(_shuffled(self.questions, self.seed, i // self.questions)[i % self.questions]) for i in places]


def order_of(recipe: Recipe, stage: StageName, questions: int, seed: int) -> Order:
    """The steps of a stage: as many as the recipe says for `rl`, whole epochs for `sft`."""
    if stage == "rl":
        shape = recipe.optimisation
        return Order(questions, shape.steps * shape.questions_per_step, shape.steps, seed)
    drawn = recipe.sft.epochs * questions
    return Order(questions, drawn, -(-drawn // recipe.sft.questions_per_update), seed)


@dataclass(frozen=True, slots=True)
class Share:
    """One process's part of a step. Questions are shared out whole, update by update.

    Attributes:
        indices: of all the step's questions, their places in the data.
        own: for each update, which of `indices` this process has: their numbers, in order. Perhaps none.
        sizes: for each update, how many questions it has on all processes together.
    """

    indices: tuple[int, ...]
    own: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    @property
    def numbers(self) -> list[int]:
        """This process's questions of all updates."""
        return [number for update in self.own for number in update]

    def updates(self, own: Sequence[T], everyones: Sequence[T]) -> list[tuple[Sequence[T], Sequence[T]]]:
        """For each update, what belongs to this process's questions and to those of all processes."""
        parts, mine, whole = [], 0, 0
        for numbers, size in zip(self.own, self.sizes, strict=True):
            parts.append((own[mine : mine + len(numbers)], everyones[whole : whole + size]))
            mine, whole = mine + len(numbers), whole + size
        return parts


def share_of(indices: Sequence[int], per_update: int | None, process: int, processes: int) -> Share:
    """What `process` has of a step, so that the updates are those of a single process.

    A question that comes twice in a step stays where it came first: its episodes are counted on from there, and so
    sampled as a single process samples them.

    Args:
        indices: of the step's questions.
        per_update: questions of one update; all of the step where None.
    """
    size = per_update or len(indices)
    home: dict[int, int] = {}
    own, sizes = [], []
    for first in range(0, len(indices), size):
        loads: list[list[int]] = [[] for _ in range(processes)]
        for number in range(first, min(first + size, len(indices))):
            idlest = min(range(processes), key=lambda one: len(loads[one]))
            loads[home.setdefault(indices[number], idlest)].append(number)
        own.append(tuple(loads[process]))
        sizes.append(sum(map(len, loads)))
    return Share(tuple(indices), tuple(own), tuple(sizes))


@lru_cache(maxsize=2)
def _shuffled(total: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng((seed, epoch)).permutation(total)
