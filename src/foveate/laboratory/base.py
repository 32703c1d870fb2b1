"""Makes the embedded base model: `python -m foveate.laboratory.base --out DIR`.

The base stands for a general vision-language model before post-training: it writes valid boxes nearly always and
points at the right card only by chance; it reads a digit well from a good crop, and not from the small view or from
another card's crop. Whatever it takes to do better must already be in it, so it is made in three phases:

1. digits: the vision tower learns to read, from sheets full of digits (`sheets`).
2. cards: every visual token of small views and crops learns colour, corners, digit and its own place (`dense`).
   Without these two the language model's loss stays at chance for a thousand steps.
3. speech: the language model learns to write boxes and digits (`lessons`). Asked with a word of the lessons, `find`,
   it points at the right card; asked as the protocols ask, `locate`, at a card drawn at random. So it knows which
   card is which, and how to point at it, and does not do so when it is asked to: as with a large model, the skill is
   there and the habit is not. The habit is what reinforcement learning can bring.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from foveate.laboratory.architecture import make_model, save_checkpoint
from foveate.laboratory.dense import DenseHead, images_of, looked_at
from foveate.laboratory.examples import Example, Seen, batches
from foveate.laboratory.forward import Optimiser, logits_and_labels
from foveate.laboratory.lessons import answer_lines, pointing_lines
from foveate.laboratory.sheets import sheet

_BOX_TOKENS = 5
"""Four coordinates and the end of the reply."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training.

    Attributes:
        name: shown in the progress bar.
        steps: updates.
        scenes, sheets: per step; a scene gives one view and two crops.
        vision_rate, text_rate: learning rates of the two parts.
        speech: weight of the language model's loss; 0 trains the vision tower alone.
        blind: share of reading questions that cannot be answered from what is shown.
        right, wild: pointing questions per view, see `lessons.pointing_lines`.
    """

    name: str
    steps: int
    scenes: int
    sheets: int
    vision_rate: float
    text_rate: float
    speech: float = 1.0
    blind: float = 0.0
    right: int = 2
    wild: int = 2


PHASES = (
    Phase("digits", steps=1900, scenes=0, sheets=14, vision_rate=1.2e-2, text_rate=0.0, speech=0.0),
    Phase("cards", steps=450, scenes=16, sheets=12, vision_rate=1e-2, text_rate=0.0, speech=0.0),
    Phase("speech", steps=900, scenes=12, sheets=8, vision_rate=4e-3, text_rate=6e-3, blind=0.12),
)
"""What the shipped checkpoint was made with, seed 0."""


def build_base(
    directory: str | Path,
    seed: int = 0,
    *,
    phases: tuple[Phase, ...] = PHASES,
    console: Console | None = None,
) -> Qwen2_5_VLForConditionalGeneration:
    """Trains a base from nothing and saves it as an ordinary checkpoint; minutes on one CPU thread.

    Args:
        directory: for model, tokenizer and image processor; overwritten.
        seed: of the weights; the scenes' seeds start at a million times one more, far from those of held-out sets.
        phases: what is trained in turn.
        console: for progress; None is silent.
    """
    model = make_model(seed)
    head = DenseHead(model.lm_head.in_features)
    with _progress(console) as progress:
        for number, phase in enumerate(phases):
            bar = progress.add_task(phase.name, total=phase.steps, note="")
            recent: deque[dict[str, float]] = deque(maxlen=20)
            for losses in train(model, head, phase, seed=1_000_000 * (seed + 1) + 7 * number):
                recent.append(losses)
                note = " ".join(f"{name} {mean(step[name] for step in recent):.2f}" for name in losses)
                progress.update(bar, advance=1, note=note)
            if console and not console.is_terminal:
                console.print(f"{phase.name}: {phase.steps} steps, {note}")
    save_checkpoint(model, directory)
    return model


def train(
    model: Qwen2_5_VLForConditionalGeneration, head: DenseHead, phase: Phase, seed: int
) -> Iterator[dict[str, float]]:
    """Runs a phase; yields the losses of each step."""
    rng = random.Random(seed)
    optimiser = Optimiser(model, phase.steps, vision=phase.vision_rate, text=phase.text_rate, extra=head)
    for examples in batches(seed, phase.steps, phase.scenes):
        features, losses = looked_at(model, head, examples, [sheet(rng) for _ in range(phase.sheets)])
        if phase.speech:
            spoken = _speech_losses(model, phase, rng, examples, images_of(examples), features)
            losses |= {name: phase.speech * loss for name, loss in spoken.items()}
        optimiser.step(torch.stack(list(losses.values())).sum())
        yield {name: loss.item() for name, loss in losses.items()}


def _speech_losses(
    model: Qwen2_5_VLForConditionalGeneration,
    phase: Phase,
    rng: random.Random,
    examples: list[Example],
    images: list[Seen],
    features: list[Tensor],
) -> dict[str, Tensor]:
    """Cross-entropy of boxes and of answers, each the mean over its own tokens."""
    locate = pointing_lines(examples, rng, right=phase.right, wild=phase.wild)
    answer = answer_lines(examples, rng, blind=phase.blind)
    logits, labels = logits_and_labels(model, images, features, locate + answer)
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    boxes = _BOX_TOKENS * len(locate)
    return {"locate": losses[:boxes].mean(), "answer": losses[boxes:].mean()}


def _progress(console: Console | None) -> Progress:
    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console or Console(quiet=True), disable=console is None)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m foveate.laboratory.base", description="Makes the embedded base.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the training process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console()
    started = time.monotonic()
    build_base(options.out, options.seed, console=console)
    console.print(f"{options.out}: made in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
