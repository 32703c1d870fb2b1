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
AskedBy = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Whose protocol and pixel budgets to use. Default: a run's own, as its last stage was trained; else hart.",
    ),
]
AskedIn = Annotated[
    str | None,
    typer.Option(
        "--protocol", help="direct, locate or zoom (or another that recipes name), instead of the recipe's own."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the evaluation. The same command goes on with it, and asks nothing again."),
]
Quarantine = Annotated[
    bool, typer.Option("--quarantine", help="Leave bad rows of the data out, counted and listed, instead of stopping.")
]
EndpointUrl = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="Ask --model at this OpenAI-compatible API instead of loading it."),
]
EndpointSet = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint-set",
        metavar="SETTING=VALUE",
        help="family (qwen2.5-vl, qwen3-vl, internvl, generic, tiny; guessed from the name), concurrency, "
        "requests_per_minute, timeout, retries, api_key_env, jpeg_quality, prompt_price, completion_price (a million).",
    ),
]
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

    return run


def in_protocol(name: str | None) -> list[str]:
    """What `--protocol` sets of a recipe."""
    return [f"protocol.name={'locate_answer' if name == 'locate' else name}"] if name else []


def write_json(path: Path | None, figures: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes them where `--json` says, if it does."""
    if path is not None:
        replace_json(path, figures)
