"""A family and a generator for protocols and episodes: replies come from a script, no model is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from foveate.context import Context
from foveate.generators.base import Generator, Request, Sampling
from foveate.images import PixelBudget, View
from foveate.protocols import Completion, FinishReason, Subject
from foveate.questions.schema import Question
from foveate.regions import Box, Frame

CHOICES = {"A": "a cat", "B": "a dog"}


@dataclass(frozen=True)
class Traits:
    """What a protocol knows of a family."""

    frame: Frame = Frame.PIXEL
    box_style: str = "json"
    multiple: int = 28
    budget: PixelBudget = PixelBudget(28 * 28, 28 * 28 * 192)

    def feature_count(self, view: View) -> int:
        return (view.size[0] // self.multiple) * (view.size[1] // self.multiple)


def completion(text: str, finish_reason: FinishReason = FinishReason.END, seed: int = 0) -> Completion:
    return Completion((seed % 1000,), (-1.0,), text, finish_reason)


Script = Callable[[Context, int], str | Completion]
"""The reply to a context with a seed."""


@dataclass
class ScriptedGenerator(Generator):
    """Answers by a function of the context and the seed, or by the texts of each turn; keeps what it was asked."""

    script: Script | Sequence[str | Completion]
    traits: Traits = field(default_factory=Traits)
    batches: list[list[Request]] = field(default_factory=list)

    @property
    def family(self) -> Traits:
        return self.traits

    @property
    def requests(self) -> list[Request]:
        return [request for batch in self.batches for request in batch]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        turn = len(self.batches)
        self.batches.append(list(requests))
        return [[self._reply(request.context, seed, turn) for seed in request.seeds] for request in requests]

    def _reply(self, context: Context, seed: int, turn: int) -> Completion:
        reply = self.script(context, seed) if callable(self.script) else self.script[turn]
        return completion(reply, seed=seed) if isinstance(reply, str) else reply


SHORT = Traits(box_style="short", budget=PixelBudget(28 * 28, 112 * 112))
"""Of a family that is asked in few words about a very small view, as the embedded model is."""


@dataclass
class BriefGenerator(ScriptedGenerator):
    """Of such a family."""

    traits: Traits = SHORT


def picture(size: tuple[int, int] = (1120, 840), box: tuple[int, int, int, int] = (280, 140, 420, 280)) -> Image.Image:
    """Blue with a red card."""
    image = Image.new("RGB", size, (20, 40, 210))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(200, 30, 40))
    return image


def question(name: str = "q", **changes: object) -> Question:
    made = {
        "id": name,
        "image": picture,
        "text": "What is on the red card?",
        "answer": "B",
        "choices": CHOICES,
        "regions": ((Box(280, 140, 420, 280),),),
        "category": "read",
    }
    return Question(**{**made, **changes})  # type: ignore[arg-type]


def subject(traits: Traits | None = None, **changes: object) -> Subject:
    return Subject(question(**changes), picture(), traits or Traits())
