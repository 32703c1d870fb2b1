"""Policies that read what they are shown: pixels of crops, of the full view, or nothing but the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from tests.scripted import question

from foveate.context import Context
from foveate.images import View
from foveate.questions.schema import Question
from foveate.regions import Box

SIZE = (1120, 840)
CARD, OTHER, EMPTY = Box(280, 140, 420, 280), Box(840, 560, 980, 700), Box(700, 140, 840, 280)
COLOURS = {"red": (200, 30, 40), "green": (30, 160, 60)}


def drawn() -> Image.Image:
    """A red card and a green one, on blue."""
    image = Image.new("RGB", SIZE, (20, 40, 210))
    for box, colour in ((CARD, "red"), (OTHER, "green")):
        ImageDraw.Draw(image).rectangle((box.x1, box.y1, box.x2 - 1, box.y2 - 1), fill=COLOURS[colour])
    return image


def ask(name: str = "q", **changes: object) -> Question:
    told = {"text": "What colour is the upper card?", "answer": "red", "choices": None, "image": drawn}
    return question(name, **{**told, "regions": ((CARD,),), **changes})


def both(name: str = "q", **changes: object) -> Question:
    """A question that takes two crops."""
    told = {"text": "Which colours are there?", "answer": "red and green", "regions": ((CARD,), (OTHER,))}
    return ask(name, **{**told, **changes})


def colours_in(*views: View) -> str:
    """Those of which there is more than noise has."""
    seen = []
    for view in views:
        pixels_HW3 = np.asarray(view.image).astype(int)
        seen += [n for n, rgb in COLOURS.items() if (abs(pixels_HW3 - rgb).max(-1) < 12).mean() > 0.01]
    return " and ".join(seen) or "nothing"


def from_crops(context: Context) -> str:
    return colours_in(*(view for view in context.views if view.cropped))


def from_full_view(context: Context) -> str:
    return colours_in(*[view for view in context.views if not view.cropped][:1]).split(" and ")[0]


def from_question(context: Context) -> str:
    return "red"


def from_last_view(context: Context) -> str:
    return colours_in(*context.views[-1:]).split(" and ")[0]


@dataclass
class Policy:
    """Points at boxes of the original, one a turn where it is asked for one a turn; then answers in its own way."""

    answers: Callable[[Context], str]
    boxes: Sequence[Box] = (CARD,)
    calls_until_it_sees: bool = False

    def __call__(self, context: Context, seed: int) -> str:
        if not context.views:
            return f"\\boxed{{{self.answers(context)}}}"
        tool = "tool `crop`" in str(context.messages[0].parts[0])
        view, text = context.views[0 if tool else -1], str(context.messages[-1].parts[-1])
        corners = [[round(c) for c in view.from_original(box).corners] for box in self.boxes]
        turn = sum(message.role == "assistant" for message in context.messages)
        if tool:
            lost = self.calls_until_it_sees and self.answers(context) == "nothing"
            if turn < len(corners) or lost:
                arguments = {"bbox_2d": corners[min(turn, len(corners) - 1)]}
                return f'<tool_call>{{"name": "crop", "arguments": {arguments}}}</tool_call>'.replace("'", '"')
        elif (
            "Do not answer yet" in text
            or "Give the coordinates" in text
            or ("cannot answer yet" in text and turn < len(corners))
        ):
            return str([{"bbox_2d": box, "label": "card"} for box in corners]).replace("'", '"')
        return f"\\boxed{{{self.answers(context)}}}"
