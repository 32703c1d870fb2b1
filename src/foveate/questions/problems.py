"""What is wrong with rows of a data file, and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.errors import FoveateError

_KINDS = {
    str: "text",
    bytes: "bytes",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a row.

    Attributes:
        field: the key it concerns, with the place inside (`regions[0][1]`); None for the row as a whole.
        what: what is wrong.
        mend: what to do about it.
    """

    field: str | None
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.field + ' ' if self.field else ''}{self.what}. Mend: {self.mend}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, or (among the warnings) one that can but looks wrong.

    Attributes:
        number: the line of a JSONL file, the row of a Parquet file; from 1.
        problems: everything found in it, not just the first.
        raw: the row as it was written, without embedded image bytes.
        file: the file it is in, where the data are in several.
    """

    number: int
    problems: tuple[Problem, ...]
    raw: str
    file: str | None = None

    def as_json(self) -> dict[str, object]:
        """`row` and `reasons`, each with `field`, `what` and `mend`; `file` where the data are in several."""
        return {
            **({"file": self.file} if self.file is not None else {}),
            "row": self.number,
            "reasons": [{"field": p.field, "what": p.what, "mend": p.mend} for p in self.problems],
        }


class QuestionFileError(FoveateError, ValueError):
    """A file, or rows of it, that cannot be used.

    Attributes:
        bad_rows: all of them, also those that the message leaves out; empty when it is about the file as a whole.
    """

    def __init__(self, message: str, bad_rows: tuple[BadRow, ...] = ()) -> None:
        super().__init__(message)
        self.bad_rows = bad_rows


def row_unit(file: Path) -> str:
    """What the number of a row counts in this file: lines in JSONL and TSV, rows in all others."""
    return "line" if file.suffix.lower() in (".jsonl", ".ndjson", ".tsv") else "row"


def list_rows(file: Path, rows: Sequence[BadRow], limit: int | None = None) -> str:
    """The problems of rows, one a line, those of the same wording together: `line 3: question is missing. Mend: ...`.

    Args:
        file: where they stand: in lines of a JSONL file, rows of a Parquet file.
        rows: the rows.
        limit: how many lines to write, and how many row numbers in each, before counting the rest; None for all.
    """
    rows_of: dict[tuple[str | None, str], list[int]] = {}
    for row in rows:
        for problem in row.problems:
            rows_of.setdefault((row.file, str(problem)), []).append(row.number)
    lines = []
    for (inner, wording), numbers in list(rows_of.items())[:limit]:
        unit = f"{inner}, {row_unit(Path(inner))}" if inner else row_unit(file)
        named = ", ".join(map(str, numbers[:limit]))
        more = f" and {len(numbers) - limit} more" if limit is not None and len(numbers) > limit else ""
        lines.append(f"  {unit}{'s' if len(numbers) > 1 else ''} {named}{more}: {wording}")
    if limit is not None and len(rows_of) > limit:
        lines.append(f"  ... and {len(rows_of) - limit} more problems: `foveate data check` lists them all")
    return "\n".join(lines)


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), type(value).__name__)
