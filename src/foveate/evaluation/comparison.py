"""`foveate report`: evaluation runs on one page, every question to browse. One HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from foveate.evaluation import plots
from foveate.evaluation.contrasts import COMPARED, Difference, Line, differences_of, lines_of, warnings_of
from foveate.evaluation.exhibits import (
    category_charts,
    cost_scatter,
    dependences,
    gain_square,
    place_square,
    probe_bars,
    threshold_charts,
)
from foveate.evaluation.folder import EvaluationFolderError
from foveate.evaluation.gallery import PAGE_BYTES, build_gallery
from foveate.evaluation.official import Figure
from foveate.evaluation.records import Recorded, read_runs
from foveate.evaluation.templating import template
from foveate.evaluation.wording import counted, figure_text, interval_text, link_of, points, signed

MOST_RUNS = 6
"""More cannot be told apart by colour, nor read in one table."""
_STOPS = {
    "answered": "with an answer",
    "unparsed": "answer unreadable",
    "no_region": "no usable box",
    "out_of_calls": "out of calls",
}


def write_comparison(
    path: str | Path, folders: Sequence[str | Path], *, title: str | None = None, page_bytes: int = PAGE_BYTES
) -> Path:
    """Writes the page that compares evaluations.

    Args:
        path: of the HTML file; its folder is made.
        folders: of evaluations, each with `scores.json`, `questions.jsonl`, and `pictures.jsonl` if pictures were kept.
            Differences are those of a later one to an earlier one.
        title: the heading; by default it names the runs.
        page_bytes: the page grows no larger: pictures are made smaller, then left out of later questions.

    Returns:
        The path.

    Raises:
        EvaluationFolderError: a folder is not an evaluation, or a file in it is broken; or there are none or too many.
    """
    if not 0 < len(folders) <= MOST_RUNS:
        raise EvaluationFolderError(
            f"a report is of 1 to {MOST_RUNS} evaluations, not {len(folders)}: make several reports"
        )
    runs = read_runs(folders)
    lines, differences = lines_of(runs), differences_of(runs)
    gallery = build_gallery(runs, page_bytes)
    script = "\n".join(_asset(name) for name in ("filter.js", "gallery.js"))
    html = template("comparison.html.j2").render(
        title=title or _listed([run.name for run in runs]),
        lead=_lead(runs, gallery.questions),
        findings=_findings(runs, differences),
        warnings=warnings_of(runs),
        runs=[{"name": run.name, "facts": _facts(run), "setup": list(_setup(run))} for run in runs],
        table=[_row(line, len(runs)) for line in lines],
        difference_names=[line.measure.title for line in _compared(lines)],
        differences=[_difference_row(one, _compared(lines)) for one in differences],
        official=_official(runs),
        places=[square for i, run in enumerate(runs) if (square := place_square(i, run, len(runs)))],
        thresholds=threshold_charts(runs),
        categories=category_charts(runs),
        probes=probe_bars(runs),
        dependences=list(dependences(runs)),
        gains=[square for i, run in enumerate(runs) if (square := gain_square(i, run))],
        scatter=cost_scatter(lines),
        box={"width": plots.WIDTH, "height": plots.HEIGHT, "left": plots.LEFT, "right": plots.RIGHT,
             "top": plots.TOP, "bottom": plots.BOTTOM},
        gallery=gallery,
        stops=_STOPS,
        script=script,
        script_hash=_hash(script),
    )  # fmt: skip
    page = Path(path)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8", errors="replace")  # what a shell passes on may be no text
    return page


def _asset(name: str) -> str:
    return resources.files("foveate.evaluation").joinpath("templates", name).read_text("utf-8")


def _hash(script: str) -> str:
    """The one script that the page lets run, whatever a reply may hold."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _lead(runs: Sequence[Recorded], questions: int) -> str:
    models = counted(len(runs), "evaluation")
    asked = counted(questions, "question")
    return f"{models} of vision-language models on {asked}: what they answered, and where they looked."


def _findings(runs: Sequence[Recorded], differences: Sequence[Difference]) -> list[str]:
    """The two figures that matter in plain words: of the only run, or of each against the first."""
    said = []
    for difference in differences:
        if difference.first:
            continue
        first, second = runs[0].name, runs[difference.second].name
        parts = []
        for name, what in (("accuracy", "right answers"), ("iog30", "looks at the right place")):
            if (figure := difference.figures.get(name)) and figure.interval:
                low, high = figure.interval
                interval = f"{points(low)} to {points(high)}"
                if low > 0 or high < 0:
                    more = "more" if figure.value > 0 else "fewer"
                    parts.append(f"{100 * abs(figure.value):.1f} points {more} {what} ({interval})")
                else:
                    parts.append(f"no difference in {what} that can be told from chance ({interval})")
        if parts:
            over = counted(difference.questions, "question")
            said.append(f"{second} against {first}, over {over}: {'; '.join(parts)}.")
    return said


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _facts(run: Recorded) -> list[str]:
    asked = counted(len(run.questions), "question")
    recipe = f", recipe {run.scores.recipe}" if run.scores.recipe else ""
    facts = [f"{asked}{recipe}", f"folder {run.folder.resolve().name}"]
    if run.scores.answerer:
        return [f"located by {run.scores.model}", f"answered by {run.scores.answerer.model}", *facts]
    return [f"model {run.scores.model}", *facts] if run.scores.model != run.name else facts


def _row(line: Line, runs: int) -> dict[str, Any]:
    measure = line.measure
    cells = [
        {
            "value": figure_text(figure.value, measure) if figure else "\u2013",
            "interval": interval_text(figure, measure) if figure else "",
            "best": line.best == i,
            "link": link_of(i, runs, measure.link) if figure and figure.value and measure.link else "",
        }
        for i, figure in enumerate(line.figures)
    ]
    return {"title": measure.title, "hint": measure.hint, "cells": cells}


def _compared(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.measure.name in COMPARED]


def _difference_row(one: Difference, lines: Sequence[Line]) -> dict[str, Any]:
    cells = []
    for measure in (line.measure for line in lines):
        figure = one.figures.get(measure.name)
        low, high = figure.interval if figure and figure.interval else (0.0, 0.0)
        show = points if measure.percent else signed
        cells.append(
            {
                "value": "\u2013" if figure is None else show(figure.value) + (" points" if measure.percent else ""),
                "interval": "" if figure is None else f"{show(low)} to {show(high)}",
                "apart": low > 0 or high < 0,
            }
        )
    return {
        "first": one.first,
        "second": one.second,
        "questions": f"over {counted(one.questions, 'question')}",
        "cells": cells,
        "better": f"{one.better:,}",
        "worse": f"{one.worse:,}",
    }


def _official(runs: Sequence[Recorded]) -> list[dict[str, Any]]:
    """A table for each benchmark: the figures of every run that has it."""
    tables: dict[str, dict[str, list[str]]] = {}
    for i, run in enumerate(runs):
        if official := run.scores.official:
            table = tables.setdefault(official.benchmark, {})
            for name, figure in official.figures.items():
                table.setdefault(name, ["\u2013"] * len(runs))[i] = _share(figure)
    return [{"name": name, "rows": list(rows.items())} for name, rows in tables.items()]


def _share(figure: Figure) -> str:
    if figure.value is None:
        return "\u2013"
    low, high = figure.interval or (None, None)
    ends = "" if low is None or high is None else f" ({100 * low:.1f}\u2013{100 * high:.1f})"
    return f"{100 * figure.value:.1f} %{ends}"


def _setup(run: Recorded) -> Iterator[tuple[str, str]]:
    """What can change a score, one fact a line."""
    scores = run.scores
    if scores.answerer:
        yield "locating model", scores.model
        yield "answering model", scores.answerer.model
    else:
        yield "model", scores.model
    if scores.recipe:
        yield "recipe", scores.recipe
    yield "foveate", ", ".join(f"{name} {value}" for name, value in scores.foveate.items() if value)
    for name, value in scores.setup.items():
        if name == "prompts":
            for turn, parts in enumerate(value if isinstance(value, list) else [value], start=1):
                words = "\n".join(map(str, parts)) if isinstance(parts, list) else str(parts)
                yield f"prompt of turn {turn}", words
        else:
            yield name.replace("data_sha256", "data (SHA-256)"), _written(value)


def _written(value: Any) -> str:
    """Plain for plain values, a line per field for others."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_written(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
