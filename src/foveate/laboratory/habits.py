"""What the bases of a study are taught to say: the shipped base's skills, in every context that a protocol shows.

A base stands for a general model. In each of these contexts it does something plausible: it points at a card drawn at
random, whatever it is asked in (`locate`, `zoom`, `point`); it reads what it is asked for wherever that is legible,
from a crop or from a view that is sharp enough; where nothing legible is shown it guesses, and where digits go with
colours its guesses do too. `find` keeps the skill of pointing at the right card, as in the shipped base.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from foveate.laboratory.architecture import END, GRID
from foveate.laboratory.examples import Example, Seen, written_box
from foveate.laboratory.forward import Line
from foveate.laboratory.lessons import ANSWER, FIND, LOCATE
from foveate.questions.scenes import Card
from foveate.regions import Box, Size

ZOOM, POINT = "zoom", "point"
_HIDDEN = 0.35
"""Share of reading questions about a card that the crop does not show: the view may, where it is sharp enough."""
_LOOKS = 0.6
"""Share of the lessons asked with `zoom` that call the crop tool; the others answer at once."""
_LOOKS_AGAIN = 0.1
"""Share of the crops for which there is a lesson that calls it once more."""


def pointing_habits(examples: Sequence[Example], rng: random.Random) -> list[Line]:
    """Lines that end in a box: views alone, and crops in which the place is to be found again.

    Args:
        examples: their views are images 0, 1, ... of the batch, all crops follow (as `dense.images_of` orders them).
        rng: chooses the cards.
    """
    lines = []
    for i, example in enumerate(examples):
        for word in (FIND, FIND, LOCATE, LOCATE, POINT, ZOOM):
            if word == ZOOM and rng.random() > _LOOKS:
                continue
            asked, drawn = rng.choice(example.cards), rng.choice(example.cards)
            shown = asked if word == FIND else drawn
            reply = _words(_box_of(example, example.view, shown), example.view.size)
            answered = (asked.writing,) if word == POINT else ()
            lines.append(Line((i, word, asked.colour), (*reply, *answered, END)))
        for crop, image, box in _crops(examples, i):
            asked = rng.choice(_visible(example, crop) or example.cards)
            found = _box_of(example, crop, asked) or Box(0, 0, *crop.size)
            said: tuple[int | str, ...] = (asked.colour, *_words(box, example.view.size), END, image)
            lines.append(Line((i, LOCATE, *said, LOCATE, asked.colour), (*_words(found, crop.size), END)))
            if rng.random() < _LOOKS_AGAIN:
                again = _words(_box_of(example, example.view, rng.choice(example.cards)), example.view.size)
                lines.append(Line((i, ZOOM, *said, ZOOM, asked.colour), (*again, END)))
    return lines


def reading_habits(examples: Sequence[Example], rng: random.Random) -> list[Line]:
    """Lines that end in a digit: from the view, from a crop, from both, and after what was said to get the crop.

    Args:
        examples: as for `pointing_habits`.
        rng: chooses the cards.
    """
    lines = []
    for i, example in enumerate(examples):
        for word in (ANSWER, ANSWER, ANSWER, ZOOM):
            if word == ZOOM and rng.random() < _LOOKS:
                continue
            card = rng.choice(example.cards)
            lines.append(Line((i, word, card.colour), (card.writing, END)))
        for crop, image, box in _crops(examples, i):
            said = (*_words(box, example.view.size), END)
            for form in rng.sample(_FORMS, 2):
                card = _asked(example, crop, rng)
                prompt: tuple[int | str, ...]
                again: tuple[int | str, ...]
                match form:
                    case "crop":
                        prompt = (image, ANSWER, card.colour)
                    case "view and crop":
                        prompt = (i, image, ANSWER, card.colour)
                    case "grounded":
                        prompt = (i, LOCATE, card.colour, *said, image, ANSWER, card.colour)
                    case "grounded twice":  # as if it had pointed at all of the crop
                        whole = _words(Box(0, 0, *crop.size), crop.size)
                        again = (image, LOCATE, card.colour, *whole, END, image)
                        prompt = (i, LOCATE, card.colour, *said, *again, ANSWER, card.colour)
                    case "zoomed twice":
                        again = (image, ZOOM, card.colour, *said, image)
                        prompt = (i, ZOOM, card.colour, *said, *again, ZOOM, card.colour)
                    case _:
                        prompt = (i, ZOOM, card.colour, *said, image, ZOOM, card.colour)
                lines.append(Line(prompt, (card.writing, END)))
    return lines


_FORMS = ("crop", "view and crop", "view and crop", "grounded", "zoomed", "grounded twice", "zoomed twice")


def _crops(examples: Sequence[Example], i: int) -> list[tuple[Seen, int, Box]]:
    """Each crop of an example, its place among the images, and the box in view pixels that it was cut by."""
    first = len(examples) + sum(len(example.crops) for example in examples[:i])
    own = examples[i]
    return [(crop, first + n, box) for n, (crop, box) in enumerate(zip(own.crops, own.boxes, strict=True))]


def _asked(example: Example, crop: Seen, rng: random.Random) -> Card:
    readable = [card for card, ink in zip(example.cards, crop.ink, strict=True) if ink]
    hidden = [card for card, ink in zip(example.cards, crop.ink, strict=True) if not ink]
    return rng.choice((hidden if rng.random() < _HIDDEN else readable) or readable or hidden)


def _visible(example: Example, crop: Seen) -> list[Card]:
    return [card for card, box in zip(example.cards, crop.boxes, strict=True) if box]


def _box_of(example: Example, shown: Seen, card: Card) -> Box | None:
    return shown.boxes[example.cards.index(card)]


def _words(box: Box | None, size: Size) -> tuple[str, ...]:
    assert box is not None  # a view shows the whole scene
    return tuple(str(c) for c in written_box(box, size))


def counting_habits(examples: Sequence[Example], rng: random.Random) -> list[Line]:
    """Lines that end in points and their number, from left to right: some cards are missed, some others pointed at.

    Args:
        examples: of scenes whose cards share colours; their views are images 0, 1, ... of the batch.
        rng: chooses the colours, and which cards are missed or wrong.
    """
    lines = []
    for i, example in enumerate(examples):
        cards = sorted(example.cards, key=lambda card: card.box.x1)
        for colour in rng.choices([card.colour for card in cards], k=8):
            pointed = [card for card in cards if rng.random() < (_KEPT if card.colour == colour else _WRONG)]
            points = [_point(_box_of(example, example.view, card)) for card in pointed]
            words = [word for point in points for word in point]
            lines.append(Line((i, COUNT, colour), (*words, str(len(points)), END)))
    return lines


COUNT = "count"
_KEPT, _WRONG = 0.8, 0.06
"""Chances that a card of the colour, and one of another, is pointed at."""


def _point(box: Box | None) -> tuple[str, str]:
    """The middle of a card as the model writes it: on the grid of its coordinates."""
    assert box is not None  # a view shows the whole scene
    x, y = ((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)
    return str(round(x / GRID) * GRID), str(round(y / GRID) * GRID)
