"""Adapters and kept features on every architecture by the model's own layout, not by the names of one family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from foveate.families.adapters import add_adapters, backbone_of, language_model_of, tower_of
from foveate.training.features import FeatureCache

TEXT = {
    "vocab_size": 100,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 2, 2]},
}
VISION = {"depth": 2, "num_heads": 2, "patch_size": 14, "hidden_size": 32, "intermediate_size": 64}
MODELS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "qwen2_vl": (
        Qwen2VLForConditionalGeneration,
        Qwen2VLConfig,
        {"vision_config": {"depth": 2, "num_heads": 2, "embed_dim": 32, "hidden_size": 48}},
    ),
    "qwen2_5_vl": (
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLConfig,
        {"vision_config": {**VISION, "out_hidden_size": 48, "fullatt_block_indexes": [1]}},
    ),
    "qwen3_vl": (
        Qwen3VLForConditionalGeneration,
        Qwen3VLConfig,
        {
            "vision_config": {
                **VISION,
                "out_hidden_size": 48,
                "deepstack_visual_indexes": [0, 1],
                "num_position_embeddings": 16,
            }
        },
    ),
    "internvl": (
        InternVLForConditionalGeneration,
        InternVLConfig,
        {
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": [56, 56],
                "patch_size": [14, 14],
            }
        },
    ),
}


def model_of(name: str) -> PreTrainedModel:
    kind, config, options = MODELS[name]
    text = {**TEXT, "model_type": "qwen2"} if name == "internvl" else TEXT
    torch.manual_seed(0)
    return kind(config(text_config=text, **options)).eval()


def images(name: str, count: int) -> dict[str, Any]:
    """`count` images of other sizes; of one size for InternVL, which cuts its images into tiles."""
    torch.manual_seed(1)
    if name == "internvl":
        return {
            "pixel_values": torch.randn(count, 3, 56, 56),
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "default",
        }
    grid = torch.tensor([[1, 4, 2 * (2 + i)] for i in range(count)])
    return {"pixel_values": torch.randn(int(grid.prod(-1).sum()), 3 * 2 * 14 * 14), "image_grid_thw": grid}


def flat(output: Any) -> list[Tensor]:
    """All tensors of an output that the language model takes."""
    layers = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
    return [tensor for layer in layers for tensor in layer]


@pytest.mark.parametrize("name", MODELS)
def test_kept_features_are_the_models_own_in_their_own_form(name: str) -> None:
    model, asked = model_of(name), images(name, 3)
    with torch.no_grad():
        expected = backbone_of(model).get_image_features(**asked, return_dict=True)
    for part in tower_of(model):
        part.requires_grad_(False)
    cache = FeatureCache(model)
    for _ in range(2):
        found = backbone_of(model).get_image_features(**asked, return_dict=True)
        assert type(found) is type(expected)
        assert type(found.pooler_output) is type(expected.pooler_output)
        assert len(flat(found)) == len(flat(expected)) == 3 * (3 if name == "qwen3_vl" else 1)
        for one, own in zip(flat(found), flat(expected), strict=True):
            torch.testing.assert_close(one, own, atol=1e-5, rtol=1e-4)
    assert (cache.misses, cache.hits) == (3, 3)


@pytest.mark.parametrize("with_tower", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_adapters_are_where_the_language_model_is_and_the_tower_if_asked(name: str, with_tower: bool) -> None:
    model = model_of(name)
    roots = [language_model_of(model), *(tower_of(model) if with_tower else ())]
    wanted = {id(m) for root in roots for m in root.modules() if isinstance(m, nn.Linear)}
    head = model.get_output_embeddings()
    adapted = add_adapters(model, rank=2, alpha=4, with_tower=with_tower, seed=0)
    found = {id(module.base_layer) for module in adapted.modules() if hasattr(module, "lora_A")}
    assert found == wanted
    assert id(head) not in found
    assert len(str(adapted.peft_config["default"].target_modules)) < 2500
