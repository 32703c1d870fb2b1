"""The charts of a comparison, ready for its template: squares of counts, bars, thresholds, cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.evaluation import plots
from foveate.evaluation.contrasts import Figure, Line, probe_figure
from foveate.evaluation.grounding import IOG_THRESHOLD
from foveate.evaluation.records import Recorded, SummaryRecord
from foveate.evaluation.wording import counted, link_of, points, signed

_PROBES = {
    "unchanged": "Unchanged",
    "crop_alone": "The crop alone",
    "noise": "Noise",
    "true_crop": "The true region\u2019s crop",
    "random_crop": "A crop of a random place",
}


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
    counts = {(right, found): 0 for right in (True, False) for found in (True, False)}
    for attempt in (attempt for question in run.questions for attempt in question.attempts):
        if attempt.found is not None:
            counts[attempt.right, attempt.found] += 1
    total = sum(counts.values())
    if not total:
        return None

    def cell(right: bool, found: bool) -> Cell:
        link = f"answer={_word(right)}&place={_word(found)}"
        count = counts[right, found]
        return _cell(count, total, link=link_of(i, runs, link) if count else "")

    return Square(
        i,
        run.name,
        f"of {counted(total, 'attempt')} at questions with a true region",
        ("right place", "wrong place"),
        (
            ("right answer", (cell(True, True), cell(True, False))),
            ("wrong answer", (cell(False, True), cell(False, False))),
        ),
    )


def _word(right: bool) -> str:
    return "right" if right else "wrong"


def gain_square(i: int, run: Recorded) -> Square | None:
    """Right with looking closer against right without; None where it was not measured."""
    counts = run.scores.gain_harm
    total = counts and counts.both + counts.gain + counts.harm + counts.neither
    if not counts or not total:
        return None
    return Square(
        i,
        run.name,
        f"of {counted(round(total), 'question')}" if total > 1 else "shares of the questions",
        ("right without", "wrong without"),
        (
            ("right with it", (_cell(counts.both, total), _cell(counts.gain, total, "gained"))),
            ("wrong with it", (_cell(counts.harm, total, "harmed"), _cell(counts.neither, total))),
        ),
    )


def _cell(count: float, total: float, note: str = "", link: str = "") -> Cell:
    share = 100 * count / total
    return Cell(round(share, 1), f"{share:.1f} %", f"{count:,.0f}" if total > 1 else "", note, link)


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

    def figure(summary: SummaryRecord | None, name: str) -> Figure | None:
        value = getattr(summary, name) if summary else None
        return None if value is None else Figure(value, summary.intervals.get(name) if summary else None)

    charts = []
    for name, title in (("accuracy", "Right answers"), ("iog30", "Looked in the right place")):
        groups = []
        for category in names:
            found = [run.scores.by_category.get(category) for run in runs]
            counts = sorted({summary.questions for summary in found if summary})
            fewest = "" if len(counts) == 1 else f"{counts[0]:,} to "
            asked = fewest + counted(counts[-1], "question")
            bars = _bars([figure(summary, name) for summary in found])
            if bars:
                groups.append(Bars(category or "(none)", asked, bars))
        if groups:
            charts.append((title, groups))
    return charts


def probe_bars(runs: Sequence[Recorded]) -> list[Bars]:
    """The accuracy under each probe that some run has, unchanged first."""
    names = list(dict.fromkeys(name for run in runs for name in run.scores.probes))
    names.sort(key=lambda name: name != "unchanged")
    groups = []
    for name in names:
        found = [run.scores.probes.get(name) for run in runs]
        title = next((probe.title for probe in found if probe and probe.title), None) or _PROBES.get(name, name)
        changes = [
            "" if probe is None or probe.change is None or name == "unchanged" else f" ({points(probe.change)})"
            for probe in found
        ]
        bars = _bars([probe_figure(run, name) for run in runs], changes)
        if bars:
            groups.append(Bars(title, "", bars))
    return groups


def _bars(figures: Sequence[Figure | None], more: Sequence[str] = ()) -> tuple[Bar, ...]:
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
            verdict = found.verdict
            yield {
                "run": i,
                "title": verdict.title if verdict else "No verdict",
                "because": verdict.because if verdict else "",
                "value": ", ".join(said),
            }


def cost_scatter(lines: Sequence[Line]) -> plots.Scatter | None:
    """Accuracy against visual tokens, where two runs have both."""
    figures = {line.measure.name: line.figures for line in lines}
    if "visual_tokens" not in figures or "accuracy" not in figures:
        return None
    return plots.draw_scatter(figures["visual_tokens"], figures["accuracy"])
