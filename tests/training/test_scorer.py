"""Log-probs made piece by piece are those made at once, and so are their gradients."""

from __future__ import annotations

import pytest
import torch
from tests.models import group, random_vlm
from torch import nn

from foveate.training import scorer
from foveate.training.packing import packed_logprobs
from foveate.training.scorer import Scorer, base_model


def scored(episodes: list, width: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, dict, int]:
    """Log-probs, gradients by name, and the largest number of rows that the head saw at once."""
    vlm, rows = random_vlm(gain=1.0), []
    if width is not None:
        monkeypatch.setattr(scorer, "LOGITS_AT_ONCE", width * vlm.model.config.get_text_config().vocab_size)
    vlm.model.lm_head.register_forward_hook(lambda _m, _i, out: rows.append(out.shape[:-1].numel()))
    values = torch.cat(packed_logprobs(vlm, episodes))
    values.mean().backward()
    gradients = {name: p.grad for name, p in vlm.model.named_parameters() if p.grad is not None}
    return values.detach(), gradients, max(rows)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    episodes = group([5, 4, 9, 3])
    whole, expected, rows = scored(episodes, None, monkeypatch)
    assert rows > 20
    pieces, found, rows = scored(episodes, at_once, monkeypatch)
    assert rows <= max(at_once, 1)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5)


def test_the_model_inside_any_wrapper_is_found() -> None:
    vlm = random_vlm()

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    assert base_model(Wrapper(Scorer(Wrapper(vlm.model)))) is vlm.model
