"""What a step of training does with its questions: one interface for all stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from foveate.episodes import Group
from foveate.questions.schema import Question
from foveate.training.order import Share


class Outcome(NamedTuple):
    """What an update did.

    Attributes:
        metrics: with `loss` and `grad_norm` among them, unless every update was skipped.
        rows: of the step's episodes, for the trace file.
        groups: of the step's questions, in order.

    All are those of all processes together.
    """

    metrics: dict[str, float]
    rows: Iterable[Mapping[str, Any]]
    groups: Sequence[Group]


class Stage(ABC):
    """Reinforcement learning or supervised fine-tuning.

    A process rolls out and checks without the others, and wakes and updates with them.
    """

    @abstractmethod
    def wake(self) -> None:
        """Before the questions of a step are rolled out."""

    @abstractmethod
    def roll_out(self, questions: Sequence[Question], seed: int) -> list[Group]:
        """What the policy, or the reference, says of the questions; of none, nothing."""

    @abstractmethod
    def check(self, groups: Sequence[Group]) -> None:
        """Compares packed with separate rows on some of what `update` will run.

        Raises:
            PackingMismatch: they differ by more than the precision allows.
        """

    @abstractmethod
    def update(self, groups: Sequence[Group], share: Share, step: int) -> Outcome:
        """Moves the weights.

        Args:
            groups: of this process's questions.
            share: which those are.
            step: for the learning rate.
        """
