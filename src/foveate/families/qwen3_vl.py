"""Qwen3-VL: coordinates from 0 to 1000, 32-pixel visual tokens, dense or with experts.

Features of several layers of the vision tower are added to the first layers of the language model, at the placeholders
(deepstack): the model finds these by their token id, in a packed row as in any other.
"""

from __future__ import annotations

from foveate.families.qwen_vl import QwenVL
from foveate.regions import Frame


class Qwen3VL(QwenVL):
    """Qwen3-VL and models of its architecture (arXiv 2511.21631)."""

    name = "qwen3_vl"
    frame = Frame.THOUSAND
