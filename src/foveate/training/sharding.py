"""Weights, gradients and optimizer shared out over the processes: torch's FSDP2, on a GPU as on a CPU.

Accelerate's own FSDP2 knows accelerators only; on a CPU it runs plain DDP instead, without a word. `fully_shard` is the
same on both, so that what is tested is what runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel

from foveate.training.scorer import Scorer, base_model


def shard(scorer: Scorer, accelerator: Accelerator) -> None:
    """Shares a scorer's weights out, layer by layer, and moves them to where the process computes.

    With bfloat16 as the accelerator's precision, weights are gathered and computed with in bfloat16, under autocast as
    everywhere; gradients are summed, and weights and optimizer kept, in float32.
    """
    # What is not sharded gets that from Accelerate. Policy, reference and the self-check must be of one precision.
    scorer.forward = accelerator.autocast()(scorer.forward)  # type: ignore[method-assign]
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    policy = MixedPrecisionPolicy()
    if accelerator.mixed_precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    layers = _layer_classes(base_model(scorer))
    parts = [module for module in scorer.modules() if type(module).__name__ in layers]
    for module in (*parts, scorer):
        fully_shard(module, mesh=mesh, mp_policy=policy)
    # What the backward gathers ahead is said, since by default it depends on the forwards before it, rollouts among
    # them, of which the processes have different numbers: they would wait for one another for ever.
    parts.append(scorer)
    for number, part in enumerate(parts):
        part.set_modules_to_backward_prefetch([parts[max(number - 1, 0)]])  # type: ignore[operator]
    # Which module is the root is settled by the first forward. Here it is one of nothing, since rollouts call a module
    # within, which must not be taken for it.
    register_fsdp_forward_method(scorer, "nothing")
    scorer.nothing()
    scorer.reshard()  # type: ignore[operator]  # it is a module of FSDP's now


def asked_for_sharding() -> bool:
    """Whether Accelerate was launched with FSDP configured: also on a CPU, where it forgets that."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` was here."""
    return isinstance(module, FSDPModule)


@contextmanager
def gathered(scorer: nn.Module) -> Iterator[None]:
    """The whole weights on every process, in the precision computed in: forwards within need no other process.

    Rollouts of different length would otherwise wait for one another for ever. Nothing is done where nothing is
    sharded. All processes must enter it.
    """
    parts = [module for module in scorer.modules() if isinstance(module, FSDPModule)]
    inner = [part for part in parts if part is not scorer]  # the root keeps its weights after a forward anyway
    for part in parts:
        part.unshard()
    for part in inner:
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in inner:
            part.set_reshard_after_forward(True, recurse=False)
        for part in parts:
            part.reshard()


def full(state: Any, *, keep: bool) -> Any:
    """A state dict with whole tensors in the place of shards; on the CPU, and only where `keep`. All must call it."""

    def whole(tensor: DTensor) -> Tensor | None:
        found = tensor.full_tensor()
        return found.cpu() if keep else None

    return tree_map_only(DTensor, whole, state)


def full_weights(scorer: nn.Module, model: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """`full` of the weights of a model within a sharded scorer."""
    for part in scorer.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    weights: dict[str, Tensor] = full(model.state_dict(), keep=keep)
    return weights


def like(tensor: Tensor, own: Tensor) -> Tensor:
    """This process's part of a whole tensor that every process has, cut as its `own` is."""
    if not isinstance(own, DTensor) or tensor.shape != own.shape:
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def load_weights(model: nn.Module, whole: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors, into a model that may be sharded."""
    own = model.state_dict()
    model.load_state_dict({name: like(tensor, own[name]) if name in own else tensor for name, tensor in whole.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, whole: Mapping[str, Any]) -> None:
    """The same of an optimizer's state."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {
            # A copy: what was read is perhaps mapped to its file.
            name: like(value.clone(), parameters[number]) if isinstance(value, Tensor) else value
            for name, value in entries.items()
        }
        for number, entries in whole["state"].items()
    }
    # How it steps is the machine's matter, not the checkpoint's.
    groups = [
        saved | {name: own[name] for name in ("fused", "foreach") if name in own}
        for saved, own in zip(whole["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**whole, "state": state, "param_groups": groups})


def _layer_classes(model: PreTrainedModel) -> set[str]:
    """The names of the classes that transformers says must stay whole: the layers of language model and vision."""
    inner = (module for module in model.modules() if isinstance(module, PreTrainedModel))
    return {name for module in inner for name in (module._no_split_modules or ())}
