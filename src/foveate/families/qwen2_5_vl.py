"""Qwen2.5-VL: absolute pixels of the resized input, 28-pixel visual tokens."""

from __future__ import annotations

from foveate.families.qwen_vl import QwenVL
from foveate.regions import Frame


class Qwen25VL(QwenVL):
    """Qwen2.5-VL and models of its architecture (arXiv 2502.13923)."""

    name = "qwen2_5_vl"
    frame = Frame.PIXEL
