"""Running what a table takes, one thing after another; what is finished is not done again."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from foveate.display import TrainingDisplay, counting
from foveate.evaluation.scores import write_scores
from foveate.evaluations import Counting, evaluate_model
from foveate.families import EMBEDDED
from foveate.generators import LocalGenerator
from foveate.questions.benchmarks import find_data
from foveate.questions.data import SCENES, load_data
from foveate.reproduction.plan import Measurement, Plan, Run
from foveate.reproduction.schema import ReproductionError, sources
from foveate.runs import load_policy, start
from foveate.training.resolution import select_resolutions


def run_plan(plan: Plan, console: Console) -> None:
    """Trains and evaluates everything in a plan; a second call goes on where the first one was ended.

    Raises:
        ReproductionError: data that is needed was not given, a training was stopped, or questions failed.
        QuestionFileError: there is no data where it was said to lie.
    """
    if plan.missing:
        needed = [f"  --data {name}=PATH   {_described(name)}" for name in plan.missing]
        raise ReproductionError(
            "these data sets are needed, as JSONL or Parquet files of ours, or as a benchmark is published "
            "(PATH is then BENCHMARK or BENCHMARK:PATH, see `foveate data benchmarks`):\n" + "\n".join(needed)
        )
    for path in plan.data.values():
        if path and path != SCENES:
            find_data(path)  # before days of training
    todo = [one for one in plan.measurements if not one.file.exists()]
    counter = partial(counting, console)
    for number, run in enumerate(plan.runs, start=1):
        console.print(f"training {number} of {len(plan.runs)}: {run.commands()[-1]}", highlight=False, soft_wrap=True)
        _train(run, console, counter)
    for number, measurement in enumerate(todo, start=1):
        console.print(f"evaluation {number} of {len(todo)}: {measurement.command()}", highlight=False, soft_wrap=True)
        _measure(measurement, counter)


def _described(name: str) -> str:
    data = sources().data[name]
    count = f" ({data.questions:,} questions)" if data.questions else ""
    return data.what + count + (f", on the hub as {data.hub}" if data.hub else "")


def _train(run: Run, console: Console, counter: Counting) -> None:
    assert run.path is not None
    data = run.path
    if run.selected:
        _select(run, counter)
        data = str(run.selected)
    with TrainingDisplay(console) as display:
        standing = start(
            run.recipe,
            run.model,
            data,
            run.folder,
            seed=run.seed,
            resume=(run.folder / "run.json").exists(),
            observers=[display],
            warn=display.warn,
        )
    if not standing.finished:
        raise ReproductionError(
            f"stopped after step {standing.step} of {standing.steps} of {standing.stage}: the same command goes on"
        )


def _select(run: Run, counter: Counting) -> None:
    assert run.path is not None
    assert run.selected is not None
    if (run.selected / "questions.jsonl").exists():
        return
    questions, vlm = load_data(run.path), load_policy(run.model)
    with counter("selecting", len(questions)) as progress:
        select_resolutions(
            questions,
            LocalGenerator(vlm),
            run.selected,
            model=run.model if run.model == EMBEDDED else str(vlm.model.name_or_path),
            resume=run.selected.exists(),
            on_progress=progress,
        )


def _measure(measurement: Measurement, counter: Counting) -> None:
    assert measurement.path is not None
    evaluated = evaluate_model(
        measurement.recipe,
        measurement.model,
        measurement.path,
        out=measurement.folder,
        probed=measurement.probed,
        counting=counter,
    )
    if failed := evaluated.evaluation.failed:
        name, reason = next(iter(failed.items()))
        raise ReproductionError(
            f"{len(failed)} of the questions of {measurement.path} failed: a figure over the others is another "
            f"than the published one. The first, {name}: {reason}. Mend it and run the same command: what was answered "
            "is not asked again"
        )
    aside = measurement.file.with_name("unfinished.json")
    record = {**evaluated.record, "command": measurement.command()}
    scores, questions = write_scores(aside, evaluated.evaluation, record)
    questions.replace(measurement.file.with_suffix(".questions.jsonl"))
    scores.replace(measurement.file)  # last: where it lies, the evaluation is finished
