"""Packed attention is attention under the row's mask, and ordinary attention without a layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models import random_vlm
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from foveate.training.attention import NAME, PackedLayout, enable_packed_attention, packed_attention

ROWS, HEADS, KV_HEADS, SIZE = 2, 4, 2, 8


class Layer(nn.Module):
    is_causal = True
    num_key_value_groups = HEADS // KV_HEADS


def qkv(total: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(total)
    return [
        torch.randn(ROWS, heads, total, SIZE, generator=generator, dtype=torch.double, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]


def layout(prefix: int, branches: int, length: int, valid: tuple[int, ...] | None = None) -> PackedLayout:
    """A row each, the first `valid` positions of whose prefix are no padding."""
    lengths = torch.tensor(valid or (prefix,) * ROWS)
    return PackedLayout(prefix, branches, length, torch.arange(prefix) < lengths[:, None])


def naive(query: Tensor, key: Tensor, value: Tensor, at: PackedLayout) -> Tensor:
    """Position by position, from the definition: the prefix causally, a branch the prefix and its own past."""
    total = at.prefix + at.branches * at.length
    allowed_BTT = torch.zeros(ROWS, total, total, dtype=torch.bool)
    for row in range(ROWS):
        for t in range(total):
            if t < at.prefix:
                allowed_BTT[row, t, : t + 1] = True
                continue
            start = at.prefix + (t - at.prefix) // at.length * at.length
            allowed_BTT[row, t, : at.prefix] = at.prefix_valid_BP[row]
            allowed_BTT[row, t, start : t + 1] = True
    keys, values = (tensor.repeat_interleave(HEADS // KV_HEADS, 1) for tensor in (key, value))
    out = scaled_dot_product_attention(query, keys, values, attn_mask=allowed_BTT[:, None], scale=0.3)
    return out.transpose(1, 2)


@pytest.mark.parametrize(
    ("prefix", "branches", "length", "valid"),
    [
        (9, 3, 2, None),
        (9, 3, 2, (9, 5)),
        (7, 1, 4, (3, 7)),
        (2, 5, 6, None),  # longer than the prefix: one at a time
        (40, 7, 2, (40, 33)),  # five at a time, then two
        (0, 3, 2, None),  # a prompt of one token
    ],
)
def test_equals_attention_under_the_row_s_mask(
    prefix: int, branches: int, length: int, valid: tuple[int, ...] | None
) -> None:
    at = layout(prefix, branches, length, valid)
    tensors = qkv(prefix + branches * length)
    found, weights = packed_attention(Layer(), *tensors, None, scaling=0.3, packed_layout=at)
    expected = naive(*tensors, at)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert weights is None
    assert found.is_contiguous()
    downstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    for one, other in zip(
        torch.autograd.grad((found * downstream).sum(), tensors),
        torch.autograd.grad((expected * downstream).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_without_a_layout_it_is_sdpa() -> None:
    tensors = qkv(6)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    for attention_mask in (None, mask):
        expected, _ = sdpa_attention_forward(Layer(), *tensors, attention_mask, scaling=0.3)
        found, _ = packed_attention(Layer(), *tensors, attention_mask, scaling=0.3)
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("prefix", "branches", "length"), [(1280, 16, 32), (1280, 4, 32), (30, 8, 100), (0, 4, 3)])
def test_masked_work_stays_small_beside_shared_work(prefix: int, branches: int, length: int) -> None:
    chunk = layout(prefix, branches, length).chunk
    assert 1 <= chunk <= branches
    assert chunk == 1 or chunk * length <= prefix / 4


def test_a_window_shorter_than_a_sequence_is_refused() -> None:
    at, options = layout(9, 3, 2), {"scaling": 0.3}
    packed_attention(Layer(), *qkv(15), None, packed_layout=at, sliding_window=11, **options)
    with pytest.raises(ValueError, match="sliding window of 10 positions is shorter than a sequence of 11"):
        packed_attention(Layer(), *qkv(15), None, packed_layout=at, sliding_window=10, **options)


def test_enabling_changes_the_language_model_only() -> None:
    model: Any = random_vlm().model
    before = model.model.visual.config._attn_implementation
    for _ in range(2):
        enable_packed_attention(model)
        assert model.model.language_model.config._attn_implementation == NAME
        assert model.model.visual.config._attn_implementation == before
