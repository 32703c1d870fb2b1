"""Families of endpoints: as the checkpoints say them, and guessed from a name."""

import pytest
from tests.models import published_processor, random_vlm

from foveate.families import load
from foveate.families.presets import ENDPOINT_FAMILIES, endpoint_family, guess_family
from foveate.images import PixelBudget, fit_size
from foveate.regions import Frame


def test_the_embedded_models_preset_is_what_its_checkpoint_says():
    said, loaded = endpoint_family("tiny"), load().family
    for name in ("frame", "box_style", "multiple", "budget"):
        assert getattr(said, name) == getattr(loaded, name), name


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen2-vl", "qwen3-vl", "internvl"])
def test_a_preset_says_what_the_family_of_the_weights_says(name):
    """But for the largest view: 1,280 visual tokens, where checkpoints allow more."""
    kind = name.replace("-", "_").replace(".", "_")
    said, loaded = endpoint_family(name), random_vlm(kind=kind, processor=published_processor(kind)).family
    assert (said.frame, said.multiple) == (loaded.frame, loaded.multiple)
    assert said.budget.min_pixels == loaded.budget.min_pixels
    assert said.budget.max_pixels == 1280 * said.multiple**2 <= loaded.budget.max_pixels
    assert said.box_style == "json"
    assert loaded.name == kind


@pytest.mark.parametrize("name", ENDPOINT_FAMILIES)
@pytest.mark.parametrize("size", [(40, 40), (200, 3000), (8000, 6000)])
def test_what_is_shown_is_not_resized_again(name, size):
    family = endpoint_family(name)
    assert family.name == name
    shown = fit_size(size, family.budget, family.multiple)
    assert fit_size(shown, family.budget, family.multiple) == shown


def test_a_lower_budget_takes_the_smallest_view_with_it():
    family = endpoint_family("qwen3-vl")
    assert family.with_max_pixels(10_000).budget == PixelBudget(10_000, 10_000)
    assert family.with_max_pixels(100_000).budget == PixelBudget(65_536, 100_000)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl"),
        ("qwen2_5_vl", "qwen2.5-vl"),
        ("qwen/qwen-2.5-vl-72b-instruct:free", "qwen2.5-vl"),
        ("qwen2.5vl:7b", "qwen2.5-vl"),
        ("Qwen/Qwen3-VL-235B-A22B-Instruct", "qwen3-vl"),
        ("OpenGVLab/InternVL3_5-8B", "internvl"),
        ("Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl"),
        ("qwen2vl:7b", "qwen2-vl"),
        ("Qwen/Qwen2-7B-Instruct", "generic"),
        ("gpt-5-mini", "generic"),
        ("gemini-3-pro", "generic"),
        ("/models/families/tiny", "tiny"),
        ("tinyllama", "generic"),
    ],
)
def test_a_name_points_to_its_family(model, name):
    assert guess_family(model) == name


def test_the_frames_are_those_of_the_families():
    frames = {name: endpoint_family(name).frame for name in ENDPOINT_FAMILIES}
    pixel = {name for name, frame in frames.items() if frame is Frame.PIXEL}
    assert pixel == {"qwen2.5-vl", "tiny"}
