"""The end of every bench: a table for people, the rows as JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from foveate.jsonl import replace_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def show(
    title: str,
    headings: str,
    cells: Callable[[Row], tuple[str, ...]],
    rows: Sequence[Row],
    caption: str,
    json_path: Path | None,
) -> None:
    """Prints the rows as a table and writes them to `json_path`.

    Args:
        title: above the table.
        headings: of its columns, with `|` between.
        cells: a row's texts, one for each column.
        rows: dataclasses; their fields are what the file holds.
        caption: below the table.
        json_path: of the file; None writes none.
    """
    table = Table(box=SIMPLE_HEAD, title=title)
    for heading in headings.split("|"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*cells(row))
    console = Console()
    console.print(table)
    console.print(caption)
    if json_path is not None:
        replace_json(json_path, [asdict(row) for row in rows])
