"""What of the colocated engine needs no vLLM: the comparison of pixels, and how its absence is said. See tests/vllm."""

import sys

import pytest
import torch
from tests.scripted import picture

from foveate.families import load
from foveate.generators.rollout import RolloutError
from foveate.generators.vllm import VLLMGenerator, engine_settings, same_pixels
from foveate.images import PixelBudget, full_view


def pixels():
    family = load().family
    own = family.collate_images([full_view(picture(), PixelBudget(784, 9000), 28)])
    return own["pixel_values"], own["image_grid_thw"], family.image_processor


def whole(values: torch.Tensor, processor) -> torch.Tensor:
    """As vLLM's processor leaves them: 0 to 255."""
    mean, std = (torch.tensor(one)[None, :, None] for one in (processor.image_mean, processor.image_std))
    channels = values.reshape(len(values), 3, -1)
    return ((channels * std + mean) * 255).round().to(torch.uint8).reshape(values.shape)


def test_the_same_pixels_are_the_same_whichever_way_they_are_written() -> None:
    values, grid, processor = pixels()
    for theirs in (values, values.to(torch.bfloat16), whole(values, processor), values.flatten()):
        assert same_pixels(theirs, values, processor)
    assert same_pixels(grid[0], grid, processor)


def test_other_pixels_are_not() -> None:
    values, grid, processor = pixels()
    brighter = whole(values, processor)
    brighter[3, 700] += 1
    moved = values.clone()
    moved[3, 700] += 0.01
    for theirs in (brighter, moved, values.flip(0), values[:-1]):
        assert not same_pixels(theirs, values, processor)
    assert not same_pixels(grid + 1, grid, processor)


def test_without_vllm_the_message_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(RolloutError, match=r"pip install 'vllm==0.32.*docs/vllm.md"):
        VLLMGenerator(load(), max_pixels=9000)


def test_the_engine_is_told_what_must_never_be_sampled() -> None:
    vlm = load()
    (named,) = engine_settings(vlm, 9000, 2)["additional_config"].values()
    assert vlm.family.image_token_id in named
    assert vlm.family.eos_token_id not in named
