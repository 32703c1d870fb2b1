"""An evaluation folder read back: scores, what every question led to, and its pictures. Errors say how to mend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foveate.evaluation.folder import PICTURES, QUESTIONS, SCORES, EvaluationFolderError
from foveate.protocols.base import StopReason

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 of a box in original pixels."""


class _Row(BaseModel):
    """Other keys are passed over: a later version may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class LookRow(_Row):
    """How well an attempt looked, as `evaluation.grounding.Grounding`."""

    iog30: float | None = None
    mean_iou: float | None = None
    box_area: float | None = None
    boxes: int | None = None
    valid_boxes: bool | None = None


class AttemptRow(_Row):
    """One answer to a question, with the replies that led to it."""

    right: bool
    answer: str | None = None
    stop: str
    boxes: tuple[Corners, ...] = ()
    texts: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    tokens: float = 0
    visual_tokens: float | None = None
    grounding: LookRow = LookRow()

    @property
    def failed(self) -> bool:
        """Whether a turn got no reply: that says nothing of the model, and counts for nothing."""
        return self.stop == StopReason.FAILED

    @property
    def found(self) -> bool | None:
        """Whether every true region was covered (IoG > 0.3); None where that is not known."""
        return None if self.failed or self.grounding.iog30 is None else self.grounding.iog30 == 1


class QuestionRecord(_Row):
    """A row of `questions.jsonl`."""

    id: str
    text: str
    choices: dict[str, str] | None = None
    category: str | None = None
    tags: dict[str, Any] = {}
    expected: str
    regions: tuple[tuple[Corners, ...], ...] = ()
    image_size: tuple[float, float] | None = None
    attempts: tuple[AttemptRow, ...] = Field(min_length=1)

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for the same question of two runs; an id alone may stand for another question in other data."""
        return self.id, self.text, self.expected


class PictureRow(_Row):
    """A row of `pictures.jsonl`: data URLs."""

    id: str
    picture: str | None = None
    crops: tuple[str, ...] = ()


class SummaryRecord(_Row):
    """The figures of a set of questions, as `evaluation.runner.Summary` writes them."""

    accuracy: float | None = None
    iog30: float | None = None
    mean_iou: float | None = None
    box_area: float | None = None
    boxes: float | None = None
    valid_boxes: float | None = None
    questions: int
    intervals: dict[str, tuple[float, float]] = {}


class ProbeRecord(_Row):
    """What became of the accuracy under a probe."""

    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    change: float | None = None
    questions: int = 0
    title: str | None = None


class VerdictRecord(_Row):
    """A judgement in words."""

    title: str
    because: str = ""


class DependenceRecord(_Row):
    """How much the answers depend on what was looked at."""

    value: float | None = None
    interval: tuple[float, float] | None = None
    verdict: VerdictRecord | None = None


class GainHarmRecord(_Row):
    """How many answers were right with and without looking closer: both, only with, only without, neither."""

    both: float
    gain: float
    harm: float
    neither: float


class OfficialFigure(_Row):
    """One figure of a benchmark, a share."""

    value: float | None = None
    interval: tuple[float, float] | None = None


class OfficialRecord(_Row):
    """A benchmark's figures, as its own authors count them."""

    benchmark: str
    figures: dict[str, OfficialFigure] = {}


class ScoresRecord(_Row):
    """`scores.json`."""

    model: str
    foveate: dict[str, Any] = {}
    summary: SummaryRecord
    failed: int = 0
    by_category: dict[str, SummaryRecord] = {}
    probes: dict[str, ProbeRecord] = {}
    look_dependence: DependenceRecord | None = None
    gain_harm: GainHarmRecord | None = None
    official: OfficialRecord | None = None
    curves: dict[str, tuple[tuple[float, float], ...]] = {}
    seconds_per_question: float | None = None
    setup: dict[str, Any] = {}
    recipe: Any = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One evaluation, read back.

    Attributes:
        folder: where it lies.
        name: what people call it, different for runs that are read together.
        scores: the figures as they were written.
        questions: one per question, in order.
        cut: whether the last line of the questions was half written, and left out.
    """

    folder: Path
    name: str
    scores: ScoresRecord
    questions: tuple[QuestionRecord, ...]
    cut: bool

    def pictures(self) -> Mapping[str, PictureRow]:
        """The thumbnails by question; empty where none were kept.

        Raises:
            EvaluationFolderError: a line of the file cannot be read.
        """
        file = self.folder / PICTURES
        if not file.is_file():
            return {}
        return {row.id: row for _, row in _rows(file, PictureRow)[0]}


def read_runs(folders: Sequence[str | Path]) -> list[Recorded]:
    """Reads evaluation folders, each named by its model, or by its folder where models have the same name.

    Raises:
        EvaluationFolderError: not an evaluation folder, or a file in it is broken.
    """
    paths = [Path(folder) for folder in folders]
    whole = [path.resolve() for path in paths]
    if twice := next((path for i, path in enumerate(paths) if whole[i] in whole[:i]), None):
        raise EvaluationFolderError(f"{twice} is given twice: name each evaluation once")
    read = [(path, _scores(path), *_questions(path)) for path in paths]
    names = _names([(path, scores.model) for path, scores, _, _ in read])
    return [
        Recorded(path, name, scores, questions, cut)
        for name, (path, scores, questions, cut) in zip(names, read, strict=True)
    ]


def _names(given: Sequence[tuple[Path, str]]) -> list[str]:
    """The shortest that tells them apart: the model's last part, the folder's name, both whole."""
    ways = (
        [model.rstrip("/").rsplit("/", 1)[-1] for _, model in given],
        [path.resolve().name for path, _ in given],
        [str(path) for path, _ in given],
    )
    return next(names for names in ways if len(set(names)) == len(given) or names is ways[-1])


def _scores(folder: Path) -> ScoresRecord:
    _check(folder)
    file = folder / SCORES
    try:
        return ScoresRecord.model_validate(_parsed(file.read_bytes()))
    except json.JSONDecodeError as error:
        raise EvaluationFolderError(
            f"{file}, line {error.lineno}: no JSON ({error.msg}). Evaluate again: {_again()}"
        ) from error
    except UnicodeDecodeError as error:
        raise EvaluationFolderError(f"{file} is not text in UTF-8. Evaluate again: {_again()}") from error
    except ValidationError as error:
        raise EvaluationFolderError(f"{file}: {_said(error)}. Evaluate again: {_again()}") from error


def _check(folder: Path) -> None:
    if folder.is_file():
        raise EvaluationFolderError(f"{folder} is a file: name the folder of the evaluation, which holds {SCORES}")
    if not folder.is_dir():
        raise EvaluationFolderError(f"{folder}: there is no such folder. An evaluation makes one: {_again()}")
    if not (folder / SCORES).is_file():
        if any((folder / name).is_file() for name in ("run.json", "recipe.yaml", "metrics.jsonl")):
            mend = f"foveate eval --model {folder} --data DATA --out {folder}-scores"
            raise EvaluationFolderError(f"{folder} is a training run: evaluate it first: {mend}")
        raise EvaluationFolderError(
            f"{folder} is not an evaluation folder, it has no {SCORES}. An evaluation makes one: {_again()}"
        )
    if not (folder / QUESTIONS).is_file():
        raise EvaluationFolderError(
            f"{folder} has no {QUESTIONS}, the evaluation's questions. Evaluate again: {_again()}"
        )


def _again() -> str:
    return "foveate eval --model MODEL --data DATA --out FOLDER"


def _questions(folder: Path) -> tuple[tuple[QuestionRecord, ...], bool]:
    file = folder / QUESTIONS
    rows, cut = _rows(file, QuestionRecord)
    lines: dict[str, int] = {}
    for number, row in rows:
        if row.id in lines:
            raise EvaluationFolderError(
                f"{file}, line {number}: question {row.id!r} is on line {lines[row.id]} already. Delete one of the two"
            )
        lines[row.id] = number
    if not rows:
        raise EvaluationFolderError(f"{file} holds no question. Evaluate again: {_again()}")
    return tuple(row for _, row in rows), cut


_R = TypeVar("_R", bound=_Row)


def _rows(file: Path, schema: type[_R]) -> tuple[list[tuple[int, _R]], bool]:
    """The rows with their line numbers, and whether a half-written one at the end was left out."""
    rows: list[tuple[int, _R]] = []
    for number, line, last in _lines(file):
        try:
            rows.append((number, schema.model_validate(_parsed(line))))
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or not such a row
            if last and not isinstance(error, ValidationError):
                return rows, True
            what = _said(error) if isinstance(error, ValidationError) else "no JSON"
            raise EvaluationFolderError(
                f"{file}, line {number}: {what}. Delete the line, or evaluate again: {_again()}"
            ) from error
    return rows, False


def _parsed(text: bytes) -> Any:
    """JSON with "?" for halves of surrogate pairs, which replies may hold and no file in UTF-8 can."""
    value = json.loads(text.decode("utf-8"))
    if b"\\ud" in text.lower():
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace"))
    return value


def _lines(file: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Each line that is not empty: its number, its bytes, and whether the file ends within it."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line, not line.endswith(b"\n")


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the row'}: {first['msg'].lower()}"
