"""The model card: what a model was made from and by, what it scored, and how to ask it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from foveate.context import Context
from foveate.images import View
from foveate.recipes import Recipe, RecipeError, Setup, differences, load_recipe, recipe_names

_FIGURES: Mapping[str, str] = {
    "accuracy": "right answers",
    "iog30": "IoG > 0.3 with the true region",
    "mean_iou": "mean IoU with the true region",
    "box_area": "box area, share of the image",
    "valid_boxes": "episodes with a valid box",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What a model card says.

    Attributes:
        name: of the folder.
        base: the hub id of the model that training began from; its name where it is none of the hub's.
        on_hub: whether it is one.
        licence: of the base, as the hub writes licences; None where it is not known.
        adapter: whether the folder holds adapters alone.
        stands_on: the name of an earlier run's checkpoint that adapters alone need, where it is not the base.
        dtype: of the weights.
        trained: the recipe that the weights were trained by.
        asked: the recipe by which the model is asked; another protocol after the stage `sft`.
        noted: what the run was begun with (`run.json`).
        steps: done, in the last stage.
        scores: records of score files.
        first: what the model is shown first, about an example.
    """

    name: str
    base: str
    on_hub: bool
    licence: str | None
    adapter: bool
    stands_on: str | None
    dtype: str
    trained: Recipe
    asked: Recipe
    noted: Mapping[str, Any]
    steps: int
    scores: Sequence[Mapping[str, Any]]
    first: Context

    def text(self) -> str:
        """As Markdown, with what the hub reads at its head."""
        front = yaml.safe_dump(self._front(), sort_keys=False, allow_unicode=True)
        parts = [self._made(), *self._trained(), self._asked(), *self._scored()]
        return f"---\n{front}---\n\n# {self.name}\n\n" + "\n\n".join(parts) + "\n"

    def _front(self) -> dict[str, Any]:
        front: dict[str, Any] = {"base_model": self.base} if self.on_hub and not self.stands_on else {}
        if self.licence:
            front["license"] = self.licence
        front["library_name"] = "peft" if self.adapter else "transformers"
        front["pipeline_tag"] = "image-text-to-text"
        return {**front, "tags": ["foveate", "visual-grounding", "high-resolution", self.trained.name]}

    def _made(self) -> str:
        what = "LoRA adapters of" if self.adapter else "A vision-language model, trained from"
        base = f"`{self.base}`"
        if self.stands_on:  # of the base itself they would make a model that was never trained
            base = f"`{self.stands_on}`, a checkpoint of an earlier run or stage, not of {base}, which that began from"
        said = f"{what} {base}, made with foveate {self.noted.get('foveate', '(version not recorded)')}"
        return f"{said}: {self.trained.title}. Weights in {self.dtype}."

    def _trained(self) -> Iterator[str]:
        recipe, noted = self.trained, self.noted
        yield "## How it was trained"
        lines = [f"- Recipe: `{recipe.name}`" + (f" ({recipe.paper})" if recipe.paper else "")]
        lines += [f"- Stages: {', then '.join(recipe.stages)}; {self.steps} steps in the last"]
        lines += [f"- Seed: {noted['seed']}"] if "seed" in noted else []
        lines += [f"- Machine: {setup}"] if (setup := _set_up(recipe)) else []
        for stage, facts in dict(noted.get("trained_on", {})).items():
            lines.append(
                f"- Questions of the stage {stage}: {facts['questions']:,} of `{_data_name(noted, stage)}`, SHA-256 "
                f"`{facts['sha256']}`"
            )
        yield "\n".join(lines)
        if changed := _changed(recipe):
            yield "Settings that differ from the recipe as it ships:"
            yield _table(("setting", "here", "as it ships"), changed)
        if differing := differences(recipe):
            yield "Settings that differ from the paper's:"
            yield _table(("setting", "here", "paper"), [(name, *pair) for name, pair in differing.items()])

    def _asked(self) -> str:
        protocol = self.asked.protocol
        shown = "\n>\n".join(
            f"> *<image, {part.size[0]} x {part.size[1]} pixels>*" if isinstance(part, View) else _quoted(part)
            for message in self.first.messages
            for part in message.parts
            if isinstance(part, str | View)
        )
        settings = ", ".join(f"{name} {value}" for name, value in protocol.model_dump().items() if name != "name")
        pixels = {name: value for name, value in self.asked.images.model_dump().items() if value is not None}
        budget = ", ".join(f"`{name}` {value:,}" for name, value in pixels.items()) or "the processor's own"
        return (
            "## How to ask it\n\n"
            "It was trained in a dialogue, and is worth most when it is asked in the same one. With a copy of this "
            "folder:\n"
            f'\n    foveate ask photo.jpg "What is written on the sign?" --model {self.name}\n\n'
            f"Protocol `{protocol.name}` ({settings or 'no settings'}), pixel budgets: {budget}. `asked_by.yaml` has "
            f"all of it. The first turn, about an example:\n\n{shown}"
        )

    def _scored(self) -> Iterator[str]:
        if self.scores:
            yield "## Scores"
        for record in self.scores:
            summary, failed = record["summary"], record.get("failed", 0)
            asked = f"`{Path(str(record.get('data', 'data'))).name}`, {summary['questions']:,} questions"
            asked += f" ({failed} more failed)" if failed else ""
            asked += f", data SHA-256 `{record['setup']['data_sha256']}`"
            yield f"On {asked}, asked by the recipe `{record.get('recipe', '?')}`; 95 % intervals over questions:"
            yield _table(
                ("figure", "value", "interval"),
                [
                    (title, f"{summary[name]:.3f}", "{:.3f} to {:.3f}".format(*summary["intervals"][name]))
                    for name, title in _FIGURES.items()
                    if summary.get(name) is not None
                ],
            )
            if self.dtype != "float32":
                yield f"Measured before the weights were rounded to {self.dtype}."


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _data_name(noted: Mapping[str, Any], stage: str) -> str:
    """What the data is called, without where it lies on somebody's machine."""
    data = str((noted.get("sft_data") if stage == "sft" else None) or noted.get("data", "data"))
    benchmark, found, _ = data.partition(":")
    return benchmark if found else Path(data).name


def _set_up(recipe: Recipe) -> str:
    """What of the machine's settings changes what was trained, where it is not the usual."""
    usual = Setup().trajectory()
    return ", ".join(f"`{name}` {value}" for name, value in recipe.setup.trajectory().items() if value != usual[name])


def _changed(recipe: Recipe) -> list[tuple[str, Any, Any]]:
    if recipe.name not in recipe_names():
        return []
    try:
        shipped = load_recipe(recipe.name).settings()
    except RecipeError:
        return []
    own = recipe.settings()
    names = [name for name in {**shipped, **own} if shipped.get(name) != own.get(name)]
    return [(name, own.get(name, "none"), shipped.get(name, "none")) for name in names]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)
