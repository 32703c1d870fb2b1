"""Attention as it is counted: a tower's windows at once, and CUDA's kernels where a GPU is planned for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

import foveate.training.attention

NAME = "foveate_counted_flash"
"""With "flash" in the name a tower hands over all windows of a layer together instead of one by one."""


class _Joined(torch.autograd.Function):
    """Outputs of all windows put together: a copy; their gradients come apart without one."""

    @staticmethod
    def forward(_ctx: Any, whole: Tensor) -> Tensor:
        return whole.clone()

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Apart(torch.autograd.Function):
    """A tensor cut into windows: no copy; their gradients are put together by one."""

    @staticmethod
    def forward(_ctx: Any, whole: Tensor) -> Tensor:
        return whole.view_as(whole)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].clone()


def _windows(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None = None,
    *,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **_options: Any,
) -> tuple[Tensor, None]:
    """One attention over windows of equal size, which are as large as the real ones as nearly as they divide the row.

    Memory does not depend on the size of windows, arithmetic hardly; thousands of small attentions would take long.
    """
    heads, length, width = query.shape[1:]
    windows = len(cu_seq_lens_q) - 1 if cu_seq_lens_q is not None else 1
    longest = length if windows == 1 else min(int(max_length_q or length), math.ceil(length / windows))
    size = next(size for size in range(longest, 0, -1) if length % size == 0)
    if windows == 1:
        out = nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling)
        return out.transpose(1, 2).contiguous(), None
    cut = (_apart(tensor)[0].unflatten(1, (length // size, size)).transpose(0, 1) for tensor in (query, key, value))
    queries, keys, values = cut
    out = nn.functional.scaled_dot_product_attention(queries, keys, values, scale=scaling)
    out = out.transpose(1, 2).contiguous().reshape(1, length, heads, width)
    joined: Tensor = _Joined.apply(out)  # type: ignore[no-untyped-call]
    return joined, None


def _apart(whole: Tensor) -> Tensor:
    cut: Tensor = _Apart.apply(whole)  # type: ignore[no-untyped-call]
    return cut


AttentionInterface.register(NAME, _windows)


def count_windows_at_once(model: PreTrainedModel) -> None:
    """Makes a vision tower that attends in windows hand them over together."""
    vision = getattr(model.config, "vision_config", None)
    if vision is not None and hasattr(vision, "spatial_merge_size"):
        vision._attn_implementation_internal = NAME


@contextmanager
def gpu_attention() -> Iterator[None]:
    """The kernels that torch takes on a GPU, in the place of the CPU's: flash without a mask, the efficient one with.

    Put into the place of torch's function, and not as a mode of torch's: what checkpoints compute once more in the
    backward pass would not see one.
    """
    before = nn.functional.scaled_dot_product_attention
    packed: Any = foveate.training.attention
    nn.functional.scaled_dot_product_attention = packed.scaled_dot_product_attention = _on_gpu
    try:
        yield
    finally:
        nn.functional.scaled_dot_product_attention = packed.scaled_dot_product_attention = before


def _on_gpu(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (query, key, value))
    half = query.dtype is not torch.float32
    if (groups := query.shape[1] // key.shape[1]) > 1 and (attn_mask is not None or not half):
        # As `training.attention` and transformers do where a kernel does not share heads.
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if attn_mask is None and half:
        flash: Any = torch.ops.aten._scaled_dot_product_flash_attention
        out: Tensor = flash(query, key, value, dropout_p, is_causal, scale=scale)[0]
        return out
    bias = None
    if attn_mask is not None:  # of numbers, in rows that are aligned
        width = attn_mask.shape[-1]
        rows = query.new_empty((*attn_mask.shape[:-1], -(-width // 8) * 8))
        bias = rows[..., :width].expand(*query.shape[:3], width)
    efficient: Any = torch.ops.aten._scaled_dot_product_efficient_attention
    result: Tensor = efficient(query, key, value, bias, query.requires_grad, dropout_p, is_causal, scale=scale)[0]
    return result
