"""The embedded model's parts before training: architecture, tokenizer, chat template, image processor.

The classes are transformers' own; only sizes and vocabulary are ours. Files are saved part by part because
`Qwen2_5_VLProcessor` cannot be made without torchvision's video processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from foveate.images import PixelBudget
from foveate.questions.scenes.palette import COLOURS, SHAPES

PATCH = 14
"""Side of a patch, in pixels; 2 x 2 patches are merged into one visual token."""
MERGED = 2 * PATCH
"""Side of the square that one visual token stands for, in pixels."""
GRID = 4
"""Pixels between the coordinates that the model writes."""
VIEW_SIDE = 112
"""Side of a square view, in pixels: 4 x 4 visual tokens."""
BUDGET = PixelBudget(min_pixels=2 * 2 * MERGED**2, max_pixels=13_000)
"""4 to 16 visual tokens. A little over 112 x 112, so that a nearly square crop is not rounded down to 84 x 112;
17 tokens would be 13,328 pixels."""

PAD, END, UNKNOWN = "<|pad|>", "<|im_end|>", "<|unk|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
SPECIALS = (PAD, END, UNKNOWN, VISION_START, VISION_END, IMAGE, VIDEO)
LARGEST_COORDINATE = 16 * MERGED
"""The longest side 16 visual tokens can have, in pixels."""
_FILLER = (
    "which what is are the a an on of in at to card cards object one ones coloured colored colour color shaped shape "
    "like digit number written shown please"
)
_WORDS = "locate find answer word code larger smaller shows further left right higher lower up down or and".split()

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- if message.role == 'assistant' -%}<|im_end|>{%- endif -%}"
    "{%- endfor -%}"
)
"""Images and texts in order, nothing around them: the reply follows the question's last word at once, where it
names the object. In a chat format of the usual length this little a model does not learn to look."""

RESPONSE_TEMPLATE = {
    "start_anchor_pattern": r"\Z",
    "fields": {"content": {"close": END, "content": "text"}},
}
"""How servers find the reply: after the whole prompt. By its architecture they would look for Qwen's own chat format,
and, as it is not there, give the prompt back with the reply."""

STUDY_WORDS = ("zoom", "point", "count")
"""What other protocols than the closed loop say: words of the bases of a study, after all others."""


def vocabulary(more: Sequence[str] = ()) -> list[str]:
    """All tokens in the order of their ids: special tokens, words, whole numbers, and `more`."""
    coordinates = range(0, LARGEST_COORDINATE + 1, GRID)
    numbers = sorted({*range(10), *coordinates})
    return [*SPECIALS, *_WORDS, *COLOURS, *SHAPES, *(str(number) for number in numbers), *more]


def make_tokenizer(more: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """One token a word; capitals, punctuation and filler words are dropped, unknown words become `<|unk|>`.

    "Which digit is on the card coloured red?" is the single token `red`.

    Args:
        more: words that the shipped model does not have.
    """
    tokens = vocabulary(more)
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    core.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[^a-z0-9]+"), " "),
            normalizers.Replace(Regex(rf"\b({'|'.join(_FILLER.split())})\b"), " "),
        ]
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIALS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[VISION_START, VISION_END, IMAGE, VIDEO],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=2048,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.response_template = RESPONSE_TEMPLATE
    return tokenizer


def make_config() -> Qwen2_5_VLConfig:
    """The architecture: 667 thousand parameters, of which the vision tower has about half.

    `rope_theta` is small because heads have few frequencies: with the usual 10,000 most of them turn too slowly to
    tell neighbouring columns apart.
    """
    ids = {token: i for i, token in enumerate(vocabulary())}
    vision = Qwen2_5_VLVisionConfig(
        depth=3,
        hidden_size=64,
        num_heads=4,
        intermediate_size=192,
        patch_size=PATCH,
        spatial_merge_size=2,
        temporal_patch_size=2,
        window_size=VIEW_SIDE,
        out_hidden_size=96,
        fullatt_block_indexes=[0, 1, 2],
        rope_parameters={"rope_type": "axial", "rope_theta": 100.0},
    )
    text = Qwen2_5_VLTextConfig(
        vocab_size=len(ids),
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 20.0, "mrope_section": [4, 6, 6]},
        bos_token_id=None,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
    )
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )
    config.foveate_box_style = "short"  # tells the family how this checkpoint writes boxes
    return config


def make_model(seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained model in float32."""
    torch.manual_seed(seed)
    model: Qwen2_5_VLForConditionalGeneration = Qwen2_5_VLForConditionalGeneration(make_config()).float()
    ids = {token: i for i, token in enumerate(vocabulary())}
    model.generation_config.eos_token_id = ids[END]
    model.generation_config.pad_token_id = ids[PAD]
    return model


def make_image_processor() -> Qwen2VLImageProcessorPil:
    """Qwen's own preprocessing under the embedded model's pixel budget."""
    return Qwen2VLImageProcessorPil(
        min_pixels=BUDGET.min_pixels,
        max_pixels=BUDGET.max_pixels,
        patch_size=PATCH,
        merge_size=2,
        temporal_patch_size=2,
    )


def save_checkpoint(
    model: Qwen2_5_VLForConditionalGeneration, directory: str | Path, more_words: Sequence[str] = ()
) -> None:
    """Writes model, tokenizer and image processor where transformers' `from_pretrained` finds them."""
    folder = Path(directory)
    model.save_pretrained(folder)
    make_tokenizer(more_words).save_pretrained(folder)
    make_image_processor().save_pretrained(folder)
