"""The report of a run: one HTML file that needs nothing else, for a person who knows nothing of the method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from foveate.episodes import Episode
from foveate.evaluation.charts import HEIGHT, LEFT, RIGHT, WIDTH, draw_curves, shown
from foveate.evaluation.grounding import IOG_THRESHOLD, iog_hit
from foveate.evaluation.pictures import data_url
from foveate.evaluation.runner import Evaluation
from foveate.evaluation.scoring import Summary
from foveate.evaluation.templating import template
from foveate.images import View, open_image
from foveate.protocols.base import StopReason
from foveate.questions.schema import Question
from foveate.regions import Box, Size
from foveate.rewards import accuracy

_VIEW_SIDE, _ORIGINAL_SIDE = 448, 480
"""Longest side, in pixels, at which a view and an original are put into the file."""
_LONGEST_TEXT = 160
"""Characters of a reply that are shown."""
_CROPS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One held-out question, and what the model did with it before and after training."""

    question: Question
    before: Episode
    after: Episode


@dataclass(frozen=True, slots=True)
class Mark:
    """A box on a picture, in percent of its sides; `tag` says where its name is written, if anywhere."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the report; `pixelated` ones are enlarged without smoothing."""

    url: str
    width: int
    height: int
    alt: str
    pixelated: bool
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What the model did with a question."""

    view: Picture | None
    wrote: str | None
    crops: tuple[Picture, ...]
    found: bool | None
    answer: str | None
    right: bool
    note: str | None
    turns: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a figure's values, each with its interval, in the order of the columns."""

    title: str
    hint: str
    cells: tuple[tuple[str, str], ...]


_ROWS = (
    ("accuracy", "Right answers", "share of attempts", True),
    ("iog30", "Looked in the right place", "IoG > 0.3: a box covers over 30 % of what has to be seen", True),
    ("mean_iou", "How tightly", "mean IoU of the box with the true region, 0 to 1", False),
    ("box_area", "Size of the box", "share of the picture", True),
    ("valid_boxes", "Usable boxes", "share of attempts", True),
)


def first_cases(before: Evaluation, after: Evaluation, count: int = 12) -> list[Case]:
    """The first `count` questions of two evaluations of the same questions, each with its first episode: not picked.

    Raises:
        ValueError: the evaluations kept episodes of different questions.
    """
    cases = []
    for first, second in list(zip(before.groups, after.groups, strict=False))[:count]:
        if first.question.id != second.question.id:
            raise ValueError(f"not the same questions: {first.question.id!r} before, {second.question.id!r} after")
        cases.append(Case(first.question, first.episodes[0], second.episodes[0]))
    return cases


def write_report(
    path: str | Path,
    *,
    title: str,
    before: Mapping[str, Summary],
    after: Mapping[str, Summary],
    curves: Sequence[Mapping[str, Any]] = (),
    cases: Sequence[Case] = (),
    facts: Mapping[str, object] | None = None,
    cases_note: str = "These are the first scenes of the held-out set, in order: none was picked.",
) -> Path:
    """Writes the report: one file without scripts and without a link to anything outside it.

    Args:
        path: of the HTML file; its folder is made.
        title: the heading.
        before: summaries by decoding (`"sampled"`, `"greedy"`), before training; the first one makes the headline.
        after: the same keys, after training.
        curves: metrics in the order of the steps (`step` and any of `reward, accuracy, iog30, mean_iou, box_area,
            valid_boxes, kl`).
        cases: scenes to show side by side.
        facts: how the figures were made: command, seed, sizes.
        cases_note: how the scenes were chosen.

    Returns:
        The path.

    Raises:
        ValueError: `before` and `after` have different keys, or none.
        ImageError: a case's original cannot be opened.
    """
    if not before or list(before) != list(after):
        raise ValueError(f"needs the same decodings before and after, not {list(before)} and {list(after)}")
    scenes = [_scene(number, case) for number, case in enumerate(cases, start=1)]
    shown_well = [s for s in scenes if s["after"].right and s["after"].found and len(s["after"].crops) == 1]
    example = shown_well[0] if shown_well else None
    html = template("report.html.j2").render(
        title=title,
        decodings=list(before),
        headline=_headline(before, after),
        rows=_rows(before, after),
        questions=next(iter(after.values())).questions,
        curves=draw_curves(curves),
        chart={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT},
        scenes=scenes,
        example=example,
        bare=_unmarked(example["after"].view) if example else None,
        pointed=_unmarked(example["after"].view, but="predicted") if example else None,
        facts=dict(facts or {}),
        cases_note=cases_note,
    )
    report = Path(path)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(html, encoding="utf-8")
    return report


def _headline(before: Mapping[str, Summary], after: Mapping[str, Summary]) -> list[dict[str, str]]:
    """The two figures that matter, with the first decoding."""
    start, end = next(iter(before.values())), next(iter(after.values()))
    tiles = []
    for name, title, _, percent in _ROWS[:2]:
        if start.figure(name) is not None and end.figure(name) is not None:
            was, now = _cell(start, name, percent), _cell(end, name, percent)
            tiles.append(
                {"title": title, "was": was[0], "now": now[0], "intervals": f"{was[1]} before, {now[1]} after"}
            )
    return tiles


def _rows(before: Mapping[str, Summary], after: Mapping[str, Summary]) -> list[Row]:
    columns = [summary for decoding in before for summary in (before[decoding], after[decoding])]
    return [
        Row(title, hint, tuple(_cell(summary, name, percent) for summary in columns))
        for name, title, hint, percent in _ROWS
        if any(summary.figure(name) is not None for summary in columns)
    ]


def _cell(summary: Summary, name: str, percent: bool) -> tuple[str, str]:
    value = summary.figure(name)
    if value is None:
        return "none", ""
    low, high = (shown(end, percent).removesuffix(" %") for end in summary.intervals[name])
    return shown(value, percent), f"{low}\u2013{high}"


def _scene(number: int, case: Case) -> dict[str, Any]:
    question = case.question
    image = open_image(question.image)
    boxes = [(region[0], "true") for region in question.regions]
    boxes += [(box, "before") for box in case.before.boxes] + [(box, "after") for box in case.after.boxes]
    marks = tuple(_mark(box, image.size, kind) for box, kind in boxes)
    alt = f"Scene {number}, the original of {image.width} by {image.height} pixels, scaled down"
    after = _look(number, question, case.after, "after training")
    return {
        "number": number,
        "question": question.text,
        "choices": question.choices,
        "expected": _named(question.answer, question),
        "size": image.size,
        "original": _picture(image, _ORIGINAL_SIDE, alt, marks),
        "before": _look(number, question, case.before, "before training"),
        "after": after,
    }


def _look(number: int, question: Question, episode: Episode, when: str) -> Look:
    located = next((turn for turn in episode.turns if turn.located), None)
    views = episode.turns[0].context.views if episode.turns else ()
    crops = [
        view
        for turn in episode.turns[1:]
        for view in turn.context.views
        if view.source != Box(0, 0, *view.original_size)  # the full image, kept or fallen back on
    ]
    seen = f"Scene {number} {when}"
    alt = f"{seen}: the small view that the model saw, with {len(episode.boxes)} predicted and the true boxes"
    return Look(
        view=_view_picture(views[0], alt, question, episode.boxes) if views else None,
        wrote=_short(located.completion.text) if located else None,
        crops=tuple(
            _picture(crop.image, _VIEW_SIDE, f"{seen}: the crop that the model got") for crop in crops[:_CROPS_SHOWN]
        ),
        found=iog_hit(episode.boxes, question.regions, IOG_THRESHOLD) == 1 if located and question.regions else None,
        answer=None if episode.answer is None else _short(_named(episode.answer, question)),
        right=bool(accuracy(episode)),
        note=_note(episode),
        turns=len(episode.turns),
    )


def _view_picture(view: View, alt: str, question: Question, boxes: Sequence[Box]) -> Picture:
    placed = [(region[0], "true") for region in question.regions] + [(box, "predicted") for box in boxes]
    marks = tuple(_mark(view.from_original(box), view.size, kind) for box, kind in placed)
    return _picture(view.image, _VIEW_SIDE, alt, marks)


def _picture(image: Image.Image, longest: int, alt: str, marks: tuple[Mark, ...] = ()) -> Picture:
    """Small pictures keep their very pixels; large ones are scaled down and compressed."""
    if max(image.size) <= longest // 2:
        return Picture(data_url(image, "PNG"), *image.size, alt, pixelated=True, marks=marks)
    small = image.copy()
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return Picture(data_url(small, "JPEG"), *small.size, alt, pixelated=False, marks=marks)


def _unmarked(picture: Picture, but: str = "") -> Picture:
    """The picture without marks, but for those of one kind."""
    return dataclasses.replace(picture, marks=tuple(mark for mark in picture.marks if mark.kind == but))


def _mark(box: Box, size: Size, kind: str) -> Mark:
    part = (box.clipped(size) or box).scaled(100 / size[0], 100 / size[1])
    x, y, width, height = (round(v, 2) for v in (part.x1, part.y1, part.width, part.height))
    if kind not in ("before", "after"):
        return Mark(kind, x, y, width, height)
    above = y > 8 if kind == "after" else y + height > 92  # often both lie on the same place: one above, one below
    tag = f"{'above' if above else 'below'} {'leftwards' if x > 70 else 'rightwards'}"
    return Mark(kind, x, y, width, height, tag)


def _note(episode: Episode) -> str | None:
    match episode.stop:
        case StopReason.NO_REGION:
            return "No usable box, so no crop and no answer"
        case StopReason.UNPARSED:
            return "No answer could be read from its reply"
        case _:
            return None


def _named(answer: str, question: Question) -> str:
    """A letter with its choice, an open answer as it is."""
    return f"{answer} ({question.choices[answer]})" if question.choices and answer in question.choices else answer


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "\u2026"
