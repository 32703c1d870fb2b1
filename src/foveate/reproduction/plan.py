"""What a table takes: which trainings, which evaluations, from which model and data, into which folders."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from foveate.recipes import Recipe, load_recipe
from foveate.reproduction.schema import PROBED, Column, ReproductionError, Row, Table, Training, sources
from foveate.runs import stage_folders
from foveate.training.order import order_of


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a training or an evaluation comes to; None where it depends on a number of questions that is not known."""

    episodes: int | None = 0
    updates: int | None = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One training, which rows may share.

    Attributes:
        model: what it starts from: a checkpoint, or the folder of the run before.
        data: the data set's name in the sources.
        path: where that lies, or None.
        selected: the folder of the data with resolutions chosen, where they are.
        folder: of the run.
    """

    settings: Training
    overrides: tuple[str, ...]
    model: str
    data: str
    path: str | None
    selected: Path | None
    folder: Path
    seed: int

    @property
    def recipe(self) -> Recipe:
        """With all overrides."""
        return load_recipe(self.settings.recipe, self.overrides)

    def commands(self) -> list[str]:
        """The same as commands; unknown data by name in angle brackets."""
        data, lines = self.path or f"<{self.data}>", []
        if self.selected:
            lines.append(_command("select-resolution", "--data", data, "--model", self.model, "--out", self.selected))
            data = str(self.selected)
        start = ("train", self.settings.recipe, "--model", self.model, "--data", data, "--out", self.folder)
        return [*lines, _command(*start, "--seed", self.seed, *_set(self.overrides))]

    def estimate(self) -> Estimate:
        """Episodes that are sampled, with the answers of the stage `sft` counted too, and optimizer steps."""
        recipe, known = self.recipe, sources().data[self.data].questions
        episodes: int | None = 0
        updates: int | None = 0
        for stage in recipe.stages:
            if stage == "rl":
                shape = recipe.optimisation
                questions, each = shape.steps * shape.questions_per_step, recipe.rollout.group_size
                count: int | None = shape.steps * (
                    shape.questions_per_step // (shape.questions_per_update or shape.questions_per_step)
                )
            else:
                each = 1
                own = None if known is None else _sft_questions(recipe, known)
                questions = 0 if own is None else own * recipe.sft.epochs
                count = None if own is None else order_of(recipe, "sft", own, self.seed).steps
            episodes = None if episodes is None or count is None else episodes + questions * each
            updates = None if updates is None or count is None else updates + count
        return Estimate(episodes, updates)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One evaluation of a row's model on one data set; several columns may read from it.

    Attributes:
        probed: whether its answer turns are asked again with other crops.
    """

    recipe_name: str
    overrides: tuple[str, ...]
    model: str
    data: str
    path: str | None
    file: Path
    probed: bool = False

    @property
    def recipe(self) -> Recipe:
        """With all overrides."""
        return load_recipe(self.recipe_name, self.overrides)

    @property
    def folder(self) -> Path:
        """Where it is written down question by question, so that it can be gone on with."""
        return self.file.with_suffix("")

    def command(self) -> str:
        """The same as a command."""
        probes = ["--probes"] if self.probed else []
        written = ("--out", self.folder, "--json", self.file)
        asked = ("--recipe", self.recipe_name, *_set(self.overrides), *probes, *written)
        return _command("eval", "--model", self.model, "--data", self.path or f"<{self.data}>", *asked)

    def estimate(self) -> Estimate:
        """One episode a question; what is asked again is not counted."""
        return Estimate(sources().data[self.data].questions, 0)


@dataclass(frozen=True, slots=True)
class RowPlan:
    """What a row takes.

    Attributes:
        left_out: why it is not run; None when it is.
        runs: the trainings that lead to its model, in order.
        measurements: by the name of the data set.
    """

    row: Row
    left_out: str | None
    base: str
    runs: tuple[Run, ...] = ()
    measurements: Mapping[str, Measurement] = field(default_factory=dict)

    def measurement(self, column: Column) -> Measurement | None:
        """Where the column's figure is read from; None where it is not measured by an evaluation."""
        return self.measurements.get(column.data) if column.data else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a table takes, row by row."""

    table: Table
    rows: tuple[RowPlan, ...]
    out: Path

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every training once, each after those that it starts from."""
        return tuple({run.folder: run for row in self.rows for run in row.runs}.values())

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Every evaluation once."""
        found = (one for row in self.rows for one in row.measurements.values())
        return tuple({one.file: one for one in found}.values())

    @property
    def missing(self) -> list[str]:
        """The data sets that are needed and not given, by name."""
        return sorted(name for name, path in self.data.items() if path is None)

    @property
    def data(self) -> dict[str, str | None]:
        """The data sets that are needed, those of the trainings first, and where each lies."""
        trained = {run.data: run.path for run in self.runs}
        return trained | {one.data: one.path for one in self.measurements}


def plan_of(
    table: Table,
    out: Path,
    *,
    models: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    methods: Sequence[str] = (),
) -> Plan:
    """What a table takes with these models and data.

    Args:
        models: base model, by its name in the sources, to checkpoint; "" stands for the table's own. Where any is
            given, rows on other base models are left out; without one, all are taken from the hub.
        data: data set, by its name in the sources, to file or folder.
        overrides: settings of every training and every evaluation, after the table's.
        methods: only these rows; all of them when empty.

    Raises:
        ReproductionError: a row, model or data set that there is not.
        RecipeError: an override that a recipe refuses.
    """
    given = {name or table.base: path for name, path in (models or {}).items()}
    data = data or {}
    _known("model", given, sources().models)
    _known("data set", data, sources().data)
    _known("row", dict.fromkeys(methods), dict.fromkeys(row.method for row in table.rows))
    rows = []
    for row in table.rows:
        if methods and row.method not in methods:
            rows.append(RowPlan(row, "not asked for", row.base or table.base))
        else:
            rows.append(_row_plan(table, row, out, given or sources().models, data, tuple(overrides)))
    return Plan(table, tuple(rows), out)


def _row_plan(
    table: Table, row: Row, out: Path, models: Mapping[str, str], data: Mapping[str, str], more: tuple[str, ...]
) -> RowPlan:
    base = row.base or table.base
    if row.ask is None:
        return RowPlan(row, row.not_run, base)
    if base not in models:
        return RowPlan(row, f"give its model: --model {base}=PATH", base)
    model, origin, runs = models[base], models[base], []
    for step in row.train:
        overrides = _laid_over(table.set, step.set, more)
        recipe, path = load_recipe(step.recipe, overrides), data.get(step.data)
        if step is row.train[-1] and row.after and row.after not in recipe.stages:
            raise ReproductionError(f"row {row.method!r} is evaluated after the stage {row.after}: leave it in stages")
        key = _key(step.recipe, overrides, origin, path, step.select_resolution, table.seed)
        selected = out / "data" / f"{step.data}-{_key(origin, path)}" if step.select_resolution else None
        folder = out / "runs" / f"{step.recipe}-{key}"
        runs.append(Run(step, overrides, model, step.data, path, selected, folder, table.seed))
        model, origin = str(folder), key
    if row.after:
        folder = stage_folders(runs[-1].recipe, runs[-1].folder)[row.after]
        model, origin = str(folder), f"{origin}/{row.after}"
    asked = _laid_over(table.set, row.ask.set, more)
    load_recipe(row.ask.recipe, asked)  # an override that does not fit is refused before anything is run
    measurements = {}
    for name in dict.fromkeys(column.data for column in table.columns if column.data):
        path = data.get(name)
        probed = any(column.metric in PROBED for column in table.columns if column.data == name)
        told = ["probes"] if probed else []  # the key of what is not probed stays as it was
        key = _key(row.ask.recipe, asked, origin, path, *told)
        file = out / "scores" / f"{_slug(row.method)}-{name}-{key}.json"
        measurements[name] = Measurement(row.ask.recipe, asked, model, name, path, file, probed)
    return RowPlan(row, None, base, tuple(runs), measurements)


def _sft_questions(recipe: Recipe, known: int) -> int:
    if len(recipe.stages) == 1:
        return known
    return recipe.split.sft_count if recipe.split.sft_count is not None else int(recipe.split.sft_share * known)


def _key(*parts: object) -> str:
    """What tells two trainings or evaluations apart, short enough for a folder's name."""
    return blake2b(json.dumps(parts).encode(), digest_size=4).hexdigest()


def _laid_over(*layers: Sequence[str]) -> tuple[str, ...]:
    """Overrides of which a later one of the same setting counts."""
    return tuple({override.partition("=")[0]: override for layer in layers for override in layer}.values())


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def _set(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


def _command(*words: object) -> str:
    return "foveate " + " ".join(
        text if re.fullmatch(r"<[\w.-]+>", text := str(word)) else shlex.quote(text) for word in words
    )


def _known(what: str, given: Mapping[str, object], known: Mapping[str, object]) -> None:
    if unknown := given.keys() - known.keys():
        raise ReproductionError(f"no {what} {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
