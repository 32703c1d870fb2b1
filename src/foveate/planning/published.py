"""Shapes of common checkpoints, as their publishers' `config.json` gives them, for a machine that cannot fetch it."""

from __future__ import annotations

from typing import Any

from foveate.images import PixelBudget

_QWEN25_TOWER = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "patch_size": 14, "window_size": 112}


def _text(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
    }


def _qwen25(text: dict[str, Any], tower: int, *, tied: bool = False) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    vision = {
        **_QWEN25_TOWER,
        "intermediate_size": tower,
        "out_hidden_size": text["hidden_size"],
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    return {
        "model_type": "qwen2_5_vl",
        "text_config": {**text, "rope_parameters": rope, "tie_word_embeddings": tied},
        "vision_config": vision,
        "tie_word_embeddings": tied,
    }


def _qwen2(text: dict[str, Any], *, tied: bool = False) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return {
        "model_type": "qwen2_vl",
        "text_config": {**text, "rope_parameters": rope, "tie_word_embeddings": tied},
        "vision_config": {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": text["hidden_size"]},
        "tie_word_embeddings": tied,
    }


def _qwen3(text: dict[str, Any], tower: tuple[int, int, int], deepstack: list[int], *, tied: bool) -> dict[str, Any]:
    depth, hidden, intermediate = tower
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    vision = {
        "depth": depth,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_heads": 16,
        "patch_size": 16,
        "out_hidden_size": text["hidden_size"],
        "deepstack_visual_indexes": deepstack,
    }
    return {
        "model_type": "qwen3_vl",
        "text_config": {**text, "head_dim": 128, "rope_parameters": rope, "tie_word_embeddings": tied},
        "vision_config": vision,
        "tie_word_embeddings": tied,
    }


def _internvl(text: dict[str, Any]) -> dict[str, Any]:
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    return {
        "model_type": "internvl",
        "text_config": {"model_type": "qwen2", **text, "tie_word_embeddings": False},
        "vision_config": vision,
        "image_token_id": 151667,
        "tie_word_embeddings": False,
    }


_SMALL, _LARGE = (24, 1024, 4096), (27, 1152, 4304)
CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen25(_text(2048, 11008, 36, 16, 2, 151936), 3420, tied=True),
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen25(_text(3584, 18944, 28, 28, 4, 152064), 3420),
    "Qwen/Qwen2.5-VL-32B-Instruct": _qwen25(_text(5120, 27648, 64, 40, 8, 152064), 3456),
    "Qwen/Qwen2.5-VL-72B-Instruct": _qwen25(_text(8192, 29568, 80, 64, 8, 152064), 3456),
    "Qwen/Qwen2-VL-2B-Instruct": _qwen2(_text(1536, 8960, 28, 12, 2, 151936), tied=True),
    "Qwen/Qwen2-VL-7B-Instruct": _qwen2(_text(3584, 18944, 28, 28, 4, 152064)),
    "Qwen/Qwen3-VL-2B-Instruct": _qwen3(_text(2048, 6144, 28, 16, 8, 151936), _SMALL, [5, 11, 17], tied=True),
    "Qwen/Qwen3-VL-4B-Instruct": _qwen3(_text(2560, 9728, 36, 32, 8, 151936), _SMALL, [5, 11, 17], tied=True),
    "Qwen/Qwen3-VL-8B-Instruct": _qwen3(_text(4096, 12288, 36, 32, 8, 151936), _LARGE, [8, 16, 24], tied=False),
    "Qwen/Qwen3-VL-32B-Instruct": _qwen3(_text(5120, 25600, 64, 64, 8, 151936), _LARGE, [8, 16, 24], tied=False),
    "OpenGVLab/InternVL3-1B-hf": _internvl(_text(896, 4864, 24, 14, 2, 151674)),
    "OpenGVLab/InternVL3-2B-hf": _internvl(_text(1536, 8960, 28, 12, 2, 151674)),
    "OpenGVLab/InternVL3-8B-hf": _internvl(_text(3584, 18944, 28, 28, 4, 151674)),
}
"""By hub id."""

BUDGETS = {
    "qwen2_vl": PixelBudget(56 * 56, 12_845_056),
    "qwen2_5_vl": PixelBudget(56 * 56, 12_845_056),
    "qwen3_vl": PixelBudget(256 * 256, 4096 * 4096),
    "qwen3_vl_moe": PixelBudget(256 * 256, 4096 * 4096),
    "internvl": PixelBudget(448 * 448, 12 * 448 * 448),
}
"""Pixels of one view by the processors of the published checkpoints, by model type."""
