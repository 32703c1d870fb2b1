"""Two small random models of the real architecture: one with the tiny tokenizer, one with Qwen2.5's own."""

import os
from pathlib import Path

import pytest
from tests.models import random_vlm
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from foveate.families import VLM
from foveate.families.qwen2_5_vl import Qwen25VL

# In the manner of Qwen2.5-VL's chat template: a system message by default, images between vision tokens.
CHAT_TEMPLATE = """\
{%- if messages[0].role != 'system' -%}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


@pytest.fixture(scope="session")
def qwen_tokenizer() -> PreTrainedTokenizerFast:
    folder = os.environ.get("FOVEATE_QWEN_TOKENIZER") or Path(__file__).parent.parent / ".cache" / "qwen2_5"
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        pytest.skip(
            "Qwen2.5's tokenizer.json is not here: run scripts/fetch_qwen_tokenizer.sh, "
            "or set FOVEATE_QWEN_TOKENIZER to its folder"
        )
    return PreTrainedTokenizerFast(
        tokenizer_file=str(file), eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT_TEMPLATE
    )


@pytest.fixture(scope="session")
def qwen_vlm(qwen_tokenizer) -> VLM:
    width = 16
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 151_936,
            "hidden_size": width,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]},
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 32,
            "out_hidden_size": width,
            "fullatt_block_indexes": [0],
        },
        image_token_id=151_655,
        video_token_id=151_656,
        vision_start_token_id=151_652,
        vision_end_token_id=151_653,
        tie_word_embeddings=True,
    )
    model = Qwen2_5_VLForConditionalGeneration(config).float().eval()
    processor = Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=28 * 28 * 64)
    return VLM(model, Qwen25VL(config, qwen_tokenizer, processor))


@pytest.fixture(params=["tiny", "qwen"])
def vlm(request) -> VLM:
    return random_vlm() if request.param == "tiny" else request.getfixturevalue("qwen_vlm")
