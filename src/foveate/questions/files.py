"""The rows of a JSONL or Parquet file as they stand there, each with its place; unreadable ones with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from foveate.images import ImageSource
from foveate.questions.pictures import JsonlImage, ParquetImage, import_pyarrow, open_parquet
from foveate.questions.problems import Problem, QuestionFileError, kind
from foveate.questions.schema import QuestionRow

MAX_LINE_BYTES = 256 * 2**20
"""Longer lines are refused: they are no rows (an 8K picture as base64 takes up to 130 MB)."""
_MAX_RAW = 2**20
_LONGEST_TEXT = 100_000


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a file.

    Attributes:
        number: the line of a JSONL file (blank lines count), the row of a Parquet file; from 1.
        content: keys and values, or why there are none.
        written: the row as it stands in the file.
        embedded: what reads the row's pictures again, where their bytes are in the row: the first, then further ones.
        warning: something odd that does no harm.
        file: the file it is in, where `number` alone does not say it (data in several files).
    """

    number: int
    content: Mapping[str, Any] | Problem
    written: bytes | Mapping[str, Any]
    embedded: Sequence[ImageSource] = ()
    warning: Problem | None = None
    file: str | None = None

    @property
    def raw(self) -> str:
        """The row as text, without image bytes, and cut after a million characters."""
        if isinstance(self.written, bytes):
            return self.written[:_MAX_RAW].decode(errors="backslashreplace").rstrip("\r\n")
        return json.dumps(_without_bytes(self.written), default=str, ensure_ascii=False)[:_MAX_RAW]


def _without_bytes(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_bytes(inner) for key, inner in value.items()}
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:  # a picture as base64
        return f"<{len(value)} characters>"
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value


def raw_rows(file: Path) -> Iterator[RawRow]:
    """Every row of a file, in order; blank lines are skipped.

    Raises:
        QuestionFileError: the file as a whole cannot be read: of another format or encoding, or with columns that
            are no keys.
        ImportError: Parquet without pyarrow.
    """
    readers = {".jsonl": _jsonl_rows, ".ndjson": _jsonl_rows, ".parquet": _parquet_rows}
    if (reader := readers.get(file.suffix.lower())) is None:
        raise QuestionFileError(
            f"{file}: questions are read from {', '.join(readers)} files: convert it to one of them"
        )
    return reader(file)


def _jsonl_rows(file: Path) -> Iterator[RawRow]:
    with file.open("rb") as stream:
        _refuse_other_formats(file, stream.read(4096))
        stream.seek(0)
        number = 0
        while True:
            number, offset = number + 1, stream.tell()
            line = stream.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                _skip_line(stream, line)
                too_long = Problem(None, f"is longer than {MAX_LINE_BYTES:,} bytes", "write one question a line")
                yield RawRow(number, too_long, line)
                continue
            warning = None
            if number == 1 and line.startswith(b"\xef\xbb\xbf"):
                line, offset = line[3:], 3
                warning = Problem(None, "begins with a byte order mark", "save the file as UTF-8 without one")
            if line.strip():
                yield RawRow(number, _parsed(line), line, (JsonlImage(file, number, offset),), warning)


def _refuse_other_formats(file: Path, start: bytes) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff", b"\0")) or start[1:2] == b"\0":
        raise QuestionFileError(f"{file} is not in UTF-8 (it looks like UTF-16 or UTF-32): save it as UTF-8")
    if start.startswith(b"PAR1"):
        raise QuestionFileError(f"{file} is a Parquet file: name it .parquet")
    first = next((line.strip() for line in start.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()), b"")
    if first.startswith(b"[") or first == b"{":
        shape = "one JSON array" if first.startswith(b"[") else "JSON with objects over several lines"
        how = f"jq -c '.[]' {file.name}" if first.startswith(b"[") else f"jq -c . {file.name}"
        raise QuestionFileError(f"{file} is {shape}: write each question as an object on one line ({how})")


def _skip_line(stream: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(2**20)


def _parsed(line: bytes) -> Mapping[str, Any] | Problem:
    try:
        row = json.loads(line.decode(), object_pairs_hook=_without_repeats)
        if b"\\ud" in line.lower():  # an escape of half a character, which no tokenizer takes
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return Problem(None, f"is not UTF-8 (byte {error.start + 1} of the line)", "save the file as UTF-8")
    except UnicodeEncodeError:
        return Problem(None, "holds half of a character (\\ud8.. to \\udf.. without its pair)", "write the text again")
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            mend = "end the line after the object; a second question goes on a line of its own"
            return Problem(None, f"goes on after its object (character {error.pos + 1})", mend)
        what = f"is not JSON ({error.msg[0].lower() + error.msg[1:]} at character {error.pos + 1})"
        return Problem(None, what, "write one object, with its texts in double quotes, on the line")
    except _RepeatedKeyError as error:
        return Problem(str(error), "is written twice", "keep one of them")
    except (RecursionError, ValueError) as error:  # lists in lists without end, numbers of thousands of digits
        return Problem(None, f"is not a row ({error})", "write one object with the keys of a question on the line")
    if not isinstance(row, dict):
        return Problem(None, f"is {kind(row)}, not an object", 'write an object: {"id": ..., "image": ..., ...}')
    return row


class _RepeatedKeyError(Exception):
    pass


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row:
            raise _RepeatedKeyError(repr(key))
        row[key] = value
    return row


def _parquet_rows(file: Path) -> Iterator[RawRow]:
    pyarrow = import_pyarrow()
    try:
        with open_parquet(file) as table:
            _refuse_other_columns(file, table.schema_arrow.names)
            number = 0
            for group in range(table.num_row_groups):
                index = 0
                for batch in table.iter_batches(batch_size=32, row_groups=[group]):
                    for position in range(batch.num_rows):
                        number += 1
                        row = _parquet_row(batch.slice(position, 1))
                        written = {} if isinstance(row, Problem) else row
                        yield RawRow(number, row, written, (ParquetImage(file, number, group, index),))
                        index += 1
    except (OSError, pyarrow.ArrowException) as error:
        raise QuestionFileError(f"{file} cannot be read as Parquet ({error}): write it again from its source") from None


def _refuse_other_columns(file: Path, names: list[str]) -> None:
    keys = list(QuestionRow.model_fields)
    if others := [name for name in names if name not in keys]:
        listed = ", ".join(map(repr, others))
        raise QuestionFileError(f"{file}: no such keys: {listed}: remove or rename the columns ({', '.join(keys)})")


def _parquet_row(batch: Any) -> Mapping[str, Any] | Problem:
    try:
        row: dict[str, Any] = batch.to_pylist()[0]
    except UnicodeDecodeError:
        return Problem(None, "holds text that is not UTF-8", "write the text again as UTF-8")
    for key in ("choices", "tags"):
        if isinstance(pairs := row.get(key), list) and all(isinstance(item, tuple) for item in pairs):
            row[key] = dict(pairs)  # a map column
    return row
