"""What the commands share: options, the console, what becomes of a failure, and figures as JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from foveate.errors import FoveateError
from foveate.jsonl import replace_json

console = Console()

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SETTING=VALUE", help="Change a setting, e.g. objective.k=0.3.")
]
Model = Annotated[
    str, typer.Option(help="Checkpoint folder, run folder, hub id, or 'tiny' (embedded).", show_default=True)
]
FILES = "JSONL or Parquet file, a folder with one, a benchmark (NAME or NAME:PATH)"
"""What data may be, but for scenes."""
Data = Annotated[str, typer.Option(help=f"{FILES}, or 'scenes'.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides the order of questions and every sample.")]


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Failures that a person can mend end with their message and status 2, not with a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        # Both are read when torch and transformers are imported, which only some commands do. Our own progress bars are
        # enough; and CPU threads that wait for one another must soon sleep instead of spinning: beside one other busy
        # program on two cores a step of the demo otherwise takes 25 seconds, and so it takes one.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        try:
            command(*args, **kwargs)
        except (FoveateError, OSError, ImportError) as error:
            Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            Console(stderr=True).print("interrupted: what was written down stays")
            raise typer.Exit(130) from error

    return run


def write_json(path: Path | None, figures: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes them where `--json` says, if it does."""
    if path is not None:
        replace_json(path, figures)
