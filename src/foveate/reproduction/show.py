"""A table for a person: what it would take, and what came out beside what was published."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from statistics import fmean
from typing import Any

from rich.table import Table as RichTable

from foveate.evaluation.joint import overall
from foveate.evaluation.probes import CROP_ALONE, UNCHANGED
from foveate.evaluation.replacements import REPLACEMENTS
from foveate.jsonl import read_rows
from foveate.recipes import Recipe, load_recipe
from foveate.reproduction.plan import Estimate, Plan, RowPlan, Run
from foveate.reproduction.schema import COUNTS, PROBED, Column, sources
from foveate.runs import stage_folders

_PROBES = len((UNCHANGED, CROP_ALONE, *REPLACEMENTS))
_STEPS_AT_EITHER_END = 10


def described(plan: Plan) -> str:
    """Everything that a plan would run, as text: data, assumptions, commands, settings, figures, cost."""
    return "\n".join(_described(plan))


def _described(plan: Plan) -> Iterator[str]:
    table, named = plan.table, sources()
    yield f"{table.name}: {table.title} ({table.paper})"
    yield table.shows
    yield f"base model: {table.base} ({named.models[table.base]})" + (
        f"; everywhere: {' '.join(table.set)}" if table.set else ""
    )
    if plan.data:
        yield ""
        yield "data"
    trained = {run.data for run in plan.runs}
    for name in plan.data:
        data = named.data[name]
        count = f"{data.questions:,} questions" if data.questions else "number of questions not known"
        hub = f", {data.hub}" + (f" ({data.split})" if data.split else "") if data.hub else ""
        use = "training" if name in trained else "evaluation"
        yield f"  {name}: {data.what}; {count}; {use}{hub}"
    yield ""
    yield "columns"
    yield from (f"  {column.name}: {_read_from(column)}" for column in table.columns)
    if table.assumptions:
        yield ""
        yield "assumed, where the paper is silent"
        yield from (f"  - {text}" for text in table.assumptions)
    shown: set[object] = set()
    for row in plan.rows:
        yield ""
        yield from _row(plan, row, shown)
    yield ""
    trainings, asked = _total(run.estimate() for run in plan.runs), _total(one.estimate() for one in plan.measurements)
    yield (
        f"altogether: {len(plan.runs)} trainings with {_number(trainings.episodes)} episodes and "
        f"{_number(trainings.updates)} updates, {len(plan.measurements)} evaluations with "
        f"{_number(asked.episodes)} episodes"
    )
    if probed := [one for one in plan.measurements if one.probed]:
        again = _total(one.estimate() for one in probed).episodes
        yield (
            f"{len(probed)} of these are probed: the answers to {_number(again)} questions are asked for again, up to "
            f"{_PROBES} times each, with other crops and with the crops alone"
        )


def _read_from(column: Column) -> str:
    if column.not_measured:
        return f"not measured: {column.not_measured}"
    if column.during:
        return f"{column.metric} at the {column.during} of the training"
    asked = f" of {column.questions:,} questions" if column.questions else ""
    return f"{column.metric} on {column.data}{asked}" + (f", {column.category}" if column.category else "")


def _row(plan: Plan, row: RowPlan, shown: set[object]) -> Iterator[str]:
    named = sources()
    yield f"{row.row.method}" + (f"  [{row.base}: {named.models[row.base]}]" if row.row.base else "")
    if row.left_out:
        yield f"  not run: {row.left_out}"
    elif not row.runs:
        yield "  no training"
    for run in row.runs:
        again = run.folder in shown
        shown.add(run.folder)
        yield from (f"  {command}" + ("   (the same run as above)" if again else "") for command in run.commands())
        if not again:
            yield from _training(run)
    if row.row.after and not row.left_out:
        yield f"  evaluated after the stage {row.row.after}"
    yield from (f"  {one.command()}" for one in row.measurements.values())
    figures = [
        f"{column.name}: {row.row.published[column.name]:g}"
        for column in plan.table.columns
        if column.name in row.row.published
    ]
    yield f"  published  {'; '.join(figures) or 'no figure'}"


def _training(run: Run) -> Iterator[str]:
    recipe, cost = run.recipe, run.estimate()
    plain = load_recipe(run.settings.recipe)
    changed = [f"{name}={value}" for name, value in recipe.settings().items() if plain.settings().get(name) != value]
    yield f"    {recipe.title}; stages {', '.join(recipe.stages)}; seed {run.seed}"
    yield f"    settings: {'; '.join(_main_settings(recipe))}"
    if changed:
        yield f"    beside the recipe: {', '.join(changed)}"
    if len(recipe.stages) > 1 and (known := sources().data[run.data].questions):
        sft = recipe.split.sft_count or int(recipe.split.sft_share * known)
        yield f"    split: {known - sft:,} questions for rl, {sft:,} others for sft (split seed {recipe.split.seed})"
    yield f"    about {_number(cost.episodes)} episodes, {_number(cost.updates)} updates"


def _main_settings(recipe: Recipe) -> Iterator[str]:
    pixels = recipe.images.max_pixels
    budget = f"{pixels:,} pixels" if pixels else "the pixel budget of the checkpoint"
    yield f"protocol {recipe.protocol.name} at {budget}"
    if "rl" in recipe.stages:
        shape, objective, rollout = recipe.optimisation, recipe.objective, recipe.rollout
        yield f"rl: {shape.steps} steps of {shape.questions_per_step} questions, {rollout.group_size} rollouts of each"
        yield f"k {objective.k:g}, beta {objective.beta:g}, learning rate {shape.learning_rate:g}"
    if "sft" in recipe.stages:
        sft = recipe.sft
        yield f"sft: answers from {sft.context}, {sft.epochs} epoch(s), learning rate {sft.learning_rate:g}"


def comparison(plan: Plan) -> tuple[RichTable, dict[str, Any]]:
    """Our figures beside the published ones, for a terminal and as plain data.

    Cells are "ours (published)"; a dash where there is none.
    """
    shown = RichTable("", title=f"{plan.table.name}: {plan.table.title}. Ours (published)")
    figures: dict[str, Any] = {}
    for column in plan.table.columns:
        shown.add_column(column.name, justify="right")
    for row in plan.rows:
        ours = {column.name: figure_of(row, column) for column in plan.table.columns}
        cells = [_cell(ours[c.name], row.row.published.get(c.name), c) for c in plan.table.columns]
        shown.add_row(row.row.method, *cells)
        figures[row.row.method] = {"ours": ours, "published": row.row.published, "left_out": row.left_out}
    return shown, {"table": plan.table.name, "paper": plan.table.paper, "rows": figures}


def figure_of(row: RowPlan, column: Column) -> float | None:
    """What came out for a row and a column: a share in percent, a count or seconds; None when it is not there."""
    if row.left_out or column.not_measured:
        return None
    if column.during:
        return _during(row.runs[-1], column) if row.runs else None
    measurement = row.measurement(column)
    if measurement is None or not measurement.file.exists():
        return None
    value = measured(json.loads(measurement.file.read_text(encoding="utf-8")), column)
    return value if value is None or not _is_share(column) else 100 * value


def measured(scores: dict[str, Any], column: Column) -> float | None:
    """A column's figure of a score file, shares between 0 and 1.

    Of several categories it is the mean over their questions, but for `macro_accuracy`.
    """
    if column.metric == "seconds_per_question":
        seconds: float | None = scores["seconds_per_question"]
        return seconds
    if column.metric in COUNTS or column.metric == "wrong_place_among_right_answers":
        value: float | None = scores["answers_and_places"][column.metric]
        return value
    if column.metric in PROBED:
        return _of_probes(scores["probes_of_all"], column.metric)
    name = "accuracy" if column.metric == "macro_accuracy" else column.metric
    fitting = {
        category: (summary[name], summary["questions"])
        for category, summary in scores["by_category"].items()
        if fnmatchcase(category, column.category or "*") and summary[name] is not None
    }
    if not fitting:
        return None
    if column.metric == "macro_accuracy":
        return fmean(figure for figure, _ in fitting.values())
    if column.category is None:
        whole: float | None = scores["summary"][name]
        return whole
    return overall(fitting)


def _of_probes(probes: dict[str, dict[str, float | None]], metric: str) -> float | None:
    if metric == "noise_drop":
        change = probes["noise"]["change"]
        return None if change is None else 0.0 - change
    return probes[CROP_ALONE]["accuracy"] if metric == "crop_alone" else probes["true_crop"]["change"]


def _during(run: Run, column: Column) -> float | None:
    folder = stage_folders(run.recipe, run.folder).get("rl")
    rows = read_rows(folder / "metrics.jsonl") if folder else []
    part = rows[:_STEPS_AT_EITHER_END] if column.during == "start" else rows[-_STEPS_AT_EITHER_END:]
    values = [row[column.metric] for row in part if column.metric in row]
    return 100 * fmean(values) if values else None


def _is_share(column: Column) -> bool:
    return column.metric not in COUNTS and column.metric != "seconds_per_question"


def _cell(ours: float | None, published: float | None, column: Column) -> str:
    digits = 0 if column.metric in COUNTS else 1
    own = "-" if ours is None else f"{ours:.{digits}f}"
    return own if published is None else f"{own} ({published:.{digits}f})"


def _total(estimates: Iterable[Estimate]) -> Estimate:
    episodes: int | None = 0
    updates: int | None = 0
    for one in estimates:
        episodes = None if episodes is None or one.episodes is None else episodes + one.episodes
        updates = None if updates is None or one.updates is None else updates + one.updates
    return Estimate(episodes, updates)


def _number(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"
