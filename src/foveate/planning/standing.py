"""Policy, optimizer and reference as training sets them up, of tensors without contents."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from foveate.families.base import VLM
from foveate.planning.depth import noted
from foveate.planning.family import Sized
from foveate.planning.kernels import count_windows_at_once, gpu_attention
from foveate.planning.ledger import Ledger
from foveate.planning.models import Shapes
from foveate.recipes import Recipe
from foveate.training import features
from foveate.training.learner import Learner
from foveate.training.policy import Reference, prepare, with_reference
from foveate.training.processes import one_process


@contextmanager
def standing(
    ledger: Ledger, shapes: Shapes, recipe: Recipe, *, gpu: bool, alone: bool = False
) -> Iterator[tuple[VLM, Learner, nn.Module | None]]:
    """Policy, optimizer and reference as `training.Trainer` sets them up, inside the ledger.

    Args:
        alone: without a reference.
    """
    setup = recipe.setup.model_copy(update={"quantize": None})
    model = shapes.model(ledger.fake)
    count_windows_at_once(model)
    with ExitStack() as stack:
        stack.enter_context(noted(ledger, model))
        accelerator = stack.enter_context(one_process(setup.precision))
        if gpu:
            stack.enter_context(gpu_attention())
        stack.enter_context(_unmoved())
        stack.enter_context(_pictures_by_place())
        stack.enter_context(_copied_as_clones())
        stack.enter_context(ledger)
        with ledger.without_contents():
            policy = prepare(VLM(model, Sized(shapes)), setup, seed=0, device=torch.device("cpu"))
        if setup.shard == "full" and setup.precision == "bfloat16":
            _as_gathered(policy.model)
        ledger.keep(storages(policy.model))
        learner, reference = with_reference(
            policy, recipe.with_settings(["objective.beta=0"]) if alone else recipe, 1, accelerator
        )
        if isinstance(reference, Reference):
            if setup.shard == "full" and setup.precision == "bfloat16":
                _as_gathered(reference)
            ledger.keep(storages(reference))
        if gpu:
            for group in learner.plain_optimizer.param_groups:
                group["fused"] = True  # the learner's choice on a GPU
        yield policy, learner, reference


def _as_gathered(model: nn.Module) -> None:
    """Weights as FSDP2 hands them to the layers: autocast has nothing to copy then."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)


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


def storages(module: nn.Module, but: Collection[int] = ()) -> list[torch.UntypedStorage]:
    """Of parameters and buffers, each once."""
    found = (tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers()))
    return list({storage._cdata: storage for storage in found if storage._cdata not in but}.values())
