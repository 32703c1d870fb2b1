"""A study's report in Markdown: how it was made, tables, paired tests, verdicts on claims, plots.

Everything is computed from the cells. What is missing is said where it would have stood.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.evaluation.curves import THRESHOLDS
from foveate.evaluation.grounding import IOG_THRESHOLD
from foveate.study import plots
from foveate.study.analysis import RESAMPLES, Estimate, estimate
from foveate.study.claims import Claim, Comparison, Judgement, Outcome, Verdict, judge
from foveate.study.figures import title
from foveate.study.results import Cell, StudyError, UndefinedError, named

FIGURES = (
    "accuracy",
    "iog30",
    "iou",
    "area",
    "wrong_place",
    "look:wrong_card",
    "look:noise",
    "gain:true_crop",
    "answer:crop_alone",
)
"""The columns of a group's table."""
PROBES = {
    "own crop": "answer:unchanged",
    "true crop": "answer:true_crop",
    "noise": "answer:noise",
    "wrong card": "answer:wrong_card",
    "crop alone": "answer:crop_alone",
}
"""The bars of a group's plot of look dependence."""
_BUDGET = ("steps", "rollouts", "updates", "seconds")
_ABSENT = "-"


@dataclass(frozen=True)
class Group:
    """Methods that stand in one table and on the same plots.

    Attributes:
        title: unique in the report.
        methods: `hart`, or `hart@view` where it was trained from several bases.
        way: of asking, the first part of the measures' names.
        figures: the table's columns, without the way.
        dots: the figures of which seeds are plotted one by one.
        note: a sentence or more under the title.
    """

    title: str
    methods: tuple[str, ...]
    way: str = "own"
    figures: tuple[str, ...] = FIGURES
    dots: tuple[str, ...] = ("accuracy", "iog30")
    note: str = ""


@dataclass(frozen=True)
class Sweep:
    """A figure over an amount, such as of leakage or k, a line per kind of method.

    Attributes:
        title: unique in the report.
        figure: with its way of asking.
        amount: what the horizontal axis shows.
        lines: by label, the method at each amount.
        note: a sentence or more under the title.
    """

    title: str
    figure: str
    amount: str
    lines: Mapping[str, Mapping[float, str]]
    note: str = ""


def write_report(
    cells: Sequence[Cell],
    claims: Sequence[Claim],
    groups: Sequence[Group],
    out_dir: str | Path,
    command: str,
    sweeps: Sequence[Sweep] = (),
) -> Path:
    """Writes `report.md` and its plots into a folder.

    Args:
        command: that made the cells, as a person would type it.

    Returns:
        The path of the report.

    Raises:
        StudyError: there are no cells, or a method is named that was trained from several bases.
    """
    if not cells:
        raise StudyError("there are no finished cells to report on: run the study first")
    out_dir = Path(out_dir)
    written = tables(cells, claims, groups, sweeps)
    parts = ["# Study", _made(cells, command), "## What was trained", written["cells"]]
    for group in groups:
        parts += [f"## {group.title}", group.note, written[group.title], *_group_plots(cells, group, out_dir)]
    for sweep in sweeps:
        parts += [f"## {sweep.title}", sweep.note, written[sweep.title], *_sweep_plots(cells, sweep, out_dir)]
    if claims:
        parts += ["## Claims", _HOW_JUDGED, written["claims"], "## Comparisons", _HOW_TESTED, written["comparisons"]]
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / "report.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def tables(
    cells: Sequence[Cell], claims: Sequence[Claim], groups: Sequence[Group], sweeps: Sequence[Sweep] = ()
) -> dict[str, str]:
    """The report's tables alone: `cells`, each group's and sweep's by title, and `claims` and `comparisons` where
    there are claims. A page that quotes them can be checked by looking for each in its text.
    """
    made = {"cells": _cells_table(cells, groups, sweeps)}
    made |= {group.title: _group_table(cells, group) for group in groups}
    made |= {sweep.title: _sweep_table(cells, sweep) for sweep in sweeps}
    if claims:
        judgements = judge(claims, cells)
        made |= {"claims": _claims_table(judgements), "comparisons": _comparisons_table(judgements)}
    return made


_HOW_JUDGED = (
    "A comparison *holds* when its 95 % interval lies on the expected side of 0, is *opposite* when it lies on the "
    "other, and *not shown* when it includes 0. Where no difference is expected, it *holds* when the interval lies "
    "within the margin, is *opposite* when it lies outside, and *undecided* otherwise. A claim holds when all of its "
    "comparisons do, and *in part* when some do: the others may be opposite. These verdicts take each interval by "
    "itself, so that of twenty comparisons without any effect one would seem to have one. The last column counts those "
    "on the expected side that remain after Holm's correction (p < 0.05), a strict test with few seeds."
)
_HOW_TESTED = (
    "Differences are paired by seed and question. *p* is that of a paired t-test over the seeds' figures, which takes "
    "the questions as given; *Holm* is that p corrected for all comparisons of this report that expect a difference."
)


_COUNTED = {verdict: str(verdict) for verdict in Verdict if verdict is not Verdict.IN_PART}
_COUNTED[Verdict.HOLDS] = "hold"


def _made(cells: Sequence[Cell], command: str) -> str:
    commits = sorted({cell.commit or "unknown" for cell in cells})
    seeds = sorted({cell.seed for cell in cells})
    counts = sorted({len(cell.questions) for cell in cells})
    hours = sum(cell.training.get("seconds", 0.0) for cell in cells) / 3600
    return (
        f"Made by `{command}` at commit {', '.join(commits)}: {len(cells)} cells, seeds {_listed(seeds)}, "
        f"{_listed(counts)} held-out questions each. Training took {hours:.1f} CPU hours in all (one thread a cell), "
        "without bases and measuring. Figures are means over seeds with 95 % intervals: a bootstrap over seeds and "
        f"questions at once ({RESAMPLES:,} resamples), scaled to the standard error and Student's quantile of the "
        "two-way layout, since there are few seeds: expect wide ones from two. All seeds start from the same weights: "
        "the intervals are about other trainings and other questions, not about other bases.\n\n"
        "Questions that say nothing about a figure are left out of it: of the box area those without a valid box, of "
        "wrong places those answered wrongly, and of both IoG and wrong places those that a model with a free crop "
        "tool answered without a call. A dash: not measured, or defined on no question."
    )


def _cells_table(cells: Sequence[Cell], groups: Sequence[Group], sweeps: Sequence[Sweep]) -> str:
    """What each method's training took, per seed; then what is missing."""
    wanted = [name for group in groups for name in group.methods]
    wanted += [name for sweep in sweeps for line in sweep.lines.values() for name in line.values()]
    names = dict.fromkeys(cell.name for cell in cells)
    everyone = sorted({cell.seed for cell in cells})
    rows, missing = [], []
    for name in names:
        own = named(cells, name)
        seeds = sorted(cell.seed for cell in own)
        rows.append([own[0].method, own[0].base, _listed(seeds), *(_spent(own, kind) for kind in _BUDGET)])
        if absent := [seed for seed in everyone if seed not in seeds]:
            missing.append(f"`{name}` seeds {_listed(absent)}")
    missing += [f"`{name}` altogether" for name in dict.fromkeys(wanted) if not named(cells, name)]
    table = _table(["method", "base", "seeds", *(f"{kind} a seed" for kind in _BUDGET)], rows, left=3)
    return table + (f"\n\nMissing: {'; '.join(missing)}." if missing else "")


def _spent(cells: Sequence[Cell], kind: str) -> str:
    spent = [cell.training[kind] for cell in cells if kind in cell.training]
    if not spent:
        return _ABSENT
    low, high = f"{min(spent):,.0f}", f"{max(spent):,.0f}"
    return low if low == high else f"{low} to {high}"


def _group_table(cells: Sequence[Cell], group: Group) -> str:
    rows = []
    for label, own in _members(cells, group).items():
        figures = [_written(own, f"{group.way}/{kind}") for kind in group.figures]
        rows.append([label, *(figures if own else ["not run", *[""] * (len(figures) - 1)])])
    return _table(["method", *(title(f"{group.way}/{kind}") for kind in group.figures)], rows, left=1)


def _sweep_table(cells: Sequence[Cell], sweep: Sweep) -> str:
    amounts = sorted({amount for line in sweep.lines.values() for amount in line})
    rows = []
    for label, line in sweep.lines.items():
        written = (
            (_written(own, sweep.figure) if (own := named(cells, line[amount])) else "not run")
            if amount in line
            else _ABSENT
            for amount in amounts
        )
        rows.append([label, *written])
    heads = [f"{sweep.amount} {amount:g}" for amount in amounts]
    return _table([title(sweep.figure), *heads], rows, left=1)


def _claims_table(judgements: Sequence[Judgement]) -> str:
    rows = []
    for judged in judgements:
        counts = Counter(outcome.verdict for outcome in judged.outcomes)
        found = ", ".join(f"{counts[verdict]} {_COUNTED[verdict]}" for verdict in _COUNTED if counts[verdict])
        tested = [outcome for outcome in judged.outcomes if outcome.holm is not None]
        remain = sum(outcome.verdict is Verdict.HOLDS and (outcome.holm or 0.0) < 0.05 for outcome in tested)
        after_holm = f"{remain} of {len(tested)}" if tested else _ABSENT
        rows.append([f"({judged.claim.letter})", judged.claim.text, f"**{judged.verdict}**", found, after_holm])
    return _table(["", "claim", "in miniature", "comparisons", "after Holm"], rows, left=5)


def _comparisons_table(judgements: Sequence[Judgement]) -> str:
    rows = [
        [f"({judged.claim.letter})", outcome.comparison.label, _difference_of(outcome.comparison), *_found(outcome)]
        for judged in judgements
        for outcome in judged.outcomes
    ]
    heads = ["", "comparison", "difference of", "expected", "difference", "seeds", "p", "Holm", "verdict"]
    return _table(heads, rows, left=3)


def _difference_of(comparison: Comparison) -> str:
    """What is subtracted from what."""
    a, b = (side if isinstance(side, str) else f"({side[0]} less {side[1]})" for side in (comparison.a, comparison.b))
    if comparison.figure_b is None:
        return f"`{comparison.figure}`, {a} less {b}"
    return f"`{comparison.figure}` of {a} less `{comparison.figure_b}` of {b}"


def _found(outcome: Outcome) -> list[str]:
    expected = {1: "> 0", -1: "< 0", 0: f"within {outcome.comparison.margin:g}"}[outcome.comparison.expected]
    found = outcome.difference
    if found is None:
        return [expected, _ABSENT, _ABSENT, _ABSENT, _ABSENT, f"{outcome.verdict}: {outcome.reason}"]
    digits = _digits(outcome.comparison.figure)
    difference = f"{found.value:+z.{digits}f} [{found.low:+z.{digits}f}, {found.high:+z.{digits}f}]"
    return [expected, difference, str(len(found.by_seed)), _p(found.p), _p(outcome.holm), str(outcome.verdict)]


def _p(p: float | None) -> str:
    if p is None:
        return _ABSENT
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _group_plots(cells: Sequence[Cell], group: Group, out_dir: Path) -> Iterator[str]:
    """Draws a group's plots and yields how the report shows each; methods without a figure are not on its plot."""
    members = _members(cells, group)

    def of(kind: str) -> dict[str, Estimate]:
        found = {label: _estimate(own, f"{group.way}/{kind}") for label, own in members.items()}
        return {label: each for label, each in found.items() if each is not None}

    for kind in group.dots:
        if rows := of(kind):
            file, what = _file(f"{group.title} {kind}"), title(f"{group.way}/{kind}")
            plots.dots(out_dir / file, rows, what)
            yield f"![{what}]({file})"
    if of("iog"):
        points = [(threshold, of(f"iog>{threshold}")) for threshold in THRESHOLDS]
        lines = {label: [(threshold, found[label]) for threshold, found in points] for label in points[0][1]}
        file, axes = _file(f"{group.title} iog"), ("IoG threshold", "share of questions with IoG beyond it")
        plots.curves(out_dir / file, lines, *axes, bands=True, mark=IOG_THRESHOLD)
        yield f"![IoG curve]({file})"
    by_probe = {shown: of(kind) for shown, kind in PROBES.items()}
    shown_to = {
        label: {shown: found[label] for shown, found in by_probe.items() if label in found} for label in members
    }
    if probed := {label: row for label, row in shown_to.items() if set(row) - {"own crop"}}:
        file = _file(f"{group.title} look")
        plots.bars(out_dir / file, probed, "right answers")
        yield f"![right answers by what was shown]({file})"


def _sweep_plots(cells: Sequence[Cell], sweep: Sweep, out_dir: Path) -> Iterator[str]:
    lines = {}
    for label, line in sweep.lines.items():
        found = [(amount, _estimate(named(cells, line[amount]), sweep.figure)) for amount in sorted(line)]
        if curve := [(amount, each) for amount, each in found if each is not None]:
            lines[label] = curve
    if lines:
        file, what = _file(sweep.title), title(sweep.figure)
        plots.curves(out_dir / file, lines, sweep.amount, what)
        yield f"![{what} over {sweep.amount}]({file})"


def _file(name: str) -> str:
    """Where a plot lies, from the report's folder."""
    return "plots/" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".svg"


def _members(cells: Sequence[Cell], group: Group) -> dict[str, list[Cell]]:
    """A group's cells by method, called without their base where that is clear."""
    short = [name.rpartition("@")[0] or name for name in group.methods]
    labels = short if len(set(short)) == len(short) else group.methods
    return {label: named(cells, name) for label, name in zip(labels, group.methods, strict=True)}


def _estimate(cells: Sequence[Cell], figure: str) -> Estimate | None:
    try:
        return estimate(cells, figure)
    except UndefinedError:
        return None


def _written(cells: Sequence[Cell], figure: str) -> str:
    found = _estimate(cells, figure)
    if found is None:
        return _ABSENT
    digits = _digits(figure)
    value, low, high = (f"{number:z.{digits}f}" for number in (found.value, found.low, found.high))
    fewer = "" if len(found.by_seed) == len(cells) else f" ({len(found.by_seed)} of {len(cells)} seeds)"
    return f"{value} [{low}, {high}]{fewer}"


def _digits(figure: str) -> int:
    """Areas are a few hundredths of the image."""
    return 3 if figure.endswith("/area") else 2


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A Markdown table whose first columns are words and whose others are numbers."""
    lines = [heads, ["---" if index < left else "---:" for index in range(len(heads))], *rows]
    return "\n".join("| " + " | ".join(text.replace("|", r"\|") for text in line) + " |" for line in lines)
