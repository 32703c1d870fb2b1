"""Local generation: the tokens of one by one whatever is in the batch, never a forbidden one, each prefill once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.models import EOS, assert_trainers_logprobs, noise_view, random_vlm, words

from foveate.context import Context, Message, Sampled
from foveate.families import VLM
from foveate.generators.base import Request, Sampling
from foveate.generators.local import LocalGenerator, sample
from foveate.protocols.base import Completion, FinishReason

IMAGE_PAD = 5


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return random_vlm(gain=1.0)


def contexts() -> list[Context]:
    """Of different lengths and sizes of image: none, one, two; one with a reply in it."""
    looked = Context.user(noise_view(2, 3, 1), "locate red")
    said = Message("assistant", (Sampled(words(4)),))
    return [
        looked,
        Context.user(noise_view(6, 5, 2), "answer blue or red"),
        Context.user("answer 7"),
        Context.user(noise_view(2, 2, 3), noise_view(3, 1, 4), "answer the green circle"),
        looked.then(said, Message("user", (noise_view(1, 1, 5), "answer"))),
    ]


def requests(samples: int) -> list[Request]:
    return [
        Request(context, tuple(range(100 * number, 100 * number + samples)))
        for number, context in enumerate(contexts())
    ]


def token_ids(replies: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in completions] for completions in replies]


@torch.no_grad()
def one_by_one(vlm: VLM, context: Context, seed: int, sampling: Sampling) -> tuple[int, ...]:
    """The reference: no cache, no batch, the whole sequence anew for each token."""
    encoded = vlm.family.encode(context)
    draws, written = np.random.default_rng(seed), []
    while len(written) < sampling.max_new_tokens:
        length = len(encoded.token_ids) + len(written)
        steps = torch.arange(encoded.next_position, encoded.next_position + len(written)).expand(3, -1)
        logits = vlm.model(
            input_ids=torch.tensor([[*encoded.token_ids, *written]]),
            position_ids=torch.cat([encoded.positions_AL, steps], dim=1)[:, None],
            attention_mask=torch.ones(1, length, dtype=torch.long),
            use_cache=False,
            **encoded.images,
        ).logits[0, -1]
        logits[list(vlm.family.forbidden_token_ids())] = float("-inf")
        if sampling.temperature:
            cumulative = (logits / sampling.temperature).double().softmax(-1).cumsum(-1)
            written.append(int((cumulative <= draws.random() * cumulative[-1]).sum()))
        else:
            written.append(int(logits.argmax()))
        if written[-1] == EOS:
            break
    return tuple(written)


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0, 1.5])
def test_equals_one_by_one(vlm: VLM, temperature: float) -> None:
    sampling = Sampling(temperature, 12)
    found = token_ids(LocalGenerator(vlm).generate(requests(3), sampling))
    for request, written in zip(requests(3), found, strict=True):
        assert written == [one_by_one(vlm, request.context, seed, sampling) for seed in request.seeds]


def test_a_sample_does_not_depend_on_what_else_is_in_the_batch(vlm: VLM) -> None:
    sampling, together = Sampling(1.0, 10), LocalGenerator(vlm).generate(requests(4), Sampling(1.0, 10))
    small = LocalGenerator(vlm, max_prefill_tokens=1, max_samples=1)
    assert token_ids(small.generate(requests(4), sampling)) == token_ids(together)
    backwards = LocalGenerator(vlm).generate(requests(4)[::-1], sampling)[::-1]
    assert token_ids(backwards) == token_ids(together)
    for request, completions in zip(requests(4), together, strict=True):
        [[alone]] = LocalGenerator(vlm).generate([Request(request.context, request.seeds[2:3])], sampling)
        assert alone.token_ids == completions[2].token_ids


def test_greedy_equals_generate(vlm: VLM) -> None:
    """Transformers' own `generate`, with positions that the model itself computes for our context."""
    model: Any = vlm.model
    for context in contexts()[:4]:
        encoded = vlm.family.encode(context)
        ids = torch.tensor([encoded.token_ids])
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == vlm.family.image_token_id).int(),
            **encoded.images,
            do_sample=False,
            max_new_tokens=12,
            suppress_tokens=list(vlm.family.forbidden_token_ids()),
        )[0, ids.shape[1] :].tolist()
        model.model.rope_deltas = None
        [[ours]] = LocalGenerator(vlm).generate([Request(context, (0,))], Sampling(0.0, 12))
        assert list(ours.token_ids) == written


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_forbidden_tokens_are_never_written(temperature: float) -> None:
    """Planted to be the likeliest by far."""
    vlm = random_vlm()
    forbidden = vlm.family.forbidden_token_ids()
    assert IMAGE_PAD in forbidden
    vlm.model.lm_head.register_forward_hook(lambda _m, _i, logits: logits.index_fill(-1, torch.tensor(forbidden), 50.0))
    for completions in LocalGenerator(vlm).generate(requests(8), Sampling(temperature, 8)):
        for completion in completions:
            assert not set(completion.token_ids) & set(forbidden)
            assert max(completion.logprobs) < -20  # as the policy sees it, which would have written the others


def test_all_samples_of_a_context_share_one_prefill(vlm: VLM) -> None:
    positions, patches = [], []
    hooks = [
        vlm.model.model.language_model.layers[0].register_forward_pre_hook(
            lambda _m, _a, kwargs: positions.append(kwargs["position_embeddings"][0].shape[:2]), with_kwargs=True
        ),
        vlm.model.model.visual.register_forward_pre_hook(
            lambda _m, args, kwargs: patches.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
        ),
    ]
    context = contexts()[1]
    length, features = len(vlm.family.encode(context).token_ids), 6 * 5
    LocalGenerator(vlm).generate([Request(context, tuple(range(8)))], Sampling(1.0, 5))
    for hook in hooks:
        hook.remove()
    assert patches == [4 * features]
    assert positions[0] == (1, length)
    assert all(rows <= 8 and columns == 1 for rows, columns in positions[1:])
    assert len(positions) <= 5  # the last token is not run


def test_logprobs_are_those_of_the_trainer(vlm: VLM) -> None:
    assert_trainers_logprobs(vlm, requests(3), Sampling(0.8, 10))


def test_why_it_stopped(vlm: VLM) -> None:
    replies = [c for completions in LocalGenerator(vlm).generate(requests(16), Sampling(1.5, 40)) for c in completions]
    reasons = {completion.finish_reason for completion in replies}
    assert reasons == {FinishReason.END, FinishReason.LENGTH}
    for completion in replies:
        ended = completion.token_ids[-1] == EOS
        assert EOS not in completion.token_ids[:-1]
        assert completion.finish_reason == (FinishReason.END if ended else FinishReason.LENGTH)
        assert len(completion.token_ids) == len(completion.logprobs)
        assert ended or len(completion.token_ids) == 40


def test_limits_of_a_batch_hold(vlm: VLM) -> None:
    shapes = []
    hook = vlm.model.model.language_model.register_forward_pre_hook(
        lambda _m, _a, kwargs: shapes.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    LocalGenerator(vlm, max_prefill_tokens=40, max_samples=6).generate(requests(3), Sampling(1.0, 4))
    hook.remove()
    prefills = [(rows, length) for rows, length in shapes if length > 1]
    assert sum(rows for rows, _ in prefills) == len(contexts())
    assert all(rows == 1 or rows * length <= 40 for rows, length in prefills)
    assert all(rows <= 6 for rows, _ in shapes)


def test_training_mode_is_put_back_and_nothing_is_no_work() -> None:
    vlm = random_vlm()
    vlm.model.train()
    assert LocalGenerator(vlm).generate([], Sampling()) == []
    LocalGenerator(vlm).generate(requests(1)[:1], Sampling(1.0, 2))
    assert vlm.model.training


def test_samples_follow_the_distribution() -> None:
    """Chi-square over 20,000 draws: 46.8 is its 99.95th percentile at 20 degrees of freedom."""
    generator = np.random.default_rng(5)
    logits = torch.tensor(generator.normal(0, 1.5, 24), dtype=torch.float32)
    forbidden, temperature, count = torch.tensor([0, 7, 23]), 0.7, 20_000
    chosen, logprobs = sample(logits.expand(count, -1), forbidden, temperature, generator.random(count).tolist())
    expected = (logits.double() / temperature).index_fill(0, forbidden, float("-inf")).softmax(-1)
    seen = torch.bincount(chosen, minlength=24)
    assert seen[forbidden].tolist() == [0, 0, 0]
    allowed = expected > 0
    statistic = ((seen - count * expected).square()[allowed] / (count * expected)[allowed]).sum()
    assert float(statistic) < 46.8
    full = (logits / temperature).log_softmax(-1)
    torch.testing.assert_close(logprobs, full[chosen])


def test_the_ends_of_the_unit_interval_give_allowed_tokens() -> None:
    logits, forbidden = torch.zeros(2, 6), torch.tensor([0, 5])
    chosen, _ = sample(logits, forbidden, 1.0, [0.0, np.nextafter(1.0, 0.0)])
    assert chosen.tolist() == [1, 4]
