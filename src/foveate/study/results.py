"""Finished cells: what a cell's file holds, reading and writing it, and a whole study as one small file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from foveate.errors import FoveateError

Floats = NDArray[np.float64]
_Value = Annotated[float, Field(allow_inf_nan=False)]
_DIGITS = 4


class StudyError(FoveateError):
    """Cells that cannot be read, or cannot be compared."""


class UndefinedError(StudyError):
    """A figure or comparison that these cells do not have: not run, not measured, or not on these seeds."""


class Cell(BaseModel):
    """One method trained from one base with one seed, and what was measured on it.

    Attributes:
        questions: ids of the held-out questions, in the order of the measures.
        measures: by name, `<way of asking>/<figure>`, one value per question; None where it is undefined.
        training: what the training took: steps, rollouts, updates, seconds.
        commit: of the source that made it; None outside a checkout.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(min_length=1)
    base: str
    seed: int
    questions: tuple[str, ...] = Field(min_length=1)
    measures: Mapping[str, tuple[_Value | None, ...]]
    training: Mapping[str, _Value] = {}
    commit: str | None = None

    @model_validator(mode="after")
    def _one_value_per_question(self) -> Cell:
        if len(set(self.questions)) < len(self.questions):
            raise ValueError("questions holds an id twice")
        for name, values in self.measures.items():
            if len(values) != len(self.questions):
                raise ValueError(f"measures[{name!r}] has {len(values)} values for {len(self.questions)} questions")
        return self

    @property
    def name(self) -> str:
        """`method@base`: what cells of several seeds have in common."""
        return f"{self.method}@{self.base}"

    def values(self, measure: str) -> Floats | None:
        """A measure as an array over questions, NaN where it is undefined; None where it was not taken."""
        values = self.measures.get(measure)
        return None if values is None else np.array(values, dtype=np.float64)  # None becomes NaN


def write_cell(path: str | Path, cell: Cell) -> None:
    """Writes a cell's file, each number to four digits; it is there whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(_line(cell) + "\n", encoding="utf-8")
    unfinished.replace(path)


def read_cell(path: str | Path) -> Cell:
    """Reads a cell's file.

    Raises:
        StudyError: it cannot be read, with the mend.
    """
    path = Path(path)
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path}: {_why(error)}. Delete the file and run the study again: it makes this cell anew."
        ) from (error)


def read_cells(folder: str | Path) -> list[Cell]:
    """Reads every `*.json` of a folder as a cell, in the order of method, base, seed.

    Raises:
        StudyError: a file cannot be read, or two hold the same cell.
    """
    return _in_order(read_cell(path) for path in sorted(Path(folder).glob("*.json")))


def named(cells: Iterable[Cell], name: str) -> list[Cell]:
    """The cells of `method@base`, or of `method` where it was trained from one base only.

    Raises:
        StudyError: a method alone is named that was trained from several bases.
    """
    found = [cell for cell in cells if name in (cell.name, cell.method)]
    if len(names := sorted({cell.name for cell in found})) > 1:
        raise StudyError(f"{name} was trained from several bases: say {' or '.join(names)}")
    return found


def pack(path: str | Path, cells: Iterable[Cell]) -> None:
    """Writes cells as one file of gzipped lines that holds all of their files; the same cells give the same bytes."""
    text = "".join(_line(cell) + "\n" for cell in _in_order(cells))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def unpack(path: str | Path) -> list[Cell]:
    """Reads what `pack` wrote.

    Raises:
        StudyError: the file or one of its lines cannot be read, or two lines hold the same cell.
    """
    path = Path(path)
    cells: list[Cell] = []
    try:
        for line in gzip.decompress(path.read_bytes()).decode("utf-8").removesuffix("\n").split("\n"):
            cells.append(_parsed(line))
    except (OSError, EOFError, ValueError) as error:
        raise StudyError(f"{path}, cell {len(cells) + 1}: {_why(error)}. Pack the study's cells again.") from error
    return _in_order(cells)


def _in_order(cells: Iterable[Cell]) -> list[Cell]:
    ordered = sorted(cells, key=lambda cell: (cell.method, cell.base, cell.seed))
    for one, other in pairwise(ordered):
        if (one.name, one.seed) == (other.name, other.seed):
            raise StudyError(f"{one.name}, seed {one.seed} is there twice: keep the files of one study only")
    return ordered


def _line(cell: Cell) -> str:
    record = cell.model_dump()
    for key in ("measures", "training"):
        record[key] = {name: _short(values) for name, values in sorted(record[key].items())}
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _short(value: Any) -> Any:
    """Rounded, and whole numbers without a point."""
    if isinstance(value, Sequence):
        return [_short(each) for each in value]
    if value is None:
        return None
    value = round(value, _DIGITS)
    return int(value) if value == int(value) else value


def _parsed(text: str) -> Cell:
    return Cell.model_validate(json.loads(text))


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"].removeprefix("Value error, ")
    return f"not a cell's JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)
