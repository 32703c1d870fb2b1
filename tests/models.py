"""Small random Qwen2.5-VL models and hand-made episodes of any shape."""

from __future__ import annotations

import random
from collections.abc import Sequence

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

from foveate.context import Context, Message, Sampled
from foveate.episodes import Episode, StopReason
from foveate.families import VLM, tiny
from foveate.families.qwen2_5_vl import Qwen25VL
from foveate.images import View
from foveate.protocols.base import Completion, FinishReason, Turn
from foveate.questions.schema import Question
from foveate.regions import Box

PATCH = 28
"""Side of a visual token, in pixels."""
EOS = 1
WORDS = range(7, 100)
"""Ids of ordinary tokens of the tiny tokenizer."""


def random_vlm(
    seed: int = 0,
    *,
    hidden: int = 48,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    vision_depth: int = 2,
    tied: bool = False,
    gain: float = 1.5,
    **text: object,
) -> VLM:
    """A random model with the tiny tokenizer, in eval mode, float32.

    Weights are drawn so that attention is peaked and logits spread by about 3: whatever changes what a token sees
    changes its log-prob by far more than rounding does.
    """
    tokenizer = AutoTokenizer.from_pretrained(tiny.path())
    processor = Qwen2VLImageProcessorPil.from_pretrained(tiny.path())
    ids = tokenizer.get_vocab()
    half = hidden // heads // 2
    section = [half - 2 * (half // 3), half // 3, half // 3]
    config = Qwen2_5_VLConfig(
        text_config=Qwen2_5_VLTextConfig(
            **{
                "vocab_size": len(ids),
                "hidden_size": hidden,
                "intermediate_size": 2 * hidden,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "num_key_value_heads": kv_heads,
                "max_position_embeddings": 4096,
                "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": section},
                "bos_token_id": None,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
                "tie_word_embeddings": tied,
                **text,
            }
        ),
        vision_config=Qwen2_5_VLVisionConfig(
            depth=vision_depth,
            hidden_size=32,
            num_heads=2,
            intermediate_size=64,
            patch_size=14,
            window_size=112,
            out_hidden_size=hidden,
            fullatt_block_indexes=[vision_depth - 1],
        ),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tied,
    )
    config.foveate_box_style = "short"
    model = Qwen2_5_VLForConditionalGeneration(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                continue
            scale = (
                3.0 / hidden**0.5 if "embed_tokens" in name or "lm_head" in name else gain / weight[0].numel() ** 0.5
            )
            weight.normal_(0.0, scale, generator=generator)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return VLM(model, Qwen25VL(config, tokenizer, processor))


def noise_view(columns: int, rows: int, seed: int = 0) -> View:
    """Noise of columns x rows visual tokens; different seeds show different parts of an original."""
    pixels = np.random.default_rng((columns, rows, seed)).integers(0, 256, (rows * PATCH, columns * PATCH, 3), np.uint8)
    source = Box(seed, 0, seed + columns * PATCH, rows * PATCH)
    return View(Image.fromarray(pixels), source, (100_000, 10_000))


def make_question(name: str = "q") -> Question:
    return Question(id=name, image=b"", text="red", answer="7")


def words(count: int, seed: int = 0, *, end: bool = True) -> tuple[int, ...]:
    """`count` tokens as a model might sample them, the last of them the end of the reply unless over length."""
    drawn = random.Random(seed).choices(WORDS, k=count)
    return (*drawn[:-1], EOS) if end else tuple(drawn)


def make_turn(context: Context, token_ids: Sequence[int]) -> Turn:
    ended = bool(token_ids) and token_ids[-1] == EOS
    reason = FinishReason.END if ended else FinishReason.LENGTH
    return Turn(context, Completion(tuple(token_ids), (), "", reason))


def make_episode(question: Question, *turns: tuple[Context, Sequence[int]]) -> Episode:
    """An episode of turns given as (context, sampled ids)."""
    made = tuple(make_turn(context, token_ids) for context, token_ids in turns)
    return Episode(question, made, None, StopReason.UNPARSED)


def group(
    lengths: Sequence[int], *, size: tuple[int, int] = (4, 3), name: str = "q", text: str = "locate red", seed: int = 0
) -> list[Episode]:
    """Episodes of one turn each, on the same view, with outputs of the given lengths."""
    context, question = Context.user(noise_view(*size, seed), text), make_question(name)
    return [make_episode(question, (context, words(n, seed + i))) for i, n in enumerate(lengths)]


def located(
    crops_of_each: Sequence[Sequence[View]], *, size: tuple[int, int] = (4, 3), name: str = "q", length: int = 5
) -> list[Episode]:
    """Episodes of a locating turn and an answer turn in a fresh context that shows only the crops.

    No crop: the episode falls back on the full view.
    """
    view, question = noise_view(*size), make_question(name)
    first = Context.user(view, "locate red")
    return [
        make_episode(
            question,
            (first, words(length + i % 3, 10 + i)),
            (Context.user(*(crops or [view]), "answer red"), words(1 + i % 3, 20 + i)),
        )
        for i, crops in enumerate(crops_of_each)
    ]


def chained(crops: Sequence[Sequence[View]], *, size: tuple[int, int] = (4, 3), name: str = "q") -> list[Episode]:
    """Episodes whose later turns go on in the first one's context, a crop inserted before each."""
    question = make_question(name)
    episodes = []
    for i, inserted in enumerate(crops):
        context = Context.user(noise_view(*size), "locate red")
        turns = [(context, words(4 + i % 2, 30 + i, end=i % 2 == 0))]
        for number, view in enumerate(inserted):
            said = Message("assistant", (Sampled(turns[-1][1]),))
            context = context.then(said, Message("user", (view, "answer")))
            turns.append((context, words(2 + number, 40 + i)))
        episodes.append(make_episode(question, *turns))
    return episodes
