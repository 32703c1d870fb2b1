"""What `foveate plan` predicts against what is measured: whole updates and rollouts of small models.

The prediction sees a configuration and the shape of the rows. What is measured is training's own update (optimizer,
reference and all) of a model with weights, on episodes that are packed as ever: the most bytes of tensors at one time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from foveate.bench.measure import peak_bytes, threads
from foveate.bench.results import show
from foveate.bench.rollout import Endless
from foveate.bench.workload import GRIDS, ModelSize, make_context, make_episodes, make_vlm
from foveate.episodes import Group
from foveate.families import VLM
from foveate.generators import LocalGenerator, Request, Sampling
from foveate.planning.models import Shapes
from foveate.planning.simulate import simulate_rollout, simulate_update
from foveate.planning.workload import RowShape, in_batches
from foveate.recipes import Recipe, load_recipe
from foveate.training.policy import Reference, prepare, with_reference
from foveate.training.processes import one_process
from foveate.training.update import Scored, Updater


@dataclass(frozen=True)
class Case:
    """A model, a group, and how it is trained on.

    Attributes:
        settings: over those of the recipe `grpo`.
        rollout: the replies are written, instead of trained on.
    """

    name: str
    size: ModelSize
    visual_tokens: int
    group: int
    length: int
    settings: tuple[str, ...] = ()
    rollout: bool = False


@dataclass(frozen=True)
class MemoryRow:
    """Bytes of tensors at the peak, weights and optimizer included."""

    case: str
    predicted: int
    measured: int

    @property
    def ratio(self) -> float:
        """Over 1 where too much is predicted."""
        return self.predicted / self.measured


_PLAIN = ModelSize(hidden=384, layers=4, kv_heads=2, vocabulary=4096, vision_hidden=128, vision_depth=4, vision_full=1)
_WIDE = ModelSize(hidden=768, layers=2, kv_heads=4, vocabulary=2048, vision_hidden=128, vision_depth=2, vision_full=1)
_WORDS = ModelSize(
    hidden=128, layers=2, kv_heads=1, vocabulary=151_936, vision_hidden=64, vision_depth=2, vision_full=1
)
_SEES = ModelSize(hidden=256, layers=2, kv_heads=1, vocabulary=2048, vision_hidden=256, vision_depth=6, vision_full=2)
_HALF, _AGAIN = "setup.precision=bfloat16", "setup.gradient_checkpointing=true"
_NO_KL, _LORA = "objective.beta=0", "setup.lora.rank=16"

CASES = (
    Case("float32, no reference", _PLAIN, 640, 8, 32, (_NO_KL,)),
    Case("float32 with a reference", _PLAIN, 640, 8, 32),
    Case("bfloat16 by autocast", _PLAIN, 640, 8, 32, (_HALF,)),
    Case("wide: the optimizer step is the peak", _WIDE, 300, 2, 8, (_NO_KL,)),
    Case("gradient checkpointing", _PLAIN, 1280, 8, 32, (_NO_KL, _AGAIN)),
    Case("bfloat16, gradient checkpointing, reference", _PLAIN, 1280, 8, 32, (_HALF, _AGAIN)),
    Case("LoRA, bfloat16 base, reference by the base", _WIDE, 640, 8, 32, (_HALF, _LORA)),
    Case("LoRA, checkpointing, no reference", _PLAIN, 640, 8, 32, (_HALF, _LORA, _AGAIN, _NO_KL)),
    Case("frozen vision tower", _PLAIN, 1280, 4, 32, (_NO_KL, "setup.vision_tower=freeze")),
    Case("long outputs, G = 16", _PLAIN, 300, 16, 128, (_NO_KL,)),
    Case("vocabulary of 151,936", _WORDS, 300, 8, 96, (_NO_KL,)),
    Case("vision-heavy", _SEES, 1280, 4, 16, (_NO_KL,)),
    Case("rollout, float32", _PLAIN, 1280, 16, 64, rollout=True),
    Case("rollout, bfloat16", _WIDE, 640, 16, 64, (_HALF,), rollout=True),
)
_QUICK = ModelSize(hidden=64, layers=2, kv_heads=1, vocabulary=512, vision_hidden=32, vision_depth=2, vision_full=1)
QUICK = (
    Case("float32 with a reference", _QUICK, 300, 4, 16),
    Case("bfloat16, gradient checkpointing", _QUICK, 300, 4, 16, (_HALF, _AGAIN)),
    Case("LoRA", _QUICK, 300, 4, 16, (_HALF, _LORA)),
)


def compare(case: Case, device: str = "cpu") -> MemoryRow:
    """One case, predicted and measured."""
    recipe = load_recipe("grpo", [f"rollout.group_size={case.group}", *case.settings])
    vlm = make_vlm(case.size, device)
    prompt = len(vlm.family.encode(make_context(case.visual_tokens)).token_ids)
    columns, rows = GRIDS[case.visual_tokens]
    row = RowShape("question", ((rows, columns),), prompt - case.visual_tokens, case.group, case.length)
    shapes = Shapes("bench", "its size", vlm.family.config, vlm.family.budget)
    gpu = device.startswith("cuda")
    if case.rollout:
        rolled = simulate_rollout(shapes, recipe, row, 1, gpu=gpu)
        return MemoryRow(case.name, rolled.weights + rolled.peak, _rollout(case, recipe, vlm, device))
    update = simulate_update(shapes, recipe, in_batches([(row, 1)], shapes, 1, 16_384), gpu=gpu)
    return MemoryRow(case.name, update.peak, _update(case, recipe, vlm, device))


def main(
    quick: bool = False, json_path: Path | None = None, *, threads_used: int = 1, device: str = "cpu"
) -> list[MemoryRow]:
    """Compares, prints a table, and writes the rows to `json_path`.

    Args:
        quick: three very small cases: seconds.
        threads_used: CPU threads.
        device: `cpu` or a CUDA device.
    """
    with threads(threads_used):
        rows = [compare(case, device) for case in (QUICK if quick else CASES)]
    show(
        f"Peak memory of a step, predicted and measured ({device})",
        "case|predicted\nMB|measured\nMB|ratio",
        lambda row: (row.case, f"{row.predicted / 1e6:,.0f}", f"{row.measured / 1e6:,.0f}", f"{row.ratio:.3f}"),
        rows,
        f"Bytes of all tensors at the peak. Furthest from 1: {max(abs(row.ratio - 1) for row in rows):.1%}.",
        json_path,
    )
    return rows


def _update(case: Case, recipe: Recipe, vlm: VLM, device: str) -> int:
    setup = recipe.setup
    with one_process(setup.precision, device) as accelerator:
        policy = prepare(vlm, setup, seed=0, device=torch.device(device))
        learner, reference = with_reference(policy, recipe, 2, accelerator)
        episodes = make_episodes(case.visual_tokens, case.group, case.length)
        rewards = tuple(float(number % 2) for number in range(case.group))
        group = Group(episodes[0].question, tuple(episodes))
        scored = [Scored(group, tuple({} for _ in rewards), rewards)]
        updater = Updater(recipe, learner, reference)
        updater.update([(scored, scored)], 0)  # the optimizer's states are there from here on
        modules = [policy.model, *([reference] if isinstance(reference, Reference) else [])]
        lasting = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        lasting += [value for state in learner.plain_optimizer.state.values() for value in state.values()]
        return _bytes(lasting) + peak_bytes(lambda: updater.update([(scored, scored)], 1), device)


def _rollout(case: Case, recipe: Recipe, vlm: VLM, device: str) -> int:
    with one_process(recipe.setup.precision, device) as accelerator:
        policy = prepare(vlm, recipe.setup, seed=0, device=torch.device(device))
        family = policy.family
        endless = Endless(family.config, family.tokenizer, family.image_processor)
        generator = LocalGenerator(VLM(policy.model, endless))
        request = Request(make_context(case.visual_tokens), tuple(range(case.group)))

        def work() -> None:
            with accelerator.autocast():
                generator.generate([request], Sampling(1.0, case.length))

        return _bytes((*policy.model.parameters(), *policy.model.buffers())) + peak_bytes(work, device)


def _bytes(tensors: Sequence[object]) -> int:
    """Of the storages below, each once."""

    def storages() -> Iterator[torch.UntypedStorage]:
        yield from (tensor.untyped_storage() for tensor in tensors if isinstance(tensor, Tensor))

    return sum({storage.data_ptr(): storage.nbytes() for storage in storages()}.values())
