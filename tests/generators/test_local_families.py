"""Local generation with the models of every family: the tokens of transformers' own, the trainer's log-probs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models import KINDS, assert_trainers_logprobs, noise_view, of_kind, words

from foveate.context import Context, Message, Sampled
from foveate.families import VLM
from foveate.generators.base import Request, Sampling
from foveate.generators.local import LocalGenerator


@pytest.fixture(params=KINDS)
def vlm(request: pytest.FixtureRequest) -> VLM:
    return of_kind(request.param)


def requests(vlm: VLM, samples: int) -> list[Request]:
    """Of very different lengths: without an image, with one, with two, with a reply and a second image."""
    patch = vlm.family.multiple
    looked = Context.user(noise_view(2, 3, 1, patch), "locate red")
    contexts = [
        looked,
        Context.user(noise_view(6, 5, 2, patch), "answer blue or red"),
        Context.user("answer 7"),
        Context.user(noise_view(2, 2, 3, patch), noise_view(3, 1, 4, patch), "answer the green circle"),
        looked.then(
            Message("assistant", (Sampled(words(4)),)), Message("user", (noise_view(1, 1, 5, patch), "answer"))
        ),
    ]
    return [Request(context, tuple(range(9 * i, 9 * i + samples))) for i, context in enumerate(contexts)]


def test_greedy_equals_generate(vlm: VLM) -> None:
    """Transformers' own `generate`, with the positions that the model computes itself."""
    model: Any = vlm.model
    batched = LocalGenerator(vlm).generate(requests(vlm, 1), Sampling(0.0, 10))
    for request, [ours] in zip(requests(vlm, 1), batched, strict=True):
        encoded = vlm.family.encode(request.context)
        ids = torch.tensor([encoded.token_ids])
        kinds = {"mm_token_type_ids": (ids == vlm.family.image_token_id).int()}
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **(kinds if vlm.family.name != "internvl" else {}),
            **encoded.images,
            do_sample=False,
            max_new_tokens=10,
            suppress_tokens=list(vlm.family.forbidden_token_ids()),
        )[0, ids.shape[1] :].tolist()
        model.model.rope_deltas = None
        assert list(ours.token_ids) == written


def test_logprobs_are_those_of_the_trainer(vlm: VLM) -> None:
    """Also in batches that are padded on the left."""
    asked = requests(vlm, 3)
    lengths = {len(vlm.family.encode(request.context).token_ids) for request in asked}
    assert len(lengths) >= 4
    assert_trainers_logprobs(vlm, asked, Sampling(0.8, 8))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_forbidden_tokens_are_never_written(vlm: VLM, temperature: float) -> None:
    """Planted to be the likeliest by far."""
    forbidden = vlm.family.forbidden_token_ids()
    assert vlm.family.image_token_id in forbidden
    hook = vlm.model.lm_head.register_forward_hook(
        lambda _m, _i, logits: logits.index_fill(-1, torch.tensor(forbidden), 50.0)
    )
    try:
        replies = LocalGenerator(vlm).generate(requests(vlm, 4), Sampling(temperature, 6))
    finally:
        hook.remove()
    for completion in (completion for completions in replies for completion in completions):
        assert not set(completion.token_ids) & set(forbidden)
        assert max(completion.logprobs) < -20
