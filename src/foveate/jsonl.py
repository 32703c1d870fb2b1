"""Rows of JSON, one a line: written so that a crash costs the last one at most, and read whatever it left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


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


def replace_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes JSON for people to read, and the file's folder; a crash leaves the old file or the new one.

    Raises:
        ValueError: a number is none, or infinite: not every reader of JSON takes those.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):  # /dev/stdout, a pipe: not to be replaced
        path.write_text(text, encoding="utf-8")
        return
    replacement = path.with_suffix(".tmp")
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
    """Cuts off the rows of `step` and later, which a resumed run will write again; steps never go down in the file.

    In place, row by row: it takes neither the memory nor the disk that the file does.

    Raises:
        ValueError: a line before that is not JSON.
    """
    if not path.exists():
        return
    with path.open("r+b") as file:
        end, line = 0, b"\n"
        for number, line in enumerate(file, start=1):
            try:
                dropped = json.loads(line.decode())["step"] >= step
            except ValueError as error:
                if line.endswith(b"\n"):
                    raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
                dropped = True  # the last one, which a crash cut off
            if dropped:
                file.truncate(end)
                return
            end += len(line)
        if not line.endswith(b"\n"):
            file.seek(end)
            file.write(b"\n")


def mend_rows(path: Path) -> None:
    """Makes a file that a crash left in the middle of a row ready for more: what is no row is cut off.

    In place, so that a lock on the file holds.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    if not content or content.endswith(b"\n"):
        return
    whole = content.rfind(b"\n") + 1
    try:
        json.loads(content[whole:].decode())
    except ValueError:
        with path.open("r+b") as file:
            file.truncate(whole)
    else:  # only the end of its line is missing
        with path.open("ab") as file:
            file.write(b"\n")
