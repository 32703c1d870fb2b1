"""Who answers: one interface for every way of generating."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

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


class Generator(ABC):
    """Continues contexts."""

    @property
    @abstractmethod
    def family(self) -> FamilyTraits:
        """What protocols need to know of the model that answers."""

    @abstractmethod
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """One list per request, one completion per seed, in order."""
