"""Attention over a packed row: the prefix causally, every branch against the prefix and itself.

Registered with transformers' `AttentionInterface`, so that the models' own code is what runs. A forward without a
`packed_layout` is ordinary scaled-dot-product attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "foveate_packed"


@dataclass(frozen=True)
class PackedLayout:
    """Where things are in a batch of packed rows: `prefix` positions, then `branches` slots of `length` each.

    Padding stands at the right end of the prefix and of each slot: causality hides it from all but the branches'
    view of the prefix, which `prefix_valid_BP` masks. Rows are (prefix + branches * length) long.
    """

    prefix: int
    branches: int
    length: int
    prefix_valid_BP: Tensor

    @cached_property
    def chunk(self) -> int:
        """How many branches attend together.

        They compute, and mask out, one another's tokens. These are kept to a quarter of the prefix: less saves
        little, and every chunk copies the prefix's keys and values.
        """
        return min(self.branches, max(1, self.prefix // (4 * self.length)))

    def mask(self, branches: int, device: torch.device) -> Tensor:
        """(B, 1, branches * length, prefix + branches * length), True where a branch's token may look."""
        if (branches, device) not in self._masks:
            causal_LL = torch.ones(self.length, self.length, dtype=torch.bool).tril()
            own_QQ = torch.block_diag(*[causal_LL] * branches)
            queries = branches * self.length
            rows = len(self.prefix_valid_BP)
            shared_BQP = self.prefix_valid_BP[:, None].expand(-1, queries, -1)
            mask_B1QK = torch.cat([shared_BQP, own_QQ.expand(rows, -1, -1)], dim=-1)[:, None]
            self._masks[branches, device] = mask_B1QK.to(device)
        return self._masks[branches, device]

    @cached_property
    def _masks(self) -> dict[tuple[int, torch.device], Tensor]:
        return {}


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packed_layout: PackedLayout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The signature of transformers' attention functions.

    (batch, heads, length, head dimension) in, (batch, length, heads, head dimension) out. With a layout the mask is
    not looked at: the layout says who sees whom.

    Raises:
        ValueError: the layer's sliding window is shorter than a sequence of the row.
    """
    if packed_layout is None:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return out
    prefix, length = packed_layout.prefix, packed_layout.length
    if (window := kwargs.get("sliding_window")) is not None and window < prefix + length:
        raise ValueError(f"a sliding window of {window} positions is shorter than a sequence of {prefix + length}")
    parts = []
    if prefix:
        shared = (tensor[:, :, :prefix] for tensor in (query, key, value))
        parts.append(_attend(*shared, mask=None, scale=scaling, dropout_p=dropout))
    for first in range(0, packed_layout.branches, packed_layout.chunk):
        count = min(packed_layout.chunk, packed_layout.branches - first)
        own = slice(prefix + first * length, prefix + (first + count) * length)
        if count == packed_layout.branches:
            keys, values = key, value
        else:
            keys = torch.cat([key[:, :, :prefix], key[:, :, own]], dim=2)
            values = torch.cat([value[:, :, :prefix], value[:, :, own]], dim=2)
        mask = packed_layout.mask(count, query.device)
        parts.append(_attend(query[:, :, own], keys, values, mask=mask, scale=scaling, dropout_p=dropout))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, **options: Any) -> Tensor:
    """Causal without a mask. Key and value heads are repeated only where no kernel shares them."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and query.is_cuda and (mask is not None or query.dtype is torch.float32):
        # CUDA's kernels for masks and for float32 know no grouped heads: torch would fall back on quadratic memory.
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=key.shape[1] != query.shape[1],
        **options,
    )


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def enable_packed_attention(model: PreTrainedModel) -> None:
    """Makes the language model use `packed_attention`; the vision tower keeps its own. Idempotent."""
    if model.config.get_text_config()._attn_implementation != NAME:
        model.set_attn_implementation({"text_config": NAME})
