"""The figures that each benchmark is reported by, computed as its authors define them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from foveate.evaluation.joint import overall
from foveate.evaluation.scoring import Attempt, Scored
from foveate.evaluation.statistics import Interval, bootstrap_interval
from foveate.protocols.base import StopReason
from foveate.protocols.matching import yes_or_no

ROTATIONS = 4
"""In how many orders of its options HR-Bench asks each question."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        value: a share, from 0 to 1; None where it is not defined (the precision of a model that never says yes).
        questions: of how many questions it is.
        interval: 95 % bootstrap interval over questions, where it is a mean over questions; None where it is not.
    """

    value: float | None
    questions: int
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Official:
    """A benchmark's figures.

    Attributes:
        figures: by name; parts are named as the benchmark names them, `part/figure` where a part has several.
        counts: what the figures do not show: rotations that are not complete, answers that could not be read.
    """

    figures: dict[str, Figure]
    counts: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Figure:
        return self.figures[name]

    def to_json(self) -> dict[str, Any]:
        """Figures and counts as plain values, intervals as pairs."""
        return {
            "figures": {
                name: {
                    "value": one.value,
                    "questions": one.questions,
                    "interval": list(one.interval) if one.interval else None,
                }
                for name, one in self.figures.items()
            },
            "counts": dict(self.counts),
        }


def official(benchmark: str, scored: Sequence[Scored]) -> Official:
    """The official figures of a benchmark, over the questions that are there.

    A question that was asked several times counts with the mean over its attempts. Attempts without a reply are left
    out, and `counts["without_reply"]` says how many questions have none at all.

    Args:
        benchmark: a name of `questions.benchmarks.BENCHMARKS`.
        scored: its questions as its reader gives them, scored: with their categories and tags.

    Raises:
        ValueError: a benchmark that there is not, no question with a reply, or questions without the tags that the
            figures need.
    """
    if benchmark not in _OFFICIAL:
        raise ValueError(f"no official figures for {benchmark!r}; there are for: {', '.join(_OFFICIAL)}")
    replied = [one for one in scored if _accuracy(one) is not None]
    if not replied:
        raise ValueError(f"there is no question of {benchmark} with a reply: nothing to compute figures of")
    figures = _OFFICIAL[benchmark](replied)
    return Official(figures.figures, {**figures.counts, "without_reply": len(scored) - len(replied)})


def _vstar(scored: Sequence[Scored]) -> Official:
    return Official({"overall": _mean(scored), **_by(scored, _category), **_places(scored)}, _not_pointed(scored))


def _hr_bench(scored: Sequence[Scored]) -> Official:
    """Each figure is the mean over the cycles of the cycle's accuracy; `strict` counts a question that is right in all
    of its rotations, of those questions of which all are there.
    """
    figures: dict[str, Figure] = {}
    parts = {"average": scored, **_grouped(scored, _category)}
    for name, part in parts.items():
        figures[name] = _over_cycles(part)
        if strict := [right for question in _rotated(part) if (right := _right_in_all(question)) is not None]:
            figures["strict" if name == "average" else f"{name}/strict"] = _figure(strict)
    incomplete = sum(not _complete(rotations) for rotations in _rotated(scored))
    return Official(figures, {"incomplete": incomplete})


def _over_cycles(scored: Sequence[Scored]) -> Figure:
    cycles = _grouped(scored, lambda one: _tag(one, "cycle"))
    value = fmean(_value(cycle) for cycle in cycles.values())
    rotated = _rotated(scored)
    interval = None
    if all(map(_complete, rotated)):  # only then it is a mean over questions; rotations are not independent
        interval = bootstrap_interval([_value(rotations) for rotations in rotated])
    return Figure(value, len(scored), interval)


def _rotated(scored: Sequence[Scored]) -> list[list[Scored]]:
    return list(_grouped(scored, lambda one: _tag(one, "base")).values())


def _complete(rotations: Sequence[Scored]) -> bool:
    return len(rotations) == ROTATIONS == len({_tag(one, "cycle") for one in rotations})


def _right_in_all(rotations: Sequence[Scored]) -> float | None:
    """The share of the times that a question was asked at which all rotations were right; None where one is missing."""
    times = [at for at in zip(*(one.attempts for one in rotations), strict=False) if all(map(_replied, at))]
    return fmean(all(one.right for one in at) for at in times) if times and _complete(rotations) else None


def _mme_realworld(scored: Sequence[Scored]) -> Official:
    figures: dict[str, Figure] = {}
    for task, part in _grouped(scored, lambda one: _tag(one, "task")).items():
        subtasks = _by(part, lambda one: one.tags.get("subtask", ""), prefix=f"{task}/")
        figures |= {task: _weighted(subtasks, part), **subtasks}
    tasks = {name: figure for name, figure in figures.items() if "/" not in name}
    return Official({"overall": _weighted(tasks, scored), **figures})


def _weighted(parts: Mapping[str, Figure], scored: Sequence[Scored]) -> Figure:
    value = overall({name: (part.value or 0.0, part.questions) for name, part in parts.items()})
    return Figure(value, len(scored), _mean(scored).interval)


def _treebench(scored: Sequence[Scored]) -> Official:
    """Places per true box, of which questions have one to many."""
    return Official(
        {"overall": _mean(scored), **_by(scored, _category), **_places(scored, per_box=True)}, _not_pointed(scored)
    )


def _mmstar(scored: Sequence[Scored]) -> Official:
    level_2 = _by(scored, lambda one: f"{_category(one)}/{_tag(one, 'l2_category')}")
    macro = Figure(_macro(level_2), len(scored))
    return Official({"macro": macro, "overall": _mean(scored), **_by(scored, _category), **level_2})


def _blink(scored: Sequence[Scored]) -> Official:
    configs = _by(scored, lambda one: _tag(one, "config"))
    return Official({"mean": Figure(_macro(configs), len(scored)), "overall": _mean(scored), **configs})


def _pope(scored: Sequence[Scored]) -> Official:
    figures = _yes_no(scored)
    for category, part in _grouped(scored, _category).items():
        figures |= {f"{category}/{name}": figure for name, figure in _yes_no(part).items()}
    unread = sum(_said(attempt) is None for one in scored for attempt in one.attempts if _replied(attempt))
    return Official(figures, {"unparsed": unread})


def _yes_no(scored: Sequence[Scored]) -> dict[str, Figure]:
    """An answer that is neither yes nor no is wrong, and counts as not yes."""
    counts = {(expected, said): 0.0 for expected in (True, False) for said in (True, False)}
    for one in scored:
        attempts = [attempt for attempt in one.attempts if _replied(attempt)]
        for attempt in attempts:
            counts[one.expected.lower() == "yes", _said(attempt) == "yes"] += 1 / len(attempts)
    hits, false, missed = counts[True, True], counts[False, True], counts[True, False]

    def ratio(part: float, whole: float) -> Figure:
        return Figure(part / whole if whole else None, len(scored))

    return {
        "accuracy": _mean(scored),
        "precision": ratio(hits, hits + false),
        "recall": ratio(hits, hits + missed),
        "f1": ratio(2 * hits, 2 * hits + false + missed),
        "yes_rate": ratio(hits + false, len(scored)),
    }


def _said(attempt: Attempt) -> str | None:
    """What an answer plainly says, as it is marked too: yes, no, or neither."""
    return yes_or_no(attempt.answer or "")


def _visual_cot(scored: Sequence[Scored]) -> Official:
    return Official({"overall": _mean(scored), **_by(scored, _category), **_places(scored)}, _not_pointed(scored))


_OFFICIAL: Mapping[str, Callable[[Sequence[Scored]], Official]] = {
    "vstar": _vstar,
    "hr-bench-4k": _hr_bench,
    "hr-bench-8k": _hr_bench,
    "mme-realworld": _mme_realworld,
    "mme-realworld-lite": _mme_realworld,
    "treebench": _treebench,
    "mmstar": _mmstar,
    "blink": _blink,
    "pope": _pope,
    "visual-cot": _visual_cot,
}


def _places(scored: Sequence[Scored], *, per_box: bool = False) -> dict[str, Figure]:
    """IoG > 0.3 and best IoU, over questions or over true boxes; nothing where no question was asked to point.

    Where some were, one without a box found nothing: with a crop tool that is the model's own choice.
    """
    figures = {}
    for name in ("iog30", "mean_iou"):
        known = [one for one in scored if one.regions]
        found = [one.figure(name) for one in known]
        if any(value is not None for value in found):
            values = [value or 0.0 for value in found]
            if per_box:
                boxes = {str(n): (value, len(known[n].regions)) for n, value in enumerate(values)}
                figures[name] = Figure(overall(boxes), len(known))
            else:
                figures[name] = _figure(values)
    return figures


def _not_pointed(scored: Sequence[Scored]) -> dict[str, int]:
    return {"not_pointed": sum(bool(one.regions) and one.figure("mean_iou") is None for one in scored)}


def _accuracy(one: Scored) -> float | None:
    right = [attempt.right for attempt in one.attempts if _replied(attempt)]
    return fmean(right) if right else None


def _replied(attempt: Attempt) -> bool:
    return attempt.stop != StopReason.FAILED


def _value(scored: Sequence[Scored]) -> float:
    return fmean(_accuracy(one) or 0.0 for one in scored)


def _mean(scored: Sequence[Scored]) -> Figure:
    return _figure([_accuracy(one) or 0.0 for one in scored])


def _figure(values: Sequence[float]) -> Figure:
    return Figure(fmean(values), len(values), bootstrap_interval(values))


def _macro(parts: Mapping[str, Figure]) -> float:
    return fmean(part.value or 0.0 for part in parts.values())


def _by(scored: Sequence[Scored], part: Callable[[Scored], str], *, prefix: str = "") -> dict[str, Figure]:
    return {prefix + name: _mean(own) for name, own in _grouped(scored, part).items()}


def _grouped(scored: Iterable[Scored], part: Callable[[Scored], str]) -> dict[str, list[Scored]]:
    """By part, in alphabetical order."""
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[part(one)].append(one)
    return dict(sorted(groups.items()))


def _category(one: Scored) -> str:
    return one.category or "without category"


def _tag(one: Scored, name: str) -> str:
    if name not in one.tags:
        raise ValueError(f"question {one.id} has no tag {name!r}: read the benchmark by its name (--data NAME:PATH)")
    return one.tags[name]
