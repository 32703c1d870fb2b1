"""The phases of a step, run by training's own code on a model without contents, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from foveate.context import Context
from foveate.families.adapters import language_model_of
from foveate.families.base import VLM
from foveate.generators import LocalGenerator, Request, Sampling
from foveate.planning.depth import Shortened, shorten, stacks, unshortened
from foveate.planning.family import Sized
from foveate.planning.ledger import Ledger, Span
from foveate.planning.models import Shapes
from foveate.planning.standing import standing, storages
from foveate.planning.workload import Rows, RowShape, batch_of
from foveate.recipes import Recipe
from foveate.training.packing import PackedBatch, batch_logprobs
from foveate.training.policy import Reference
from foveate.training.scorer import base_model

_STEP = "step"
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
        in_4_bits: bytes that `quantised` saves.
        flops: of each kind, for one batch, recomputation included; by the name of the row.
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
    in_4_bits: int
    flops: Mapping[str, int]

    def quantised(self) -> Update:
        """The same with `setup.quantize=4bit`, which is arithmetic: the layers' temporary copies are not counted."""
        less = self.in_4_bits
        return replace(self, weights=self.weights - less, peak=self.peak - less, going=self.going - less)


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


@dataclass(frozen=True)
class Extent:
    """A phase of the work of a whole model.

    Attributes:
        peak: the most bytes that are alive together.
        passing: the most that are alive beside the lasting ones.
    """

    peak: int
    passing: int
    flops: int


def simulate_update(
    shapes: Shapes, recipe: Recipe, kinds: Sequence[Rows], *, gpu: bool, every_block: bool = False
) -> Update:
    """One optimizer step over these rows, with the optimizer's states there already.

    Args:
        recipe: its objective, setup and optimizer count; see `Update.quantised`. With `setup.shard=full` weights are
            what is gathered of them, in bfloat16 where that is computed with: `passing` and `flops` are then right.
        kinds: none for what stands all the time alone; nothing is computed then.
        gpu: the kernels and the optimizer's ways of a GPU, or a CPU's.
        every_block: runs each block, not only one of those that are alike; the figures are the same.
    """
    ledger = Ledger()
    short = unshortened(shapes) if every_block else shorten(shapes)
    with standing(ledger, short.shapes, recipe, gpu=gpu) as (policy, learner, reference):
        trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
        optimizer = learner.plain_optimizer
        # The first step makes the states. Nothing is in the way yet.
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        optimizer.zero_grad()

        def states_of(part: nn.Module) -> int:
            return sum(storage.nbytes() for storage in _states(optimizer, part))

        ledger.keep(_states(optimizer, policy.model))
        ledger.spans()
        lasting, held = ledger.lasting, ledger.held
        ledger.keep_gradients(trained)
        optimizer.register_step_pre_hook(lambda *_: ledger.mark(_STEP))
        batches = [batch_of(kind, shapes) for kind in kinds]
        if len(batches) == 1 and kinds[0].batches > 1:
            batches *= 2  # gradients are there when the second one begins
        phases: list[str] = []

        def loss_of(batch: PackedBatch) -> Tensor:
            phases.append(f"batch {len(phases)}")
            ledger.mark(phases[-1])
            for tensor in batch.images.values():
                ledger.enter(tensor)
            new_N = batch_logprobs(learner.scorer, policy.family, batch)
            if reference is not None:
                with torch.no_grad():
                    batch_logprobs(reference, policy.family, batch)
            return new_N.sum()

        ledger.mark("standing")
        if batches:
            learner.descend(batches, loss_of)

        def whole(size: Callable[[nn.Module], int], of: nn.Module = policy.model) -> int:
            return size(of) + short.extra(base_model(of), size)

        own = {storage._cdata for storage in storages(policy.model)}
        parts = {"weights": whole(_bytes), "reference": 0, "states": whole(states_of)}
        if isinstance(reference, Reference):
            parts["reference"] = whole(lambda part: _bytes(part, own), reference)
        extra = sum(parts.values()) - lasting
        found = _extents(short, ledger.spans(), held + extra, lasting + extra)
        going = [found[phase] for phase in phases] or [found["standing"]]
        stepping = found.get(_STEP, going[0])
        width = 2 if recipe.setup.precision == "bfloat16" else 4
        blocks = [_count(block) for own in stacks(base_model(policy.model)).values() for block in own]
        return Update(
            **parts,
            gradients=whole(lambda part: sum(one.nbytes for one in part.parameters() if one.requires_grad)),
            passing=max(extent.passing for extent in going),
            stepping=stepping.passing,
            peak=max(extent.peak for extent in (*going, stepping)),
            going=max(extent.peak for extent in going),
            gathered=width * (2 * max(blocks) + _count(policy.model) - sum(blocks)),
            whole=width * whole(_count),
            in_4_bits=whole(_less_in_4_bits(policy)),
            flops={kind.row.name: extent.flops for kind, extent in zip(kinds, going, strict=False)},
        )


def simulate_rollout(
    shapes: Shapes, recipe: Recipe, row: RowShape, questions: int, *, gpu: bool, every_block: bool = False
) -> Rollout:
    """The replies of one turn, by the generator that is in the training's own process.

    Args:
        row: its prompt is what is read; its sequence is how long the caches get.
        questions: contexts there are at most.
        every_block: as in `simulate_update`.
    """
    ledger = Ledger()
    short = unshortened(shapes) if every_block else shorten(shapes)
    with standing(ledger, short.shapes, recipe, gpu=gpu, alone=True) as (policy, _, _):
        prompt, longest = row.prompt(shapes), row.sequence(shapes)
        engine = recipe.setup.engine
        contexts = max(1, min(questions, engine.prefill_tokens // prompt, engine.samples // row.branches))
        samples = contexts * row.branches
        family = cast(Sized, policy.family)
        # What is read at a time was settled above: the second time it is as much text as is there in the end.
        generator = LocalGenerator(policy, max_prefill_tokens=contexts * longest)

        def write(text: int, images: Sequence[tuple[int, int]], tokens: int) -> None:
            family.text, family.grids = text, images
            seeds = tuple(range(row.branches))
            requests = [Request(Context.user(f"{text} {number}"), seeds) for number in range(contexts)]
            for _ in generator.arriving(requests, Sampling(1.0, tokens)):
                pass

        weights = _bytes(policy.model) + short.extra(base_model(policy.model), _bytes)

        def extents() -> dict[str, _Extent]:
            return _extents(short, ledger.spans(), weights, weights)

        with learner_precision(recipe):
            ledger.spans()
            ledger.mark("prefill")
            write(row.text, row.images, 1)
            prefill = extents()["prefill"]
            calls = iter(("prefill of the longest", "decode"))
            handle = base_model(policy.model).register_forward_pre_hook(lambda *_: ledger.mark(next(calls)))
            write(longest - 1, (), 2)
            handle.remove()
            decode = extents()["decode"]
    text = shapes.text
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    half = 2 if recipe.setup.precision == "bfloat16" else 4
    return Rollout(
        weights=weights,
        prefill=prefill.passing,
        decode=decode.passing,
        cache=2 * text.num_hidden_layers * text.num_key_value_heads * width * half * longest * samples,
        samples=samples,
        contexts=contexts,
        prefill_flops=prefill.flops / contexts,
        decode_flops=decode.flops / samples,
    )


@dataclass(frozen=True)
class _Extent:
    """A phase: the most bytes alive together, the most beside the lasting ones, and its arithmetic."""

    peak: int = 0
    passing: int = 0
    flops: int = 0


def _extents(short: Shortened, spans: Sequence[Span], held: int, lasting: int) -> dict[str, _Extent]:
    """The phases of the deep model's work.

    Args:
        held: bytes that are alive before.
        lasting: and those of them that last.
    """
    found: dict[str, _Extent] = {}
    for span in short.unfold(spans):
        before = found.get(span.phase, _Extent())
        found[span.phase] = _Extent(
            peak=max(before.peak, held + span.high),
            passing=max(before.passing, held - lasting + span.passing_high),
            flops=before.flops + span.flops,
        )
        held, lasting = held + span.held, lasting + span.lasting
    return found


def learner_precision(recipe: Recipe) -> torch.autocast:
    """What training's loop runs rollouts under."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.setup.precision == "bfloat16")


def _states(optimizer: torch.optim.Optimizer, module: nn.Module) -> Iterator[torch.UntypedStorage]:
    for parameter in module.parameters():
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor):
                yield value.untyped_storage()


def _bytes(module: nn.Module, but: Collection[int] = ()) -> int:
    return sum(storage.nbytes() for storage in storages(module, but))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _less_in_4_bits(policy: VLM) -> Callable[[nn.Module], int]:
    """Bytes that 4 bits save: of the language model's linear layers, which are kept in the frozen precision here."""
    language = {id(module) for module in language_model_of(base_model(policy.model)).modules()}

    def saved(part: nn.Module) -> int:
        layers = [one for one in part.modules() if type(one) is nn.Linear and id(one) in language]
        frozen = [layer.weight for layer in layers if not layer.weight.requires_grad]
        return sum(weight.nbytes - int(NF4_BYTES * weight.numel()) for weight in frozen)

    return saved
