"""The knobs of the scenes, and whether they can hold together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from foveate.questions.scenes.lettering import ink_size
from foveate.questions.scenes.palette import CODE_LETTERS, COLOURS, SHAPES, WORDS
from foveate.regions import Size

Kind = Literal["read", "compare", "relation", "count"]
Writing = Literal["digit", "word", "code"]
NamedBy = Literal["colour", "shape"]

WRITING_IN_VIEW_PX = 4.25
"""Default height of the writing on the small view, in pixels of that view: a digit this small is a smudge."""
LEGIBLE_PX = 8
"""Writing lower than this is not legible even in the original."""
GAP = 0.015
"""Least distance between two cards or pieces of clutter, as a share of the scene's side."""
MOST_COUNTED = 6
"""The greatest answer of a `count` question."""
_CROWDED = 0.45
"""Cards and clutter, gaps included, may take this share of the picture; random places are found quickly below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneConfig:
    """What the scenes of a set look like and what is asked about them. All lengths are in original pixels.

    Attributes:
        size: side of a square original, or (width, height). "Side" below is the geometric mean of both.
        cards: least and greatest number of cards.
        card_side: least and greatest side of a card, as a share of the side.
        distractors: pieces of grey clutter without writing.
        view_pixels: pixel budget of the small view that the scene is made for. With it the whole scene and any crop
            are shown in at most this many pixels, so a crop around a card magnifies its writing. The default is the
            embedded model's 112 x 112.
        writing_px: height of the writing; by default what makes it `WRITING_IN_VIEW_PX` high on the small view.
        kind: `read` the writing on one card; `compare` the writing on two (needs two crops); `relation`, which of two
            is further left or higher up (a control: needs no writing, so looking closer does not help); `count` the
            cards of one colour or shape, which several cards may share.
        multiple_choice: whether the question comes with lettered choices.
        writing: what is written on the cards. Independent of a card's colour, shape and place.
        named_by: how a question names a card.
        prior: share of the cards that carry the digit which belongs to their colour, whatever was drawn for the rest:
            so much can be guessed from the question alone. Only digits have one, and only where they are read.

    Raises:
        ValueError: a knob is out of range, or they exclude each other; the message says which to turn.
    """

    size: int | Size = 1024
    cards: tuple[int, int] = (4, 6)
    card_side: tuple[float, float] = (0.17, 0.22)
    distractors: int = 8
    view_pixels: int = 112 * 112
    writing_px: int | None = None
    kind: Kind = "read"
    multiple_choice: bool = False
    writing: Writing = "digit"
    named_by: NamedBy = "colour"
    prior: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (("kind", Kind), ("writing", Writing), ("named_by", NamedBy)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(get_args(allowed))}")
        if min(self.width, self.height) < 64:
            raise ValueError(f"size is {self.width} x {self.height}: both sides need at least 64 pixels")
        if self.view_pixels < 1:
            raise ValueError(f"view_pixels is {self.view_pixels}: the small view needs pixels")
        if self.distractors < 0:
            raise ValueError(f"distractors is {self.distractors}: it counts pieces of clutter, 0 or more")
        if not 0 <= self.prior <= 1 or (self.prior and self.writing != "digit"):
            raise ValueError(f"prior is {self.prior} for {self.writing}s: it is a share, 0 to 1, and only of digits")
        if self.prior and self.kind == "count":
            raise ValueError(f"prior is {self.prior} for a 'count' question, in which no digit is read: leave it at 0")
        self._check_cards()
        self._check_writing()

    def _check_cards(self) -> None:
        least, most = self.cards
        fewest = 1 if self.kind == "read" else 2
        limit = len(COLOURS) if self.named_by == "colour" else len(SHAPES)
        if self.kind == "count" and not fewest <= least <= most:
            raise ValueError(f"cards is {self.cards}: a 'count' question needs {fewest} <= least <= most")
        if self.kind != "count" and not fewest <= least <= most <= limit:
            raise ValueError(
                f"cards is {self.cards}: a {self.kind!r} question needs {fewest} <= least <= most <= {limit}, "
                f"for there are {limit} {self.named_by}s to tell them apart"
            )
        small, large = self.card_side
        if not 0 < small <= large < 1:
            raise ValueError(f"card_side is {self.card_side}: it needs 0 < least <= greatest < 1, shares of the side")
        taken = most * (large + GAP) ** 2 + self.distractors * (CLUTTER[1] + GAP) ** 2
        if large * self.side > min(self.width, self.height) or taken > _CROWDED:
            raise ValueError(
                f"{most} cards of up to {large:.0%} of the side and {self.distractors} distractors do not fit on "
                f"{self.width} x {self.height} pixels: lower cards, card_side or distractors"
            )

    def _check_writing(self) -> None:
        if self.writing_height < LEGIBLE_PX:
            raise ValueError(
                f"writing of {self.writing_height} px is not legible in the original: raise size or writing_px to at "
                f"least {LEGIBLE_PX}, or lower view_pixels"
            )
        shapes = self.fitting_shapes()
        needed = 2 if self.kind == "count" else self.cards[1] if self.named_by == "shape" else 1
        if len(shapes) < needed:
            raise ValueError(
                f"{self.writing}s of {self.writing_height} px do not fit on enough cards of {self.smallest_card} px: "
                "lower writing_px or raise card_side"
            )

    @property
    def width(self) -> int:
        """Of the original, in pixels."""
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def height(self) -> int:
        """Of the original, in pixels."""
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def side(self) -> float:
        """Geometric mean of width and height, in pixels."""
        return math.sqrt(self.width * self.height)

    @property
    def smallest_card(self) -> int:
        """Side of the smallest card, in pixels."""
        return round(self.card_side[0] * self.side)

    @property
    def writing_height(self) -> int:
        """Height of the writing, in original pixels."""
        if self.writing_px is not None:
            return self.writing_px
        return round(WRITING_IN_VIEW_PX * self.side / math.sqrt(self.view_pixels))

    @property
    def writing_height_in_view(self) -> float:
        """Height of the writing on the small view, in pixels of that view."""
        return self.writing_height * math.sqrt(self.view_pixels) / self.side

    def fitting_shapes(self) -> list[str]:
        """The shapes on whose smallest card any writing of this kind fits."""
        widest = {"digit": "0", "word": max(WORDS, key=len), "code": CODE_LETTERS[0] * 3}[self.writing]
        width, height = ink_size(widest, self.writing_height)
        side = self.smallest_card
        return [
            name
            for name, shape in SHAPES.items()
            if width <= shape.inner.width * side and height <= shape.inner.height * side
        ]


CLUTTER = (0.03, 0.07)
"""Least and greatest side of a piece of clutter, as a share of the scene's side."""
