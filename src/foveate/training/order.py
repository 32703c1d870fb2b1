"""Which questions each step takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from foveate.recipes import Recipe, StageName


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


@lru_cache(maxsize=2)
def _shuffled(total: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng((seed, epoch)).permutation(total)
