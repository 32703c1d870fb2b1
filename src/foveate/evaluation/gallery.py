"""The gallery of a comparison: every question with what each run made of it, as JSON, within a number of bytes."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from foveate.evaluation.contrasts import Key, key_of
from foveate.evaluation.pictures import thumbnail
from foveate.evaluation.records import Recorded
from foveate.evaluation.scoring import Scored
from foveate.regions import Corners, Size

PAGE_BYTES = 15_000_000
"""No page is larger: such a file still opens at once and can be sent by mail."""
_REST_BYTES = 400_000
"""Of the page, for all but the gallery."""
_TEXT_BYTES = 6_000_000
"""Of the page, for the words of questions and replies."""
_LONGEST = (20_000, 4000, 2000, 1000, 500, 250, 120)
"""Characters of a reply: the first of these with which the words fit."""
_SMALLER = ((168, 112, 45), (144, 96, 40), (112, 80, 35), (96, 64, 25))
"""Longest side of a picture, of a crop, and the quality of both: the first with which the pictures fit."""
_BOXES, _PROBED = 12, 40
"""Boxes of an attempt that are drawn; questions whose pictures are made smaller to see how much that saves."""
_CHUNK = 50
"""Questions whose pictures are decoded together, when the first of them is scrolled near."""
_PICTURE = re.compile(r"data:image/(?:webp|png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")
_DECODABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the page holds of the gallery.

    Attributes:
        data: questions and runs, as JSON that can stand in a script tag.
        pictures: the same of pictures, in chunks of questions.
        categories: in order, "" for questions without one.
        stops: reasons for which episodes ended, in order.
        questions: how many different ones there are.
        samples: the most attempts at a question.
        notes: what was left out, in plain words.
    """

    data: str
    pictures: tuple[str, ...]
    categories: tuple[str, ...]
    stops: tuple[str, ...]
    questions: int
    samples: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Card:
    """A question, and each run's row of it."""

    question: Scored
    rows: tuple[Scored | None, ...]


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Data URLs of a question: one picture for all runs, and the crops of each."""

    picture: str | None
    crops: tuple[tuple[str, ...], ...]

    @property
    def bytes(self) -> int:
        return len(self.picture or "") + sum(len(crop) for run in self.crops for crop in run)


def build_gallery(runs: Sequence[Recorded], page_bytes: int = PAGE_BYTES) -> Gallery:
    """Every question of the runs once, in the order of the first run that has it.

    Args:
        runs: in the order of the page.
        page_bytes: of the whole page.

    Raises:
        EvaluationFolderError: a file of pictures cannot be read.
    """
    cards = _cards(runs)
    data, kept, notes = _words(runs, cards, _TEXT_BYTES * page_bytes // PAGE_BYTES)
    left = page_bytes - _REST_BYTES * page_bytes // PAGE_BYTES - len(data)
    pictures, more = _fitted(_pictures(runs, cards[:kept]), left)
    attempts = [attempt for card in cards for row in card.rows if row for attempt in row.attempts[:1]]
    return Gallery(
        data=data,
        pictures=tuple(_chunk(pictures, start) for start in range(0, len(pictures), _CHUNK)),
        categories=tuple(sorted({card.question.category or "" for card in cards})),
        stops=tuple(sorted({attempt.stop for attempt in attempts})),
        questions=len(cards),
        samples=max(len(row.attempts) for card in cards for row in card.rows if row),
        notes=(*notes, *more),
    )


def safe_json(value: object) -> str:
    """JSON that can stand in a script tag: nothing in it ends the tag, and all of it is printable ASCII."""
    written = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _cards(runs: Sequence[Recorded]) -> list[_Card]:
    rows: dict[Key, list[Scored | None]] = {}
    for i, run in enumerate(runs):
        for question in run.questions:
            rows.setdefault(key_of(question), [None] * len(runs))[i] = question
    return [_Card(next(row for row in found if row), tuple(found)) for found in rows.values()]


def _words(runs: Sequence[Recorded], cards: Sequence[_Card], budget: int) -> tuple[str, int, list[str]]:
    """All but the pictures, the number of questions in it, and what had to be left out."""
    for longest in _LONGEST:
        written = [safe_json(_card(card, longest)) for card in cards]
        if sum(map(len, written)) <= budget:
            break
    kept, size = 0, 0
    while kept < len(written) and size + len(written[kept]) < budget:
        size += len(written[kept])
        kept += 1
    notes = [f"Replies are cut after {longest:,} characters."] if longest < _LONGEST[0] else []
    if kept < len(cards):
        notes.append(f"The first {kept:,} of {len(cards):,} questions are shown: more would make the page too large.")
    named = safe_json([run.name for run in runs])
    return f'{{"runs":{named},"chunk":{_CHUNK},"questions":[{",".join(written[:kept])}]}}', kept, notes


def _card(card: _Card, longest: int) -> dict[str, Any]:
    question = card.question
    size = question.image_size or next((row.image_size for row in card.rows if row and row.image_size), None)
    regions = next((row.regions for row in card.rows if row and row.regions), ())
    words = max(longest, 1000)
    return {
        "id": question.id,
        "text": _cut(question.text, words),
        "choices": [[letter, _cut(text, words)] for letter, text in (question.choices or {}).items()],
        "category": question.category or "",
        "tags": [_cut(f"{name}: {value}", 60) for name, value in question.tags.items()],
        "expected": _cut(question.expected, words),
        "size": size,
        "true": [place for region in regions if region and (place := _place(region[0], size))],
        "runs": [row and _answer(row, size, longest) for row in card.rows],
    }


def _answer(row: Scored, size: Size | None, longest: int) -> dict[str, Any]:
    first = row.attempts[0]
    covered = first.grounding.iog30
    return {
        "state": "right" if first.right else "wrong",
        "place": "unknown" if covered is None else "right" if covered == 1 else "wrong",
        "stop": first.stop,
        "answer": None if first.answer is None else _cut(first.answer, longest),
        "boxes": [place for box in first.boxes[:_BOXES] if (place := _place(box, size))],
        "texts": [_cut(text, longest) for text in first.texts],
        "problems": list(first.problems),
        "costs": f"{first.tokens:,} tokens written, {first.visual_tokens:,} visual tokens read",
        "right": sum(attempt.right for attempt in row.attempts),
        "attempts": len(row.attempts),
    }


def _place(box: Corners, size: Size | None) -> list[float] | None:
    """left, top, width and height in percent of the picture; None for what is not on it."""
    if size is None or min(size) <= 0:
        return None
    left, top, right, bottom = (
        min(max(100 * value / side, 0), 100) for value, side in zip(box, (*size, *size), strict=True)
    )
    return [round(v, 2) for v in (left, top, right - left, bottom - top)] if right >= left and bottom >= top else None


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"


def _pictures(runs: Sequence[Recorded], cards: Sequence[_Card]) -> list[_Pictures]:
    kept = [run.pictures() for run in runs]

    def of(card: _Card) -> _Pictures:
        rows = [read.get(row.id) if row else None for read, row in zip(kept, card.rows, strict=True)]
        first = next((row.picture for row in rows if row and _is_picture(row.picture)), None)
        return _Pictures(first, tuple(tuple(filter(_is_picture, row.crops if row else ())) for row in rows))

    return [of(card) for card in cards]


def _is_picture(url: str | None) -> bool:
    return url is not None and _PICTURE.fullmatch(url) is not None


def _fitted(pictures: Sequence[_Pictures], budget: int) -> tuple[list[_Pictures], list[str]]:
    """The pictures within the budget: as they are, else smaller, and at last without those of later questions."""
    whole, notes = list(pictures), []
    if not any(one.bytes for one in whole):
        return whole, ["No pictures were kept with these evaluations."]
    budget -= 24 * len(whole) * (1 + len(whole[0].crops))  # brackets, quotes and commas
    if sum(one.bytes for one in whole) > budget:
        some = whole[:: max(1, len(whole) // _PROBED)]
        share = budget / sum(one.bytes for one in whole) * sum(one.bytes for one in some)
        sizes = next((s for s in _SMALLER if sum(_smaller(one, *s).bytes for one in some) < 0.98 * share), _SMALLER[-1])
        whole = [_smaller(one, *sizes) for one in whole]
        notes.append(f"Pictures are made smaller than they were kept ({sizes[0]} pixels): the page would be too large.")
    shown = _until([len(one.picture or "") for one in whole], budget)
    left = budget - sum(len(one.picture or "") for one in whole[:shown])
    cropped = _until([sum(len(crop) for run in one.crops for crop in run) for one in whole], left)
    fitted = [
        _Pictures(one.picture if i < shown else None, one.crops if i < cropped else ()) for i, one in enumerate(whole)
    ]
    for what, count in (("Pictures", shown), ("Crops", cropped)):
        if count < len(whole):
            notes.append(f"{what} are shown for the first {count:,} questions: more would make the page too large.")
    return fitted, notes


def _until(sizes: Sequence[int], budget: int) -> int:
    """How many of the first ones fit."""
    for i, size in enumerate(sizes):
        budget -= size
        if budget < 0:
            return i
    return len(sizes)


def _smaller(one: _Pictures, side: int, crop_side: int, quality: int) -> _Pictures:
    made = {url: _again(url, crop_side, quality) for run in one.crops for url in run}
    picture = one.picture and _again(one.picture, side, quality)
    return _Pictures(picture, tuple(tuple(url for old in run if (url := made[old])) for run in one.crops))


def _again(url: str, side: int, quality: int) -> str | None:
    """The picture again, in fewer bytes; None where it cannot be opened."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2], validate=True))) as image:
            return min(url, thumbnail(image, side, quality=quality), key=len)
    except _DECODABLE:
        return None


def _chunk(pictures: Sequence[_Pictures], start: int) -> str:
    return safe_json([[one.picture, one.crops] for one in pictures[start : start + _CHUNK]])
