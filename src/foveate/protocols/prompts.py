"""The words in which models are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from foveate.protocols.base import Problem
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
    image = "first image" if question.others else "image"
    return (
        f"Question: {question.text}\n"
        f"Do not answer yet. Point at {regions} of the {image} that must be seen in detail to answer it. "
        f"{_json_boxes(frame, shown)}"
    )


def ground_system(question: Question, box_style: str) -> str | None:
    """MGPO's system message: coordinates first, which bring an enlarged crop, then the answer."""
    if box_style == "short":
        return None
    return (
        "You answer questions about images that are shown to you at low resolution. First give the coordinates of the "
        "key area as JSON: you are then shown that area enlarged, cut from the original. "
        f"Then answer{_boxed(question)}."
    )


def ground(question: Question, frame: Frame, shown: Size, box_style: str) -> str:
    """MGPO's first turn: the question without its choices, and a request for coordinates."""
    if box_style == "short":
        return f"locate {question.text}"
    return (
        f"Question: {question.text}\nGive the coordinates of the key area for this question. "
        f"{_json_boxes(frame, shown)}"
    )


def ground_again(question: Question, frame: Frame, shown: Size, box_style: str) -> str:
    """A turn between the first and the last: coordinates within the image shown last."""
    if box_style == "short":
        return f"locate {question.text}"
    return (
        f"This is the area that you asked for, enlarged. Question: {question.text}\n"
        f"Give the coordinates of the key area within this last image. {_json_boxes(frame, shown)}"
    )


def answer_grounded(question: Question, box_style: str, *, cropped: bool) -> str:
    """MGPO's last turn: the question with its choices, beside the crop, or the original image once more."""
    if box_style == "short":
        return f"answer {question.text}"
    brought = (
        "This is the area that you asked for, enlarged. If it does not help, go by the original image."
        if cropped
        else "No valid coordinates could be read, so this is the original image again."
    )
    return "\n".join([brought, *_question(question)])


def ground_freely_system(question: Question, box_style: str, areas: int) -> str | None:
    """The system message of MGPO's general form: an answer as soon as there can be one, coordinates until then."""
    if box_style == "short":
        return None
    times = "once" if areas == 1 else f"up to {areas} times"
    return (
        f"You answer questions about images that are shown to you at low resolution. Answer{_boxed(question)} as soon "
        f"as you can. Until then you may, {times}, give the coordinates of the key area of the image shown last, as "
        "JSON instead of an answer: you are then shown that area enlarged, cut from the original."
    )


def ground_freely(
    question: Question, frame: Frame, shown: Size, box_style: str, *, brought: Literal["first", "crop", "original"]
) -> str:
    """A turn of the general form before the last: an answer, or coordinates within the image that comes with it.

    Short: the word that embedded models know a choice by; several numbers are a box, one is the answer.
    """
    if box_style == "short":
        return f"zoom {question.text}"
    told = {
        "first": [],
        "crop": ["This is the area that you asked for, enlarged."],
        "original": ["Neither an answer nor valid coordinates could be read, so this is the original image again."],
    }[brought]
    where = _FRAMES[frame].format(width=shown[0], height=shown[1])
    coordinates = (
        "If you cannot answer yet, give instead the coordinates of the key area within this image, as JSON: "
        f'[{{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}], in {where}.'
    )
    return "\n".join([*told, *_question(question), coordinates])


def ground_and_answer(question: Question, frame: Frame, shown: Size, box_style: str) -> str:
    """MGPO's baseline: the question with its choices, and a request for coordinates and the answer in one reply."""
    if box_style == "short":
        return f"point {question.text}"
    where = _FRAMES[frame].format(width=shown[0], height=shown[1])
    first = (
        "First give the coordinates of the key area for this question as JSON: "
        f'[{{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}], in {where}. Then, in the same reply, answer.'
    )
    asked, *rest = _question(question)
    return "\n".join([asked, first, *rest])


def answer(question: Question, box_style: str, *, crops: int = 0, withheld: bool = False) -> str:
    """Asks for the answer, from the full image, from crops, or from both."""
    if box_style == "short":
        return f"answer {question.text}"
    parts = []
    image = "first image" if question.others else "full image"
    if withheld:
        parts.append(f"The {image} is withheld. You see only {_crops(crops)} of it, cut at full resolution.")
    elif crops:
        parts.append(f"After the {image} you see {_crops(crops)} of it, cut at full resolution.")
    if crops and question.others:
        parts.append("The other images of the question follow, whole.")
    return "\n".join([*parts, *_question(question)])


def answer_unseen(question: Question, box_style: str) -> str:
    """Asks for the answer without any picture: what can be guessed, rather than a refusal to guess."""
    if box_style == "short":
        return f"answer {question.text}"
    return "\n".join(["No image is shown. Give the answer that is most likely.", *_question(question)])


def count(question: Question, frame: Frame, shown: Size, box_style: str) -> str:
    """Asks for a point on each counted object, then for the count."""
    if box_style == "short":
        return f"count {question.text}"
    where = _FRAMES[frame].format(width=shown[0], height=shown[1])
    asked = (
        f"Question: {question.text}\nFirst point at each object that counts, as JSON: "
        f'[{{"point_2d": [x, y], "label": "..."}}], in {where}; [] where there is none.'
    )
    if question.choices:
        return f"{asked}\n{_choices(question.choices)}\nThen answer with the letter of the right choice in \\boxed{{}}."
    return f"{asked} Then give the count, a number, in \\boxed{{}}."


def reference_answer(question: Question, box_style: str) -> str:
    """The right answer in the words that a model is asked to give it in: what supervised fine-tuning teaches."""
    return question.answer if box_style == "short" else f"\\boxed{{{question.answer}}}"


def zoom_system(question: Question, frame: Frame, shown: Size, box_style: str, calls: int) -> str | None:
    """LFPC's system message: the crop tool, how it is called, and how often it may be."""
    if box_style == "short":
        return None
    where = _FRAMES[frame].format(width=shown[0], height=shown[1])
    times = "once" if calls == 1 else f"up to {calls} times"
    return (
        "You answer questions about an image that is shown to you at low resolution. You may call the tool `crop` "
        f"{times} to see a region of it at full resolution. To call it, reply with\n"
        '<tool_call>{"name": "crop", "arguments": {"bbox_2d": [x1, y1, x2, y2]}}</tool_call>\n'
        f"and nothing after it; the coordinates are {where}. When you have seen enough, answer{_boxed(question)}."
    )


def zoom_question(question: Question, box_style: str) -> str:
    """The question with its choices; whether to look closer is left to the model."""
    if box_style == "short":
        return f"zoom {question.text}"
    several = ["The tool `crop` cuts from the first of these images."] if question.others else []
    return "\n".join([*several, *_question(question)])


def zoom_result(question: Question, box_style: str, left: int) -> str:
    """What comes with a crop."""
    if box_style == "short":
        return f"zoom {question.text}"
    return f"The region, at full resolution. {_calls_left(question, left)}"


def zoom_error(question: Question, problem: Problem, box_style: str, left: int) -> str:
    """What comes back for a call that could not be carried out: what was wrong with it, and the mend."""
    if box_style == "short":
        return "zoom"
    return f"Error: {_MENDS[problem]} {_calls_left(question, left)}"


_MENDS = {
    Problem.NO_BOX: 'the call has no coordinates. Give "arguments": {"bbox_2d": [x1, y1, x2, y2]}.',
    Problem.MALFORMED: "bbox_2d must be four numbers: [x1, y1, x2, y2].",
    Problem.REVERSED: "the box is empty: x1 must be less than x2, and y1 less than y2.",
    Problem.OUTSIDE: "the box lies outside the image. Keep its coordinates inside.",
    Problem.TOO_MANY: "one call takes one box.",
    Problem.OVER_LENGTH: "the call was cut off. Reply with the call alone.",
}


def _calls_left(question: Question, left: int) -> str:
    if not left:
        return f"You have no call left: answer now{_boxed(question)}."
    return "You have one call left." if left == 1 else f"You have {left} calls left."


def _boxed(question: Question) -> str:
    """Where the answer is to stand; a verbatim question says so itself."""
    return "" if question.verbatim else " in \\boxed{}"


def _question(question: Question) -> list[str]:
    if question.verbatim:
        return [question.text]
    asked = f"Question: {question.text}"
    if question.choices:
        letter = "Answer with the letter of the right choice in \\boxed{}."
        return [asked, _choices(question.choices), letter]
    return [asked, "Answer with a word, a number or a short phrase in \\boxed{}."]


def _json_boxes(frame: Frame, shown: Size) -> str:
    where = _FRAMES[frame].format(width=shown[0], height=shown[1])
    return f'Reply with JSON only: [{{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}], in {where}.'


def _crops(count: int) -> str:
    return "one crop" if count == 1 else f"{count} crops"


def _choices(choices: Mapping[str, str]) -> str:
    return "\n".join(f"({letter}) {text}" for letter, text in choices.items())
