"""Qwen2-VL: coordinates from 0 to 1000, 28-pixel visual tokens."""

from __future__ import annotations

from foveate.families.qwen_vl import QwenVL
from foveate.regions import Frame


class Qwen2VL(QwenVL):
    """Qwen2-VL and models of its architecture (arXiv 2409.12191)."""

    name = "qwen2_vl"
    frame = Frame.THOUSAND
