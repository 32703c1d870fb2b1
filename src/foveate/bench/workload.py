"""What is measured on: a random Qwen2.5-VL of a stated size, and episodes of a stated shape."""

from __future__ import annotations

import copy
import random
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from foveate.context import Context
from foveate.episodes import Episode, StopReason
from foveate.families import VLM, tiny
from foveate.families.qwen2_5_vl import Qwen25VL
from foveate.images import View
from foveate.protocols.base import Completion, FinishReason, Turn
from foveate.questions.schema import Question
from foveate.regions import Box

GRIDS = {300: (20, 15), 640: (32, 20), 1280: (40, 32)}
"""Columns and rows of visual tokens."""


@dataclass(frozen=True)
class ModelSize:
    """A Qwen2.5-VL with heads of 64 in the language model and of 32 in the vision tower.

    Attributes:
        vision_full: layers of the tower, the last ones, that see the whole image; the others see windows of 8 x 8
            patches.
    """

    hidden: int
    layers: int
    kv_heads: int
    vocabulary: int
    vision_hidden: int
    vision_depth: int
    vision_full: int

    @property
    def intermediate(self) -> int:
        """Width of the language model's feed-forward layers."""
        return 11 * self.hidden // 4

    @property
    def vision_intermediate(self) -> int:
        """Width of the vision tower's feed-forward layers."""
        return 11 * self.vision_hidden // 4

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items())


FULL = ModelSize(hidden=320, layers=5, kv_heads=1, vocabulary=2048, vision_hidden=96, vision_depth=4, vision_full=1)
"""The vision tower costs nearly as much as the language model, as in the 3B model."""
QUICK = ModelSize(hidden=192, layers=4, kv_heads=1, vocabulary=1024, vision_hidden=64, vision_depth=3, vision_full=0)
"""The vision tower costs a third of the language model, as in the 7B model."""


def standard(quick: bool, device: str) -> dict[str, Any]:
    """What a bench runs on, as keyword arguments: model size, visual tokens, device and precision.

    Quick is 1,280 visual tokens only, on a smaller model; a CUDA device gets bfloat16.
    """
    return {
        "size": QUICK if quick else FULL,
        "visual_tokens": (1280,) if quick else tuple(GRIDS),
        "device": device,
        "dtype": torch.bfloat16 if device.startswith("cuda") else torch.float32,
    }


def make_vlm(size: ModelSize | Qwen2_5_VLConfig, device: str = "cpu", dtype: torch.dtype = torch.float32) -> VLM:
    """Random weights, with the embedded model's tokenizer, whose special tokens a configuration is given."""
    tokenizer = AutoTokenizer.from_pretrained(tiny.path())
    processor = Qwen2VLImageProcessorPil.from_pretrained(tiny.path())
    ids = tokenizer.get_vocab()
    config = copy.deepcopy(size) if isinstance(size, Qwen2_5_VLConfig) else _config(size)
    config.image_token_id, config.video_token_id = ids["<|image_pad|>"], ids["<|video_pad|>"]
    config.vision_start_token_id, config.vision_end_token_id = ids["<|vision_start|>"], ids["<|vision_end|>"]
    text = config.get_text_config()
    text.bos_token_id, text.eos_token_id, text.pad_token_id = None, tokenizer.eos_token_id, tokenizer.pad_token_id
    config.foveate_box_style = "short"
    where = torch.device(device)
    with torch.random.fork_rng(devices=[]), where if where.type == "cuda" else nullcontext():
        torch.manual_seed(0)
        model = Qwen2_5_VLForConditionalGeneration(config).eval()
    model.to(device=where, dtype=dtype)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return VLM(model, Qwen25VL(config, tokenizer, processor))


def _config(size: ModelSize) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(
        text_config=Qwen2_5_VLTextConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.hidden,
            intermediate_size=size.intermediate,
            num_hidden_layers=size.layers,
            num_attention_heads=size.hidden // 64,
            num_key_value_heads=size.kv_heads,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
        ),
        vision_config=Qwen2_5_VLVisionConfig(
            depth=size.vision_depth,
            hidden_size=size.vision_hidden,
            num_heads=size.vision_hidden // 32,
            intermediate_size=size.vision_intermediate,
            patch_size=14,
            window_size=112,
            out_hidden_size=size.hidden,
            fullatt_block_indexes=list(range(size.vision_depth))[size.vision_depth - size.vision_full :],
        ),
    )


def make_context(visual_tokens: int) -> Context:
    """A question about a picture of noise."""
    columns, rows = GRIDS[visual_tokens]
    size = (28 * columns, 28 * rows)
    pixels = np.random.default_rng(visual_tokens).integers(0, 256, (size[1], size[0], 3), np.uint8)
    view = View(Image.fromarray(pixels), Box(0, 0, *size), size)
    return Context.user(view, "locate the red square left of the blue circle and the green hexagon")


def make_episodes(visual_tokens: int, count: int, length: int) -> list[Episode]:
    """Episodes of one turn about one picture, with outputs of `length` random tokens."""
    context = make_context(visual_tokens)
    question = Question(id="bench", image=b"", text="red", answer="7")
    draw = random.Random(count)
    episodes = []
    for _ in range(count):
        token_ids = tuple(draw.choices(range(7, 150), k=length))
        turn = Turn(context, Completion(token_ids, (), "", FinishReason.LENGTH))
        episodes.append(Episode(question, (turn,), None, StopReason.UNPARSED))
    return episodes


def forward_flops(
    size: ModelSize, visual_tokens: int, prompt: int, outputs: int, length: int, *, packed: bool
) -> float:
    """Multiply-adds times two of one forward over `outputs` outputs, as few as the arithmetic needs.

    Separate rows run the picture and the prompt for each output; a packed row runs them once. A position attends to
    what it may see and no more.
    """
    patches, merged = 4 * visual_tokens, 4 * size.vision_hidden
    seen = size.vision_full * patches + (size.vision_depth - size.vision_full) * 64
    vision_layer = 4 * size.vision_hidden**2 + 3 * size.vision_hidden * size.vision_intermediate
    vision = (
        patches * (size.vision_depth * vision_layer + 3 * 2 * 14 * 14 * size.vision_hidden)
        + 2 * patches * size.vision_hidden * seen
        + visual_tokens * merged * (merged + size.hidden)
    )
    kv = 64 * size.kv_heads
    layer = 2 * size.hidden * (size.hidden + kv) + 3 * size.hidden * size.intermediate
    shared = prompt * layer * size.layers + 2 * size.layers * size.hidden * prompt**2 / 2
    own = length * layer * size.layers + 2 * size.layers * size.hidden * length * (prompt + length / 2)
    own += length * size.hidden * size.vocabulary
    times = 1 if packed else outputs
    return 2.0 * (times * (vision + shared) + outputs * own)
