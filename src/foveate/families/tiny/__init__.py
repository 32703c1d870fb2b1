"""The embedded model: Qwen2.5-VL's architecture at two thirds of a million parameters, trained by this project.

Made by `python -m foveate.laboratory.base`; the folder is an ordinary checkpoint that transformers loads.
"""

from pathlib import Path


def path() -> Path:
    """The folder of the embedded checkpoint: model, tokenizer with chat template, image processor."""
    return Path(__file__).parent
