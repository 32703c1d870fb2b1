"""Packed rows give the log-probs and gradients of separate rows, for any shape of episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from tests.models import chained, group, located, make_episode, make_question, noise_view, random_vlm, words
from tests.scripted import Traits
from torch import Tensor

from foveate.context import Context, Message, Sampled
from foveate.episodes import Episode
from foveate.families import VLM
from foveate.images import PixelBudget, View
from foveate.protocols import (
    Ask,
    Completion,
    FinishReason,
    GroundAndAnswer,
    GroundThenAnswer,
    GroundUntilAnswered,
    LocateThenAnswer,
    PointThenCount,
    Protocol,
    Stop,
    StopReason,
    Subject,
    Turn,
    ZoomTool,
)
from foveate.training import packing
from foveate.training.packing import pack, packed_logprobs, sampled_count, separate_logprobs, unpack
from foveate.training.scorer import Scorer

LOGPROB_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-5
Logprobs = Callable[..., list[Tensor]]


@pytest.fixture(scope="module")
def vlm() -> VLM:
    """A gain of 1: about the peakedness of a real model; differences are rounding in float32."""
    return random_vlm(gain=1.0)


def crop(number: int, columns: int = 2, rows: int = 2) -> View:
    return noise_view(columns, rows, 100 + number)


def other_question(lengths: Sequence[int], size: tuple[int, int], text: str, number: int) -> list[Episode]:
    return group(lengths, size=size, name=f"q{number}", text=text, seed=7 * number)


def asked(protocol: Protocol, *replies: Sequence[str], pictures: int = 1) -> list[Episode]:
    """Episodes of a protocol whose turns were replied to so; the tokens of a reply are any words, not its text."""
    noise = np.random.default_rng(0).integers(0, 256, (pictures, 150, 200, 3), np.uint8)
    first, *others = map(Image.fromarray, noise)
    subject = Subject(make_question(), first, SHORT, tuple(others))
    episodes = []
    for number, said in enumerate(replies):
        turns: list[Turn] = []
        for text in said:
            step = protocol.next(subject, turns)
            assert isinstance(step, Ask)
            ended = text != CUT_OFF
            ids = words(3 + (number + len(turns)) % 3, 10 * number + len(turns), end=ended)
            reply = Completion(ids, (), text, FinishReason.END if ended else FinishReason.LENGTH)
            turns.append(protocol.read(subject, turns, step.context, reply))
        stop = protocol.next(subject, turns)
        assert isinstance(stop, Stop)
        episodes.append(Episode(subject.question, tuple(turns), stop.answer, stop.reason))
    return episodes


SHORT = Traits(box_style="short", budget=PixelBudget(28 * 28, 28 * 28 * 12))
HERE, THERE, BACKWARDS, OUTSIDE, CUT_OFF = "10 10 60 60", "40 5 90 70", "60 60 10 10", "900 9 990 90", "10 10 60"

SHAPES: dict[str, Callable[[], list[Episode]]] = {
    "one token of image": lambda: group([5, 3], size=(1, 1)),
    "wide image": lambda: group([5, 3, 6], size=(12, 1)),
    "tall image": lambda: group([5, 3, 6], size=(1, 9)),
    "8 x 8 image": lambda: group([7, 4, 6], size=(8, 8)),
    "G = 1": lambda: group([6]),
    "G = 2": lambda: group([6, 4]),
    "G = 8": lambda: group([6, 4, 5, 3, 7, 2, 6, 1]),
    "one-token outputs": lambda: group([1, 1, 1]),
    "equal outputs": lambda: [*group([5], seed=3), *group([5], seed=3), *group([4], seed=3)],
    "over length": lambda: [
        make_episode(make_question(), (context, words(6, i, end=i == 1)))
        for context in [Context.user(noise_view(3, 3), "locate red")]
        for i in range(3)
    ],
    "one crop": lambda: located([[crop(i, 1 + i, 2)] for i in range(4)]),
    "shared crop": lambda: located([[crop(0)], [crop(1)], [crop(0)], [crop(0)]]),
    "several crops": lambda: located([[crop(0), crop(1, 3, 1)], [crop(2)], [crop(1, 3, 1), crop(0), crop(3, 1, 1)]]),
    "fallback without a crop": lambda: located([[], [crop(0)], []]),
    "chains": lambda: chained([[crop(0)], [], [crop(1, 1, 2), crop(2, 3, 1)], [crop(0)]]),
    "no image": lambda: [
        make_episode(make_question(), (Context.user("answer red or blue"), words(n, n))) for n in (3, 4)
    ],
    "questions of different length": lambda: [
        *other_question([5, 3, 4], (6, 5), "locate the red square or the blue circle", 1),
        *other_question([2, 7], (5, 5), "locate red", 2),
        *other_question([4, 4, 4], (5, 6), "locate 7", 3),
    ],
    "outputs longer than the prompt": lambda: group([30, 41, 22, 35, 28], size=(2, 2)),
    "closed loop": lambda: asked(
        LocateThenAnswer(), [f"{HERE}; {THERE}", "7"], [HERE, "7"], [f"{THERE}; {OUTSIDE}", "8"], [BACKWARDS]
    ),
    "full image beside the crops": lambda: asked(
        LocateThenAnswer(withhold_full_image=False, without_region="full_image"),
        [f"{HERE}; {THERE}", "7"],
        [HERE, "7"],
        [OUTSIDE, "7"],
    ),
    "further pictures": lambda: asked(
        LocateThenAnswer(withhold_full_image=False), [f"{HERE}; {THERE}", "7"], [HERE, "7"], pictures=3
    ),
    "further pictures and a crop tool": lambda: asked(ZoomTool(), [HERE, "7"], ["7"], [THERE, HERE, "8"], pictures=2),
    "three turns in one history": lambda: asked(
        GroundThenAnswer(turns=3), [HERE, THERE, "7"], [HERE, OUTSIDE, "7"], [CUT_OFF, HERE, "red"], ["red", "red", "7"]
    ),
    "as many turns as it takes": lambda: asked(
        GroundUntilAnswered(turns=3), ["7"], [HERE, "7"], [HERE, THERE, "7"], [CUT_OFF, "red"], [OUTSIDE, HERE, THERE]
    ),
    "tool, with several crops and errors": lambda: asked(
        ZoomTool(max_calls=2),
        ["7"],
        [HERE, THERE, "7"],
        [HERE, BACKWARDS, "7"],
        [OUTSIDE, HERE, "red"],
        [CUT_OFF, BACKWARDS, HERE],  # out of calls
    ),
    "coordinates and answer in one reply": lambda: asked(GroundAndAnswer(), [f"{HERE} 7"], ["7"], [HERE], [CUT_OFF]),
    "points and count in one reply": lambda: asked(PointThenCount(), ["10 10 60 60 2"], ["0"], ["10 10"], [CUT_OFF]),
}


@pytest.fixture(params=SHAPES, scope="module")
def episodes(request: pytest.FixtureRequest) -> list[Episode]:
    return SHAPES[request.param]()


def test_the_shapes_of_protocols_are_what_their_names_say() -> None:
    three, tool = SHAPES["three turns in one history"](), SHAPES["tool, with several crops and errors"]()
    assert {len(episode.turns) for episode in three} == {3}
    assert [len(episode.turns) for episode in SHAPES["as many turns as it takes"]()] == [1, 2, 3, 2, 3]
    assert [len(episode.turns[-1].context.views) for episode in tool] == [1, 3, 2, 2, 1]
    assert [len(episode.turns) for episode in tool] == [1, 3, 3, 3, 3]
    assert tool[-1].stop is StopReason.OUT_OF_CALLS
    assert [len(episode.boxes) for episode in SHAPES["closed loop"]()] == [2, 1, 1, 0]
    assert SHAPES["closed loop"]()[-1].stop is StopReason.NO_REGION


def loss_of(logprobs: list[Tensor]) -> Tensor:
    """Weights that differ by episode and token, so that no mistake in the order cancels out."""
    flat_N = torch.cat(logprobs)
    return (flat_N * torch.linspace(-1.0, 2.0, len(flat_N))).sum()


def gradients(vlm: VLM, of: Logprobs, episodes: list[Episode]) -> dict[str, Tensor]:
    vlm.model.zero_grad()
    loss_of(of(vlm, episodes)).backward()
    found = {n: p.grad.clone() for n, p in vlm.model.named_parameters() if p.requires_grad and p.grad is not None}
    vlm.model.zero_grad()
    return found


def assert_same_logprobs(vlm: VLM, episodes: list[Episode], **options: Any) -> None:
    with torch.no_grad():
        packed = packed_logprobs(vlm, episodes, **options)
        separate = separate_logprobs(vlm, episodes, **options)
    assert [len(values) for values in packed] == [sampled_count(episode) for episode in episodes]
    for one, other in zip(packed, separate, strict=True):
        torch.testing.assert_close(one, other, atol=LOGPROB_TOLERANCE, rtol=0)


def assert_same_gradients(vlm: VLM, episodes: list[Episode], tolerance: float = GRADIENT_TOLERANCE) -> None:
    packed = gradients(vlm, packed_logprobs, episodes)
    separate = gradients(vlm, separate_logprobs, episodes)
    assert packed.keys() == separate.keys()
    norms = torch.stack([gradient.norm() for gradient in separate.values()])
    for name, gradient in separate.items():
        # A parameter may have no gradient but rounding (a key's bias shifts all scores alike): compared to the rest.
        scale = max(float(gradient.norm()), 1e-2 * float(norms.max()))
        difference = float((packed[name] - gradient).norm()) / scale
        assert difference <= tolerance, f"{name}: {difference:.2e} of {float(gradient.norm()):.2e}"


def test_logprobs_are_those_of_separate_rows(vlm: VLM, episodes: list[Episode]) -> None:
    assert_same_logprobs(vlm, episodes)


def test_gradients_are_those_of_separate_rows(vlm: VLM, episodes: list[Episode]) -> None:
    assert_same_gradients(vlm, episodes)


def test_in_double_precision_the_difference_vanishes(episodes: list[Episode]) -> None:
    """What is left in float32 is rounding, and no approximation (the log-softmax itself is done in float32)."""
    vlm = random_vlm(gain=1.0)
    vlm.model.double()
    gradient = gradients(vlm, packed_logprobs, episodes)
    for name, expected in gradients(vlm, separate_logprobs, episodes).items():
        assert float((gradient[name] - expected).norm()) <= 1e-6 * (1 + float(expected.norm())), name


def test_temperature_divides_the_logits(vlm: VLM) -> None:
    assert_same_logprobs(vlm, group([4, 5]), temperature=0.7)
    with torch.no_grad():
        warm, cold = (packed_logprobs(vlm, group([4]), temperature=t)[0] for t in (1.0, 0.5))
    assert float((warm - cold).abs().max()) > 0.1


@pytest.mark.parametrize("shape", ["G = 8", "several crops", "chains", "outputs longer than the prompt"])
def test_with_gradient_checkpointing(shape: str) -> None:
    vlm, episodes = random_vlm(gain=1.0), SHAPES[shape]()
    plain = gradients(vlm, packed_logprobs, episodes)
    vlm.model.activation_checkpointing_enable()
    vlm.model.train()  # checkpointing is a matter of training mode only
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    vlm.model.model.language_model.layers[0].mlp.register_forward_pre_hook(count)
    checkpointed = gradients(vlm, packed_logprobs, episodes)
    assert runs == 2 * len(pack(vlm.family, episodes))  # the second time while going back
    for name, expected in plain.items():
        torch.testing.assert_close(checkpointed[name], expected, rtol=1e-6, atol=1e-8)
    assert_same_gradients(vlm, episodes)


@pytest.mark.parametrize("shape", ["G = 8", "several crops", "chains", "questions of different length"])
def test_with_lora(shape: str) -> None:
    vlm, episodes = random_vlm(gain=1.0), SHAPES[shape]()
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
    )
    adapted = VLM(peft.get_peft_model(vlm.model, config), vlm.family)
    assert_same_logprobs(adapted, episodes)
    assert_same_gradients(adapted, episodes)
    assert all("lora" in name for name in gradients(adapted, packed_logprobs, episodes))


def test_results_are_in_the_order_of_the_episodes(vlm: VLM) -> None:
    """Whatever the rows' order by size: mixed questions, turns and lengths, then the same reversed."""
    episodes = [
        *located([[crop(0)], [], [crop(1, 3, 2)]]),
        *other_question([3, 9], (2, 2), "locate red", 1),
        *other_question([1, 2, 3], (7, 7), "locate the blue square", 2),
    ]
    mixed = [episodes[i] for i in (3, 0, 6, 1, 4, 2, 7, 5)]
    with torch.no_grad():
        forward, backward = packed_logprobs(vlm, mixed), packed_logprobs(vlm, mixed[::-1])[::-1]
        alone = [packed_logprobs(vlm, [episode])[0] for episode in mixed]
    for one, other, expected in zip(forward, backward, alone, strict=True):
        torch.testing.assert_close(one, expected, atol=LOGPROB_TOLERANCE, rtol=0)
        torch.testing.assert_close(other, expected, atol=LOGPROB_TOLERANCE, rtol=0)


def test_unpack_undoes_the_order_of_packing(vlm: VLM) -> None:
    episodes = [*located([[crop(0)], []]), *other_question([3, 9], (2, 2), "locate red", 1)]
    batches = pack(vlm.family, episodes)
    lengths = [sampled_count(episode) for episode in episodes]
    values = [1000.0 * batch.episode_N + batch.token_N for batch in batches]
    for number, tokens in enumerate(unpack(values, batches, lengths)):
        assert tokens.tolist() == [1000.0 * number + i for i in range(lengths[number])]


def test_only_sampled_tokens_of_a_chain_count(vlm: VLM) -> None:
    """What was inserted between its turns (the end of an over-long reply, the crop, the question) has no log-prob."""
    episodes = chained([[crop(0)], [crop(1)]])
    [batch] = pack(vlm.family, episodes)
    for number, episode in enumerate(episodes):
        sampled = [token for turn in episode.turns for token in turn.completion.token_ids]
        own = batch.episode_N == number
        assert batch.labels_BK[batch.keep_BK][own].tolist() == sampled
        assert batch.token_N[own].tolist() == list(range(len(sampled)))
    assert int(batch.keep_BK.sum()) < int((batch.labels_BK > 0).sum())


def test_a_prompt_may_quote_what_was_sampled_before(vlm: VLM) -> None:
    """A fresh context that holds an earlier reply: its tokens are trained on where they were sampled, not again."""
    first = Context.user(noise_view(3, 3), "locate red")
    said = words(5)
    fresh = Context.user(crop(0), "answer").then(Message("assistant", (Sampled(said),)), Message("user", ("red",)))
    again = fresh.then(Message("assistant", (Sampled(words(3, 1)),)), Message("user", (crop(1), "blue")))
    episode = make_episode(make_question(), (first, said), (fresh, words(3, 1)), (again, words(2, 2)))
    batches = pack(vlm.family, [episode])
    assert sum(int(batch.keep_BK.sum()) for batch in batches) == 10
    assert_same_logprobs(vlm, [episode, *group([3], size=(3, 3))])


def visual_features(vlm: VLM, episodes: list[Episode]) -> int:
    return sum(vlm.family.features_in(batch.images) for batch in pack(vlm.family, episodes))


def test_what_is_shared_is_encoded_once(vlm: VLM) -> None:
    view, one_crop = 4 * 3, 2 * 2
    assert visual_features(vlm, group([3, 4, 5])) == view
    assert visual_features(vlm, located([[crop(0)], [crop(0)], [crop(0)]])) == view + one_crop
    assert visual_features(vlm, located([[crop(0)], [crop(1)], [crop(0)]])) == view + 2 * one_crop
    assert visual_features(vlm, located([[], []])) == 2 * view  # another question about it: another context


def test_the_same_words_about_another_image_are_not_shared(vlm: VLM) -> None:
    """Views of two originals may look alike to `Context.key`; the question keeps them apart."""
    left, right = (
        make_episode(make_question(name), (Context.user(view, "locate red"), words(4)))
        for name, view in (("a", noise_view(3, 3, 0)), ("b", _lookalike(noise_view(3, 3, 0), noise_view(3, 3, 9))))
    )
    assert left.turns[0].context.key == right.turns[0].context.key
    assert len(packing.plan_rows(vlm.family, [left, right])) == 2
    assert_same_logprobs(vlm, [left, right])
    with torch.no_grad():
        one, other = packed_logprobs(vlm, [left, right])
    assert float((one - other).abs().max()) > 0.01


def test_pictures_of_one_question_are_not_taken_for_one_another(vlm: VLM) -> None:
    view = noise_view(3, 3, 0)
    further = replace(_lookalike(view, noise_view(3, 3, 9)), picture=1)
    episodes = [make_episode(make_question(), (Context.user(one, "locate red"), words(4))) for one in (view, further)]
    assert_same_logprobs(vlm, episodes)
    with torch.no_grad():
        one, other = packed_logprobs(vlm, episodes)
    assert float((one - other).abs().max()) > 0.01


def _lookalike(of: View, pixels: View) -> View:
    return View(pixels.image, of.source, of.original_size)


def test_questions_share_a_batch_only_when_it_pays(vlm: VLM) -> None:
    alike = [*other_question([5, 3], (5, 5), "locate red", 1), *other_question([5, 4], (5, 5), "locate blue", 2)]
    unlike = [*other_question([2], (1, 1), "locate red", 1), *other_question([2], (20, 20), "locate blue", 2)]
    assert len(pack(vlm.family, alike)) == 1
    assert len(pack(vlm.family, unlike)) == 2
    assert len(pack(vlm.family, alike, max_tokens=40)) == 2


def test_long_outputs_attend_in_chunks(vlm: VLM) -> None:
    [batch] = pack(vlm.family, SHAPES["outputs longer than the prompt"]())
    assert batch.layout.chunk < batch.layout.branches


@pytest.mark.parametrize("lost", ["features", "placeholders"])
def test_images_that_do_not_match_their_placeholders_stop_the_step(vlm: VLM, lost: str) -> None:
    [batch] = pack(vlm.family, group([3, 4]))
    if lost == "features":
        batch = _replaced(batch, images={})
    else:
        batch = _replaced(batch, input_ids_BT=batch.input_ids_BT.where(batch.input_ids_BT != 5, 7))
    with pytest.raises(ValueError, match=r"\d+ image placeholders but \d+ visual features"):
        packing.batch_logprobs(Scorer(vlm.model), vlm.family, batch)


def _replaced(batch: packing.PackedBatch, **changes: Any) -> packing.PackedBatch:
    return packing.PackedBatch(**{name: getattr(batch, name) for name in batch.__dataclass_fields__} | changes)


def test_a_model_that_was_never_switched_is_switched() -> None:
    """A reference, say: ordinary attention would take the layout for one more keyword and let outputs see others."""
    vlm, episodes = random_vlm(gain=1.0), group([4, 5])
    [batch] = pack(vlm.family, episodes)
    with torch.no_grad():
        found = packing.batch_logprobs(Scorer(vlm.model), vlm.family, batch)
        torch.testing.assert_close(found, torch.cat(separate_logprobs(vlm, episodes)), atol=LOGPROB_TOLERANCE, rtol=0)


def test_no_episodes_and_empty_outputs() -> None:
    vlm = random_vlm()
    assert packed_logprobs(vlm, []) == []
    silent = make_episode(make_question(), (Context.user(noise_view(2, 2), "locate red"), ()))
    for of in (packed_logprobs, separate_logprobs):
        assert [len(values) for values in of(vlm, [silent, *group([3])])] == [0, 3]
        assert [len(values) for values in of(vlm, [silent])] == [0]


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    vlm = random_vlm()
    vlm.family.tokenizer.chat_template = "{{ messages | length }}" + vlm.family.tokenizer.chat_template
    with pytest.raises(ValueError, match="cannot be packed"):
        pack(vlm.family, chained([[crop(0)]]))
