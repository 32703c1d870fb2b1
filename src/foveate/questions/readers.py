"""`load_questions`: JSONL and Parquet files as questions. Every bad row is named, with its mend."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, overload

from foveate.images import ImageError, header_size
from foveate.questions.files import RawRow, raw_rows
from foveate.questions.problems import BadRow, Problem, QuestionFileError, list_rows, row_unit
from foveate.questions.rows import Outcome, build_question, parse_row
from foveate.questions.schema import Question
from foveate.regions import Size

logger = logging.getLogger(__name__)

_LISTED = 20
"""How many problems an error lists before it counts the rest."""


class Questions(Sequence[Question]):
    """The questions of a file, in its order.

    Attributes:
        path: the file.
        bad_rows: the rows left out, with reasons (`on_bad="quarantine"`).
        warnings: rows that were kept but look wrong.
    """

    def __init__(
        self,
        path: Path,
        questions: Iterable[Question],
        bad_rows: tuple[BadRow, ...] = (),
        warnings: tuple[BadRow, ...] = (),
    ) -> None:
        self.path = path
        self.bad_rows = bad_rows
        self.warnings = warnings
        self._questions = tuple(questions)

    def __len__(self) -> int:
        return len(self._questions)

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Question, ...]: ...
    def __getitem__(self, index: int | slice) -> Question | tuple[Question, ...]:
        return self._questions[index]

    def __repr__(self) -> str:
        return f"<{len(self)} questions of {self.path}, {len(self.bad_rows)} bad rows left out>"

    def write_quarantine(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Writes the rows left out with their reasons, one a line; by default to `<file>.quarantine.jsonl`.

        Each line has `row` (its number in the file), `reasons` (`field`, `what`, `mend`) and `raw` (the row as it was
        written, without embedded image bytes, and cut after a million characters).
        """
        target = Path(path) if path is not None else self.path.with_name(self.path.name + ".quarantine.jsonl")
        with target.open("w", encoding="utf-8") as lines:
            for bad in self.bad_rows:
                lines.write(json.dumps({**bad.as_json(), "raw": bad.raw}) + "\n")
        return target


def load_questions(
    path: str | os.PathLike[str],
    *,
    image_folder: str | os.PathLike[str] | None = None,
    on_bad: Literal["error", "quarantine"] = "error",
) -> Questions:
    """Reads questions, one a row, from a .jsonl or .parquet file or a folder with `questions.jsonl` or `.parquet`.

    Keys: `id`, `image` (path relative to the file, bytes, or base64), `question`, `answer`; optional `choices`,
    `regions` (true boxes in original pixels, nested levels as lists), `points` (where the counted objects are, [x, y]
    in original pixels; [] says that there is none), `category`, `tags` (further groupings, texts by name),
    `other_images` (further pictures, by their paths) and `view_pixels` (the most pixels of the full image that are
    shown). The header of every picture is looked at; pictures are decoded when they are used.

    Args:
        path: the file or folder.
        image_folder: where image paths start, and where every picture must lie; by default the folder of the file.
        on_bad: "error" raises when a row is bad; "quarantine" leaves bad rows out, logs how many, and keeps them with
            their reasons in `bad_rows`, which `write_quarantine` writes to a file.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionFileError: rows are bad (all are found; the first 20 are listed, each with its row, what is wrong and
            the mend), no row is good, or the file is of another format.
        ImportError: Parquet without pyarrow.
    """
    file = find_file(path)
    return gather(file, scan(file, header_size, image_folder), on_bad)


def gather(file: Path, rows: Iterable[Scanned], on_bad: Literal["error", "quarantine"]) -> Questions:
    """The questions of scanned rows; what is done about bad ones is as for `load_questions`.

    Raises:
        QuestionFileError: as `load_questions`.
    """
    if on_bad not in ("error", "quarantine"):
        raise ValueError(f"on_bad is 'error' or 'quarantine', not {on_bad!r}")
    questions, bad, warnings, count = [], [], [], 0
    for scanned in rows:
        count += 1
        if scanned.bad:
            bad.append(scanned.bad)
        elif scanned.outcome.question:
            questions.append(scanned.outcome.question)
        if scanned.warning:
            warnings.append(scanned.warning)
    if not count:
        raise QuestionFileError(f"{file} has no rows: write one question a row")
    if bad:
        summary = f"{file}: {len(bad)} of {count} rows cannot be used\n{list_rows(file, bad, limit=_LISTED)}"
        if on_bad == "error" or not questions:
            raise QuestionFileError(summary, tuple(bad))
        logger.warning("%s\nThey are left out.", summary)
    if warnings:
        logger.warning("%s: %d rows look wrong\n%s", file, len(warnings), list_rows(file, warnings, limit=_LISTED))
    return Questions(file, questions, tuple(bad), tuple(warnings))


def find_file(path: str | os.PathLike[str]) -> Path:
    """The data file that `path` names: itself, or `questions.jsonl` or `.parquet` in that folder."""
    given = Path(path)
    if not given.is_dir():
        if not given.exists():
            raise FileNotFoundError(f"{given}: no such file or folder")
        return given
    found = [given / name for name in ("questions.jsonl", "questions.parquet") if (given / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise QuestionFileError(f"{given} holds {found[0].name} and {found[1].name}: name the one to read")
    others = sorted(entry.name for entry in given.iterdir() if entry.suffix in (".jsonl", ".parquet"))
    hint = f"name the one to read: {', '.join(others[:10])}" if others else "write one question a row into the first"
    raise QuestionFileError(f"{given} holds neither questions.jsonl nor questions.parquet: {hint}")


class Scanned(NamedTuple):
    """A row of a file and what became of it."""

    outcome: Outcome
    bad: BadRow | None
    warning: BadRow | None


def scan(
    file: Path, size_of: Callable[[Path | bytes], Size], image_folder: str | os.PathLike[str] | None = None
) -> Iterator[Scanned]:
    """Every row of a file, good or bad, in order.

    Args:
        file: JSONL or Parquet, told by the suffix.
        size_of: opens a picture as far as the caller wants it checked and returns its upright size, or raises
            ImageError; called once for each picture file, however many questions it has.
        image_folder: as for `load_questions`.

    Raises:
        QuestionFileError: the file as a whole cannot be read.
        ImportError: Parquet without pyarrow.
    """
    folder = file.parent if image_folder is None else Path(image_folder)
    return scan_rows(raw_rows(file), folder, size_of, row_unit(file))


def scan_rows(
    rows: Iterable[RawRow], folder: Path, size_of: Callable[[Path | bytes], Size], unit: str
) -> Iterator[Scanned]:
    """Rows with the keys of a question, wherever they come from, good or bad, in order.

    Args:
        rows: the rows.
        folder: where image paths start, and where every picture must lie.
        size_of: as for `scan`.
        unit: what the rows' numbers count, where they name no file of their own.
    """
    sizes: dict[Path, Size | ImageError] = {}

    def size_once(source: Path | bytes) -> Size:
        if isinstance(source, bytes):
            return size_of(source)
        if source not in sizes:
            try:
                sizes[source] = size_of(source)
            except ImageError as error:
                sizes[source] = error
        if isinstance(known := sizes[source], ImageError):
            raise known
        return known

    place_of_id: dict[str, tuple[int, str | None]] = {}
    for row in rows:
        outcome = _outcome(row, folder, size_once)
        name = None if isinstance(row.content, Problem) else row.content.get("id")
        place = row.number, row.file
        first, inner = place if name is None else place_of_id.setdefault(str(name), place)
        if (first, inner) != place:
            where = f"{inner}, {row_unit(Path(inner))} {first}" if inner else f"{unit} {first}"
            what = f"{str(name)!r} is that of {where} too"
            outcome = outcome.spoilt_by(Problem("id", what, "give every row an id of its own"))
        warnings = outcome.warnings + ((row.warning,) if row.warning else ())
        bad = BadRow(row.number, outcome.problems, row.raw, row.file) if outcome.problems else None
        yield Scanned(outcome, bad, BadRow(row.number, warnings, row.raw, row.file) if warnings and not bad else None)


def _outcome(row: RawRow, folder: Path, size_of: Callable[[Path | bytes], Size]) -> Outcome:
    if isinstance(row.content, Problem):
        return Outcome(problems=(row.content,))
    parsed = parse_row(row.content)
    if isinstance(parsed, list):
        return Outcome(problems=tuple(parsed))
    return build_question(parsed, folder, size_of, row.embedded)
