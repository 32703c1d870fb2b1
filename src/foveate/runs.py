"""A training run as a command line starts it: model, data and recipe from what was typed, kept for `--resume`."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import foveate
from foveate.evaluation.grounding import grounding_of
from foveate.families import EMBEDDED, VLM, load
from foveate.questions.readers import load_questions
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.questions.schema import Question
from foveate.recipes import Recipe
from foveate.training import Observer, StepReport, Trainer, TrainingError
from foveate.training.checkpoints import checkpoints

SCENES = "scenes"
"""As data: procedural scenes instead of a file."""


def load_data(data: str, *, seed: int = 0, length: int = 100_000) -> Sequence[Question]:
    """Questions of a file or folder, or endless procedural scenes for `"scenes"`."""
    return Scenes(SceneConfig(), seed=seed, length=length) if data == SCENES else load_questions(data)


def load_policy(model: str) -> VLM:
    """A checkpoint folder, a hub id, the embedded `"tiny"`, or a run folder, whose newest checkpoint is meant."""
    saved = checkpoints(Path(model) / "checkpoints") if model != EMBEDDED else []
    return load(saved[-1] if saved else model)


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
) -> list[dict[str, float]]:
    """Trains, or goes on training, in `run_dir`; Ctrl-C and SIGTERM save after the step under way.

    Raises:
        TrainingError: also when a resumed run was begun with another model, other data or another seed.
    """
    inputs = {"model": model, "data": data, "seed": seed, "foveate": foveate.__version__}
    note = run_dir / "run.json"
    if resume and note.exists():
        began = json.loads(note.read_text(encoding="utf-8"))
        for name in ("model", "data", "seed"):
            if began[name] != inputs[name]:
                raise TrainingError(f"{run_dir} was begun with {name} {began[name]!r}, not {inputs[name]!r}")
    questions = load_data(data, seed=seed)
    trainer = Trainer(
        recipe,
        load(model),
        questions,
        run_dir,
        seed=seed,
        save_every=save_every,
        observers=[GroundingObserver(questions), *observers],
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(inputs, indent=2) + "\n", encoding="utf-8")
    with stopping_gently(trainer):
        return trainer.run(resume=resume)


class GroundingObserver:
    """Measures training rollouts against true boxes from outside the loop, which never sees them."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions

    def __call__(self, report: StepReport) -> dict[str, float]:
        """IoG > 0.3 and mean IoU of a step's rollouts; nothing where the data has no true boxes."""
        own = [self._questions[index] for index in report.indices]
        return grounding_of(report.groups, {question.id: question for question in own})


@contextmanager
def stopping_gently(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C or SIGTERM ends the run after the step under way, with a checkpoint; a second one ends it at once."""

    def request(number: int, frame: FrameType | None) -> None:
        if trainer.stop_requested:
            raise KeyboardInterrupt
        trainer.stop_requested = True

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
