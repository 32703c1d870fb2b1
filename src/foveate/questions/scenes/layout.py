"""Where everything of a scene lies and what it looks like, before anything is drawn."""

from __future__ import annotations

import random
from dataclasses import dataclass

from foveate.questions.scenes.config import CLUTTER, GAP, MOST_COUNTED, SceneConfig
from foveate.questions.scenes.lettering import ink_box
from foveate.questions.scenes.palette import CODE_LETTERS, COLOURS, SHAPES, WORDS, Colour
from foveate.questions.schema import Region
from foveate.regions import Box

_DARK: Colour = (20, 20, 20)
_LIGHT: Colour = (250, 250, 250)


@dataclass(frozen=True, slots=True)
class Card:
    """One card.

    Attributes:
        colour, shape: names in the palette.
        fill, ink: the colours it is drawn in.
        square: the square that the outline is drawn in, original pixels.
        box: the card's bounding box, original pixels.
        writing: what is written on it.
        writing_at: where `ImageDraw.text` puts it.
        writing_box: the ink's bounding box, original pixels, inside `box`.
    """

    colour: str
    shape: str
    fill: Colour
    ink: Colour
    square: Box
    box: Box
    writing: str
    writing_at: tuple[int, int]
    writing_box: Box


@dataclass(frozen=True, slots=True)
class Clutter:
    """A piece of grey clutter: a box, a disc or a stroke."""

    form: str
    box: Box
    fill: Colour


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole scene: ground, clutter below, cards above."""

    ground: Colour
    clutter: tuple[Clutter, ...]
    cards: tuple[Card, ...]


def layout(config: SceneConfig, seed: int, index: int) -> Layout:
    """The scene's plan; the same for every kind of question, but that of `count` has other colours or shapes."""
    rng = random.Random(f"layout/{seed}/{index}")
    number = rng.randint(*config.cards)
    sides = [rng.uniform(*config.card_side) * config.side for _ in range(number)]
    clutter_sides = [rng.uniform(*CLUTTER) * config.side for _ in range(config.distractors)]
    squares = _places(rng, config, sides + clutter_sides)
    base = rng.randint(215, 245)
    ground = tuple(base + rng.randint(-10, 10) for _ in range(3))
    return Layout(
        ground=(ground[0], ground[1], ground[2]),
        clutter=tuple(_clutter(rng, box) for box in squares[number:]),
        cards=_cards(rng, config, squares[:number]),
    )


def _places(rng: random.Random, config: SceneConfig, sides: list[float]) -> list[Box]:
    """Squares of the given sides at random places, none touching another; the first are placed first."""
    gap = GAP * config.side
    while True:
        placed: list[Box] = []
        for side in sides:
            for _ in range(60):
                x, y = round(rng.uniform(0, config.width - side)), round(rng.uniform(0, config.height - side))
                box = Box(x, y, min(x + round(side), config.width), min(y + round(side), config.height))
                if all(_apart(box, other, gap) for other in placed):
                    placed.append(box)
                    break
            else:
                break  # a dead end: throw all of it away, so that places stay uniform
        if len(placed) == len(sides):
            return placed


def _apart(first: Box, second: Box, gap: float) -> bool:
    return (
        first.x2 + gap <= second.x1
        or second.x2 + gap <= first.x1
        or first.y2 + gap <= second.y1
        or second.y2 + gap <= first.y1
    )


def _clutter(rng: random.Random, box: Box) -> Clutter:
    grey = rng.randint(120, 195)
    fill = (grey + rng.randint(-8, 8), grey + rng.randint(-8, 8), grey + rng.randint(-8, 8))
    return Clutter(rng.choice(("box", "disc", "stroke")), box, fill)


def _cards(rng: random.Random, config: SceneConfig, squares: list[Box]) -> tuple[Card, ...]:
    number = len(squares)
    shapes = config.fitting_shapes()
    if config.kind == "count":
        colours, names = _repeated(rng, list(COLOURS), number), _repeated(rng, shapes, number)
    else:
        colours = rng.sample(list(COLOURS), number)
        names = rng.sample(shapes, number) if number <= len(shapes) else rng.choices(shapes, k=number)
    texts = [_writing(rng, config, colour) for colour in colours]
    while number > 1 and len(set(texts)) == 1:  # `compare` needs two that differ
        texts = [_writing(rng, config, colour) for colour in colours]
    return tuple(_card(rng, config, *parts) for parts in zip(squares, colours, names, texts, strict=True))


def _repeated(rng: random.Random, names: list[str], number: int) -> list[str]:
    """`number` names: the first one 1 to `MOST_COUNTED` times, equally often each; the others as chance has it."""
    first, *others = rng.sample(names, len(names))
    times = rng.randint(1, min(number, MOST_COUNTED))
    rest = [first] * (times - 1) + rng.choices(others, k=number - times)
    rng.shuffle(rest)
    return [first, *rest]


def _card(rng: random.Random, config: SceneConfig, square: Box, colour: str, shape: str, text: str) -> Card:
    red, green, blue = (min(255, max(0, c + rng.randint(-14, 14))) for c in COLOURS[colour])
    extent, inner = (_within(square, part) for part in (SHAPES[shape].extent, SHAPES[shape].inner))
    x1, y1, x2, y2 = ink_box(text, config.writing_height)
    ink_x = round(rng.uniform(inner.x1, max(inner.x1, inner.x2 - (x2 - x1))))
    ink_y = round(rng.uniform(inner.y1, max(inner.y1, inner.y2 - (y2 - y1))))
    return Card(
        colour=colour,
        shape=shape,
        fill=(red, green, blue),
        ink=ink_on((red, green, blue)),
        square=square,
        box=extent,
        writing=text,
        writing_at=(ink_x - x1, ink_y - y1),
        writing_box=Box(ink_x, ink_y, ink_x + x2 - x1, ink_y + y2 - y1),
    )


def ink_on(fill: Colour) -> Colour:
    """Dark ink on light cards, light ink on dark ones."""
    red, green, blue = fill
    return _DARK if 0.3 * red + 0.59 * green + 0.11 * blue > 110 else _LIGHT


def _within(square: Box, part: Box) -> Box:
    """A part of the unit square, laid into `square`."""
    scaled = part.scaled(square.width, square.height)
    return Box(scaled.x1 + square.x1, scaled.y1 + square.y1, scaled.x2 + square.x1, scaled.y2 + square.y1)


def _writing(rng: random.Random, config: SceneConfig, colour: str) -> str:
    if config.prior and rng.random() < config.prior:
        return str(list(COLOURS).index(colour))
    match config.writing:
        case "digit":
            return str(rng.randrange(10))
        case "word":
            return rng.choice(WORDS)
        case "code":
            return rng.choice(CODE_LETTERS) + str(rng.randrange(10)) + rng.choice(CODE_LETTERS)


def region(card: Card) -> Region:
    """The nested true boxes of a card: its writing, then all of it."""
    return (card.writing_box, card.box)
