"""Small random models of every family and hand-made episodes of any shape."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from foveate.context import Context, Message, Sampled
from foveate.episodes import Episode, StopReason
from foveate.families import VLM, tiny
from foveate.families.registry import ARCHITECTURES
from foveate.generators.base import Request, Sampling
from foveate.generators.local import LocalGenerator
from foveate.images import View
from foveate.protocols.base import Completion, FinishReason, Turn
from foveate.questions.schema import Question
from foveate.regions import Box
from foveate.training.packing import packed_logprobs, separate_logprobs

PATCH = 28
"""Side of a visual token, in pixels; 32 in Qwen3-VL."""
EOS = 1
WORDS = range(7, 100)
"""Ids of ordinary tokens of the tiny tokenizer."""


def random_vlm(
    seed: int = 0,
    *,
    kind: str = "qwen2_5_vl",
    hidden: int = 48,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    vision_depth: int = 2,
    tied: bool = False,
    gain: float = 1.5,
    tokenizer: PreTrainedTokenizerFast | None = None,
    processor: Any = None,
    **text: object,
) -> VLM:
    """A random model in eval mode, float32.

    Weights are drawn so that attention is peaked and logits spread by about 3: whatever changes what a token sees
    changes its log-prob by far more than rounding does.

    Args:
        kind: one of `KINDS`.
        tokenizer: of the family; the tiny model's where None, and boxes in its short style.
        processor: of the family; a small one where None.
    """
    model_type, tower = KINDS[kind]
    box_style = "json" if tokenizer else "short"
    tokenizer, processor = tokenizer or small_tokenizer(model_type), processor or small_processor(model_type)
    ids = tokenizer.get_vocab()
    half = hidden // heads // 2
    section = [half - 2 * (half // 3), half // 3, half // 3]
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": 100.0}
    if model_type != "internvl":
        rope |= {"mrope_section": section, **({"mrope_interleaved": True} if model_type.startswith("qwen3") else {})}
    settings: dict[str, object] = {
        "model_type": tower,
        "vocab_size": len(ids),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "max_position_embeddings": 4096,
        "rope_parameters": rope,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": tied,
        **({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": hidden} if "moe" in tower else {}),
        **text,
    }
    names = {"image_token_id": "<IMG_CONTEXT>"} if model_type == "internvl" else VISION_TOKENS
    config = AutoConfig.for_model(
        model_type,
        text_config=settings,
        vision_config=_vision(model_type, hidden, vision_depth, processor),
        tie_word_embeddings=tied,
        **{name: ids[token] for name, token in names.items()},
    )
    config.foveate_box_style = box_style
    architecture = ARCHITECTURES[model_type]
    model = architecture.weights(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                continue
            fan = weight.shape[-1] if weight.ndim == 3 else weight[0].numel()  # three axes: a matrix per expert
            scale = 3.0 / hidden**0.5 if "embed_tokens" in name or "lm_head" in name else gain / fan**0.5
            weight.normal_(0.0, scale, generator=generator)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return VLM(model, architecture.family(config, tokenizer, processor))


KINDS = {
    "qwen2_5_vl": ("qwen2_5_vl", "qwen2_5_vl_text"),
    "qwen2_vl": ("qwen2_vl", "qwen2_vl_text"),
    "qwen3_vl": ("qwen3_vl", "qwen3_vl_text"),
    "qwen3_vl_moe": ("qwen3_vl_moe", "qwen3_vl_moe_text"),
    "internvl": ("internvl", "qwen2"),
    "internvl-qwen3": ("internvl", "qwen3"),
    "internvl-llama": ("internvl", "llama"),
    "internvl-qwen3_moe": ("internvl", "qwen3_moe"),
}
"""Model type and language model of every kind of `random_vlm`."""

HALF = [0.5, 0.5, 0.5]
VISION_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
TILE_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def small_tokenizer(model_type: str) -> PreTrainedTokenizerFast:
    """The tiny model's, with the vision tokens of the family and a chat template that writes them in its manner."""
    if model_type != "internvl":
        return AutoTokenizer.from_pretrained(tiny.path())
    tokenizer = AutoTokenizer.from_pretrained(tiny.path(), extra_special_tokens=TILE_TOKENS)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n"
    )
    return tokenizer


def small_processor(model_type: str) -> Any:
    """With tiles of 56 pixels for InternVL, patches of 16 for Qwen3-VL, and small budgets."""
    if model_type == "internvl":
        return GotOcr2ImageProcessorPil(size={"height": 56, "width": 56}, max_patches=6)
    if model_type.startswith("qwen3"):
        size = {"shortest_edge": 4096, "longest_edge": 17_000}
        return Qwen2VLImageProcessorPil(patch_size=16, size=size, image_mean=HALF, image_std=HALF)
    return Qwen2VLImageProcessorPil.from_pretrained(tiny.path())


def published_processor(model_type: str) -> Any:
    """With the sizes that the families' checkpoints are published with; of the pixels, at most 1,280 visual tokens."""
    if model_type == "internvl":
        return GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, min_patches=1, max_patches=12)
    if model_type.startswith("qwen3"):
        size = {"shortest_edge": 65_536, "longest_edge": 1_310_720}
        return Qwen2VLImageProcessorPil(patch_size=16, size=size, image_mean=HALF, image_std=HALF)
    return Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 1_003_520})


def _vision(model_type: str, hidden: int, depth: int, processor: Any) -> dict[str, object]:
    if model_type == "internvl":
        return {
            "hidden_size": 32,
            "num_hidden_layers": depth,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": [processor.size["height"], processor.size["width"]],
            "patch_size": [14, 14],
            "layer_scale_init_value": 1.0,
        }
    if model_type == "qwen2_vl":
        return {"depth": depth, "embed_dim": 32, "hidden_size": hidden, "num_heads": 2, "mlp_ratio": 2}
    common = {"depth": depth, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": hidden}
    if model_type == "qwen2_5_vl":
        return {**common, "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [depth - 1]}
    return {**common, "num_position_embeddings": 64, "deepstack_visual_indexes": list(range(depth))}


def noise_view(columns: int, rows: int, seed: int = 0, patch: int = PATCH) -> View:
    """Noise of columns x rows visual tokens; different seeds show different parts of an original."""
    pixels = np.random.default_rng((columns, rows, seed)).integers(0, 256, (rows * patch, columns * patch, 3), np.uint8)
    source = Box(seed, 0, seed + columns * patch, rows * patch)
    return View(Image.fromarray(pixels), source, (100_000, 10_000))


@cache
def of_kind(kind: str) -> VLM:
    """One random model of each kind, for tests that do not change it."""
    return random_vlm(kind=kind, gain=1.0)


def assert_trainers_logprobs(vlm: VLM, asked: Sequence[Request], sampling: Sampling) -> None:
    """What the local generator says of its tokens is what the trainer computes of them, in packed rows
    and in separate ones."""
    episodes, reported = [], []
    for request, completions in zip(asked, LocalGenerator(vlm).generate(asked, sampling), strict=True):
        for completion in completions:
            episodes.append(make_episode(make_question(), (request.context, completion.token_ids)))
            reported.append(torch.tensor(completion.logprobs))
    for of in (separate_logprobs, packed_logprobs):
        with torch.no_grad():
            found = of(vlm, episodes, temperature=sampling.temperature)
        for one, other in zip(found, reported, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


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
    lengths: Sequence[int],
    *,
    size: tuple[int, int] = (4, 3),
    name: str = "q",
    text: str = "locate red",
    seed: int = 0,
    patch: int = PATCH,
) -> list[Episode]:
    """Episodes of one turn each, on the same view, with outputs of the given lengths."""
    context, question = Context.user(noise_view(*size, seed, patch), text), make_question(name)
    return [make_episode(question, (context, words(n, seed + i))) for i, n in enumerate(lengths)]


def located(
    crops_of_each: Sequence[Sequence[View]],
    *,
    size: tuple[int, int] = (4, 3),
    name: str = "q",
    length: int = 5,
    patch: int = PATCH,
) -> list[Episode]:
    """Episodes of a locating turn and an answer turn in a fresh context that shows only the crops.

    No crop: the episode falls back on the full view.
    """
    view, question = noise_view(*size, patch=patch), make_question(name)
    first = Context.user(view, "locate red")
    return [
        make_episode(
            question,
            (first, words(length + i % 3, 10 + i)),
            (Context.user(*(crops or [view]), "answer red"), words(1 + i % 3, 20 + i)),
        )
        for i, crops in enumerate(crops_of_each)
    ]


def chained(
    crops: Sequence[Sequence[View]], *, size: tuple[int, int] = (4, 3), name: str = "q", patch: int = PATCH
) -> list[Episode]:
    """Episodes whose later turns go on in the first one's context, a crop inserted before each."""
    question = make_question(name)
    episodes = []
    for i, inserted in enumerate(crops):
        context = Context.user(noise_view(*size, patch=patch), "locate red")
        turns = [(context, words(4 + i % 2, 30 + i, end=i % 2 == 0))]
        for number, view in enumerate(inserted):
            said = Message("assistant", (Sampled(turns[-1][1]),))
            context = context.then(said, Message("user", (view, "answer")))
            turns.append((context, words(2 + number, 40 + i)))
        episodes.append(make_episode(question, *turns))
    return episodes
