"""An evaluation on disk, question by question: what was asked once is not asked again, whenever the program was ended.

A folder holds `evaluation.json` (what was asked of whom), `questions.jsonl` (a finished question a line),
`pictures.jsonl` (thumbnails of what it saw) and, at the end, `scores.json` and `failed.jsonl` (questions without an
answer for no fault of the model, each with the reason).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.episodes import Episode
from foveate.errors import FoveateError
from foveate.evaluation.pictures import thumbnails_of
from foveate.evaluation.scoring import Scored
from foveate.jsonl import append_rows, mend_rows, read_rows, replace_json, replace_rows

NOTE, QUESTIONS, PICTURES = "evaluation.json", "questions.jsonl", "pictures.jsonl"
SCORES, FAILED = "scores.json", "failed.jsonl"
"""The files of a folder."""
_BEFORE_NOTE = ("replies.jsonl", "verdicts.jsonl", "evaluation.tmp")
"""What a run leaves behind that is ended while it begins."""


class EvaluationFolderError(FoveateError, ValueError):
    """A folder that cannot be gone on with, or is none; the message says what to do."""


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
        EvaluationFolderError: it was begun with other inputs, or holds something else.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any]) -> None:
        self.path = path
        self.finished: dict[str, Scored] = {}
        self.prompts: list[list[str]] = []
        self._inputs = json.loads(json.dumps(inputs, default=str))
        self._note, self._rows, self._pictures = (path / name for name in (NOTE, QUESTIONS, PICTURES))
        if self._note.exists():
            self._refuse_other_inputs()
        elif path.exists() and not path.is_dir():
            raise EvaluationFolderError(f"{path} is a file: name a folder")
        elif path.is_dir() and any(file.name not in _BEFORE_NOTE for file in path.iterdir()):
            raise EvaluationFolderError(f"{path} holds something that is no evaluation: name another folder")

    def open(self) -> None:
        """Reads what is finished, and makes the files ready for more. A second time it does nothing new."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in (self._rows, self._pictures):
            mend_rows(file)
        self.finished = {row["id"]: Scored.from_json(row) for row in read_rows(self._rows)}
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

    def _refuse_other_inputs(self) -> None:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            began, self.prompts = note["inputs"], note["prompts"]
        except (ValueError, LookupError, TypeError) as error:
            raise EvaluationFolderError(
                f"{self._note} cannot be read ({error}): remove {self.path}, or name another folder"
            ) from error
        for name in {**self._inputs, **began}:
            was, now = began.get(name), self._inputs.get(name)
            if was != now:
                raise EvaluationFolderError(
                    f"{self.path} was begun with another {name} ({was}, now {now}): name another folder, or remove it"
                )
