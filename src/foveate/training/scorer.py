"""The log-probs of sampled tokens without the logits of them all: the vocabulary is gone through in pieces.

A vocabulary of 152,000 makes 0.6 MB of float32 logits a token, several times over with what the backward keeps: more
than all layers of a 7B model hold for that token. So logits are made, turned into one number a token, and dropped,
piece by piece, and once more in the backward.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

LOGITS_AT_ONCE = 1 << 26
"""Elements: 256 MiB in float32, of which two or three are alive together."""


class Scorer(nn.Module):
    """A model as training calls it: packed inputs and labels in, the labels' log-probs out.

    One module, so that what wraps it (DDP, FSDP, DeepSpeed) sees the whole of a forward.

    Args:
        model: with or without PEFT around it; its own forward is not used, but what is inside: backbone, then head.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def nothing(self) -> None:
        """A forward of nothing: see `sharding.shard`."""

    def forward(
        self, inputs: dict[str, Any], first: int, keep_BK: Tensor, labels_BK: Tensor, temperature: float
    ) -> Tensor:
        """The log-prob of each kept label: (N,) in float32, row by row.

        Args:
            inputs: of the backbone's forward.
            first: the position at which the K labelled ones begin.
            keep_BK: True where the label counts.
            labels_BK: the token that follows each position.
            temperature: logits are divided by it.
        """
        inner = cast(Any, base_model(self.model))
        head: nn.Module = inner.get_output_embeddings()
        hidden_BKC: Tensor = inner.model(**inputs).last_hidden_state[:, first:]
        labels_N = labels_BK[keep_BK]
        width = int(inner.config.get_text_config().vocab_size)
        if keep_BK.numel() * width <= LOGITS_AT_ONCE:
            # A copy: FSDP takes no views out of a forward.
            return label_logprobs(head(hidden_BKC)[keep_BK], labels_N, temperature).clone()
        size = max(1, LOGITS_AT_ONCE // width)
        pieces = zip(hidden_BKC[keep_BK].split(size), labels_N.split(size), strict=True)
        return torch.cat(
            [
                checkpoint(_piece, head, hidden_nC, labels_n, temperature, use_reentrant=False)
                for hidden_nC, labels_n in pieces
            ]
        )


def label_logprobs(logits_NV: Tensor, labels_N: Tensor, temperature: float) -> Tensor:
    """The log-softmax, in float32, of logits over `temperature`, at the labels: (N,)."""
    return (logits_NV.float() / temperature).log_softmax(-1).gather(-1, labels_N[:, None])[:, 0]


def base_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a scorer, PEFT and distributed wrappers."""
    inner: Any = model
    while not isinstance(inner, PreTrainedModel):
        if isinstance(inner, Scorer):
            inner = inner.model
        else:
            inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner.module
    return inner


def _piece(head: nn.Module, hidden_nC: Tensor, labels_n: Tensor, temperature: float) -> Tensor:
    return label_logprobs(head(hidden_nC), labels_n, temperature)
