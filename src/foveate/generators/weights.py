"""A policy's weights as another engine takes them: every parameter by transformers' name, adapters merged in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from foveate.errors import FoveateError

WEIGHTS = "model.safetensors"
"""The file's name in a checkpoint."""


class UnmergeableError(FoveateError, ValueError):
    """Adapters whose sum with the weights below is not known here."""


def policy_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter once, without gradient, one at a time: a merged weight lives until the next is asked for.

    LoRA's weights are added to a copy of those that they adapt, and a module that PEFT trains whole (`modules_to_save`)
    takes the place of the original. The model itself is not changed.

    Args:
        model: plain, or wrapped by PEFT.

    Raises:
        UnmergeableError: an adapter other than plain LoRA, or quantised weights.
    """
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "base_layer")}
    for name, parameter in model.named_parameters():
        owner = next((parent for parent in _parents(name) if parent in adapted), None)
        inner = name.removeprefix(f"{owner}.") if owner is not None else ""
        if owner is not None and not inner.startswith("base_layer."):
            continue  # the adapter's own
        tensor = parameter.detach()
        if not tensor.is_floating_point():
            raise UnmergeableError(
                f"{name} is quantised ({tensor.dtype}): engines other than `local` cannot be given its weights. Leave "
                "out setup.quantize, or set setup.engine.name=local."
            )
        if owner is not None and inner == "base_layer.weight":
            tensor = _merged(owner, adapted[owner])
        if (plain := _plain_name(name)) is not None:
            yield plain, tensor


def save_weights(tensors: Iterable[tuple[str, Tensor]], path: Path) -> None:
    """Writes tensors to a safetensors file. Who reads it at the same time sees the old ones or the new, whole."""
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors}, partial, metadata={"format": "pt"})
    os.replace(partial, path)


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(len(parts) - 1, -1, -1))


@torch.no_grad()
def _merged(name: str, layer: Any) -> Tensor:
    weight: Tensor = layer.base_layer.weight.detach()
    if getattr(layer, "merged", False) or getattr(layer, "disable_adapters", False):
        return weight
    for adapter in layer.active_adapters:
        if adapter not in getattr(layer, "lora_A", {}) or getattr(layer, "use_dora", {}).get(adapter):
            raise UnmergeableError(
                f"{name} has an adapter of the kind {type(layer).__name__}, which is not plain LoRA: engines other "
                "than `local` cannot be given its weights. Train plain LoRA, or set setup.engine.name=local."
            )
        weight = weight + layer.get_delta_weight(adapter).to(weight)
    return weight


def _plain_name(name: str) -> str | None:
    """Without what PEFT puts into it; None for an original that a trained copy stands in for."""
    if ".original_module." in name:
        return None
    parts = name.removeprefix("base_model.model.").replace(".base_layer.", ".").split(".")
    if "modules_to_save" in parts:
        at = parts.index("modules_to_save")
        del parts[at : at + 2]  # and the adapter's name
    return ".".join(parts)
