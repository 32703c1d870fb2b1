"""`foveate demo`: HART's first stage from the embedded base on procedural scenes, measured before and after."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from foveate.display import TrainingDisplay, counting
from foveate.evaluation.report import first_cases, write_report
from foveate.evaluation.runner import Evaluation, evaluate
from foveate.evaluation.scoring import FIGURES
from foveate.families import EMBEDDED, VLM, load
from foveate.generators import LocalGenerator, Sampling
from foveate.jsonl import read_rows
from foveate.questions.data import HELD_OUT_SEED, SCENES
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.questions.schema import Question
from foveate.recipes import Recipe, load_recipe
from foveate.runs import load_policy, start

CASES = 12
_NAMES = {
    "accuracy": "right answers",
    "iog30": "IoG > 0.3",
    "mean_iou": "mean IoU",
    "box_area": "box area",
    "boxes": "boxes",
    "valid_boxes": "valid boxes",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One model on the held-out scenes, drawing its words at random and taking the likeliest."""

    sampled: Evaluation
    greedy: Evaluation

    def to_json(self) -> dict[str, Any]:
        """The summaries of both."""
        return {"sampled": self.sampled.summary.to_json(), "greedy": self.greedy.summary.to_json()}


def run_demo(
    out: Path, *, seed: int = 0, overrides: Sequence[str] = (), held_out: int = 300, console: Console | None = None
) -> dict[str, Any]:
    """Trains and measures; writes `summary.json` and `report.html` to `out`, which must not hold another run.

    Args:
        seed: of the training; the held-out scenes are the same for all seeds below a million.
        overrides: settings of the `demo` recipe, as `--set` takes them.
        held_out: how many scenes to measure on.

    Returns:
        What `summary.json` holds.
    """
    console = console or Console()
    recipe = load_recipe("demo", overrides)
    scenes = Scenes(SceneConfig(), seed=HELD_OUT_SEED, length=held_out)
    console.print(
        "A tiny vision-language model looks at a small view of a big picture and must read a digit that it cannot see "
        "there. It points, gets the crop, and answers. Only the answer is rewarded: watch where it learns to look.\n"
    )
    before = measure(load(EMBEDDED), recipe, scenes, "before training", console)
    with TrainingDisplay(console) as display:
        started = time.perf_counter()
        start(recipe, EMBEDDED, SCENES, out, seed=seed, resume=False, observers=[display])
        train_seconds = time.perf_counter() - started
    after = measure(load_policy(str(out)), recipe, scenes, "after training", console)
    summary = {
        "before": before.to_json(),
        "after": after.to_json(),
        "train_seconds": round(train_seconds, 1),
        "seed": seed,
        "held_out": held_out,
        "steps": recipe.optimisation.steps,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console.print(comparison(before, after))
    write_report(
        out / "report.html",
        title="Learning where to look",
        before={"sampled": before.sampled.summary, "greedy": before.greedy.summary},
        after={"sampled": after.sampled.summary, "greedy": after.greedy.summary},
        curves=read_rows(out / "metrics.jsonl"),
        cases=first_cases(before.greedy, after.greedy, CASES),
        cases_note="These are the first held-out scenes, in order, greedy decoding: none was picked.",
        facts={
            "command": "foveate demo" + (f" --seed {seed}" if seed else ""),
            "seed": seed,
            "held-out scenes": held_out,
            "steps": recipe.optimisation.steps,
            "training seconds": round(train_seconds),
        },
    )
    console.print(f"\ntrained in {train_seconds:.0f} s; the pictures are in {out / 'report.html'}")
    return summary


def measure(vlm: VLM, recipe: Recipe, questions: Sequence[Question], what: str, console: Console) -> Measured:
    """Sampled and greedy evaluation of a model by the recipe's protocol."""
    protocol, generator = recipe.build_protocol(vlm.family.budget), LocalGenerator(vlm)
    done = []
    with counting(console, what, 2 * len(questions)) as progress:
        for temperature in (recipe.rollout.temperature, 0.0):
            sampling = Sampling(temperature, recipe.rollout.max_new_tokens)
            done.append(evaluate(questions, protocol, generator, sampling=sampling, keep=CASES, on_progress=progress))
    return Measured(*done)


def comparison(before: Measured, after: Measured) -> Table:
    """Both measurements side by side, with 95 % intervals."""
    table = Table(title="held-out scenes, before and after (95 % interval)")
    table.add_column("")
    for when in ("before", "after"):
        table.add_column(f"{when},\nsampled", justify="right")
        table.add_column(f"{when},\ngreedy", justify="right")
    for figure in FIGURES:
        cells = [_cell(one, figure) for pair in (before, after) for one in (pair.sampled, pair.greedy)]
        table.add_row(_NAMES[figure], *cells)
    return table


def _cell(evaluation: Evaluation, figure: str) -> str:
    value = evaluation.summary.figure(figure)
    if value is None:
        return "-"
    interval = evaluation.summary.intervals[figure]
    return f"{value:.3f}\n{interval[0]:.2f} to {interval[1]:.2f}"
