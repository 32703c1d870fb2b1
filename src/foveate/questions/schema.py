"""What one question is: in memory (`Question`) and as a row of a file (`QuestionRow`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from foveate.images import ImageSource
from foveate.regions import Box, Point

Region = tuple[Box, ...]
"""One true region as nested boxes, smallest first: the smallest sufficient box, then wider contexts."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one image.

    Attributes:
        id: unique within its data set.
        image: a path, encoded bytes, or a function that returns the picture; opened with `images.open_image`.
        text: the question without its choices.
        choices: letter to option text, in order; None for an open question.
        answer: the right letter when there are choices, the answer's text otherwise.
        regions: the true regions in pixels of the original (upright) image. For evaluation, and for rewards only
            where a recipe says so: `without_annotations` is what an annotation-free recipe trains on.
        category: for scores by category.
        points: where the counted objects are, in pixels of the original (upright) image: () where there is none to
            count, None where it is not known. Who may see them is as for the regions.
        tags: further groupings that the data set publishes (a cycle, a sub-task), by name.
        others: further pictures of the question, shown whole after the first and in this order. True regions and
            points, and whatever a model locates, are of the first alone.
        view_pixels: at most so many pixels of the full image are shown, whatever the protocol's budget, as chosen for
            this question (LFPC, `training.resolution`); None for the protocol's. Crops are not concerned.
        verbatim: the text holds its options, if it has any, and says how to answer: where the answer is asked for it
            stands as it is, with no choice and no instruction about the answer's form added, and a scorer that knows
            the text reads the reply (another harness's task).
    """

    id: str
    image: ImageSource = field(repr=False)
    text: str
    answer: str
    choices: Mapping[str, str] | None = None
    regions: tuple[Region, ...] = ()
    category: str | None = None
    view_pixels: int | None = None
    points: tuple[Point, ...] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    others: tuple[ImageSource, ...] = field(default=(), repr=False)
    verbatim: bool = False

    def without_annotations(self) -> Question:
        """The same question with no true box and no true point in it."""
        return replace(self, regions=(), points=None)


def choice_letters(count: int) -> list[str]:
    """The letters of `count` options: A, B, C, ..."""
    return [chr(ord("A") + i) for i in range(count)]


class QuestionRow(BaseModel):
    """One row of a JSONL or Parquet file, as people write it; its messages say what to mend."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    id: str = Field(min_length=1)
    image: str | bytes | dict[str, Any]
    question: str
    answer: str
    choices: dict[str, str] | list[str] | None = None
    regions: list[list[tuple[float, float, float, float]]] | None = None
    category: str | None = None
    view_pixels: int | None = None
    points: list[tuple[float, float]] | None = None
    tags: dict[str, str] = {}
    other_images: list[str | bytes | dict[str, Any]] = []

    @field_validator("id", "answer", mode="before")
    @classmethod
    def _numbers_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("question", "answer")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty: write its text")
        return value

    @field_validator("view_pixels", mode="before")
    @classmethod
    def _a_positive_number(cls, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, int | float) and value < 1):
            raise ValueError(f"is {value!r}, not a number of pixels")
        return value

    @field_validator("regions", mode="before")
    @classmethod
    def _flat_boxes_are_one_level(cls, value: Any) -> Any:
        """Accepts [[x1, y1, x2, y2], ...] too: each box a region with one level."""
        if isinstance(value, list):
            return [[region] if _is_flat_box(region) else region for region in value]
        return value

    @model_validator(mode="after")
    def _answer_is_a_choice(self) -> QuestionRow:
        choices = self.lettered_choices()
        if choices is not None and not choices:
            raise ValueError("choices are empty: write the options, or leave the key out of an open question")
        if choices is not None and self.answer not in choices:
            matches = [letter for letter, text in choices.items() if text == self.answer]
            if len(matches) != 1:
                raise ValueError(
                    f"answer {self.answer!r} is not one of the choices {list(choices)}: "
                    "write the letter of the right choice, or its exact text"
                )
        return self

    def lettered_choices(self) -> dict[str, str] | None:
        """The choices by letter; a list gets A, B, C, ..."""
        if self.choices is None or isinstance(self.choices, dict):
            return self.choices
        return dict(zip(choice_letters(len(self.choices)), self.choices, strict=True))

    def answer_letter_or_text(self) -> str:
        """The letter of the right choice, or the answer as written for an open question."""
        choices = self.lettered_choices()
        if choices is None or self.answer in choices:
            return self.answer
        return next(letter for letter, text in choices.items() if text == self.answer)

    def boxes(self) -> tuple[Region, ...]:
        """The true regions as boxes; raises ValueError naming the region that is not one."""
        regions = []
        for number, levels in enumerate(self.regions or [], start=1):
            if not levels:
                raise ValueError(f"region {number} has no box: remove it, or give it [x1, y1, x2, y2]")
            try:
                regions.append(tuple(Box(*corners) for corners in levels))
            except ValueError as error:
                raise ValueError(f"region {number}: {error}") from None
        return tuple(regions)


def row_of(question: Question, image: str, other_images: Sequence[str] = ()) -> dict[str, Any]:
    """A question as a row of a JSONL file, keys without a value left out.

    Args:
        question: any.
        image: its picture's path, relative to the file.
        other_images: those of its further pictures.
    """
    row = {
        "id": question.id,
        "image": image,
        "question": question.text,
        "choices": dict(question.choices) if question.choices is not None else None,
        "answer": question.answer,
        "regions": [[list(box.corners) for box in levels] for levels in question.regions] or None,
        "category": question.category,
        "view_pixels": question.view_pixels,
        "points": None if question.points is None else [list(point.coordinates) for point in question.points],
        "tags": dict(question.tags) or None,
        "other_images": list(other_images) or None,
    }
    return {key: value for key, value in row.items() if value is not None}


def _is_flat_box(region: object) -> bool:
    return isinstance(region, list | tuple) and len(region) == 4 and all(isinstance(c, int | float) for c in region)
