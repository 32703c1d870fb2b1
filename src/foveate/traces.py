"""Episodes as rows of a JSONL file, for people and viewers to look at later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foveate.episodes import Episode


def episode_record(episode: Episode) -> dict[str, Any]:
    """One episode as plain data. Boxes and points are in original pixels; pictures are named by the question's id."""
    return {
        "question": episode.question.id,
        "text": episode.question.text,
        "expected": episode.question.answer,
        "answer": episode.answer,
        "stop": episode.stop.value,
        "image_size": episode.image_size,
        "turns": [
            {
                "text": turn.completion.text,
                "tokens": turn.completion.tokens,
                "finish": turn.completion.finish_reason.value,
                "problem": turn.problem.value if turn.problem else None,
                "boxes": [list(box.corners) for box in turn.boxes],
                "points": [list(point.coordinates) for point in turn.points],
                "views": [
                    {"source": list(view.source.corners), "shown": list(view.size)} for view in turn.context.views
                ],
            }
            for turn in episode.turns
        ],
    }


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends one JSON object a line, in one write."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def replace_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a file anew; a crash leaves the old one or the new one."""
    replacement = path.with_suffix(".tmp")
    replacement.unlink(missing_ok=True)
    append_rows(replacement, rows)
    replacement.replace(path)


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes one JSON object for people to read; a crash leaves the old file or the new one."""
    replacement = path.with_suffix(".tmp")
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    replacement.write_text(text, encoding="utf-8")
    replacement.replace(path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last line that a crash cut off is left out.

    Raises:
        ValueError: a line before the last is not JSON.
    """
    # Bytes: text would also be split at U+2028 and its kin, and cut within a character it could not be read at all.
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n") if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line.decode()))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
    return rows


def drop_rows_from(path: Path, step: int) -> None:
    """Removes the rows of `step` and later, which a resumed run will write again."""
    if path.exists():
        replace_rows(path, [row for row in read_rows(path) if row["step"] < step])
