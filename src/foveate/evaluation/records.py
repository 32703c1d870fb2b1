"""An evaluation folder read back: scores, what every question led to, and its pictures. Errors say how to mend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from foveate.evaluation.folder import (
    AGAIN,
    PICTURES,
    QUESTIONS,
    SCORES,
    EvaluationFolderError,
    read_lines,
    read_object,
    read_questions,
)
from foveate.evaluation.gains import Gains
from foveate.evaluation.looking import Verdict
from foveate.evaluation.official import Figure
from foveate.evaluation.scoring import Scored, Summary
from foveate.evaluation.statistics import Interval


class _Row(BaseModel):
    """Other keys are passed over: a later version may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PictureRow(_Row):
    """A row of `pictures.jsonl`: data URLs."""

    id: str
    picture: str | None = None
    crops: tuple[str, ...] = ()


class ProbeRecord(_Row):
    """What became of the accuracy under a probe, of a `looking.ProbeFigure` what is shown."""

    accuracy: float | None = None
    interval: Interval | None = None
    change: float | None = None
    questions: int


class DependenceRecord(_Row):
    """How much the answers depend on what was looked at, as `looking.Looking` says it."""

    value: float | None = None
    interval: Interval | None = None
    verdict: Verdict


class OfficialRecord(_Row):
    """A benchmark's figures, as its own authors count them."""

    benchmark: str
    figures: dict[str, Figure]


class AnswererRecord(_Row):
    """The model that answered, where it is another than the one that located."""

    model: str


class ScoresRecord(_Row):
    """`scores.json`."""

    model: str
    answerer: AnswererRecord | None = None
    foveate: dict[str, Any] = {}
    summary: Summary
    failed: int = 0
    by_category: dict[str, Summary] = {}
    probes: dict[str, ProbeRecord] = {}
    look_dependence: DependenceRecord | None = None
    gain_harm: Gains | None = None
    official: OfficialRecord | None = None
    curves: dict[str, tuple[tuple[float, float], ...]] = {}
    seconds_per_question: float | None = None
    setup: dict[str, Any] = {}
    recipe: str | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The model; or the one that located, and the one that answered."""
        return (self.model, self.answerer.model) if self.answerer else (self.model,)


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
    questions: tuple[Scored, ...]
    cut: bool

    def pictures(self) -> Mapping[str, PictureRow]:
        """The thumbnails by question; empty where none were kept.

        Raises:
            EvaluationFolderError: a line of the file cannot be read.
        """
        return {row.id: row for _, row in read_lines(self.folder / PICTURES, TypeAdapter(PictureRow))[0]}


def read_runs(folders: Sequence[str | Path]) -> list[Recorded]:
    """Reads evaluation folders, each named by its model (two as A + B: A located, B answered), or by its folder where
    models have the same name.

    Raises:
        EvaluationFolderError: not an evaluation folder, or a file in it is broken.
    """
    paths = [Path(folder) for folder in folders]
    whole = [path.resolve() for path in paths]
    if twice := next((path for i, path in enumerate(paths) if whole[i] in whole[:i]), None):
        raise EvaluationFolderError(f"{twice} is given twice: name each evaluation once")
    read = [(path, _scores(path), *_questions(path)) for path in paths]
    names = _names([(path, scores.models) for path, scores, _, _ in read])
    return [
        Recorded(path, name, scores, questions, cut)
        for name, (path, scores, questions, cut) in zip(names, read, strict=True)
    ]


def _names(given: Sequence[tuple[Path, Sequence[str]]]) -> list[str]:
    """The shortest that tells them apart: the models' last parts, the folder's name, the whole folder."""
    ways = (
        [" + ".join(model.rstrip("/").rsplit("/", 1)[-1] for model in models) for _, models in given],
        [path.resolve().name for path, _ in given],
        [str(path) for path, _ in given],
    )
    return next(names for names in ways if len(set(names)) == len(given) or names is ways[-1])


def _scores(folder: Path) -> ScoresRecord:
    _check(folder)
    return read_object(folder / SCORES, TypeAdapter(ScoresRecord), f"Evaluate again: {AGAIN}")


def _check(folder: Path) -> None:
    if folder.is_file():
        raise EvaluationFolderError(f"{folder} is a file: name the folder of the evaluation, which holds {SCORES}")
    if not folder.is_dir():
        raise EvaluationFolderError(f"{folder}: there is no such folder. An evaluation makes one: {AGAIN}")
    if not (folder / SCORES).is_file():
        if any((folder / name).is_file() for name in ("run.json", "recipe.yaml", "metrics.jsonl")):
            mend = f"foveate eval --model {folder} --data DATA --out {folder}-scores"
            raise EvaluationFolderError(f"{folder} is a training run: evaluate it first: {mend}")
        raise EvaluationFolderError(
            f"{folder} is not an evaluation folder, it has no {SCORES}. An evaluation makes one: {AGAIN}"
        )
    if not (folder / QUESTIONS).is_file():
        raise EvaluationFolderError(f"{folder} has no {QUESTIONS}, the evaluation's questions. Evaluate again: {AGAIN}")


def _questions(folder: Path) -> tuple[tuple[Scored, ...], bool]:
    file = folder / QUESTIONS
    questions, cut = read_questions(file)
    if not questions:
        raise EvaluationFolderError(f"{file} holds no question. Evaluate again: {AGAIN}")
    return tuple(questions.values()), cut
