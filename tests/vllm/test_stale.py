"""What vLLM keeps of old weights, planted on purpose: the bound on log-probs catches it."""

from contextlib import contextmanager

import pytest
import torch
from accelerate import Accelerator
from tests.scripted import question
from tests.vllm.conftest import changed
from tests.vllm.test_engine import DRAWN, view

from foveate.context import Context
from foveate.episodes import Episode, StopReason, Turn
from foveate.generators import Request
from foveate.generators.weights import policy_tensors
from foveate.recipes import load_recipe
from foveate.training.packing import separate_logprobs
from foveate.training.sampler import Sampler, SamplerMismatch

CONTEXTS = [Context.user(*(view(area) for area in areas), "Where?") for areas in ([12_000] * 14, [12_000, 5_000] * 7)]
"""Of more than 128 tokens, what vLLM's prefix cache takes on a CPU at a time."""


@contextmanager
def kept_prefixes(engine, monkeypatch):
    """The update forgets to drop the prefix cache; all else is done."""
    with monkeypatch.context() as patch:
        patch.setattr(engine, "reset_caches", engine._engine.reset_encoder_cache)
        yield


@contextmanager
def kept_features(engine, monkeypatch):
    """The worker's vision features survive the update, and the scheduler knows of them; prefixes are dropped."""
    (cached,) = engine._llm.collective_rpc(lambda worker: dict(worker.model_runner.encoder_cache))
    assert cached
    with monkeypatch.context() as patch:
        patch.setattr(engine, "reset_caches", engine._llm.reset_prefix_cache)
        yield
    engine._llm.collective_rpc(lambda worker: worker.model_runner.encoder_cache.update(cached))


@contextmanager
def kept_weights(engine, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(engine._llm, "collective_rpc", lambda *_, **__: [])
        yield


@contextmanager
def nothing_kept(engine, monkeypatch):
    yield


@pytest.mark.parametrize(
    ("planted", "part"),
    [(kept_prefixes, ""), (kept_features, "visual"), (kept_weights, ""), (nothing_kept, "")],
)
def test_what_is_stale_is_caught_by_the_bound(vlm, engine, monkeypatch, planted, part) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "_build", lambda *_: engine)
        sampler = Sampler(load_recipe("demo", ["setup.engine.name=vllm"]), vlm, Accelerator())

    def rolled_out() -> tuple[float, float]:
        replies = engine.generate([Request(context, tuple(range(8))) for context in CONTEXTS], DRAWN)
        episodes = [
            Episode(question(), (Turn(context, reply),), None, StopReason.UNPARSED)
            for context, own in zip(CONTEXTS, replies, strict=True)
            for reply in own
        ]
        with torch.no_grad():
            own_N = torch.cat(separate_logprobs(vlm, episodes))
        told_N = torch.tensor([p for e in episodes for turn in e.turns for p in turn.completion.logprobs])
        difference_N = (own_N - told_N).abs()
        return float(difference_N.mean()), float(difference_N.max())

    sampler.refuse_difference(*rolled_out())
    changed(vlm, part, 1.01)  # small: a step of training moves more
    with planted(engine, monkeypatch):
        engine.update_weights(policy_tensors(vlm.model))
    found = rolled_out()
    print(f"\n{planted.__name__}: {found[0]:.2g} per token, {found[1]:.2g} at most; bound {sampler.bound:.2g}")
    if planted is nothing_kept:
        sampler.refuse_difference(*found)
    else:
        with pytest.raises(SamplerMismatch, match="earlier update"):
            sampler.refuse_difference(*found)
