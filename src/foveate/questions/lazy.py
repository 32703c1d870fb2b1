"""Data sets whose questions are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from foveate.questions.schema import Question


class LazyQuestions(Sequence[Question]):
    """A sequence that makes each question anew; slicing gives a list."""

    @abstractmethod
    def question(self, place: int) -> Question:
        """The question at a place from 0 to the length minus one."""

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> list[Question]: ...
    def __getitem__(self, index: int | slice) -> Question | list[Question]:
        if isinstance(index, slice):
            return [self.question(place) for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"question {index} of {len(self)}")
        return self.question(index % len(self))
