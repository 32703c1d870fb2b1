"""The check at start-up that packed rows give the numbers of separate rows, in the layout and precision in use.

Everything that can go wrong in packing gives plausible numbers: a mask that is left out, positions of the wrong shape,
an attention implementation that reads a mask otherwise. So the first group is computed both ways before any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foveate.episodes import Episode
from foveate.errors import FoveateError
from foveate.families.base import VLM
from foveate.training import packing
from foveate.training.scorer import base_model

FLOAT32_TOLERANCE = 1e-4
"""Allowed between packed and separate float32 log-probs. Seen: 1e-5 at most, from sums in another order."""
ROUNDINGS = 64
"""Allowed in lower precision, in units of its epsilon. Logits of size 10 to 20 are themselves rounded to 5 to 10 of
them, and the layers before add about as much: 0.5 for bfloat16, 0.06 for float16 and TF32."""
MEAN_SHARE = 1 / 8
"""The mean difference may be this share of the tolerance. Rounding errors have no common direction: their largest is
many times their mean, while a wrong mask or position moves nearly every token."""


class PackingMismatch(FoveateError, RuntimeError):  # noqa: N818 (what it is, not that it is an error)
    """Packed and separate rows give different log-probs: training would go on plausible, wrong numbers."""


class UnpackableModelError(FoveateError, ValueError):
    """The model's layers cannot be run on packed rows at all."""


class SelfCheck(NamedTuple):
    """What the check found: absolute differences of log-probs, and how much the largest may be."""

    max_difference: float
    tolerance: float
    mean_difference: float


def self_check(
    vlm: VLM, episodes: Sequence[Episode], *, scorer: nn.Module | None = None, temperature: float = 1.0
) -> SelfCheck:
    """Compares packed with separate log-probs on one group, without gradient.

    Args:
        vlm: model and family.
        episodes: of the first group. A lone episode is packed beside itself, so that a row has something to mix up.
        scorer: what the training loop calls, where it is a wrapper of the model's (DDP, FSDP, autocast).
        temperature: the one they were sampled at.

    Raises:
        PackingMismatch: the log-probs differ by more than the precision explains.
        UnpackableModelError: a layer carries state along the row (linear attention), or a sliding window is shorter
            than the row.
        ValueError: there is no sampled token to compare.
    """
    if not any(packing.sampled_count(episode) for episode in episodes):
        raise ValueError("the self-check needs at least one sampled token")
    model = base_model(vlm.model)
    refuse_unpackable(model, _longest_row(vlm, episodes))
    together = list(episodes) * (2 if len(episodes) == 1 else 1)
    with torch.no_grad(), _PrecisionOf(model) as precision:
        packed = packing.packed_logprobs(vlm, together, scorer=scorer, temperature=temperature)
        separate = packing.separate_logprobs(vlm, episodes, temperature=temperature)
    differences = torch.cat(
        [(packed[i] - separate[i % len(episodes)]).abs().double().flatten() for i in range(len(together))]
    )
    found = SelfCheck(float(differences.max()), precision.tolerance, float(differences.mean()))
    # Not "if it is larger": nan must fail too.
    if not (found.max_difference <= found.tolerance and found.mean_difference <= MEAN_SHARE * found.tolerance):
        raise PackingMismatch(_explanation(found, precision.dtype, model))
    return found


def refuse_unpackable(model: PreTrainedModel, row: int) -> None:
    """Refuses models whose layers are not plain attention over the whole of a row of `row` positions.

    Raises:
        UnpackableModelError: naming the layers and the reason.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if unknown := sorted(kinds - {"full_attention", "sliding_attention"}):
        raise UnpackableModelError(
            f"{model.config.model_type} has {', '.join(unknown)} layers: they carry a state along the row, from one "
            "episode's output into the next, which no mask prevents. Use a model whose layers all attend "
            "(docs/models.md)."
        )
    window = getattr(config, "sliding_window", None)
    if "sliding_attention" in kinds and window is not None and window < row:
        raise UnpackableModelError(
            f"{model.config.model_type} has a sliding window of {window} positions and packed rows of {row}: distance "
            "in a packed row is not distance in the sequence. Show fewer pixels or sample fewer tokens, or load the "
            "model with use_sliding_window=False."
        )


def epsilon_of(dtype: torch.dtype, device: torch.device) -> float:
    """The epsilon of what is computed in a precision on a device: there may be TF32 in the place of float32."""
    epsilon = torch.finfo(dtype).eps
    if device.type == "cuda" and torch.get_float32_matmul_precision() != "highest":
        epsilon = max(epsilon, torch.finfo(torch.float16).eps)  # TF32 has float16's mantissa
    return epsilon


class _PrecisionOf:
    """Watches in which dtype the logits come out: what counts is the one in force inside wrappers and autocast."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.dtype = torch.float32
        self._device = next(model.parameters()).device
        self._head: nn.Module = cast(Any, model).get_output_embeddings()

    def __enter__(self) -> _PrecisionOf:
        self._hook = self._head.register_forward_hook(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _see(self, _module: nn.Module, _inputs: object, logits: Tensor) -> None:
        self.dtype = logits.dtype

    @property
    def tolerance(self) -> float:
        """How much two orders of summing may differ in this precision."""
        return max(FLOAT32_TOLERANCE, ROUNDINGS * epsilon_of(self.dtype, self._device))


def _longest_row(vlm: VLM, episodes: Sequence[Episode]) -> int:
    sizes = [row.size for row in packing.plan_rows(vlm.family, episodes)]
    return max(prefix + branches * length for branches, prefix, length in sizes)


def _explanation(found: SelfCheck, dtype: torch.dtype, model: nn.Module) -> str:
    active = model.training and any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
    dropout = " Dropout is active: packed and separate rows draw different masks; set it to 0." if active else ""
    return (
        f"packed and separate rows differ by up to {found.max_difference:.3g} ({found.mean_difference:.3g} on average) "
        f"in the log-prob of a sampled token; {str(dtype).removeprefix('torch.')} explains at most "
        f"{found.tolerance:.3g} ({MEAN_SHARE * found.tolerance:.3g}). Training on these numbers would be wrong, so it "
        f"stops here.{dropout} Check that the language model's attention implementation is 'foveate_packed' and was "
        "not switched after loading, that transformers is a version foveate was tested with (5.23), and that the "
        "precision is one the model is stable in (try float32)."
    )
