"""The charts of a comparison, ready for its template: squares of counts, bars, thresholds, cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.evaluation import plots
from foveate.evaluation.contrasts import Line
from foveate.evaluation.grounding import IOG_THRESHOLD
from foveate.evaluation.joint import JointTable
from foveate.evaluation.looking import TITLES
from foveate.evaluation.probes import UNCHANGED
from foveate.evaluation.records import ProbeRecord, Recorded
from foveate.evaluation.scoring import Summary
from foveate.evaluation.statistics import Estimate
from foveate.evaluation.wording import counted, link_of, points, signed


@dataclass(frozen=True, slots=True)
class Bar:
    """A run's bar in percent of the track; `range`: where its interval begins, and how wide it is."""

    run: int
    width: float
    range: tuple[float, float] | None
    text: str


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of one category or probe."""

    title: str
    hint: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A field of a square of counts; `link` is the filter of the gallery that shows what is counted."""

    share: float
    percent: str
    count: str
    note: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Square:
    """Two questions with two outcomes each, as four counts of a run."""

    run: int
    name: str
    total: str
    columns: tuple[str, str]
    rows: tuple[tuple[str, tuple[Cell, Cell]], ...]


def place_square(i: int, run: Recorded, runs: int) -> Square | None:
    """Answers against places, each field a link to its questions; None where no place is known."""
    attempts = (attempt for question in run.questions for attempt in question.attempts)
    table = JointTable.of((attempt.right, attempt.grounding.iog30) for attempt in attempts)
    if not table.attempts:
        return None

    def cell(count: int, link: str) -> Cell:
        return _cell(count, table.attempts, link=link_of(i, runs, link) if count else "")

    return Square(
        i,
        run.name,
        f"of {counted(table.attempts, 'attempt')} at questions with a true region",
        ("right place", "wrong place"),
        (
            (
                "right answer",
                (
                    cell(table.right_box_right_answer, "answer=right&place=right"),
                    cell(table.wrong_box_right_answer, "answer=right&place=wrong"),
                ),
            ),
            (
                "wrong answer",
                (
                    cell(table.right_box_wrong_answer, "answer=wrong&place=right"),
                    cell(table.wrong_box_wrong_answer, "answer=wrong&place=wrong"),
                ),
            ),
        ),
    )


def gain_square(i: int, run: Recorded) -> Square | None:
    """Right with looking closer against right without; None where it was not measured."""
    counts = run.scores.gain_harm
    if not counts or not counts.questions:
        return None
    total = counts.questions
    return Square(
        i,
        run.name,
        f"of {counted(total, 'question')}",
        ("right without", "wrong without"),
        (
            ("right with it", (_cell(counts.both, total), _cell(counts.gain, total, "gained"))),
            ("wrong with it", (_cell(counts.harm, total, "harmed"), _cell(counts.neither, total))),
        ),
    )


def _cell(count: int, total: int, note: str = "", link: str = "") -> Cell:
    share = 100 * count / total
    return Cell(round(share, 1), f"{share:.1f} %", f"{count:,}", note, link)


def threshold_charts(runs: Sequence[Recorded]) -> list[tuple[str, plots.Thresholds]]:
    """Titles and curves over thresholds of IoG and IoU, where some run has them."""
    drawn = [
        (title, plots.draw_thresholds([run.scores.curves.get(name, ()) for run in runs], usual))
        for name, title, usual in (("iog", "IoG", IOG_THRESHOLD), ("iou", "IoU", None))
    ]
    return [(title, drawing) for title, drawing in drawn if drawing]


def category_charts(runs: Sequence[Recorded]) -> list[tuple[str, list[Bars]]]:
    """Titles and bars by category, where there are at least two."""
    names = sorted({name for run in runs for name in run.scores.by_category}, key=lambda name: (not name, name))
    if len(names) < 2:
        return []

    def figure(summary: Summary | None, name: str) -> Estimate | None:
        value = summary.figure(name) if summary else None
        return None if summary is None or value is None else Estimate(value, summary.intervals.get(name))

    charts = []
    for name, title in (("accuracy", "Right answers"), ("iog30", "Looked in the right place")):
        groups = []
        for category in names:
            found = [run.scores.by_category.get(category) for run in runs]
            bars = _bars([figure(summary, name) for summary in found])
            if bars:
                groups.append(Bars(category or "(none)", _asked(found), bars))
        if groups:
            charts.append((title, groups))
    return charts


def probe_bars(runs: Sequence[Recorded]) -> list[Bars]:
    """The accuracy under each probe that some run has, in the order of `TITLES`."""
    named = {name for run in runs for name in run.scores.probes}
    groups = []
    for name in [*(known for known in TITLES if known in named), *sorted(named - TITLES.keys())]:
        found = [run.scores.probes.get(name) for run in runs]
        changes = [
            "" if probe is None or probe.change is None or name == UNCHANGED else f" ({points(probe.change)})"
            for probe in found
        ]
        bars = _bars(list(map(_under, found)), changes)
        if bars:
            groups.append(Bars(TITLES.get(name, name), _asked(found), bars))
    return groups


def _under(probe: ProbeRecord | None) -> Estimate | None:
    return None if probe is None or probe.accuracy is None else Estimate(probe.accuracy, probe.interval)


def _asked(found: Sequence[Summary | ProbeRecord | None]) -> str:
    """Of how many questions figures are, where runs differ from the fewest to the most."""
    counts = sorted({one.questions for one in found if one and one.questions})
    return ("" if len(counts) == 1 else f"{counts[0]:,} to ") + counted(counts[-1], "question")


def _bars(figures: Sequence[Estimate | None], more: Sequence[str] = ()) -> tuple[Bar, ...]:
    bars = []
    for i, figure in enumerate(figures):
        if figure:
            interval = figure.interval
            low, high = (100 * end for end in interval) if interval else (0.0, 0.0)
            ends = (round(low, 2), round(high - low, 2)) if interval else None
            text = f"{100 * figure.value:.1f} %{more[i] if more else ''}"
            bars.append(Bar(i, round(min(max(100 * figure.value, 0), 100), 2), ends, text))
    return tuple(bars)


def dependences(runs: Sequence[Recorded]) -> Iterator[dict[str, Any]]:
    """Each run's look dependence and what follows from it, in words."""
    for i, run in enumerate(runs):
        if found := run.scores.look_dependence:
            said = [] if found.value is None else [f"Look dependence {signed(found.value)}"]
            if said and found.interval:
                said.append(f"95 % interval {signed(found.interval[0])} to {signed(found.interval[1])}")
            yield {
                "run": i,
                "title": found.verdict.title,
                "because": found.verdict.because,
                "value": ", ".join(said),
            }


def cost_scatter(lines: Sequence[Line]) -> plots.Scatter | None:
    """Accuracy against visual tokens, where two runs have both."""
    figures = {line.measure.name: line.figures for line in lines}
    if "visual_tokens" not in figures or "accuracy" not in figures:
        return None
    return plots.draw_scatter(figures["visual_tokens"], figures["accuracy"])
