"""Which family a checkpoint belongs to, by the model type in its configuration, or why none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers import (
    InternVLForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeForConditionalGeneration,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from foveate.families.base import Family
from foveate.families.internvl import InternVL
from foveate.families.qwen2_5_vl import Qwen25VL
from foveate.families.qwen2_vl import Qwen2VL
from foveate.families.qwen3_vl import Qwen3VL
from foveate.families.traits import UnsupportedModelError


class Architecture(NamedTuple):
    """What a model type is loaded with.

    Attributes:
        family: how to speak to it.
        weights: the model's class.
        image_processor: the class of the flavour that needs PIL alone.
    """

    family: type[Family]
    weights: type[PreTrainedModel]
    image_processor: Any


ARCHITECTURES: Mapping[str, Architecture] = {
    "qwen2_5_vl": Architecture(Qwen25VL, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil),
    "qwen2_vl": Architecture(Qwen2VL, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil),
    "qwen3_vl": Architecture(Qwen3VL, Qwen3VLForConditionalGeneration, Qwen2VLImageProcessorPil),
    "qwen3_vl_moe": Architecture(Qwen3VL, Qwen3VLMoeForConditionalGeneration, Qwen2VLImageProcessorPil),
    "internvl": Architecture(InternVL, InternVLForConditionalGeneration, GotOcr2ImageProcessorPil),
}
"""By model type."""

SUPPORTED = (
    "Qwen2.5-VL (qwen2_5_vl), Qwen2-VL (qwen2_vl), Qwen3-VL (qwen3_vl, qwen3_vl_moe) and InternVL (internvl: the -hf "
    "checkpoints)"
)
"""For people."""

_STATEFUL = ("qwen3_5", "qwen3_next", "qwen4", "mamba")
"""Beginnings of model types whose layers carry a state along the sequence."""


def architecture_of(path: str, written: Mapping[str, Any]) -> Architecture:
    """What a checkpoint is loaded with.

    Args:
        path: of the checkpoint, for the message.
        written: its `config.json`.

    Raises:
        UnsupportedModelError: it is of no supported family; the message says why, and what can be used.
    """
    kind = str(written.get("model_type") or "")
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind]
    if not kind:
        raise UnsupportedModelError(f"{path}: its config.json names no model_type. Supported: {SUPPORTED}")
    why = ""
    if kind == "internvl_chat":
        why = (
            "It comes with code of its own, which foveate does not run: take the same model as converted for "
            "transformers, whose name ends in -hf (OpenGVLab/InternVL3-1B-hf for OpenGVLab/InternVL3-1B). "
        )
    elif _carries_state(kind, written):
        why = (
            "Its linear-attention layers carry a state along the row, from one episode's output into the next: it "
            "cannot be trained on packed rows. "
        )
    elif "auto_map" in written:
        why = "It comes with code of its own, which foveate does not run. "
    raise UnsupportedModelError(f"{path} is a {kind!r} model. {why}Supported: {SUPPORTED}")


def _carries_state(kind: str, written: Mapping[str, Any]) -> bool:
    text = written.get("text_config") or written
    layers = text.get("layer_types") if isinstance(text, Mapping) else None
    return kind.startswith(_STATEFUL) or "linear_attention" in (layers or ())
