"""A model that says what a test wants it to say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foveate.context import Context
from foveate.generators.base import Generator, Request, Sampling
from foveate.images import PixelBudget
from foveate.protocols.base import Completion, FinishReason
from foveate.regions import Frame

Reply = Callable[[Context, int], str | Completion]
"""What is said in a context, given the sample's seed."""


@dataclass
class FakeFamily:
    frame: Frame = Frame.PIXEL
    box_style: str = "short"
    multiple: int = 28
    budget: PixelBudget = PixelBudget(28 * 28, 112 * 112)


class FakeGenerator(Generator):
    def __init__(self, reply: Reply, family: FakeFamily | None = None) -> None:
        self._reply = reply
        self._family = family or FakeFamily()

    @property
    def family(self) -> FakeFamily:
        return self._family

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        return [[self._said(request.context, seed) for seed in request.seeds] for request in requests]

    def _said(self, context: Context, seed: int) -> Completion:
        text = self._reply(context, seed)
        if isinstance(text, Completion):
            return text
        ids = tuple(range(len(text)))
        return Completion(ids, (0.0,) * len(ids), text, FinishReason.END)
