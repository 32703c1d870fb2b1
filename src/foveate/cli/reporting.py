"""`foveate report`: evaluations side by side, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.common import console, friendly


@friendly
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="What foveate eval or probe wrote; at most 6.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Its heading. Default: the names of the runs.")] = None,
) -> None:
    """Compare evaluations on one page: figures with intervals, charts, and every question to browse.

    Example: `foveate report scores/base scores/hart --out report.html`

    The page is one file that needs no network. Differences are those of a later run to an earlier one, question by
    question. It links to any selection of questions: report.html#answer=right&place=wrong
    """
    from foveate.evaluation.comparison import write_comparison

    page = write_comparison(out, runs, title=title)
    size = page.stat().st_size / 1e6
    console.print(f"the report is in {page} ({size:.1f} MB)", highlight=False, markup=False, soft_wrap=True)
