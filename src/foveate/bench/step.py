"""One step of HART, phase by phase: locate, crop, answer, update; and the update of the same episodes as separate rows.

Random weights of a stated size stand for a checkpoint. What they write is sampled, scored and trained on as ever, and
as long as may be; only what it says is put into its mouth: a box after a locating turn, and the right answer in every
second sample, so that there are crops to make and advantages to learn from.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLConfig

from foveate.bench.measure import Work, peak_bytes, seconds, threads
from foveate.bench.results import show
from foveate.bench.rollout import Endless
from foveate.bench.workload import GRIDS, QUICK, ModelSize, make_vlm
from foveate.episodes import Group, run_episodes
from foveate.errors import FoveateError
from foveate.families import VLM
from foveate.generators import LocalGenerator
from foveate.generators.base import Generator, Request, Sampling
from foveate.planning.machines import chip_called
from foveate.planning.models import shapes_of
from foveate.protocols.base import Completion, FinishReason
from foveate.questions.schema import Question
from foveate.recipes import Recipe, load_recipe
from foveate.training.order import share_of
from foveate.training.packing import separate_logprobs
from foveate.training.policy import Reference, WithoutAdapters, prepare, with_reference
from foveate.training.processes import one_process
from foveate.training.rl import RL
from foveate.training.scorer import base_model
from foveate.training.selfcheck import self_check

_SHARE = 2
"""Sides of the picture over those of its small view, and of the picture over a box: a crop is as large as the view."""


@dataclass(frozen=True)
class PhaseRow:
    """One phase.

    Attributes:
        seconds: of one run, after another that is not counted.
        tokens: sampled in it, or trained on.
        peak_bytes: the most that was allocated at one time, weights and all on a GPU, above what stood before on a CPU.
        flops: of its products; None where they are not counted.
        of_peak: share of the chip's peak in the precision in use; None where the chip is not known.
    """

    phase: str
    seconds: float
    tokens: int
    peak_bytes: int
    flops: int | None = None
    of_peak: float | None = None


class Directed(Generator):
    """Samples as ever, and says what a step of HART needs to go on.

    Args:
        vlm: who samples, as many tokens as there may be.
        answers: one of them is given, drawn at random.

    Attributes:
        taken: seconds of each call.
    """

    def __init__(self, vlm: VLM, device: str, answers: Sequence[str]) -> None:
        family = Endless(vlm.family.config, vlm.family.tokenizer, vlm.family.image_processor)
        self._inner = LocalGenerator(VLM(vlm.model, family))
        self._device, self._answers = device, answers
        self.taken: list[float] = []

    @property
    def family(self) -> Endless:
        """That may not end its replies."""
        assert isinstance(self._inner.family, Endless)
        return self._inner.family

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """The first call of a step locates, the second answers."""
        found: list[list[list[Completion]]] = []
        self.taken.append(seconds(lambda: found.append(self._inner.generate(requests, sampling)), self._device))
        locates = len(self.taken) % 2 == 1
        return [
            [
                self._said(completion, request, seed, locates)
                for completion, seed in zip(own, request.seeds, strict=True)
            ]
            for request, own in zip(requests, found[0], strict=True)
        ]

    def _said(self, completion: Completion, request: Request, seed: int, locates: bool) -> Completion:
        draw, short = random.Random(seed), self.family.box_style == "short"
        if locates:
            width, height = request.context.views[0].size
            left, top = draw.randrange(width // _SHARE), draw.randrange(height // _SHARE)
            box = [left, top, left + width // _SHARE, top + height // _SHARE]
            text = " ".join(map(str, box)) if short else json.dumps([{"bbox_2d": box, "label": "it"}])
        else:
            answer = draw.choice(self._answers)
            text = answer if short else f"\\boxed{{{answer}}}"
        return replace(completion, text=text, finish_reason=FinishReason.END)


def bench_step(
    size: ModelSize | Qwen2_5_VLConfig,
    recipe: Recipe,
    *,
    visual_tokens: int = 1280,
    questions: int = 1,
    device: str = "cpu",
    rate: float | None = None,
) -> list[PhaseRow]:
    """Measures the second of two steps.

    Args:
        size: of the model.
        recipe: with a fresh answer turn.
        visual_tokens: of a view.
        questions: of the step.
        device: that it runs on.
        rate: the most FLOP/s of the chip, None where it is not known.

    Raises:
        PackingMismatch: packed rows are not what separate ones are.
    """
    asked = _questions(visual_tokens, questions)
    with one_process(recipe.setup.precision, device) as accelerator:
        policy = prepare(make_vlm(size, device), recipe.setup, seed=0, device=torch.device(device))
        learner, reference = with_reference(policy, recipe, 2, accelerator)
        stage = RL(recipe, learner, reference)
        generator = Directed(policy, device, ("7", "8"))
        share = share_of(range(questions), None, 0, 1)

        groups: list[Group] = []

        def roll_out(seed: int = 2) -> None:
            n = recipe.rollout.group_size
            with accelerator.autocast():
                groups[:] = run_episodes(asked, stage.protocol, generator, n=n, sampling=stage.sampling, seed=seed)

        roll_out(seed=1)
        with accelerator.autocast():
            self_check(policy, groups[0].episodes, scorer=learner.scorer)
        stage.update(groups, share, 0)  # the optimizer's states are there from here on
        generator.taken.clear()

        rolled = seconds(roll_out, device)
        locating, answering = generator.taken
        episodes = [episode for group in groups for episode in group.episodes]
        said = [sum(len(e.turns[turn].completion.token_ids) for e in episodes) for turn in (0, 1)]

        def update() -> None:
            stage.update(groups, share, 1)

        def separate() -> None:
            for episode in episodes:
                with accelerator.autocast():
                    [logprobs] = separate_logprobs(policy, [episode])
                    if reference is not None:
                        with torch.no_grad(), _as_reference(reference, policy) as frozen:
                            separate_logprobs(frozen, [episode])
                (logprobs.sum() / sum(said)).backward()
            learner.optimizer.zero_grad()

        rolled_peak = _peak(roll_out, device)
        rows = [
            PhaseRow("locate", locating, said[0], rolled_peak),
            PhaseRow("look up and crop", rolled - locating - answering, 0, 0),
            PhaseRow("answer", answering, said[1], rolled_peak),
        ]
        for name, work in (("update, packed", update), ("update, separate rows", separate)):
            with FlopCounterMode(display=False) as counter:
                work()
            taken, flops = seconds(work, device), counter.get_total_flops()
            of_peak = flops / taken / rate if rate else None
            rows.append(PhaseRow(name, taken, sum(said), _peak(work, device), flops, of_peak))
    return rows


def main(
    quick: bool = False,
    json_path: Path | None = None,
    *,
    model: str | None = None,
    settings: Sequence[str] = (),
    visual_tokens: int = 1280,
    questions: int = 1,
    tokens: int = 32,
    threads_used: int = 1,
    device: str = "cpu",
) -> list[PhaseRow]:
    """Measures, prints a table, and writes the rows to `json_path`.

    Args:
        quick: 300 visual tokens and two episodes instead.
        model: a Qwen2.5-VL whose shapes are taken; a small one where None.
        settings: of the recipe `hart`.
        visual_tokens: of the small view, and of each crop.
        questions: of the step.
        tokens: of each reply.
        threads_used: CPU threads.
        device: `cpu` or a CUDA device.

    Raises:
        FoveateError: the model is no Qwen2.5-VL, or there is no picture of so many visual tokens.
    """
    visual_tokens = 300 if quick else visual_tokens
    if visual_tokens not in GRIDS:
        raise FoveateError(f"--visual-tokens {visual_tokens}: one of {', '.join(map(str, GRIDS))}")
    columns, rows = GRIDS[visual_tokens]
    pixels = columns * rows * 28 * 28
    recipe = load_recipe(
        "hart",
        [
            f"images.max_pixels={pixels}",
            f"rollout.max_new_tokens={tokens}",
            f"rollout.group_size={2 if quick else 8}",
            f"optimisation.questions_per_step={questions}",
            *settings,
        ],
    )
    config = shapes_of(model).config if model else None
    if config is not None and not isinstance(config, Qwen2_5_VLConfig):
        raise FoveateError(f"{model} is a {config.model_type!r} model: this bench is of Qwen2.5-VL's architecture")
    called = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    chip = chip_called(called)
    rate = 1e12 * (chip.bf16 if recipe.setup.precision == "bfloat16" else chip.fp32) if chip else None
    with threads(threads_used):
        found = bench_step(
            config or QUICK, recipe, visual_tokens=visual_tokens, questions=questions, device=device, rate=rate
        )
    group, precision = recipe.rollout.group_size, recipe.setup.precision
    show(
        f"A step of HART ({called}, {precision})",
        "phase|seconds|tokens|tokens/s|peak MB|TFLOP|of the\nchip's peak",
        lambda row: (
            row.phase,
            f"{row.seconds:.2f}",
            f"{row.tokens:,}" if row.tokens else "",
            f"{row.tokens / row.seconds:,.0f}" if row.tokens else "",
            f"{row.peak_bytes / 1e6:,.0f}" if row.peak_bytes else "",
            f"{row.flops / 1e12:.2f}" if row.flops else "",
            f"{row.of_peak:.0%}" if row.of_peak is not None else "",
        ),
        found,
        f"Model: {model or QUICK}. {questions} question(s), G = {group}, {visual_tokens:,} visual tokens a view, "
        f"replies of {tokens} tokens. {' '.join(settings)}",
        json_path,
    )
    return found


@contextmanager
def _as_reference(reference: Reference | WithoutAdapters, policy: VLM) -> Iterator[VLM]:
    """The reference as a model of its own."""
    if isinstance(reference, WithoutAdapters):
        with reference.disabled():
            yield policy
    else:
        yield VLM(base_model(reference), policy.family)


def _questions(visual_tokens: int, count: int) -> list[Question]:
    """About pictures of noise, twice as wide and high as their small views."""
    columns, rows = GRIDS[visual_tokens]
    shape = (28 * rows * _SHARE, 28 * columns * _SHARE, 3)
    found = []
    for number in range(count):
        file = BytesIO()
        noise = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        Image.fromarray(noise).save(file, "png")
        found.append(Question(id=f"bench-{number}", image=file.getvalue(), text="red", answer="7"))
    return found


def _peak(work: Work, device: str) -> int:
    if not device.startswith("cuda"):
        return peak_bytes(work, device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
