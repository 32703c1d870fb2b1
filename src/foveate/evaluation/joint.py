"""Answers and places together: how often a right answer came from the wrong place (HART, Table 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class JointTable:
    """How many attempts had which answer and which place (arXiv 2602.23615, Table 1).

    A place is right when every true region is covered by more than 0.3 by some predicted box (IoG > 0.3).
    """

    wrong_box_right_answer: int
    right_box_right_answer: int
    wrong_box_wrong_answer: int
    right_box_wrong_answer: int

    @classmethod
    def of(cls, attempts: Iterable[tuple[bool, float | None]]) -> JointTable:
        """Counts attempts, each given as (right answer, share of true regions covered); those with None, which have no
        true region or were not asked to point, are not in the table.
        """
        counts = {(box, answer): 0 for box in (False, True) for answer in (False, True)}
        for right, covered in attempts:
            if covered is not None:
                counts[covered == 1.0, right] += 1
        return cls(counts[False, True], counts[True, True], counts[False, False], counts[True, False])

    def to_json(self) -> dict[str, int | float | None]:
        """The counts and the shares that follow from them."""
        shares = ("accuracy", "right_place", "wrong_place_among_right_answers")
        return {**asdict(self), **{name: getattr(self, name) for name in shares}}

    @property
    def attempts(self) -> int:
        """All four counts together."""
        return (
            self.wrong_box_right_answer
            + self.right_box_right_answer
            + self.wrong_box_wrong_answer
            + self.right_box_wrong_answer
        )

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None without attempts."""
        right = self.wrong_box_right_answer + self.right_box_right_answer
        return right / self.attempts if self.attempts else None

    @property
    def right_place(self) -> float | None:
        """Share of right places; None without attempts."""
        right = self.right_box_right_answer + self.right_box_wrong_answer
        return right / self.attempts if self.attempts else None

    @property
    def wrong_place_among_right_answers(self) -> float | None:
        """Share of the right answers that pointed at a wrong place; None when no answer was right."""
        right = self.wrong_box_right_answer + self.right_box_right_answer
        return self.wrong_box_right_answer / right if right else None


def overall(parts: Mapping[str, tuple[float, int]]) -> float:
    """A benchmark's overall figure from its parts' (figure, number of questions): weighted by question.

    Raises:
        ValueError: there is no question.
    """
    questions = sum(count for _, count in parts.values())
    if not questions:
        raise ValueError("there are no questions to average over")
    return sum(figure * count for figure, count in parts.values()) / questions
