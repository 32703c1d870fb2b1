"""Small random models of every family: with the tiny tokenizer, and with Qwen2.5's own."""

import os
from pathlib import Path

import pytest
from tests.models import KINDS, TILE_TOKENS, random_vlm
from transformers import PreTrainedTokenizerFast
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from foveate.families import VLM

# In the manner of the families' chat templates: a system message by default (Qwen2-VL, Qwen2.5-VL), images between
# vision tokens, or one token and a line's end in InternVL's, whose processor writes the others.
CHAT_TEMPLATE = """\
{%- if SYSTEM and messages[0].role != 'system' -%}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}{{ IMAGE }}
{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""
TINY_AND_QWEN = [
    f"{tokenizer}-{kind}" for kind in ("qwen2_5_vl", "qwen2_vl", "qwen3_vl") for tokenizer in ("tiny", "qwen")
]
BETWEEN = "<|vision_start|><|image_pad|><|vision_end|>"


def tokenizer_of(model_type: str) -> PreTrainedTokenizerFast:
    """Qwen2.5's own, with the tokens that InternVL adds to it, and the family's chat template."""
    folder = os.environ.get("FOVEATE_QWEN_TOKENIZER") or Path(__file__).parent.parent / ".cache" / "qwen2_5"
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        pytest.skip(
            "Qwen2.5's tokenizer.json is not here: run scripts/fetch_qwen_tokenizer.sh, "
            "or set FOVEATE_QWEN_TOKENIZER to its folder"
        )
    tiles = model_type == "internvl"
    template = CHAT_TEMPLATE.replace("SYSTEM", "true" if model_type in ("qwen2_vl", "qwen2_5_vl") else "false")
    return PreTrainedTokenizerFast(
        tokenizer_file=str(file),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template.replace("{{ IMAGE }}", "{{ '<IMG_CONTEXT>\\n' }}" if tiles else BETWEEN),
        extra_special_tokens=TILE_TOKENS if tiles else None,
    )


def with_qwens_tokenizer(kind: str) -> VLM:
    model_type, _ = KINDS[kind]
    if model_type == "internvl":
        processor = GotOcr2ImageProcessorPil(size={"height": 56, "width": 56}, max_patches=12)
    else:
        patch = 16 if model_type.startswith("qwen3") else 14
        processor = Qwen2VLImageProcessorPil(patch_size=patch, min_pixels=3136, max_pixels=28 * 28 * 64)
    sizes = {"hidden": 16, "heads": 2, "kv_heads": 1, "layers": 1, "vision_depth": 1}
    tokenizer = tokenizer_of(model_type)
    return random_vlm(kind=kind, tokenizer=tokenizer, processor=processor, tied=True, vocab_size=151_936, **sizes)


@pytest.fixture(scope="session")
def qwen_vlms():
    """Of every family, made when it is first asked for."""
    made: dict[str, VLM] = {}

    def of(kind: str) -> VLM:
        if kind not in made:
            made[kind] = with_qwens_tokenizer(kind)
        return made[kind]

    return of


@pytest.fixture(params=["qwen2_5_vl", "qwen2_vl", "qwen3_vl", "internvl"])
def qwen_vlm(request, qwen_vlms) -> VLM:
    return qwen_vlms(request.param)


@pytest.fixture(params=[*TINY_AND_QWEN, "tiny-internvl", "qwen-internvl"])
def vlm(request, qwen_vlms) -> VLM:
    return of_param(request.param, qwen_vlms)


@pytest.fixture(params=TINY_AND_QWEN)
def gridded(request, qwen_vlms) -> VLM:
    """Of the families whose images are one grid of patches."""
    return of_param(request.param, qwen_vlms)


def of_param(param: str, qwen_vlms) -> VLM:
    tokenizer, kind = param.split("-")
    return random_vlm(kind=kind) if tokenizer == "tiny" else qwen_vlms(kind)
