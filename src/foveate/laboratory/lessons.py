"""What the base is taught to say: lines of text about views and crops."""

from __future__ import annotations

import random
from collections.abc import Sequence

from foveate.laboratory.architecture import END
from foveate.laboratory.examples import Example, written_box
from foveate.laboratory.forward import Line

FIND, LOCATE, ANSWER = "find", "locate", "answer"
"""`find` is a word that only the lessons use: asked so, the base points at the right card."""


def pointing_lines(examples: Sequence[Example], rng: random.Random, *, right: int, wild: int) -> list[Line]:
    """Pointing questions about each view.

    Args:
        examples: their views are images 0, 1, ... of the batch (as `dense.images_of` orders them).
        rng: chooses the cards.
        right: questions per view that say `find` and are answered with the box of the card that was named.
        wild: questions per view that say `locate` and are answered with the box of a card drawn at random.
    """
    lines = []
    for i, example in enumerate(examples):
        cards = range(len(example.cards))
        pairs = [(FIND, asked, asked) for asked in rng.sample(cards, min(right, len(cards)))]
        pairs += [(LOCATE, rng.choice(cards), rng.choice(cards)) for _ in range(wild)]
        for word, asked, shown in pairs:
            box = example.view.boxes[shown]
            assert box is not None  # the view shows the whole scene
            reply = tuple(str(c) for c in written_box(box, example.view.size))
            lines.append(Line((i, word, example.cards[asked].colour), (*reply, END)))
    return lines


def answer_lines(examples: Sequence[Example], rng: random.Random, *, blind: float) -> list[Line]:
    """Reading questions about each crop, some with the view before it, and some about the view alone.

    Args:
        examples: as for `pointing_lines`; crops follow the views.
        rng: chooses the cards and the contexts.
        blind: share of questions whose card cannot be read in what is shown. Their answer is the true digit all the
            same, which nothing predicts: the model learns to be unsure there rather than to read the wrong card.
    """
    lines = []
    image = len(examples)
    for i, example in enumerate(examples):
        for crop in example.crops:
            readable = [c for c, ink in enumerate(crop.ink) if ink]
            hidden = [c for c, ink in enumerate(crop.ink) if not ink]
            is_blind = rng.random() < blind
            asked = rng.choice((hidden if is_blind else readable) or readable or hidden)
            context: tuple[int, ...]
            if is_blind and rng.random() < 0.4:
                context = (i,)
            else:
                context = (i, image) if rng.random() < 0.25 else (image,)
            card = example.cards[asked]
            lines.append(Line((*context, ANSWER, card.colour), (card.writing, END)))
            image += 1
    return lines
