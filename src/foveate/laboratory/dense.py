"""Dense supervision of the vision tower: what every visual token should know of the card on it.

The text's cross-entropy alone stays at chance for a thousand steps: it has nothing to look at while the tower's
features are random. So each visual token is asked for the colour of the card on it, the card's corners,
and the digit that is written on this very spot.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from foveate.laboratory.architecture import GRID, MERGED, VIEW_SIDE
from foveate.laboratory.examples import Example, Seen, written_box
from foveate.laboratory.forward import encode_images
from foveate.questions.scenes.palette import COLOURS
from foveate.regions import Box, Size, iog

_NONE = len(COLOURS)
_UNASKED = -100
_BINS = VIEW_SIDE // GRID + 1
_PLACES = 16
"""Rows or columns of visual tokens that an image can have."""
_LEAST_INK = 0.5
"""A digit lies on a visual token when this share of its box does."""
_LEAST_SHARE = 0.1
"""A card counts for a visual token when it covers this share of the token's square."""


class DenseHead(nn.Module):
    """Reads colour, box and digit off each visual token; thrown away after the base is made."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.colour = nn.Linear(hidden, len(COLOURS) + 1)
        self.digit = nn.Linear(hidden, 10)
        self.corners = nn.Linear(hidden, 4 * _BINS)
        self.place = nn.Linear(hidden, 2 * _PLACES)

    def losses(self, features_ND: Tensor, targets_N8: Tensor) -> dict[str, Tensor]:
        """Mean cross-entropies of colour, digit and corners over the tokens that are asked."""
        logits = {
            "colour": (self.colour(features_ND), targets_N8[:, 0]),
            "digit": (self.digit(features_ND), targets_N8[:, 1]),
            "corners": (self.corners(features_ND).view(-1, _BINS), targets_N8[:, 2:6].reshape(-1)),
            "place": (self.place(features_ND).view(-1, _PLACES), targets_N8[:, 6:].reshape(-1)),
        }
        return {
            name: nn.functional.cross_entropy(predicted, target, ignore_index=_UNASKED)
            for name, (predicted, target) in logits.items()
            if (target != _UNASKED).any()
        }


def targets(example: Example, image: Seen) -> Tensor:
    """Per visual token of an image: colour of the card on it, digit on it, x1, y1, x2, y2 of the card.

    All as classes, (tokens, 8), -100 where not asked.
    """
    legible = [(int(card.writing), ink) for card, ink in zip(example.cards, image.ink, strict=True) if ink]
    result = ink_targets(legible, image.size)
    colours = list(COLOURS)
    for token, square in enumerate(_squares(image.size)):
        result[token, 6:] = torch.tensor((square.y1, square.x1)) // MERGED
        shares = [box.intersection(square) / square.area if box else 0.0 for box in image.boxes]
        best = max(range(len(shares)), key=lambda i: shares[i])
        if shares[best] < _LEAST_SHARE:
            result[token, 0] = _NONE
            continue
        card, box = example.cards[best], image.boxes[best]
        assert box is not None  # it covers part of the square
        result[token, 0] = colours.index(card.colour)
        if image is example.view:
            result[token, 2:6] = torch.tensor(written_box(box, image.size)) // GRID
    return result


def ink_targets(digits: Sequence[tuple[int, Box]], size: Size) -> Tensor:
    """Targets (tokens, 8) that ask for nothing but the digit whose ink lies on a token."""
    squares = _squares(size)
    result = torch.full((len(squares), 8), _UNASKED)
    for token, square in enumerate(squares):
        for digit, ink in digits:
            if iog(square, ink) >= _LEAST_INK:
                result[token, 1] = digit
    return result


def _squares(size: Size) -> list[Box]:
    """The part of an image that each visual token stands for, row by row."""
    columns, rows = size[0] // MERGED, size[1] // MERGED
    corners = [(column * MERGED, row * MERGED) for row in range(rows) for column in range(columns)]
    return [Box(x, y, x + MERGED, y + MERGED) for x, y in corners]


def dense_targets(examples: Sequence[Example]) -> Tensor:
    """Targets of all views, then of all crops, in the order of `images_of`."""
    views = [targets(example, example.view) for example in examples]
    crops = [targets(example, crop) for example in examples for crop in example.crops]
    return torch.cat([torch.empty(0, 8, dtype=torch.long), *views, *crops])


def looked_at(
    model: Qwen2_5_VLForConditionalGeneration,
    head: DenseHead,
    examples: Sequence[Example],
    sheets: Sequence[tuple[Seen, Tensor]],
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Visual features of every view, crop and sheet (`images_of`, then the sheets), and the head's losses on them.

    Args:
        examples: scenes.
        sheets: pictures of digits with their targets, as `sheets.sheet` gives them.
    """
    features = encode_images(model, images_of(examples) + [image for image, _ in sheets])
    targets_N8 = torch.cat([dense_targets(examples), *(target for _, target in sheets)])
    return features, head.losses(torch.cat(features), targets_N8)


def images_of(examples: Sequence[Example]) -> list[Seen]:
    """All views, then all crops."""
    return [example.view for example in examples] + [crop for example in examples for crop in example.crops]
