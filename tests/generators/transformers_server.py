"""`transformers serve` where there is no torchvision: all of it is the real one but the half for videos.

    python transformers_server.py FOLDER PORT

transformers' processor of Qwen2.5-VL cannot be made without its video processor, which needs torchvision, of which
there is no build beside a torch for CPUs. Pictures go through transformers' own processor for Pillow.
"""

import sys
from typing import Any

from transformers import AutoTokenizer
from transformers.cli.serve import Serve
from transformers.cli.serving.model_manager import ModelManager
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


class PicturesOnly(Qwen2_5_VLProcessor):
    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)


def processor(manager: ModelManager, model: str, gguf_file: str | None = None) -> PicturesOnly:
    folder = model.partition("@")[0]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pictures = Qwen2VLImageProcessorPil.from_pretrained(folder)
    return PicturesOnly(pictures, tokenizer, None, chat_template=tokenizer.chat_template)


if __name__ == "__main__":
    ModelManager._load_processor = processor
    Serve(force_model=sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]), device="cpu", log_level="error")
