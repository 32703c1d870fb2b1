"""The phases of a step, run by training's own code on a model without contents, and what they need."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from foveate.context import Context
from foveate.families.adapters import language_model_of
from foveate.families.base import VLM
from foveate.generators import LocalGenerator, Request, Sampling
from foveate.planning.family import Sized
from foveate.planning.kernels import count_windows_at_once, gpu_attention
from foveate.planning.ledger import Ledger
from foveate.planning.models import Shapes
from foveate.planning.workload import RowShape, Share, batch_of
from foveate.recipes import Recipe, Setup
from foveate.training import features
from foveate.training.learner import Learner
from foveate.training.packing import PackedBatch, batch_logprobs
from foveate.training.policy import Reference, WithoutAdapters, prepare
from foveate.training.processes import one_process
from foveate.training.scorer import base_model

NF4_BYTES = 0.5 + 4 / 64
"""Of a weight in 4 bits: half a byte, and a float32 scale for each 64 weights, as bitsandbytes keeps them."""


@dataclass(frozen=True)
class Update:
    """What an update needs on one device, in bytes.

    Attributes:
        weights: of the policy, as they are held.
        reference: what the frozen reference holds beside it.
        states: of the optimizer.
        gradients: of all that is trained.
        passing: the most that is held beside these while going forward and backward: what is kept for the backward
            pass, casts, logits, and the inputs.
        stepping: the same while the optimizer steps.
        peak: the most of all together at one time, on a single device.
        going: the most of all together while going forward and backward, on a single device.
        gathered: what is there whole, in bfloat16, while sharded weights are computed with: two blocks (the one that
            computes, the one that is fetched) and what is in no block.
        whole: all weights in the precision computed in, as rollouts gather them.
        flops: of each share, for one batch, recomputation included; by the name of the row.
    """

    weights: int
    reference: int
    states: int
    gradients: int
    passing: int
    stepping: int
    peak: int
    going: int
    gathered: int
    whole: int
    flops: Mapping[str, int]


@dataclass(frozen=True)
class Rollout:
    """What the replies of one turn need beside the weights and whatever the training keeps.

    Attributes:
        weights: of the policy, as they are held.
        prefill: the most that is held while contexts are read and their caches repeated.
        decode: and while the last token of the longest replies is written.
        cache: keys and values of all samples at their longest.
        samples: that are decoded together.
        contexts: that are read together.
        prefill_flops: of one context.
        decode_flops: of one token of one sample.
    """

    weights: int
    prefill: int
    decode: int
    cache: int
    samples: int
    contexts: int
    prefill_flops: float
    decode_flops: float

    @property
    def peak(self) -> int:
        """Of both."""
        return max(self.prefill, self.decode)


def simulate_update(shapes: Shapes, recipe: Recipe, shares: Sequence[Share], *, gpu: bool) -> Update:
    """One optimizer step over these rows, with the optimizer's states there already.

    Args:
        recipe: its objective, setup and optimizer count.
        gpu: the kernels and the optimizer's ways of a GPU, or a CPU's.
    """
    ledger = Ledger()
    with _standing(ledger, shapes, recipe, gpu=gpu) as (policy, learner, reference, parts):
        trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
        optimizer = learner.plain_optimizer
        # The first step makes the states. Nothing is in the way yet.
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        states = ledger.keep(
            value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
        )
        ledger.keep_gradients(trained)
        found: dict[str, int] = {}

        def before_the_step(*_: Any) -> None:
            found["passing"], found["going"] = ledger.passing_peak, ledger.peak
            ledger.passing_peak = ledger.held - ledger.lasting

        optimizer.register_step_pre_hook(before_the_step)
        batches = [batch_of(share, shapes) for share in shares]
        if len(batches) == 1 and shares[0].batches > 1:
            batches *= 2  # gradients are there when the second one begins
        names = {id(batch): share.row.name for batch, share in zip(batches, shares, strict=False)}
        marks: list[tuple[str, int]] = []

        def loss_of(batch: PackedBatch) -> Tensor:
            marks.append((names[id(batch)], ledger.flops))
            for tensor in batch.images.values():
                ledger.enter(tensor)
            new_N = batch_logprobs(learner.scorer, policy.family, batch)
            if reference is not None:
                with torch.no_grad():
                    batch_logprobs(reference, policy.family, batch)
            return new_N.sum()

        ledger.mark()
        learner.descend(batches, loss_of)
        marks.append(("", ledger.flops))
        flops = {name: after - before for (name, before), (_, after) in pairwise(marks)}
        fewer = _quantised(policy, recipe.setup)
        size = 2 if recipe.setup.precision == "bfloat16" else 4
        whole = size * sum(parameter.numel() for parameter in policy.model.parameters())
        blocks = [size * sum(one.numel() for one in block.parameters()) for block in _blocks(policy.model)]
        return Update(
            weights=parts["weights"] - fewer,
            reference=parts["reference"],
            states=states,
            gradients=sum(parameter.nbytes for parameter in trained),
            passing=found["passing"],
            stepping=ledger.passing_peak,
            peak=ledger.peak - fewer,
            going=found["going"] - fewer,
            gathered=2 * max(blocks) + whole - sum(blocks),
            whole=whole,
            flops=flops,
        )


def simulate_rollout(shapes: Shapes, recipe: Recipe, row: RowShape, questions: int, *, gpu: bool) -> Rollout:
    """The replies of one turn, by the generator that is in the training's own process.

    Args:
        row: its prompt is what is read; its sequence is how long the caches get.
        questions: contexts there are at most.
    """
    ledger = Ledger()
    with _standing(ledger, shapes, recipe, gpu=gpu, alone=True) as (policy, _, _, parts):
        prompt, longest = row.prompt(shapes), row.sequence(shapes)
        limits = _Limits()
        contexts = max(1, min(questions, limits.prefill // prompt, limits.samples // row.branches))
        samples = contexts * row.branches
        family = cast(Sized, policy.family)
        generator = LocalGenerator(policy)

        def write(text: int, images: Sequence[tuple[int, int]], tokens: int) -> None:
            family.text, family.grids = text, images
            seeds = tuple(range(row.branches))
            requests = [Request(Context.user(f"{text} {number}"), seeds) for number in range(contexts)]
            for _ in generator.arriving(requests, Sampling(1.0, tokens)):
                pass

        with learner_precision(recipe):
            ledger.mark()
            before = ledger.flops
            write(row.text, row.images, 1)
            prefill, read = ledger.passing_peak, ledger.flops - before
            calls: list[int] = []

            def at_each_call(*_: Any) -> None:
                calls.append(ledger.flops)
                if len(calls) == 2:
                    ledger.mark()

            handle = base_model(policy.model).register_forward_pre_hook(at_each_call)
            write(longest - 1, (), 2)
            handle.remove()
            decode, written = ledger.passing_peak, ledger.flops - calls[1]
    text = shapes.text
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    half = 2 if recipe.setup.precision == "bfloat16" else 4
    cache = 2 * text.num_hidden_layers * text.num_key_value_heads * width * half * longest * samples
    return Rollout(parts["weights"], prefill, decode, cache, samples, contexts, read / contexts, written / samples)


def learner_precision(recipe: Recipe) -> torch.autocast:
    """What training's loop runs rollouts under."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.setup.precision == "bfloat16")


@dataclass(frozen=True)
class _Limits:
    """Of `LocalGenerator`, by default."""

    prefill: int = 16_384
    samples: int = 256


@contextmanager
def _standing(
    ledger: Ledger, shapes: Shapes, recipe: Recipe, *, gpu: bool, alone: bool = False
) -> Iterator[tuple[VLM, Learner, nn.Module | None, dict[str, int]]]:
    """Policy, optimizer and reference as `training.Trainer` sets them up, inside the ledger.

    Args:
        alone: without a reference.
    """
    setup = recipe.setup.model_copy(update={"quantize": None})
    model = shapes.model(ledger.fake)
    count_windows_at_once(model)
    with ExitStack() as stack:
        accelerator = stack.enter_context(one_process(setup.precision))
        if gpu:
            stack.enter_context(gpu_attention())
        stack.enter_context(_unmoved())
        stack.enter_context(_pictures_by_place())
        stack.enter_context(_copied_as_clones())
        stack.enter_context(ledger)
        with ledger.without_contents():
            policy = prepare(VLM(model, Sized(shapes)), setup, seed=0, device=torch.device("cpu"))
        parts = {"weights": ledger.keep(_held_by(policy.model)), "reference": 0}
        reference: nn.Module | None = None
        wanted = recipe.objective.beta and not alone
        if wanted and not setup.lora:
            reference = Reference(policy.model, setup, accelerator.autocast)
            parts["reference"] = ledger.keep(_held_by(reference))
        learner = Learner(policy, recipe.optimisation, 1, accelerator)
        if gpu:
            for group in learner.plain_optimizer.param_groups:
                group["foreach"] = not group.get("fused")  # torch's choice on a GPU
        if wanted and setup.lora:
            reference = WithoutAdapters(learner.scorer, policy.model)
        yield policy, learner, reference, parts


@contextmanager
def _copied_as_clones() -> Iterator[None]:
    """`copy.deepcopy` of tensors without contents: torch's own way copies what they belong to, and crashes later."""

    def copied(tensor: FakeTensor, memo: dict[int, Any]) -> Tensor:
        if id(tensor) not in memo:
            clone = tensor.detach().clone()
            weight = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(clone, requires_grad=tensor.requires_grad) if weight else clone
        own: Tensor = memo[id(tensor)]
        return own

    FakeTensor.__deepcopy__ = copied  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        del FakeTensor.__deepcopy__


@contextmanager
def _unmoved() -> Iterator[None]:
    """Modules stay where they are: there is one device, and torch cannot move parameters without contents in place."""
    before = nn.Module._apply
    nn.Module._apply = lambda self, fn, recurse=True: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = before  # type: ignore[method-assign]


@contextmanager
def _pictures_by_place() -> Iterator[None]:
    """A cache of features tells pictures without contents apart by where they are, instead of by their pixels."""
    before = features._key

    def key(image: Tensor, grid: Mapping[str, Tensor]) -> Hashable:
        return image.untyped_storage()._cdata, image.storage_offset(), image.shape, torch.is_autocast_enabled("cpu")

    features._key = key
    try:
        yield
    finally:
        features._key = before


def _held_by(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of both towers, which are sharded one by one."""
    names = getattr(base_model(model), "_no_split_modules", None) or ()
    return [module for module in model.modules() if type(module).__name__ in names]


def _quantised(policy: VLM, setup: Setup) -> int:
    """Bytes that 4 bits save: of the language model's linear layers, which were counted in the frozen precision."""
    if not setup.quantize:
        return 0
    saved = 0.0
    for module in language_model_of(base_model(policy.model)).modules():
        if type(module) is nn.Linear and not module.weight.requires_grad:
            saved += module.weight.nbytes - NF4_BYTES * module.weight.numel()
    return int(saved)
