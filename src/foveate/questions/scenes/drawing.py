"""A scene's plan turned into pixels."""

from __future__ import annotations

from PIL import Image, ImageDraw

from foveate.questions.scenes.config import SceneConfig
from foveate.questions.scenes.layout import Card, Clutter, Layout
from foveate.questions.scenes.lettering import write
from foveate.questions.scenes.palette import SHAPES


def draw(config: SceneConfig, plan: Layout) -> Image.Image:
    """The picture, RGB, at the original's size."""
    image = Image.new("RGB", (config.width, config.height), plan.ground)
    pen = ImageDraw.Draw(image)
    for piece in plan.clutter:
        _draw_clutter(pen, piece)
    for card in plan.cards:
        _draw_card(pen, card, config.writing_height)
    return image


def _draw_clutter(pen: ImageDraw.ImageDraw, piece: Clutter) -> None:
    corners = piece.box.corners
    match piece.form:
        case "box":
            pen.rectangle(corners, fill=piece.fill)
        case "disc":
            pen.ellipse(corners, fill=piece.fill)
        case _:
            pen.line(corners, fill=piece.fill, width=max(1, round(piece.box.width / 5)))


def _draw_card(pen: ImageDraw.ImageDraw, card: Card, writing_height: int) -> None:
    # PIL fills the last pixel too: a box ending at x2 has its last pixel at x2 - 1
    width, height = card.square.width - 1, card.square.height - 1
    outline = [(card.square.x1 + x * width, card.square.y1 + y * height) for x, y in SHAPES[card.shape].outline]
    pen.polygon(outline, fill=card.fill)
    write(pen, card.writing_at, card.writing, writing_height, card.ink)
