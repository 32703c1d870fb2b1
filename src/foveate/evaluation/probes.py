"""Does the model use its crop? The answer turn is asked again with another crop in its place.

After LFPC (arXiv 2603.27494, the replacement probes of its diagnosis) and MGPO (arXiv 2507.05920, the share of crops
that alone suffice). A model that uses its crop answers better from the crop of the true region and collapses on noise;
one that answers from the full image, or from the question, hardly moves.

Greedy, so that a question's answers differ by what was shown and by nothing else. Episodes that never came to an
answer are wrong under every probe. Those that answered without a crop have nothing to replace: they answer as before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean

import numpy as np
from PIL import Image

from foveate.context import Context, Message, Part
from foveate.episodes import Group
from foveate.generators.base import Generator, Request, Sampling
from foveate.images import PixelBudget, View, crop_view, cut_view, open_image
from foveate.protocols import prompts
from foveate.protocols.answers import parse_answer
from foveate.protocols.base import Completion, Protocol, Stop, StopReason, Subject
from foveate.questions.schema import Question
from foveate.regions import Box
from foveate.rewards import accuracy

UNCHANGED, CROP_ALONE = "unchanged", "crop_alone"
"""Names of the two probes that replace no crop: the answer turn as it was, and its crops with nothing beside them."""


@dataclass(frozen=True, slots=True)
class ReplacedCrop:
    """What a replacement is made from.

    Attributes:
        question: with its true regions.
        image: the original.
        crop: to be replaced.
        multiple: the family's merged patch, in pixels.
        rng: for what is drawn; the crops of an answer turn share it.
        number: which of the answer turn's crops this is, from 0.
    """

    question: Question
    image: Image.Image
    crop: View
    multiple: int
    rng: random.Random
    number: int = 0

    def cut(self, box: Box) -> View:
        """Another crop of the original (`box` in its pixels), under the pixels of the one that it replaces."""
        width, height = self.crop.size
        return crop_view(self.image, box, PixelBudget(width * height, width * height), self.multiple)


Replacement = Callable[[ReplacedCrop], View]
"""Makes the view that stands in a crop's place."""


def noise(replaced: ReplacedCrop) -> View:
    """Random pixels in the size of the crop."""
    width, height = replaced.crop.size
    pixels_HWC = np.random.default_rng(replaced.rng.getrandbits(63)).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    return replace(replaced.crop, image=Image.fromarray(pixels_HWC))


def true_crop(replaced: ReplacedCrop) -> View:
    """The crop of a true region, at its widest level; several crops get one region each, in turn. Needs regions."""
    regions = replaced.question.regions
    return replaced.cut(regions[replaced.number % len(regions)][-1])


def random_crop(replaced: ReplacedCrop) -> View:
    """A crop of the same width and height at a random place, shown at the same size."""
    source, (width, height) = replaced.crop.source, replaced.crop.original_size
    x = replaced.rng.randint(0, int(width - source.width))
    y = replaced.rng.randint(0, int(height - source.height))
    return cut_view(replaced.image, Box(x, y, x + source.width, y + source.height), replaced.crop.size)


REPLACEMENTS: Mapping[str, Replacement] = {"noise": noise, "true_crop": true_crop, "random_crop": random_crop}
"""Every replacement by name."""
NEED_REGIONS = frozenset({"true_crop"})
"""Those that can only be made for questions with true regions."""


def probe(
    groups: Iterable[Group],
    protocol: Protocol,
    generator: Generator,
    replacements: Mapping[str, Replacement] = REPLACEMENTS,
    *,
    max_new_tokens: int = 256,
    seed: int = 0,
    at_once: int = 64,
) -> dict[str, list[float | None]]:
    """Whether the first episode of each question answers right under each probe: 1, 0, or None where it cannot be made.

    Args:
        groups: as `evaluate` keeps them, with true regions and with the pictures of their views.
        protocol: that led to them.
        generator: who answered, and answers again.
        replacements: by name; `UNCHANGED` and `CROP_ALONE` are always made.
        max_new_tokens: of an answer.
        seed: of what replacements draw.
        at_once: questions whose originals are held in memory at the same time.
    """
    right: dict[str, list[float | None]] = {name: [] for name in (UNCHANGED, CROP_ALONE, *replacements)}
    remaining = iter(groups)
    while chunk := list(islice(remaining, at_once)):
        probed = [_Probed(group, generator, replacements, seed) for group in chunk]
        # Each context once: a crop that is shown alone already is its own `CROP_ALONE`, and without one all are alike.
        asked = list(dict.fromkeys(context for one in probed for context in one.contexts.values()))
        replies = generator.generate([Request(context, (seed,)) for context in asked], Sampling(0.0, max_new_tokens))
        said = {context: completion for context, [completion] in zip(asked, replies, strict=True)}
        for one in probed:
            for name, values in right.items():
                values.append(one.right(name, protocol, said))
    return right


def probe_figures(right: Mapping[str, Sequence[float | None]]) -> dict[str, dict[str, float | None]]:
    """What `probe` found, by the probe's name, each over the questions for which it can be made.

    `accuracy` under the probe; its `change` from what the same questions have unchanged; how many `questions` these
    are. The first two are None where there is none.
    """
    figures: dict[str, dict[str, float | None]] = {}
    for name, values in right.items():
        pairs = [
            (value, before)
            for value, before in zip(values, right[UNCHANGED], strict=True)
            if value is not None and before is not None
        ]
        figures[name] = {
            "accuracy": fmean(value for value, _ in pairs) if pairs else None,
            "change": fmean(value - before for value, before in pairs) if pairs else None,
            "questions": len(pairs),
        }
    return figures


class _Probed:
    """A question, and what is shown under each probe."""

    def __init__(self, group: Group, generator: Generator, replacements: Mapping[str, Replacement], seed: int) -> None:
        self.question, [self.episode, *_] = group
        self.contexts: dict[str, Context] = {}
        """By the probe's name; none where the episode came to no answer."""
        if self.episode.stop not in (StopReason.ANSWERED, StopReason.UNPARSED):
            return
        question, family = self.question, generator.family
        self.subject = Subject(question, open_image(question.image), family)
        answered = self.episode.turns[-1].context
        self.contexts[UNCHANGED] = answered
        if crops := [view for view in dict.fromkeys(answered.views) if view.cropped]:
            alone = prompts.answer(question, family.box_style, crops=len(crops), withheld=True)
            others = [view for view in dict.fromkeys(answered.views) if view.picture]
            self.contexts[CROP_ALONE] = Context.user(*crops, *others, alone)
        for name, replacement in replacements.items():
            if self.can_be_made(name):
                rng = random.Random(f"{name}/{seed}/{question.id}")
                made = {
                    crop: replacement(ReplacedCrop(question, self.subject.image, crop, family.multiple, rng, number))
                    for number, crop in enumerate(crops)
                }
                self.contexts[name] = _replaced(answered, made)

    def can_be_made(self, name: str) -> bool:
        return name not in NEED_REGIONS or bool(self.question.regions)

    def right(self, name: str, protocol: Protocol, said: Mapping[Context, Completion]) -> float | None:
        """Whether the reply to a probe is right; a call for another crop is not."""
        if not self.can_be_made(name):
            return None
        if name not in self.contexts:  # it came to no answer, or has no crop that could do alone
            return 0.0
        context = self.contexts[name]
        if name == CROP_ALONE:
            answer = parse_answer(said[context].text, self.question.choices)
        else:
            before = self.episode.turns[:-1]
            turn = protocol.read(self.subject, before, context, said[context])
            stop = protocol.next(self.subject, (*before, turn))
            answer = stop.answer if isinstance(stop, Stop) else None
        return accuracy(replace(self.episode, answer=answer))


def _replaced(context: Context, made: Mapping[View, View]) -> Context:
    """The context with other views in place of some."""

    def other(part: Part) -> Part:
        return made.get(part, part) if isinstance(part, View) else part

    return Context(tuple(Message(message.role, tuple(map(other, message.parts))) for message in context.messages))
