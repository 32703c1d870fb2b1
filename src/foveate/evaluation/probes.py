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

import numpy as np
from PIL import Image

from foveate.context import Context, Message
from foveate.episodes import Episode, Group
from foveate.generators.base import Generator, Request, Sampling
from foveate.images import PixelBudget, View, crop_view, open_image
from foveate.protocols import prompts
from foveate.protocols.base import Ask, Protocol, Stop, StopReason, Subject, Turn
from foveate.protocols.direct import answer_turn, stop_with_answer
from foveate.questions.schema import Question
from foveate.regions import Box
from foveate.rewards import accuracy

UNCHANGED, CROP_ALONE = "unchanged", "crop_alone"
"""Names of the two probes that replace no crop: the answer turn as it was, and its crops with nothing beside them."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a probe may look at: the question with its true regions, the original, and the crop to be replaced."""

    question: Question
    image: Image.Image
    crop: View
    multiple: int
    rng: random.Random

    def cut(self, box: Box) -> View:
        """Another crop of the original (`box` in its pixels), under the pixels of the one that it replaces."""
        width, height = self.crop.size
        return crop_view(self.image, box, PixelBudget(width * height, width * height), self.multiple)


Replacement = Callable[[Case], View]
"""Makes the view that stands in a crop's place."""


def noise(case: Case) -> View:
    """Random pixels in the size of the crop."""
    width, height = case.crop.size
    pixels_HWC = np.random.default_rng(case.rng.getrandbits(63)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return replace(case.crop, image=Image.fromarray(pixels_HWC))


def true_crop(case: Case) -> View:
    """The crop of a true region, at its widest level; of several regions one at random. Needs true regions."""
    return case.cut(case.rng.choice(case.question.regions)[-1])


def random_crop(case: Case) -> View:
    """A crop of the same width and height at a random place."""
    source, (width, height) = case.crop.source, case.crop.original_size
    x = case.rng.uniform(0, max(0.0, width - source.width))
    y = case.rng.uniform(0, max(0.0, height - source.height))
    return case.cut(Box(x, y, x + source.width, y + source.height))


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
) -> dict[str, list[float | None]]:
    """Whether the first episode of each question answers right under each probe: 1, 0, or None where it cannot be made.

    Args:
        groups: as `evaluate` keeps them, with true regions and with the pictures of their views.
        protocol: that led to them.
        generator: who answered, and answers again.
        replacements: by name; `UNCHANGED` and `CROP_ALONE` are always made.
        max_new_tokens: of an answer.
        seed: of what replacements draw.
    """
    groups = list(groups)
    sampling = Sampling(0.0, max_new_tokens)
    names = (UNCHANGED, CROP_ALONE, *replacements)
    right: dict[str, list[float | None]] = {name: [0.0] * len(groups) for name in names}
    asked: list[tuple[str, int, Context]] = []
    subjects: dict[int, Subject] = {}
    for place, (question, episodes) in enumerate(groups):
        episode = episodes[0]
        if not episode.turns or not _answered(episode):
            continue
        image = open_image(question.image)
        subjects[place] = Subject(question, image, generator.family)
        context = episode.turns[-1].context
        asked.append((UNCHANGED, place, context))
        if alone := _crops_alone(context, subjects[place]):
            asked.append((CROP_ALONE, place, alone))
        for name, replacement in replacements.items():
            if name in NEED_REGIONS and not question.regions:
                right[name][place] = None
                continue
            rng = random.Random(f"{name}/{seed}/{question.id}")
            multiple = generator.family.multiple
            make = _maker(replacement, question, image, multiple, rng)
            asked.append((name, place, _with_crops(context, make)))
    replies = generator.generate([Request(context, (seed,)) for _, _, context in asked], sampling) if asked else []
    for (name, place, context), [completion] in zip(asked, replies, strict=True):
        subject, episode = subjects[place], groups[place].episodes[0]
        if name == CROP_ALONE:
            stop: Stop | Ask = stop_with_answer(subject, answer_turn(subject, context, completion))
        else:
            before = episode.turns[:-1]
            turns: Sequence[Turn] = (*before, protocol.read(subject, before, context, completion))
            stop = protocol.next(subject, turns)
        answer = stop.answer if isinstance(stop, Stop) else None  # it calls for another crop: no answer
        right[name][place] = accuracy(replace(episode, answer=answer))
    return right


def _answered(episode: Episode) -> bool:
    return episode.stop in (StopReason.ANSWERED, StopReason.UNPARSED)


def _maker(
    replacement: Replacement, question: Question, image: Image.Image, multiple: int, rng: random.Random
) -> Callable[[View], View]:
    return lambda crop: replacement(Case(question, image, crop, multiple, rng))


def _with_crops(context: Context, make: Callable[[View], View]) -> Context:
    """The context with every crop replaced; each is made once, though it may be shown several times."""
    made: dict[int, View] = {}
    messages = []
    for message in context.messages:
        parts = []
        for part in message.parts:
            if isinstance(part, View) and part.cropped:
                if id(part) not in made:
                    made[id(part)] = make(part)
                part = made[id(part)]
            parts.append(part)
        messages.append(Message(message.role, tuple(parts)))
    return Context(tuple(messages))


def _crops_alone(context: Context, subject: Subject) -> Context | None:
    """The crops of an answer turn and the question, nothing else; None without a crop (which then does not suffice)."""
    crops = [view for view in context.views if view.cropped]
    if not crops:
        return None
    asked = prompts.answer(subject.question, subject.family.box_style, crops=len(crops), withheld=True)
    return Context.user(*crops, asked)
