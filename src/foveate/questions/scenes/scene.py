"""A question about a scene."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import permutations

from PIL import Image

from foveate.questions.lazy import LazyQuestions
from foveate.questions.scenes.config import MOST_COUNTED, SceneConfig
from foveate.questions.scenes.drawing import draw
from foveate.questions.scenes.layout import Card, Layout, layout, region
from foveate.questions.schema import Question, choice_letters

_OPTIONS = 4
"""Choices of a `read` or a `count` question."""


@dataclass(frozen=True, slots=True)
class SceneImage:
    """Draws the scene when called; holds no pixels, so thousands of questions cost nothing, and pickles."""

    config: SceneConfig
    seed: int
    index: int

    def __call__(self) -> Image.Image:
        """The picture, drawn afresh."""
        return draw(self.config, layout(self.config, self.seed, self.index))


def scene(config: SceneConfig, seed: int, index: int) -> Question:
    """Question `index` of the endless set `seed`: a function of its arguments alone.

    The layout does not depend on the kind of question, so that kinds can be compared on the same pictures; but for
    `count`, whose cards share colours (or shapes). Its true regions are the cards that count, without their writing,
    which nobody has to read, and its true points the centres of those cards.
    """
    plan = layout(config, seed, index)
    rng = random.Random(f"question/{config.kind}/{seed}/{index}")
    counts = config.kind == "count"
    text, answer, wrong, cards = _count(rng, config, plan) if counts else _ask(rng, config, plan)
    choices = None
    if config.multiple_choice:
        options = [answer, *wrong]
        rng.shuffle(options)
        choices = dict(zip(choice_letters(len(options)), options, strict=True))
        answer = next(letter for letter, option in choices.items() if option == answer)
    return Question(
        id=f"scene-{config.kind}-{seed}-{index}",
        image=SceneImage(config, seed, index),
        text=text,
        answer=answer,
        choices=choices,
        regions=tuple((card.box,) if counts else region(card) for card in cards),
        category=config.kind,
        points=tuple(card.box.centre for card in cards) if counts else None,
    )


def _ask(rng: random.Random, config: SceneConfig, plan: Layout) -> tuple[str, str, list[str], list[Card]]:
    """The question's text, its answer, wrong choices, and the cards it is about."""
    match config.kind:
        case "read":
            card = rng.choice(plan.cards)
            # the naming word comes last: it is what the embedded model continues from
            text = f"Which {config.writing} is on the card {_naming(config, card)}?"
            return text, card.writing, _wrong_writings(rng, plan, card), [card]
        case "compare":
            pairs = [pair for pair in permutations(plan.cards, 2) if pair[0].writing != pair[1].writing]
            first, second = rng.choice(pairs)
            if config.writing == "digit":
                wanted, right = "the larger digit", max(first, second, key=lambda card: int(card.writing))
            else:
                wanted = f"the {config.writing} that comes first in the alphabet"
                right = min(first, second, key=lambda card: card.writing)
            opening = f"Which card shows {wanted}"
        case "relation":
            triples = [
                (pair, axis) for pair in permutations(plan.cards, 2) for axis in (0, 1) if _clearly_apart(*pair, axis)
            ]
            (first, second), axis = rng.choice(triples)
            right = min(first, second, key=lambda card: card.box.centre.coordinates[axis])
            opening = f"Which card is {('further left', 'higher up')[axis]}"
    text = f"{opening}, the one {_naming(config, first)} or the one {_naming(config, second)}?"
    other = second if right is first else first
    return text, _name(config, right), [_name(config, other)], [first, second]


def _count(rng: random.Random, config: SceneConfig, plan: Layout) -> tuple[str, str, list[str], list[Card]]:
    """As `_ask`, of the cards that share the first one's name."""
    asked = plan.cards[0]
    cards = [card for card in plan.cards if _name(config, card) == _name(config, asked)]
    others = [str(number) for number in range(1, MOST_COUNTED + 1) if number != len(cards)]
    text = f"What number of cards is {_naming(config, asked)}?"
    return text, str(len(cards)), rng.sample(others, _OPTIONS - 1), cards


def _name(config: SceneConfig, card: Card) -> str:
    return card.colour if config.named_by == "colour" else card.shape


def _naming(config: SceneConfig, card: Card) -> str:
    if config.named_by == "colour":
        return f"coloured {card.colour}"
    return f"shaped like {'an' if card.shape[0] in 'aeiou' else 'a'} {card.shape}"


def _wrong_writings(rng: random.Random, plan: Layout, card: Card) -> list[str]:
    """Wrong choices: what other cards say first, so that having seen some card's writing does not give it away."""
    others = list(dict.fromkeys(other.writing for other in plan.cards if other.writing != card.writing))
    rng.shuffle(others)
    while len(others) < _OPTIONS - 1:
        made_up = _like(rng, card.writing)
        if made_up != card.writing and made_up not in others:
            others.append(made_up)
    return others[: _OPTIONS - 1]


def _like(rng: random.Random, writing: str) -> str:
    """Random writing in the manner of `writing`: a digit for a digit, a letter for a letter."""
    return "".join(
        str(rng.randrange(10)) if character.isdigit() else rng.choice("ACDEFGHJKLMNPQRSTUVWXYZ")
        for character in writing
    )


def _clearly_apart(first: Card, second: Card, axis: int) -> bool:
    """Whether the order along an axis is plain: the centres are at least half a card apart."""
    centres = [card.box.centre.coordinates[axis] for card in (first, second)]
    return abs(centres[0] - centres[1]) >= max(first.square.width, second.square.width) / 2


class Scenes(LazyQuestions):
    """`length` scenes of one set. Different seeds give different scenes."""

    def __init__(self, config: SceneConfig | None = None, *, seed: int = 0, length: int = 1000) -> None:
        if length < 0:
            raise ValueError(f"length is {length}: it counts scenes")
        self.config = config or SceneConfig()
        self.seed = seed
        self._length = length

    def __len__(self) -> int:
        return self._length

    def question(self, place: int) -> Question:
        """Scene `place` of the set."""
        return scene(self.config, self.seed, place)
