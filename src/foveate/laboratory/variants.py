"""Makes the bases of a study beside the shipped one: `python -m foveate.laboratory.variants view --out DIR`.

Each is the shipped base, or another of these, taught further in minutes. Two phases as in `laboratory.base`: *look*, in
which the vision tower gets used to other sizes of picture and of writing, and *speak*, in which the model learns to do
something plausible in every context that a protocol of the study shows (`habits`).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from foveate.families import EMBEDDED, tiny
from foveate.images import PixelBudget
from foveate.laboratory.architecture import BUDGET, STUDY_WORDS, save_checkpoint, vocabulary
from foveate.laboratory.dense import DenseHead, images_of, looked_at
from foveate.laboratory.examples import Example, Optics, batches
from foveate.laboratory.forward import Line, Optimiser, logits_and_labels
from foveate.laboratory.habits import counting_habits, pointing_habits, reading_habits
from foveate.laboratory.sheets import sheet
from foveate.questions.scenes import SceneConfig

_HEIGHTS = (8, 34)
"""Of the digits on sheets, in pixels: those of this study's views and crops."""


def _side(pixels: int) -> PixelBudget:
    """Of a square view of so many pixels a side, and 4 % over for pictures that are not quite square."""
    return PixelBudget(BUDGET.min_pixels, round(1.04 * pixels**2))


LEGIBLE, PARTLY, UNREADABLE = _side(112), _side(84), _side(56)
"""Of the full image: digits of the study's scenes are 12.7, 9.5 and 6.3 pixels high in it."""
CROP = UNREADABLE
"""Of a crop: the digit of a card that fills it is 32 pixels high."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A base to be made.

    Attributes:
        scenes: what it is taught on.
        start: what it is taught further from.
        look, speak: updates of the two phases; the first is left out where it has none.
        speaks: of reading and pointing, or of counting.
        vision_rate, text_rate: learning rates of `speak`; `look` takes twice the first.
        seed: of the scenes and lessons.
    """

    scenes: SceneConfig
    start: str = EMBEDDED
    look: int = 0
    speak: int = 700
    speaks: Literal["reading", "counting"] = "reading"
    vision_rate: float = 6e-3
    text_rate: float = 6e-3
    seed: int = 0


def scenes(prior: float = 0.0) -> SceneConfig:
    """The study's scenes: small, with writing that is legible on the largest of its views."""
    return SceneConfig(size=512, writing_px=58, prior=prior)


COUNTED = SceneConfig(size=512, kind="count", cards=(3, 6))

VARIANTS: Mapping[str, Variant] = {
    "view": Variant(scenes(), look=600, speak=1200),
    "prior-30": Variant(scenes(0.3), start="view", speak=150),
    "prior-60": Variant(scenes(0.6), start="view", speak=150),
    "view-b": Variant(scenes(), look=600, speak=1200, seed=1),
    "prior-60-b": Variant(scenes(0.6), start="view-b", speak=150, seed=1),
    "count": Variant(COUNTED, start="view", speak=700, speaks="counting"),
}
"""Every base of a study by name."""

_Teach = Callable[[Sequence[Example], random.Random], list[Line]]
_LESSONS: Mapping[str, tuple[_Teach, ...]] = {
    "reading": (pointing_habits, reading_habits),
    "counting": (counting_habits,),
}


def build_variant(
    variant: Variant,
    start: str | Path,
    directory: str | Path,
    *,
    on_step: Callable[[str, int, int, Mapping[str, float]], None] | None = None,
) -> None:
    """Teaches a base further and saves it as an ordinary checkpoint; the same on every run of a machine.

    Args:
        variant: what to teach.
        start: the checkpoint's folder, or the shipped base's name.
        directory: for model, tokenizer and image processor.
        on_step: called after each update with the phase, its updates so far, all of them, and the losses.
    """
    torch.manual_seed(variant.seed)
    folder = tiny.path() if str(start) == EMBEDDED else start
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).float()
    words = len(vocabulary(STUDY_WORDS))
    if model.config.text_config.vocab_size < words:
        model.resize_token_embeddings(words, mean_resizing=False)
    head = DenseHead(model.lm_head.in_features)
    for phase, steps in (("look", variant.look), ("speak", variant.speak)):
        for step, losses in enumerate(_train(model, head, variant, phase == "speak", steps), start=1):
            if on_step:
                on_step(phase, step, steps, losses)
    save_checkpoint(model, directory, STUDY_WORDS)


def _train(
    model: Qwen2_5_VLForConditionalGeneration, head: DenseHead, variant: Variant, speaking: bool, steps: int
) -> Iterator[dict[str, float]]:
    rng = random.Random(f"{variant.speaks}/{speaking}" + (f"/{variant.seed}" if variant.seed else ""))
    vision, text = (variant.vision_rate, variant.text_rate) if speaking else (2 * variant.vision_rate, 0.0)
    optimiser = Optimiser(model, steps, vision=vision, text=text, extra=head)
    optics = Optics((variant.scenes,), (LEGIBLE, LEGIBLE, LEGIBLE, PARTLY, UNREADABLE), CROP, legible_px=6)
    model.train()
    for examples in batches(50_000_000 + 10 * variant.seed + speaking, steps, 12 if speaking else 16, optics):
        features, losses = looked_at(model, head, examples, [sheet(rng, _HEIGHTS) for _ in range(8)])
        if speaking:
            for teach in _LESSONS[variant.speaks]:
                lines = teach(examples, rng)
                logits, labels = logits_and_labels(model, images_of(examples), features, lines)
                losses[teach.__name__] = nn.functional.cross_entropy(logits, labels)
        optimiser.step(torch.stack(list(losses.values())).sum())
        yield {name: loss.item() for name, loss in losses.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m foveate.laboratory.variants", description="Makes a study's base.")
    parser.add_argument("name", choices=VARIANTS)
    parser.add_argument("--start", default=EMBEDDED, help="folder of the base that it is taught further from")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def tell(phase: str, step: int, steps: int, losses: Mapping[str, float]) -> None:
        if step % 50 == 0 or step == steps:
            print(f"{phase} {step}/{steps}", *(f"{name} {loss:.2f}" for name, loss in losses.items()), flush=True)

    build_variant(VARIANTS[options.name], options.start, options.out, on_step=tell)


if __name__ == "__main__":
    main()
