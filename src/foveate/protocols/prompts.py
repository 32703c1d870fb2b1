"""The words in which models are asked."""

from __future__ import annotations

from collections.abc import Mapping

from foveate.questions.schema import Question
from foveate.regions import Frame, Size

_FRAMES = {
    Frame.PIXEL: "absolute pixels of the image as shown ({width} x {height})",
    Frame.THOUSAND: "thousandths of its width and height (0 to 1000)",
}


def locate(question: Question, frame: Frame, shown: Size, box_style: str, max_boxes: int) -> str:
    """Asks for the region that matters. The choices are left out: the boxes should come from the picture."""
    if box_style == "short":
        return f"locate {question.text}"
    regions = "the one region" if max_boxes == 1 else f"the regions (at most {max_boxes})"
    where = _FRAMES[frame].format(width=shown[0], height=shown[1])
    return (
        f"Question: {question.text}\n"
        f"Do not answer yet. Point at {regions} of the image that must be seen in detail to answer it. "
        f'Reply with JSON only: [{{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}], in {where}.'
    )


def answer(question: Question, box_style: str, *, crops: int = 0, withheld: bool = False) -> str:
    """Asks for the answer, from the full image, from crops, or from both."""
    if box_style == "short":
        return f"answer {question.text}"
    parts = []
    if withheld:
        parts.append("The full image is withheld. You see only " + _crops(crops) + " of it, cut at full resolution.")
    elif crops:
        parts.append("After the full image you see " + _crops(crops) + " of it, cut at full resolution.")
    parts.append(f"Question: {question.text}")
    if question.choices:
        parts.append(_choices(question.choices))
        parts.append("Answer with the letter of the right choice in \\boxed{}.")
    else:
        parts.append("Answer with a word, a number or a short phrase in \\boxed{}.")
    return "\n".join(parts)


def _crops(count: int) -> str:
    return "one crop" if count == 1 else f"{count} crops"


def _choices(choices: Mapping[str, str]) -> str:
    return "\n".join(f"({letter}) {text}" for letter, text in choices.items())
