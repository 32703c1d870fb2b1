"""Evaluation runs against one another: figures with intervals, which one is told apart, differences over the same
questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np

from foveate.evaluation.joint import JointTable
from foveate.evaluation.records import Recorded
from foveate.evaluation.scoring import FIGURES, Scored
from foveate.evaluation.statistics import Estimate, bootstrap_interval, paired_interval

Key = tuple[str, str, str]
"""A question's id, text and expected answer."""
COMPARED = ("accuracy", "iog30", "mean_iou", "box_area", "valid_boxes")
"""The figures of which differences are shown."""
_RIGHT_OR_WRONG = ("accuracy", "iog30", "valid_boxes")
"""Those of which one question can change by 1."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of the table.

    Attributes:
        name: its key.
        percent: whether it is a share.
        better: 1 where more is better, -1 where less is, 0 where neither can be said.
        link: the filter of the gallery that shows what is counted, or "".
    """

    name: str
    title: str
    hint: str
    percent: bool
    better: int
    link: str = ""


MEASURES = (
    Measure("accuracy", "Right answers", "share of attempts", True, 1, "answer=right"),
    Measure("iog30", "Looked in the right place", "IoG > 0.3: a box covers over 30 % of what has to be seen", True, 1,
            "place=right"),
    Measure("mean_iou", "How tightly", "mean IoU of the box with the true region, 0 to 1", False, 1),
    Measure("box_area", "Size of the box", "share of the picture; neither more nor less is better in itself", True, 0),
    Measure("boxes", "Boxes", "per question", False, 0),
    Measure("valid_boxes", "Usable boxes", "share of attempts", True, 1),
    Measure("misplaced", "Right answer, wrong place", "share of the right answers", True, -1,
            "answer=right&place=wrong"),
    Measure("unparsed", "No answer could be read", "share of attempts", True, -1, "stop=unparsed"),
    Measure("failed", "No reply", "share of questions; these count for nothing else", True, -1),
    Measure("tokens", "Tokens written", "per question", False, -1),
    Measure("visual_tokens", "Visual tokens read", "per question", False, -1),
    Measure("seconds", "Seconds", "per question, on the machine that it ran on", False, 0),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """A measure's figures, one per run, None where undefined; `best` is the run that is told apart as best."""

    measure: Measure
    figures: tuple[Estimate | None, ...]
    best: int | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What the run `second` has more than `first`, over the questions that both were asked.

    Attributes:
        questions: how many they share.
        figures: those of `COMPARED`, each over the shared questions for which both have it.
        better, worse: on how many questions `second` is more, or less, often right.
    """

    first: int
    second: int
    questions: int
    figures: dict[str, Estimate]
    better: int
    worse: int


def key_of(question: Scored) -> Key:
    """Equal for the same question of two runs; an id alone may stand for another question in other data."""
    return question.id, question.text, question.expected


def lines_of(runs: Sequence[Recorded]) -> list[Line]:
    """The rows of the table: every measure that some run has."""
    lines = []
    for measure in MEASURES:
        figures = tuple(_figure(run, measure.name) for run in runs)
        if any(figure and (figure.value or measure.name != "failed") for figure in figures):
            lines.append(Line(measure, figures, _best(figures, measure.better)))
    return lines


def differences_of(runs: Sequence[Recorded]) -> list[Difference]:
    """Every pair of runs that shares a question: the later one against the earlier one."""
    return [
        difference
        for (i, first), (j, second) in combinations(enumerate(runs), 2)
        if (difference := _difference(i, first, j, second)) is not None
    ]


def warnings_of(runs: Sequence[Recorded]) -> list[str]:
    """What makes these runs hard to compare, in plain words."""
    said = []
    hashes = {run.scores.setup.get("data_sha256") for run in runs}
    asked = [set(map(key_of, run.questions)) for run in runs]
    shared = len(set.intersection(*asked))
    if any(keys != asked[0] for keys in asked):
        counts = ", ".join(f"{run.name}: {len(keys):,}" for run, keys in zip(runs, asked, strict=True))
        said.append(
            f"The runs were asked different questions ({counts}; {shared:,} in common). The figures of each run are "
            "over its own questions; the differences between runs are over those in common alone."
        )
    elif len(hashes) > 1:
        said.append(
            "The runs' data has different hashes though the questions read the same: pictures, choices or true boxes "
            "differ. Part of a difference may come from the data."
        )
    if len({str(run.scores.setup.get("samples", 1)) for run in runs}) > 1:
        said.append("The runs asked each question a different number of times: their intervals are not alike.")
    for run in runs:
        if run.cut:
            said.append(f"{run.name}: the last line of questions.jsonl was half written, and is left out.")
        if len(run.questions) != run.scores.summary.questions:
            said.append(
                f"{run.name}: its scores are over {run.scores.summary.questions:,} questions, but "
                f"{len(run.questions):,} are in questions.jsonl. Evaluate it again to be sure."
            )
    return said


def _figure(run: Recorded, name: str) -> Estimate | None:
    summary = run.scores.summary
    if name in FIGURES:
        value = summary.figure(name)
        return None if value is None else Estimate(value, summary.intervals.get(name))
    match name:
        case "misplaced":
            return _misplaced(run.questions)
        case "failed":
            return Estimate(run.scores.failed / (run.scores.failed + summary.questions))
        case "seconds":
            return None if run.scores.seconds_per_question is None else Estimate(run.scores.seconds_per_question)
        case "unparsed":
            values = [question.figure(name) or 0.0 for question in run.questions]
        case _:
            values = [sum(getattr(attempt, name) for attempt in question.attempts) for question in run.questions]
    return Estimate(fmean(values), bootstrap_interval(values))


def _misplaced(questions: Sequence[Scored]) -> Estimate | None:
    """Share of the right answers that pointed at a wrong place, resampled by question: a ratio of two sums."""
    tables = [JointTable.of((one.right, one.grounding.iog30) for one in question.attempts) for question in questions]
    counts = [(table.wrong_box_right_answer, table.right_box_right_answer) for table in tables]
    counts = [count for count in counts if any(count)]
    if not counts:
        return None
    wrong, right = np.asarray(counts, dtype=np.float64).T
    rng = np.random.default_rng(0)
    picks = (rng.integers(len(counts), size=len(counts)) for _ in range(2000))
    low, high = np.quantile([wrong[i].sum() / (wrong[i] + right[i]).sum() for i in picks], [0.025, 0.975])
    value = float(wrong.sum() / (wrong + right).sum())
    return Estimate(value, (min(float(low), value), max(float(high), value)))


def _best(figures: Sequence[Estimate | None], better: int) -> int | None:
    """The run whose interval lies beyond all others'; None where none does, or where more is not better."""
    known = [(i, figure.interval) for i, figure in enumerate(figures) if figure and figure.interval]
    if not better or len(known) < 2 or len(known) < sum(figure is not None for figure in figures):
        return None
    ends = {i: sorted((better * low, better * high)) for i, (low, high) in known}
    best = max(ends, key=lambda i: ends[i][0])
    return best if all(ends[best][0] > high for i, (_, high) in ends.items() if i != best) else None


def _difference(i: int, first: Recorded, j: int, second: Recorded) -> Difference | None:
    before = {key_of(question): question for question in first.questions}
    pairs = [(was, question) for question in second.questions if (was := before.get(key_of(question)))]
    if not pairs:
        return None
    figures, changes = {}, {}
    for name in COMPARED:
        read = [(was.figure(name), now.figure(name)) for was, now in pairs]
        changes[name] = [now - was for was, now in read if was is not None and now is not None]
        if changes[name]:
            interval = paired_interval if name in _RIGHT_OR_WRONG else bootstrap_interval
            figures[name] = Estimate(fmean(changes[name]), interval(changes[name]))
    right = changes["accuracy"]
    return Difference(i, j, len(pairs), figures, sum(c > 0 for c in right), sum(c < 0 for c in right))
