"""What a results table says: data, rows, columns, and the paper's figures. A table is data and holds no code."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from foveate.errors import FoveateError
from foveate.recipes import StageName, load_recipe

Metric = Literal[
    "accuracy",
    "macro_accuracy",
    "iog30",
    "valid_boxes",
    "wrong_place_among_right_answers",
    "wrong_box_right_answer",
    "right_box_right_answer",
    "wrong_box_wrong_answer",
    "right_box_wrong_answer",
    "seconds_per_question",
    "crop_alone",
    "noise_drop",
    "true_crop_gain",
]
"""A figure of a score file; `macro_accuracy` is the mean over the categories, each counting once.

Of the probes: the accuracy with the crops alone; how far it falls when noise stands in their place; how far it rises
with the crops of the true regions.
"""
PROBED = {"crop_alone", "noise_drop", "true_crop_gain"}
"""The metrics for which answer turns are asked again."""
COUNTS = {"wrong_box_right_answer", "right_box_right_answer", "wrong_box_wrong_answer", "right_box_wrong_answer"}
"""The metrics that are numbers of attempts. All others are shares, shown in percent, but for seconds."""


class ReproductionError(FoveateError, ValueError):
    """A table that cannot be used or run as asked; the message says what is missing and how to give it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSet(_Section):
    """A data set that tables name; `foveate reproduce --data NAME=PATH` says where it lies."""

    what: str
    questions: Annotated[int, Field(gt=0)] | None = None
    """How many; None where it is not known."""
    hub: str | None = None
    split: str | None = None


class Sources(_Section):
    """What tables are made from: models by short name (their hub ids) and data sets."""

    models: dict[str, str]
    data: dict[str, DataSet]


class Training(_Section):
    """One run of `foveate train`, from the row's base model or from what the step before it gave."""

    recipe: str
    data: str
    set: list[str] = []
    select_resolution: bool = False
    """Whether the resolutions of the data are chosen first (`foveate select-resolution`)."""


class Ask(_Section):
    """How the model is asked when it is evaluated."""

    recipe: str
    set: list[str] = []


class Row(_Section):
    """A method: how it is trained, how it is asked, and what the paper gives for it."""

    method: str
    base: str | None = None
    """Another base model than the table's."""
    train: list[Training] = []
    """In this order; empty for the base model as it is."""
    after: StageName | None = None
    """Evaluates what this stage of the last training gave, where that is not the last stage."""
    ask: Ask | None = None
    not_run: str | None = None
    """Why the row is there for its published figures alone."""
    published: dict[str, float] = {}
    """Column to figure: shares in percent, counts, seconds."""

    @model_validator(mode="after")
    def _runs_or_says_why_not(self) -> Row:
        if (self.ask is None) == (self.not_run is None):
            raise ValueError(f"row {self.method!r} needs either `ask` or `not_run`")
        if self.after and (not self.train or self.after not in load_recipe(self.train[-1].recipe).stages):
            raise ValueError(f"row {self.method!r}: its last training has no stage {self.after}")
        return self


class Column(_Section):
    """A figure that every row is measured by."""

    name: str
    data: str | None = None
    """What is asked; None for a figure of the training itself."""
    metric: Metric = "accuracy"
    category: str | None = None
    """Only questions whose category fits this pattern ("Perception/*")."""
    questions: Annotated[int, Field(gt=0)] | None = None
    """How many there are of these, where it is known."""
    during: Literal["start", "end"] | None = None
    """The metric's mean over the first or the last ten steps of the training."""
    not_measured: str | None = None
    """Why it is there for its published figures alone."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Column:
        if self.metric in PROBED and self.category:
            raise ValueError(f"column {self.name!r}: {self.metric} is of all questions, and not of a category")
        if [self.data, self.during, self.not_measured].count(None) != 2:
            raise ValueError(f"column {self.name!r} needs one of `data`, `during` and `not_measured`")
        return self


class Table(_Section):
    """A results table of a paper.

    Attributes:
        base: the base model, by its name in the sources.
        set: settings of every training and every evaluation.
    """

    name: str
    title: str
    paper: str
    shows: str
    base: str
    set: list[str] = []
    seed: int = 0
    columns: list[Column] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)
    assumptions: list[str] = []

    @model_validator(mode="after")
    def _names_what_there_is(self) -> Table:
        named = sources()
        columns = {column.name for column in self.columns}
        for row in self.rows:
            if unknown := row.published.keys() - columns:
                raise ValueError(f"row {row.method!r} has figures for {', '.join(sorted(unknown))}: no such column")
            if (base := row.base or self.base) not in named.models:
                raise ValueError(f"no model {base!r} in the sources")
            asked = [(row.ask.recipe, row.ask.set)] if row.ask else []
            for recipe, changes in [*asked, *((step.recipe, step.set) for step in row.train)]:
                load_recipe(recipe, [*self.set, *changes])
        data = {step.data for row in self.rows for step in row.train} | {c.data for c in self.columns if c.data}
        if unknown := data - named.data.keys():
            raise ValueError(f"no data set {', '.join(sorted(unknown))} in the sources")
        if len({row.method for row in self.rows}) < len(self.rows) or len(columns) < len(self.columns):
            raise ValueError("two rows or two columns have the same name")
        return self


@lru_cache(maxsize=1)
def sources() -> Sources:
    """The models and data sets that the tables name."""
    return Sources.model_validate(_yaml(_folder().joinpath("sources.yaml")))


def table_names() -> list[str]:
    """The tables, as `paper/table`."""
    papers = [folder for folder in _folder().joinpath("tables").iterdir() if folder.is_dir()]
    found = [f"{paper.name}/{file.name}" for paper in papers for file in paper.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def load_table(name: str) -> Table:
    """A table by its name.

    Raises:
        ReproductionError: there is no such table, or it does not hold together.
    """
    if name not in table_names():
        raise ReproductionError(f"no table {name!r}; there are: {', '.join(table_names())}")
    try:
        return Table.model_validate({"name": name, **_yaml(_folder().joinpath("tables", f"{name}.yaml"))})
    except ValidationError as error:
        raise ReproductionError(f"table {name}: {error}") from None


def _folder() -> Traversable:
    return resources.files("foveate.reproduction")


def _yaml(file: Traversable) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content
