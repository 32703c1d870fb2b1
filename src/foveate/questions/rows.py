"""From one row of a data file to a `Question`, or to what is wrong with it and how to mend it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from foveate.images import ImageError, ImageSource
from foveate.questions.pictures import image_source
from foveate.questions.problems import Problem, kind
from foveate.questions.schema import Question, QuestionRow, Region
from foveate.regions import Point, Size

_MENDS = {
    "id": "give every row its own text or number",
    "image": "write the picture's path, relative to the data file",
    "question": "write the question's text",
    "answer": "write the letter or the text of the right choice, or the text of an open question's answer",
    "choices": 'write a list of texts, or texts by letter: {"A": "red", "B": "blue"}',
    "regions": "write each box as corners [x1, y1, x2, y2] in pixels of the original, upright picture",
    "category": "write a text, or leave the key out",
    "view_pixels": "write a whole number, width x height of the full image as it is to be shown, or leave the key out",
    "points": "write each counted object as [x, y] in pixels of the original, upright picture; [] where there is none",
    "tags": 'write an object of texts: {"cycle": "0"}, or leave the key out',
    "other_images": "write a list of the further pictures' paths, relative to the data file, or leave the key out",
}
"""The keys of a row, each with what it should hold."""


def parse_row(row: Mapping[str, Any]) -> QuestionRow | list[Problem]:
    """A row by the schema, or what is wrong with it. Keys without a value (null, or NaN from a table) are left out."""
    present = {key: value for key, value in row.items() if not _absent(value)}
    if isinstance(choices := present.get("choices"), dict):  # a Parquet struct has every letter in every row
        present["choices"] = {letter: text for letter, text in choices.items() if not _absent(text)}
    if isinstance(tags := present.get("tags"), dict):  # likewise
        present["tags"] = {name: text for name, text in tags.items() if not _absent(text)}
    try:
        return QuestionRow.model_validate(present)
    except ValidationError as error:
        return list(_schema_problems(error))


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _schema_problems(error: ValidationError) -> Iterator[Problem]:
    """One problem a key: the deepest, which in a union of types is that of the type that was meant."""
    deepest: dict[str, ErrorDetails] = {}
    for item in error.errors(include_url=False, include_context=False):
        key = str(item["loc"][0]) if item["loc"] else "answer"  # the check across keys: the answer among the choices
        if key not in deepest or len(item["loc"]) > len(deepest[key]["loc"]):
            deepest[key] = item
    for key, item in deepest.items():
        mend, given, place = _MENDS.get(key, ""), item["input"], _place(key, item["loc"])
        match item["type"]:
            case "missing" if len(item["loc"]) == 1:
                yield Problem(key, "is missing", mend)
            case "extra_forbidden":
                close = difflib.get_close_matches(key, _MENDS, n=1)
                advice = f"write {close[0]!r}" if close else f"remove or rename it: the keys are {', '.join(_MENDS)}"
                yield Problem(repr(key), "is not a key", advice)
            case "value_error":
                text = item["msg"].removeprefix("Value error, ").removeprefix(f"{key} ")
                what, separator, advice = text.rpartition(": ")
                yield Problem(place, what, advice) if separator else Problem(place, text, mend)
            case "string_too_short":
                yield Problem(key, "is empty", mend)
            case "string_type" | "dict_type" | "list_type" | "tuple_type" | "float_type" | "float_parsing" | "int_type":
                yield Problem(place, f"is {kind(given)}", mend)
            case "missing" | "too_short" | "too_long" if key == "regions":
                yield Problem("regions", "have a box that is not four numbers", mend)
            case "missing" | "too_short" | "too_long" if key == "points":
                yield Problem(_place(key, item["loc"][:2]), "is not two numbers", mend)
            case _:
                yield Problem(place, item["msg"][0].lower() + item["msg"][1:], mend)


def _place(key: str, location: Sequence[int | str]) -> str:
    """`regions[0][1]`. Behind a key that may be of several types, pydantic names the type: left out."""
    inner = location[2 if key in ("image", "choices") else 1 :][: 1 if key == "other_images" else None]
    return key + "".join(f"[{part!r}]" for part in inner)


def regions_in(row: QuestionRow, size: Size) -> tuple[tuple[Region, ...], list[Problem], list[Problem]]:
    """The true regions inside a picture of `size` (original, upright pixels).

    A box that sticks out by at most a pixel, as rounding does, is cut to the picture.

    Returns:
        regions, problems that make the row unusable, and warnings (levels that do not contain one another).
    """
    try:
        regions = row.boxes()
    except ValueError as error:
        what, _, _ = str(error).partition(": it needs")
        return (), [Problem("regions", what, _MENDS["regions"] + " (not x, y, width, height)")], []
    if not regions:
        return (), [], []
    width, height = size
    corners = [corner for levels in regions for box in levels for corner in box.corners]
    if max(corners) <= 1 and min(corners) >= 0 and min(size) > 1:
        mend = f"multiply x by the width, {width}, and y by the height, {height}"
        return (), [Problem("regions", "are in fractions of the picture, not in pixels", mend)], []
    problems, warnings, kept = [], [], []
    for number, levels in enumerate(regions):
        inside = []
        for level, box in enumerate(levels):
            cut = box.clipped(size)
            if cut is None or max(abs(a - b) for a, b in zip(cut.corners, box.corners, strict=True)) > 1:
                turned = box.x2 <= height and box.y2 <= width
                problems.append(
                    Problem(
                        f"regions[{number}][{level}]",
                        f"{_numbers(box.corners)} is not inside the picture of {width} x {height} pixels",
                        _MENDS["regions"] + (" (is the picture turned by its EXIF data?)" if turned else ""),
                    )
                )
            else:
                inside.append(cut)
        if any(not outer.contains(inner) for inner, outer in pairwise(inside)):
            mend = "write the levels of one region from the smallest box to the widest; separate regions separately"
            warnings.append(Problem(f"regions[{number}]", "has levels that do not contain one another", mend))
        kept.append(tuple(inside))
    return tuple(kept), problems, warnings


def points_in(row: QuestionRow, size: Size) -> tuple[tuple[Point, ...] | None, list[Problem]]:
    """The true points inside a picture of `size` (original, upright pixels), None where the row says nothing of them.

    Returns:
        points, and problems that make the row unusable.
    """
    if row.points is None:
        return None, []
    width, height = size
    coordinates = [coordinate for pair in row.points for coordinate in pair]
    if coordinates and max(coordinates) <= 1 and min(coordinates) >= 0 and min(size) > 1:
        mend = f"multiply x by the width, {width}, and y by the height, {height}"
        return None, [Problem("points", "are in fractions of the picture, not in pixels", mend)]
    problems, points = [], []
    for number, pair in enumerate(row.points):
        if math.isfinite(sum(map(abs, pair))) and (point := Point(*pair)).inside(size):
            points.append(point)
        else:
            what = f"{_numbers(pair)} is not inside the picture of {width} x {height} pixels"
            problems.append(Problem(f"points[{number}]", what, _MENDS["points"]))
    return tuple(points), problems


def _numbers(coordinates: Sequence[float]) -> str:
    return "[" + ", ".join(f"{coordinate:g}" for coordinate in coordinates) + "]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: a question, or problems; the size of its picture where that could be told."""

    question: Question | None = None
    size: Size | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def spoilt_by(self, problem: Problem) -> Outcome:
        """The same row with one more problem: no question comes of it."""
        return Outcome(None, self.size, (problem, *self.problems), self.warnings)


def build_question(
    row: QuestionRow, folder: Path, size_of: Callable[[Path | bytes], Size], embedded: Sequence[ImageSource]
) -> Outcome:
    """A row that fits the schema as a `Question`.

    Args:
        row: the row.
        folder: where relative image paths start.
        size_of: width and height of a picture, upright; raises ImageError when it is none.
        embedded: what the question keeps for a picture whose bytes are in the row: the first, then the further ones.
    """
    source = image_source(row.image, folder)
    if isinstance(source, Problem):
        return Outcome(problems=(source,))
    size = _size(source, size_of)
    if isinstance(size, Problem):
        return Outcome(problems=(size,))
    regions, problems, warnings = regions_in(row, size)
    points, wrong_points = points_in(row, size)
    others, wrong_others = _other_pictures(row, folder, size_of, embedded)
    if problems := problems + wrong_points + wrong_others:
        return Outcome(None, size, tuple(problems), tuple(warnings))
    question = Question(
        id=row.id,
        image=embedded[0] if isinstance(source, bytes) else source,
        text=row.question,
        choices=row.lettered_choices(),
        answer=row.answer_letter_or_text(),
        regions=regions,
        category=row.category,
        view_pixels=row.view_pixels,
        points=points,
        tags=row.tags,
        others=tuple(others),
    )
    return Outcome(question, size, (), tuple(warnings))


def _size(source: Path | bytes, size_of: Callable[[Path | bytes], Size]) -> Size | Problem:
    try:
        return size_of(source)
    except ImageError as error:
        mend = "write the picture again from its source, as PNG, JPEG or WebP"
        return Problem("image", f"cannot be used ({error})", mend)


def _other_pictures(
    row: QuestionRow, folder: Path, size_of: Callable[[Path | bytes], Size], embedded: Sequence[ImageSource]
) -> tuple[list[ImageSource], list[Problem]]:
    pictures: list[ImageSource] = []
    problems = []
    for number, written in enumerate(row.other_images):
        source = image_source(written, folder)
        size = source if isinstance(source, Problem) else _size(source, size_of)
        if isinstance(wrong := size, Problem):
            problems.append(Problem(f"other_images[{number}]", wrong.what, wrong.mend))
        elif isinstance(source, Path):
            pictures.append(source)
        elif number + 1 < len(embedded):
            pictures.append(embedded[number + 1])
        else:
            mend = "write it to a file, and its path here"
            problems.append(Problem(f"other_images[{number}]", "holds the picture itself", mend))
    return pictures, problems
