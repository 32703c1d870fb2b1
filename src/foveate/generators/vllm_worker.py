"""What runs inside vLLM's workers: colocated and in a server alike. Loaded by vLLM, by name; needs vLLM to import."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from vllm.config import set_current_vllm_config
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.v1.sample.logits_processor import LogitsProcessor

from foveate.generators.rollout import FORBIDDEN


class ForbiddenTokens(LogitsProcessor):  # type: ignore[misc]  # vLLM ships no types
    """Makes tokens impossible to sample, in every request: vLLM's logit bias ends at -100, which is not never."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._forbidden = torch.tensor(vllm_config.additional_config[FORBIDDEN], dtype=torch.long, device=device)

    def apply(self, logits: Tensor) -> Tensor:
        """Logits of shape (requests, vocabulary), changed in place."""
        return logits.index_fill_(-1, self._forbidden, float("-inf"))

    def is_argmax_invariant(self) -> bool:
        """The likeliest token may be one of them."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """The same for every request."""


class RolloutWorker:
    """Methods that vLLM's workers gain (`worker_extension_cls`), called by name through `collective_rpc`."""

    vllm_config: Any
    model_runner: Any
    reload_weights: Any

    def rollout_temperature(self, temperature: str) -> None:
        """Divides the model's own logits, so that vLLM's raw log-probs, which know neither temperature nor forbidden
        tokens, are those of the policy at this temperature. Requests then sample at 1.
        """
        self.model_runner.get_model().get_language_model().logits_processor.scale = 1 / float(temperature)

    def rollout_vision_base(self) -> None:
        """vLLM 0.32 gives every Qwen2.5-VL vision tower a rotary base of 10,000; this takes the configuration's."""
        tower = self.model_runner.get_model().visual
        said = getattr(self.vllm_config.model_config.hf_config.vision_config, "rope_parameters", None) or {}
        base = said.get("rope_theta", 10_000.0)
        if base == tower.rotary_pos_emb.base:
            return
        with set_current_vllm_config(self.vllm_config):
            tower.rotary_pos_emb = get_rope(
                head_size=tower.hidden_size // tower.num_heads,
                max_position=8192,
                is_neox_style=True,
                rope_parameters={"partial_rotary_factor": 0.5, "rope_theta": base},
            ).to(next(tower.parameters()).device)
        tower._rope_by_thw_cache.clear()

    def rollout_weights(self, source: str | Iterable[tuple[str, Tensor]]) -> None:
        """Loads the policy's weights, under the names that transformers gives them, from tensors or a safetensors file.

        The vision features that this worker has cached go with it.
        """
        if isinstance(source, str):
            with safe_open(source, framework="pt") as file:
                self.reload_weights(weights_iterator=((name, file.get_tensor(name)) for name in file.keys()))  # noqa: SIM118
        else:
            self.reload_weights(weights_iterator=source)
        # On a CPU the head computes with a packed copy of its weights. Tied to the embedding it is not loaded itself,
        # and vLLM 0.32 leaves the copy as it was.
        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, VocabParallelEmbedding) and hasattr(layer, "cpu_linear"):
                layer.quant_method.process_weights_after_loading(layer)
