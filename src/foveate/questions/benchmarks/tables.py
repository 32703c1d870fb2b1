"""The rows of published files (TSV, Parquet, JSON, JSON lines), one at a time, each with the places of its pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from foveate.images import ImageSource
from foveate.questions.files import MAX_LINE_BYTES, raw_rows
from foveate.questions.pictures import JsonlImage, LineImage, ParquetImage, import_pyarrow, open_parquet
from foveate.questions.problems import Problem, QuestionFileError, kind

SUFFIXES = (".tsv", ".parquet", ".json", ".jsonl", ".ndjson")
"""Of the files that are read."""
_BATCH = 4
"""Rows of a Parquet file that are in memory at once: a row may be an 8K picture."""
_MAX_LINES = 200
"""Lines of one TSV row: a question may hold line breaks, but a stray quotation mark must not swallow the file."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a published file.

    Attributes:
        file: the file.
        number: its line in a TSV or JSON lines file, its place in any other, from 1.
        content: values by column, or why there are none.
        picture: the place of the picture that is embedded in a column of this row.
    """

    file: Path
    number: int
    content: Mapping[str, Any] | Problem
    picture: Callable[[str], ImageSource]


def records(file: Path) -> Iterator[Record]:
    """Every row of a file in the layout that its suffix names.

    Raises:
        QuestionFileError: the file as a whole cannot be read.
        ImportError: Parquet without pyarrow.
    """
    match file.suffix.lower():
        case ".tsv":
            return _tsv_records(file)
        case ".parquet":
            return _parquet_records(file)
        case ".json":
            return _json_records(file)
        case ".jsonl" | ".ndjson":
            return _jsonl_records(file)
    raise QuestionFileError(f"{file}: benchmarks are read from {', '.join(SUFFIXES)} files")


@dataclass(frozen=True, slots=True)
class TsvImage(LineImage):
    """A picture in a field of a TSV file.

    Attributes:
        field: its column, from 0.
    """

    field: int

    def written(self) -> Any:
        """The text of the field."""
        with self.row() as stream:
            fields, _ = _tsv_fields(stream) or ([], 0)
        return fields[self.field].decode(errors="replace") if self.field < len(fields) else None


def _tsv_records(file: Path) -> Iterator[Record]:
    with file.open("rb") as stream:
        if stream.read(3) != b"\xef\xbb\xbf":
            stream.seek(0)
        header, lines = _tsv_fields(stream) or ([], 0)
        names = [name.decode(errors="replace") for name in header]
        if len(names) < 2:
            raise QuestionFileError(f"{file} is not a TSV file: its first line has no two columns divided by a tab")
        line = 1
        while True:
            line, offset = line + lines, stream.tell()
            row = _tsv_fields(stream)
            if row == ([], 0):
                return
            fields, lines = row or ([], 1)
            content = _tsv_content(names, fields)
            if isinstance(content, Problem):  # a quotation mark gone astray: the rows that it swallowed are looked at
                stream.seek(offset)
                _skip_line(stream)
                lines = 1
            if fields != [b""]:
                yield Record(file, line, content, _tsv_places(file, line, offset, names))


def _tsv_places(file: Path, line: int, offset: int, names: list[str]) -> Callable[[str], ImageSource]:
    return lambda column: TsvImage(file, line, offset, names.index(column))


def _tsv_content(names: list[str], fields: list[bytes]) -> Mapping[str, Any] | Problem:
    if not fields:
        return Problem(None, "has a quoted field without an end", "download the file again")
    if len(fields) != len(names):
        what = f"has {len(fields)} fields where the header has {len(names)}"
        return Problem(None, what, "download the file again: it may have been cut off")
    try:
        return {name: field.decode() or None for name, field in zip(names, fields, strict=True)}
    except UnicodeDecodeError:
        return Problem(None, "is not UTF-8", "download the file again")


def _tsv_fields(stream: BinaryIO) -> tuple[list[bytes], int] | None:
    """The fields of the row that begins here and how many lines it has; ([], 0) at the end of the file.

    None where a quoted field does not end. As Python's csv reads its `excel-tab` dialect, which pandas writes: a field
    that begins with a quotation mark may hold tabs, line breaks and doubled quotation marks. The csv module itself has
    a limit on the length of fields that is global, and does not say where in the file a row begins.
    """
    row, lines = stream.readline(MAX_LINE_BYTES), 1
    if not row:
        return [], 0
    fields: list[bytes] = []
    start = 0
    while True:
        quoted = b""
        if row.startswith(b'"', start):
            end = row.find(b'"', start + 1)
            while end < 0 or row.startswith(b'"', end + 1):
                if end < 0:
                    more, searched = stream.readline(MAX_LINE_BYTES), len(row)
                    if not more or lines == _MAX_LINES or len(row) + len(more) > MAX_LINE_BYTES:
                        return None
                    row, lines = row + more, lines + 1
                    end = row.find(b'"', searched)
                else:  # doubled: it stands for itself
                    end = row.find(b'"', end + 2)
            quoted, start = row[start + 1 : end].replace(b'""', b'"'), end + 1
        end = row.find(b"\t", start)
        if end < 0:
            return [*fields, quoted + row[start:].rstrip(b"\r\n")], lines
        fields.append(quoted + row[start:end])
        start = end + 1


def _skip_line(stream: BinaryIO) -> None:
    while (piece := stream.readline(2**20)) and not piece.endswith(b"\n"):
        pass


def _parquet_records(file: Path) -> Iterator[Record]:
    pyarrow = import_pyarrow()
    try:
        with open_parquet(file) as table:
            number = 0
            for group in range(table.num_row_groups):
                index = 0
                for batch in table.iter_batches(batch_size=_BATCH, row_groups=[group]):
                    for position in range(batch.num_rows):
                        number += 1
                        yield _parquet_record(file, batch.slice(position, 1), number, group, index)
                        index += 1
    except (OSError, pyarrow.ArrowException) as error:
        raise QuestionFileError(f"{file} cannot be read as Parquet ({error}): download it again") from None


def _parquet_record(file: Path, row: Any, number: int, group: int, index: int) -> Record:
    try:
        content: Mapping[str, Any] | Problem = row.to_pylist()[0]
    except UnicodeDecodeError:
        content = Problem(None, "holds text that is not UTF-8", "download the file again")
    return Record(file, number, content, lambda column: ParquetImage(file, number, group, index, column))


def _json_records(file: Path) -> Iterator[Record]:
    try:
        rows = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise QuestionFileError(f"{file} is not JSON ({error}): download it again") from None
    if not isinstance(rows, list):
        raise QuestionFileError(f"{file} holds {kind(rows)}, where the benchmark has a list of objects")
    for number, row in enumerate(rows, start=1):
        content = row if isinstance(row, dict) else Problem(None, f"is {kind(row)}, not an object", "write one")
        yield Record(file, number, content, lambda column: b"")


def _jsonl_records(file: Path) -> Iterator[Record]:
    for row in raw_rows(file):
        yield Record(file, row.number, row.content, _jsonl_places(row.embedded))


def _jsonl_places(embedded: Sequence[ImageSource]) -> Callable[[str], ImageSource]:
    places = [place for place in embedded if isinstance(place, JsonlImage)]
    return lambda column: replace(places[0], key=column)
