"""An evaluation on disk, question by question: what was asked once is not asked again, whenever the program was ended.

A folder holds `evaluation.json` (what was asked of whom), `questions.jsonl` (a finished question a line),
`pictures.jsonl` (thumbnails of what it saw) and, at the end, `scores.json` and `failed.jsonl` (questions without an
answer for no fault of the model, each with the reason).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from foveate.errors import FoveateError
from foveate.evaluation.pictures import thumbnails_of
from foveate.evaluation.scoring import SCORED, Scored
from foveate.jsonl import append_rows, mend_rows, replace_json, replace_rows

if TYPE_CHECKING:
    from foveate.episodes import Episode

NOTE, QUESTIONS, PICTURES = "evaluation.json", "questions.jsonl", "pictures.jsonl"
SCORES, FAILED = "scores.json", "failed.jsonl"
"""The files of a folder."""
_BEFORE_NOTE = ("replies.jsonl", "answers.jsonl", "verdicts.jsonl", "evaluation.tmp")
"""What a run leaves behind that is ended while it begins."""

AGAIN = "foveate eval --model MODEL --data DATA --out FOLDER"
"""How a folder is made."""

_T = TypeVar("_T")


class EvaluationFolderError(FoveateError, ValueError):
    """A folder that cannot be gone on with, or is none; the message says what to do."""


@dataclass(frozen=True, slots=True)
class _Note:
    """`evaluation.json`."""

    inputs: dict[str, Any]
    prompts: list[list[str]]


class EvaluationFolder:
    """Where an evaluation is written down.

    Making one only looks; nothing is written or mended before `open`, which `evaluate` calls, so that what keeps others
    out (`RecordedGenerator`'s lock) can be taken in between.

    Args:
        path: of the folder; made where it is missing.
        inputs: what decides the answers: model, protocol, sampling, seed.

    Attributes:
        finished: the questions that have their answers, by id.
        prompts: what the first question was shown, turn by turn; empty before.

    Raises:
        EvaluationFolderError: it was begun with other inputs, holds something else, or a file in it is broken.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any]) -> None:
        self.path = path
        self.finished: dict[str, Scored] = {}
        self.prompts: list[list[str]] = []
        self._inputs = json.loads(json.dumps(inputs, default=str))
        self._note, self._rows, self._pictures = (path / name for name in (NOTE, QUESTIONS, PICTURES))
        if self._note.exists():
            mend = "Name another folder, or remove this one"
            self._refuse_other_inputs(read_object(self._note, TypeAdapter(_Note), mend))
        elif path.exists() and not path.is_dir():
            raise EvaluationFolderError(f"{path} is a file: name a folder")
        elif path.is_dir() and any(file.name not in _BEFORE_NOTE for file in path.iterdir()):
            raise EvaluationFolderError(f"{path} holds something that is no evaluation: name another folder")

    def open(self) -> None:
        """Reads what is finished, and makes the files ready for more. A second time it does nothing new."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in (self._rows, self._pictures):
            mend_rows(file)
        self.finished, _ = read_questions(self._rows)
        if not self._note.exists():
            self._write_note()

    def add(self, finished: Sequence[tuple[Scored, Sequence[Episode]]], prompts: Sequence[Sequence[str]]) -> None:
        """Writes questions down, with the episodes that were scored."""
        if not self.prompts:
            self.prompts = [list(turn) for turn in prompts]
            self._write_note()
        # The pictures first: whatever has a row has a picture too, and what is asked again may have two.
        append_rows(self._pictures, ({"id": scored.id, **thumbnails_of(episodes)} for scored, episodes in finished))
        append_rows(self._rows, (scored.to_json() for scored, _ in finished))
        self.finished |= {scored.id: scored for scored, _ in finished}

    def finish(self, scores: Mapping[str, Any], failed: Mapping[str, str]) -> Path:
        """Writes the scores, and which questions failed; returns the path of the scores."""
        self.list_failed(failed)
        target = self.path / SCORES
        replace_json(target, scores)
        return target

    def list_failed(self, failed: Mapping[str, str]) -> None:
        """Writes which questions failed, with the reasons."""
        replace_rows(self.path / FAILED, ({"id": name, "reason": why} for name, why in failed.items()))

    def _write_note(self) -> None:
        replace_json(self._note, {"inputs": self._inputs, "prompts": self.prompts})

    def _refuse_other_inputs(self, note: _Note) -> None:
        self.prompts = note.prompts
        for name in {**self._inputs, **note.inputs}:
            was, now = note.inputs.get(name), self._inputs.get(name)
            if was != now:
                raise EvaluationFolderError(
                    f"{self.path} was begun with another {name} ({was}, now {now}): name another folder, or remove it"
                )


def read_questions(file: Path) -> tuple[dict[str, Scored], bool]:
    """The finished questions by id, in the order of the file, and whether a half-written one at its end was left out.

    Raises:
        EvaluationFolderError: a line is no such row, or a question stands twice.
    """
    rows, cut = read_lines(file, SCORED)
    lines: dict[str, int] = {}
    for number, row in rows:
        if row.id in lines:
            raise EvaluationFolderError(
                f"{file}, line {number}: question {row.id!r} is on line {lines[row.id]} already. Delete one of the two"
            )
        lines[row.id] = number
    return {row.id: row for _, row in rows}, cut


def read_object(file: Path, schema: TypeAdapter[_T], mend: str) -> _T:
    """A file that is one JSON object.

    Args:
        file: that there is.
        schema: what it holds.
        mend: what to do where it cannot be read.

    Raises:
        EvaluationFolderError: it cannot; the message names the line and what is wrong.
    """
    try:
        return schema.validate_python(_parsed(file.read_bytes()))
    except (ValueError, RecursionError) as error:
        at = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise EvaluationFolderError(f"{file}{at}: {_said(error)}. {mend}") from error


def read_lines(file: Path, schema: TypeAdapter[_T]) -> tuple[list[tuple[int, _T]], bool]:
    """The rows of a JSONL file with their line numbers, and whether a half-written one at the end was left out.

    Args:
        file: no rows where it is missing.
        schema: what a row holds.

    Raises:
        EvaluationFolderError: a line cannot be read; the message names it and what is wrong.
    """
    rows: list[tuple[int, _T]] = []
    for number, line, last in _lines(file) if file.exists() else ():
        try:
            rows.append((number, schema.validate_python(_parsed(line))))
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or not such a row
            if last and not isinstance(error, ValidationError):
                return rows, True
            raise EvaluationFolderError(
                f"{file}, line {number}: {_said(error)}. Delete the line, or evaluate again: {AGAIN}"
            ) from error
    return rows, False


def _lines(file: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Each line that is not empty: its number, its bytes, and whether the file ends within it."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line, not line.endswith(b"\n")


def _parsed(text: bytes) -> Any:
    """JSON with "?" for halves of surrogate pairs, which it may hold and no file in UTF-8 can."""
    value = json.loads(text.decode("utf-8"), parse_constant=_refused)
    if b"\\ud" in text.lower():
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace"))
    return value


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the row'}: {first['msg'].lower()}"
    if isinstance(error, UnicodeDecodeError):
        return "no text in UTF-8"
    return f"no JSON ({error.msg})" if isinstance(error, json.JSONDecodeError) else "no JSON"
