"""The self-check stops a run that falls into any of the traps which give plausible, wrong numbers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from tests.models import group, located, noise_view, random_vlm
from transformers import AttentionInterface, DynamicCache
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import eager_attention_forward

from foveate.families import VLM, Family
from foveate.training import attention, packing
from foveate.training.selfcheck import (
    FLOAT32_TOLERANCE,
    PackingMismatch,
    UnpackableModelError,
    refuse_unpackable,
    self_check,
)

Inputs = dict[str, Any]
FAR_BEYOND = 1000 * FLOAT32_TOLERANCE
"""A trap changes log-probs by at least this much: what is tested is no matter of rounding."""


@pytest.fixture
def vlm() -> VLM:
    return random_vlm()


def set_trap(monkeypatch: pytest.MonkeyPatch, change: Callable[[Inputs], Inputs]) -> None:
    """Changes what the packed forward passes to the model."""
    right = packing.model_inputs
    monkeypatch.setattr(packing, "model_inputs", lambda *args: change(right(*args)))


def assert_stopped(vlm: VLM) -> None:
    with pytest.raises(PackingMismatch) as raised:
        self_check(vlm, group([5, 4, 6, 3]))
    figure = float(str(raised.value).split("differ by up to ")[1].split()[0])
    assert figure > FAR_BEYOND
    assert f"{FLOAT32_TOLERANCE:.3g}" in str(raised.value)
    assert "foveate_packed" in str(raised.value)


def without(inputs: Inputs, *names: str) -> Inputs:
    return {name: value for name, value in inputs.items() if name not in names}


def dense_mask(layout: attention.PackedLayout) -> torch.Tensor:
    """The whole row's mask (1, 1, T, T), True where a position may look."""
    prefix, total = layout.prefix, layout.prefix + layout.branches * layout.length
    mask = torch.zeros(total, total, dtype=torch.bool)
    mask[:prefix, :prefix] = torch.ones(prefix, prefix, dtype=torch.bool).tril()
    for first in range(prefix, total, layout.length):
        own = slice(first, first + layout.length)
        mask[own, :prefix] = True
        mask[own, own] = torch.ones(layout.length, layout.length, dtype=torch.bool).tril()
    return mask[None, None]


def test_a_sound_set_up_passes_within_rounding(vlm: VLM) -> None:
    for episodes in (group([5, 4, 6, 3]), group([1]), located([[noise_view(2, 2, 1)], [], [noise_view(1, 1, 2)]])):
        found = self_check(vlm, episodes)
        assert found.tolerance == FLOAT32_TOLERANCE
        assert found.mean_difference <= found.max_difference < found.tolerance / 4


def test_trap_two_dimensional_positions(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model spreads them over all axes: an image becomes a line."""
    set_trap(monkeypatch, lambda inputs: inputs | {"position_ids": inputs["position_ids"][0]})
    assert_stopped(vlm)


def test_trap_no_positions(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model counts on through the branches."""
    set_trap(monkeypatch, lambda inputs: inputs | {"position_ids": None})
    assert_stopped(vlm)


def test_trap_no_mask(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the layout a mask of None is a causal one: each output sees those before it."""
    set_trap(monkeypatch, lambda inputs: without(inputs, "packed_layout"))
    assert_stopped(vlm)


def test_trap_two_dimensional_mask(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can only mark padding; the branches still see one another."""

    def trap(inputs: Inputs) -> Inputs:
        return without(inputs, "packed_layout") | {"attention_mask": torch.ones_like(inputs["input_ids"])}

    set_trap(monkeypatch, trap)
    assert_stopped(vlm)


def four_axes(inputs: Inputs) -> torch.Tensor:
    """Text positions, restarting at each branch, before the three axes: transformers' sign of packed sequences."""
    return torch.cat([inputs["position_ids"].amax(0, keepdim=True), inputs["position_ids"]])


def test_trap_four_axes_of_restarting_positions(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every restart begins a sequence of its own: the branches do not see the prompt."""
    set_trap(monkeypatch, lambda inputs: without(inputs, "packed_layout") | {"position_ids": four_axes(inputs)})
    assert_stopped(vlm)


def test_four_axes_and_masks_are_harmless_with_the_layout(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout decides alone who sees whom: the masks that transformers would make of these are not looked at."""
    sound = packing.packed_logprobs(vlm, group([5, 4, 6, 3]))
    right = packing.model_inputs
    changes: list[Callable[[Inputs], Inputs]] = [
        lambda inputs: {"position_ids": four_axes(inputs)},
        lambda inputs: {"attention_mask": torch.ones_like(inputs["input_ids"])},
    ]
    for change in changes:
        monkeypatch.setattr(packing, "model_inputs", lambda *args, c=change: (i := right(*args)) | c(i))
        for changed, expected in zip(packing.packed_logprobs(vlm, group([5, 4, 6, 3])), sound, strict=True):
            assert torch.equal(changed, expected)


@pytest.mark.parametrize("additive", [False, True])
def test_trap_eager_attention_with_a_boolean_mask(vlm: VLM, monkeypatch: pytest.MonkeyPatch, additive: bool) -> None:
    """Eager attention adds the mask: True adds one. With an additive mask the same route is right."""

    def trap(inputs: Inputs) -> Inputs:
        mask = dense_mask(inputs["packed_layout"])
        if additive:
            mask = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
        return without(inputs, "packed_layout") | {"attention_mask": mask}

    vlm.model.set_attn_implementation("eager")
    monkeypatch.setattr(packing, "enable_packed_attention", lambda model: None)
    set_trap(monkeypatch, trap)
    if additive:
        self_check(vlm, group([5, 4, 6, 3]))
    else:
        assert_stopped(vlm)


def test_trap_eager_attention_in_place_of_ours(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """An implementation that does not know the layout swallows it as one more keyword."""
    monkeypatch.setitem(AttentionInterface._global_mapping, attention.NAME, eager_attention_forward)
    assert_stopped(vlm)


def test_trap_restarting_positions_with_the_cache_left_on(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cache transformers does not even look for packed sequences: a causal mask over everything."""

    def trap(inputs: Inputs) -> Inputs:
        return without(inputs, "packed_layout", "use_cache") | {"position_ids": four_axes(inputs)}

    set_trap(monkeypatch, trap)
    assert_stopped(vlm)


def test_the_cache_left_on_is_harmless_with_the_layout(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    set_trap(monkeypatch, lambda inputs: without(inputs, "use_cache"))
    self_check(vlm, group([5, 4, 6, 3]))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_trap_differentiable_cache_under_gradient_checkpointing(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    """The prompt run once into a cache, the outputs against it: exact, until checkpointing drops the cache."""

    def through_a_cache(scorer: Any, family: Family, batch: packing.PackedBatch, *, temperature: float) -> torch.Tensor:
        model = scorer.model
        inputs = packing.model_inputs(family, batch, torch.device("cpu"))
        cache, prefix = DynamicCache(config=model.config.get_text_config()), batch.layout.prefix
        ids, positions = inputs["input_ids"], inputs["position_ids"]
        model(
            input_ids=ids[:, :prefix],
            position_ids=positions[:, :, :prefix],
            past_key_values=cache,
            use_cache=True,
            **batch.images,
        )
        cache.batch_repeat_interleave(batch.layout.branches)
        logits_GLV = model(
            input_ids=ids[0, prefix:].view(batch.layout.branches, -1),
            position_ids=positions[:, 0, prefix:].view(3, batch.layout.branches, -1),
            past_key_values=cache,
            use_cache=True,
        ).logits
        keep_K = batch.keep_BK[0]
        logprobs_KV = (logits_GLV.flatten(0, 1) / temperature).log_softmax(-1)
        return logprobs_KV[keep_K].gather(-1, batch.labels_BK[0][keep_K, None])[:, 0]

    monkeypatch.setattr(packing, "batch_logprobs", through_a_cache)
    if checkpointing:
        vlm.model.activation_checkpointing_enable()
        vlm.model.train()  # checkpointing is a matter of training mode only
        assert_stopped(vlm)
    else:
        self_check(vlm, group([5, 4, 6, 3]))


def test_our_rows_pass_under_gradient_checkpointing(vlm: VLM) -> None:
    vlm.model.activation_checkpointing_enable()
    vlm.model.train()
    self_check(vlm, group([5, 4, 6, 3]))


def test_a_lone_episode_still_shows_a_missing_mask(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    set_trap(monkeypatch, lambda inputs: without(inputs, "packed_layout"))
    with pytest.raises(PackingMismatch):
        self_check(vlm, group([1]))


def test_not_a_number_is_a_mismatch(vlm: VLM) -> None:
    with torch.no_grad():
        vlm.model.lm_head.weight[3] = float("nan")
    with pytest.raises(PackingMismatch, match="nan"):
        self_check(vlm, group([5, 4]))


def test_active_dropout_is_named(vlm: VLM) -> None:
    dropout = torch.nn.Sequential(torch.nn.SiLU(), torch.nn.Dropout(0.2))
    vlm.model.model.language_model.layers[0].mlp.act_fn = dropout.eval()
    self_check(vlm, group([5, 4]))
    vlm.model.train()
    with pytest.raises(PackingMismatch, match="Dropout is active"):
        self_check(vlm, group([5, 4]))


def test_nothing_to_compare_is_refused(vlm: VLM) -> None:
    with pytest.raises(ValueError, match="at least one sampled token"):
        self_check(vlm, [])


def test_hybrid_models_are_refused(vlm: VLM) -> None:
    vlm.model.config.text_config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(UnpackableModelError, match=r"linear_attention layers: they carry a state"):
        self_check(vlm, group([5, 4]))


def test_a_sliding_window_shorter_than_the_row_is_refused(vlm: VLM) -> None:
    config = vlm.model.config.text_config
    config.layer_types, config.sliding_window = ["sliding_attention", "full_attention"], 30
    refuse_unpackable(vlm.model, 30)
    with pytest.raises(UnpackableModelError, match="sliding window of 30 positions and packed rows of 39"):
        self_check(vlm, group([5, 6], size=(6, 4)))


def low_precision(vlm: VLM, dtype: torch.dtype, autocast: bool) -> AbstractContextManager[Any]:
    """The model in lower precision: its weights, or what it computes."""
    if autocast:
        return torch.autocast("cpu", dtype)
    vlm.model.to(dtype)
    return nullcontext()


@pytest.mark.parametrize("autocast", [False, True])
def test_the_tolerance_follows_the_precision_in_use(monkeypatch: pytest.MonkeyPatch, autocast: bool) -> None:
    vlm = random_vlm(gain=1.0)
    with low_precision(vlm, torch.bfloat16, autocast):
        found = self_check(vlm, group([25, 24, 26, 13], size=(6, 5)))
        assert found.tolerance == 0.5
        assert FLOAT32_TOLERANCE < found.max_difference < found.tolerance
        set_trap(monkeypatch, lambda inputs: without(inputs, "packed_layout"))
        with pytest.raises(PackingMismatch, match=r"bfloat16 explains at most 0\.5"):
            self_check(vlm, group([25, 24, 26, 13], size=(6, 5)))
