"""The folder of a run: the model in it, how it is asked, what it was begun with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from foveate.families import EMBEDDED, VLM, load
from foveate.recipes import USUAL_RECIPE, Recipe, RecipeError, StageName, load_recipe
from foveate.training import TrainingError
from foveate.training.checkpoints import checkpoints

EXPORTED_RECIPE = "asked_by.yaml"
"""In a folder that was exported: the recipe by which its model is asked."""
STAGE_FOLDERS = "[12]-*"
"""In the folder of a run of two stages."""


def load_policy(model: str, *, dtype: torch.dtype = torch.float32) -> VLM:
    """A checkpoint folder, a hub id, the embedded `"tiny"`, or a run folder; its weights as `dtype`.

    Of a run folder the newest checkpoint is meant, of the last stage that has one.
    """
    return load(_newest_checkpoint(model) or model, dtype=dtype)


def _newest_checkpoint(model: str) -> Path | None:
    """Of a run folder, that of the last stage that has one; None where it is no run folder."""
    folders = [Path(model), *sorted(Path(model).glob(STAGE_FOLDERS))] if model != EMBEDDED else []
    saved = [path for folder in folders for path in checkpoints(folder / "checkpoints")]
    return saved[-1] if saved else None


def recipe_for(model: str, recipe: str | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe whose protocol and pixel budgets a model is asked by: the named one, or the model's own.

    Of a run folder, and of a checkpoint in one, its own is the one it was trained by, as its last stage was trained:
    after the stage `sft` as `Recipe.as_tuned` says. Of a folder that `foveate export` wrote it is the one in it. Of any
    other model it is `USUAL_RECIPE`.

    Args:
        model: as `load_policy` takes it.
        recipe: a shipped one's name or a file; None for the model's own.
        overrides: settings, as `load_recipe` takes them.

    Raises:
        RecipeError: as `load_recipe`; or a stage's folder that was renamed, so that nothing says which stage it was.
    """
    if recipe is None and (folder := _run_of(model)):
        own = load_recipe(folder / "recipe.yaml")
        return (own.as_tuned() if _stage_in(folder, own) == "sft" else own).with_settings(overrides)
    exported = Path(model) / EXPORTED_RECIPE
    if recipe is None and model != EMBEDDED and exported.is_file():
        return load_recipe(exported, overrides)
    return load_recipe(recipe or USUAL_RECIPE, overrides)


def _run_of(model: str) -> Path | None:
    """The folder of the one stage that a model comes from; None where it comes from none."""
    checkpoint = (_newest_checkpoint(model) or Path(model)).resolve()
    folder = checkpoint.parent.parent
    run = model != EMBEDDED and checkpoint.parent.name == "checkpoints" and (folder / "recipe.yaml").is_file()
    return folder if run else None


def _stage_in(folder: Path, recipe: Recipe) -> StageName:
    if len(recipe.stages) == 1:
        return recipe.stages[0]
    for stage, own in stage_folders(recipe, folder.parent).items():
        if own == folder:
            return stage
    raise RecipeError(f"{folder} no longer says by its name which stage of {recipe.name!r} it is: give --recipe")


class Origin(NamedTuple):
    """Where a trained model comes from.

    Attributes:
        checkpoint: its folder.
        folder: of the stage that it comes out of, which has its recipe.
        noted: what the run was begun with, as `noted` says.
    """

    checkpoint: Path
    folder: Path
    noted: dict[str, Any]


def origin_of(model: str) -> Origin | None:
    """Of a run's folder, its newest checkpoint; of a checkpoint in one, itself; None of any other model."""
    folder = _run_of(model)
    if folder is None:
        return None
    return Origin(_newest_checkpoint(model) or Path(model), folder, noted(folder) or noted(folder.parent))


class Moment(NamedTuple):
    """A model in the course of its training: how it is called, and where it lies."""

    name: str
    model: str


def moments(model: str) -> list[Moment]:
    """The checkpoints that a run has kept, oldest first, stage by stage; before them the model that it started from.

    Args:
        model: a run's folder. The start is what its `run.json` says, where it has one.

    Raises:
        TrainingError: it is no folder of a run, or has no checkpoint.
    """
    folder = Path(model)
    stages = [folder, *sorted(folder.glob(STAGE_FOLDERS))]
    kept = [(stage, path) for stage in stages for path in checkpoints(stage / "checkpoints")]
    if not kept:
        raise TrainingError(f"{model} has no checkpoint: give --checkpoints with the folder of a run")
    found = [Moment(path.name if stage == folder else f"{stage.name} {path.name}", str(path)) for stage, path in kept]
    if (folder / "run.json").is_file():
        found.insert(0, Moment("start", str(noted(folder)["model"])))
    return found


def stage_folders(recipe: Recipe, run_dir: Path) -> dict[StageName, Path]:
    """Where each stage's run lies, in order."""
    if len(recipe.stages) == 1:
        return {recipe.stages[0]: run_dir}
    return {stage: run_dir / f"{number}-{stage}" for number, stage in enumerate(recipe.stages, start=1)}


def noted(run_dir: Path) -> dict[str, Any]:
    """What a run's folder says that the run was begun with: its `run.json`, empty where there is none."""
    note = run_dir / "run.json"
    return dict(json.loads(note.read_text(encoding="utf-8"))) if note.exists() else {}
