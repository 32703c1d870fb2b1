"""Training as a command line starts it: model, data and recipe from what was typed."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import foveate
from foveate.evaluation.grounding import grounding_of
from foveate.evaluation.setup import data_sha256, fingerprint
from foveate.families import VLM, checkpoint_digest
from foveate.jsonl import replace_json
from foveate.questions.data import SCENES, load_data
from foveate.questions.scenes import Scenes
from foveate.questions.schema import Question
from foveate.recipes import Recipe, StageName
from foveate.runs.folders import STAGE_FOLDERS, load_policy, noted, stage_folders
from foveate.training import Observer, StepReport, Trainer, TrainingError
from foveate.training.checkpoints import steps_done
from foveate.training.limits import enough_disk
from foveate.training.loop import refuse_other_recipe, refuse_used
from foveate.training.order import order_of
from foveate.training.processes import failing_together
from foveate.training.split import ids_of, record_split, refuse_shared, split_questions

logger = logging.getLogger(__name__)

SFT_SCENES = 10_000
"""How many scenes there are for a recipe with a stage `sft`, which goes through all of its questions."""


class Standing(NamedTuple):
    """Where a run stands: `step` of `steps` steps done in `stage`; `signal` is what ended it before, if one did."""

    stage: StageName
    step: int
    steps: int
    finished: bool
    signal: int | None = None


def start(
    recipe: Recipe,
    model: str,
    data: str,
    run_dir: Path,
    *,
    seed: int,
    resume: bool,
    save_every: int = 20,
    observers: Sequence[Observer] = (),
    sft_data: str | None = None,
    warn: Callable[[str], None] = logger.warning,
) -> Standing:
    """Trains, or goes on training, stage by stage; Ctrl-C and SIGTERM save after the step under way.

    A run of one stage lies in `run_dir` itself, one of two in `run_dir/1-rl` and `run_dir/2-sft` (or 1-sft, 2-rl), the
    second starting from the last checkpoint of the first. `run_dir/split.json` has the ids of each one's questions,
    `run_dir/run.json` how many there are, their hash, that of the weights, and what else a run was begun with. All
    processes of a launch call it; the main one writes.

    Args:
        sft_data: the questions of the stage `sft`, where `data` has those of `rl` alone instead of both.
        warn: told, in one line, what is allowed and most likely not meant.

    Raises:
        TrainingError: also when a resumed run was begun with another model, other data, stages or another seed, by name
            or by what is there under the name.
        SplitError: the stages' questions are not disjoint, or are not those that the run began with.
    """
    inputs = {"model": model, "data": data, "sft_data": sft_data, "stages": recipe.stages, "seed": seed}
    began = noted(run_dir) if resume else {}
    if resume:
        _refuse_other_inputs(run_dir, began, inputs)
    else:
        for folder in (run_dir, *run_dir.glob(STAGE_FOLDERS)):
            refuse_used(folder)
    questions = questions_of_stages(recipe, data, sft_data, seed=seed)
    note: dict[str, Any] = inputs | {"trained_on": {stage: data_facts(own) for stage, own in questions.items()}}
    note |= {"foveate": foveate.__version__, "weights": began.get("weights")}
    _refuse_other_questions(run_dir, began, note["trained_on"])
    ended_by: list[int] = []
    for said in (lacks_information_gap(recipe, data, questions.get("rl", ())), lacks_advantages(recipe)):
        if said:
            warn(said)

    def train(stage: StageName, folder: Path, model: str) -> bool:
        """Whether the stage ran to its end; its model and optimizer are gone when the next one loads."""
        own, vlm = questions[stage], load_policy(model)
        if stage == recipe.stages[0]:
            note["weights"] = _weights_as_begun(run_dir, began, vlm, model, warn)
        trainer = Trainer(
            recipe,
            vlm,
            own,
            folder,
            stage=stage,
            seed=seed,
            save_every=save_every,
            observers=[GroundingObserver(own), *observers],
            warn=warn,
        )
        with failing_together(trainer.accelerator):  # nobody writes before everybody has looked at the folder
            run_dir.mkdir(parents=True, exist_ok=True)
        with failing_together(trainer.accelerator), enough_disk(run_dir):
            if trainer.accelerator.is_main_process:
                replace_json(run_dir / "run.json", note)
                if len(questions) > 1:
                    record_split(run_dir / "split.json", ids_of(questions))
        with stopping_gently(trainer, ended_by):
            trainer.run(resume=resume)
        return not trainer.stop_requested

    for stage, folder in stage_folders(recipe, run_dir).items():
        steps, saved = order_of(recipe, stage, len(questions[stage]), seed).steps, folder / "checkpoints"
        if resume and steps_done(saved) == steps:
            refuse_other_recipe(folder, recipe)
            ended = True
        else:
            ended = train(stage, folder, model)
        done = steps_done(saved)
        standing = Standing(
            stage, done, steps, finished=done == steps and stage == recipe.stages[-1], signal=next(iter(ended_by), None)
        )
        if not ended:
            break
        model = str(folder)
    return standing


def questions_of_stages(
    recipe: Recipe, data: str, sft_data: str | None, *, seed: int
) -> Mapping[StageName, Sequence[Question]]:
    """The questions of each stage: all of `data` for one, split or from two files for two.

    Raises:
        TrainingError: `sft_data` is given for a recipe of one stage.
        SplitError: the data cannot be split, or a question is in both files.
    """
    length = SFT_SCENES if "sft" in recipe.stages else 100_000
    questions = load_data(data, seed=seed, length=length)
    if len(recipe.stages) == 1:
        if sft_data is not None:
            raise TrainingError("--sft-data is for recipes of two stages (stages=rl,sft): give one stage's as --data")
        return {recipe.stages[0]: questions}
    if sft_data is None:
        return split_questions(questions, recipe.split)
    parts: dict[StageName, Sequence[Question]] = {
        "rl": questions,
        "sft": load_data(sft_data, seed=seed, length=length),
    }
    refuse_shared(ids_of(parts))
    return parts


def lacks_information_gap(recipe: Recipe, data: str, questions: Sequence[Question]) -> str | None:
    """What to say where calls of the crop tool are rewarded and no question has a resolution of its own; or None.

    That is LFPC's stage I (arXiv 2603.27494) without what defines it. Stage II has true boxes to learn calls from.
    """
    if not recipe.rewards.get("tool") or recipe.needs_regions or "rl" not in recipe.stages:
        return None
    if data != SCENES and any(question.view_pixels for question in questions):
        return None
    return (
        f"no question of {data} has `view_pixels`: full images are shown under one budget, and where that suffices "
        f"crops add nothing. The data that {recipe.name} is meant for is written by `foveate select-resolution`"
    )


def lacks_advantages(recipe: Recipe) -> str | None:
    """What to say where an episode has no other to be compared with, and nothing else moves the weights; or None."""
    if "rl" not in recipe.stages or recipe.rollout.group_size > 1 or recipe.objective.beta:
        return None
    return (
        "rollout.group_size=1: the mean of a group of one is its own reward, so no episode has an advantage, and the "
        "stage rl changes nothing. Take 4 or more"
    )


def data_facts(questions: Sequence[Question]) -> dict[str, Any]:
    """How many questions there are, and their hash: that of an evaluation on the same ones.

    Of procedural scenes, which are many and the same whenever drawn, it is the hash of what they are drawn from.
    """
    if isinstance(questions, Scenes):
        drawn_from = f"{questions.config!r} seed {questions.seed} length {len(questions)}"
        return {"questions": len(questions), "sha256": data_sha256([drawn_from.encode()])}
    return {"questions": len(questions), "sha256": data_sha256(map(fingerprint, questions))}


def _refuse_other_inputs(run_dir: Path, began: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    for name, value in inputs.items():
        if began.get(name, value) != value:
            raise TrainingError(f"{run_dir} was begun with {name} {began[name]!r}, not {value!r}")


def _refuse_other_questions(run_dir: Path, began: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Under the same name there may be others by now."""
    if (before := began.get("trained_on", now)) != now:
        raise TrainingError(
            f"{run_dir} was begun with other questions, which had the same name ({before}, now {now}): put them back, "
            "or begin another run"
        )


def _weights_as_begun(
    run_dir: Path, began: Mapping[str, Any], vlm: VLM, model: str, warn: Callable[[str], None]
) -> str:
    """The digest of the weights that a run begins with: adapters stand on them, and the reference is a copy of them.

    Raises:
        TrainingError: there are others under the same name now.
    """
    now = checkpoint_digest(vlm)
    before = str(began.get("weights") or now)
    if before != now and now.startswith(f"{model}@"):  # a new commit on the hub need not be one of weights
        warn(f"{run_dir} was begun with {before}, and {now} is there now: make sure that its weights are the same")
    elif before != now:
        raise TrainingError(
            f"{model} holds other weights than {run_dir} was begun with (if it is a run's folder, that run may have "
            "gone on): put the old ones back, or begin another run"
        )
    return before


class GroundingObserver:
    """Measures training rollouts against true boxes from outside the loop, which never sees them."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions

    def __call__(self, report: StepReport) -> dict[str, float]:
        """IoG > 0.3 and mean IoU of a step's rollouts; nothing where the data has no true boxes."""
        own = [self._questions[index] for index in report.indices]
        return grounding_of(report.groups, {question.id: question for question in own})


@contextmanager
def stopping_gently(trainer: Trainer, ended_by: list[int]) -> Iterator[None]:
    """Ctrl-C or SIGTERM ends the run after the step under way, with a checkpoint; a second one ends it at once.

    Not so with several processes: their launcher passes on what the terminal or the scheduler has sent them already.
    `ended_by` gets the signal's number.
    """

    def request(number: int, frame: FrameType | None) -> None:
        if trainer.stop_requested and trainer.accelerator.num_processes == 1:
            raise KeyboardInterrupt
        trainer.stop_requested = True
        ended_by.append(number)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
