"""Engines that are not the trainer: no episode waits for another, and nothing is taken that cannot be right."""

import math

import pytest
from tests.engines import CopyEngine, said
from tests.scripted import picture

from foveate.context import Context
from foveate.episodes import run_episodes
from foveate.families import load
from foveate.generators import LocalGenerator, Request, Sampling
from foveate.generators.rollout import RolloutError
from foveate.generators.weights import policy_tensors
from foveate.images import PixelBudget, full_view
from foveate.protocols import GroundThenAnswer, LocateThenAnswer
from foveate.questions.scenes import SceneConfig, Scenes

SCENES = Scenes(SceneConfig(size=448), seed=5, length=3)
BRIEF = Sampling(1.0, 8)


@pytest.fixture(scope="module")
def vlm():
    return load()


@pytest.fixture
def engine(vlm):
    made = CopyEngine(vlm)
    made.update_weights(policy_tensors(vlm.model))
    return made


def view(area: int = 12_000):
    return full_view(picture(), PixelBudget(784, area), 28)


@pytest.mark.parametrize("protocol", [LocateThenAnswer(without_region="full_image"), GroundThenAnswer(turns=3)])
def test_episodes_are_the_same_in_lock_step_and_as_replies_arrive(vlm, engine, protocol) -> None:
    ways = [run_episodes(SCENES, protocol, one, n=4, sampling=BRIEF, seed=7) for one in (LocalGenerator(vlm), engine)]
    for locked, flowing in zip(*ways, strict=True):
        for one, other in zip(locked.episodes, flowing.episodes, strict=True):
            assert [said(turn.completion) for turn in one.turns] == [said(turn.completion) for turn in other.turns]
            assert [turn.context.key for turn in one.turns] == [turn.context.key for turn in other.turns]
            assert (one.answer, one.stop, one.boxes) == (other.answer, other.stop, other.boxes)


def test_a_next_turn_is_asked_before_the_others_have_arrived(engine) -> None:
    pending: list[int] = []
    arrived = engine._arrived

    def watched():
        pending.append(len(engine._waiting))
        return arrived()

    engine._arrived = watched
    run_episodes(SCENES, LocateThenAnswer(without_region="full_image"), engine, n=4, sampling=BRIEF)
    assert len(pending) > 12  # several turns
    assert 12 in pending[1:]  # one came, its next turn was asked for: all twelve episodes are at work


def test_equal_contexts_of_a_group_are_one_object_however_they_arrive(engine) -> None:
    (group, *_) = run_episodes(SCENES, LocateThenAnswer(), engine, n=4, sampling=BRIEF)
    contexts = [turn.context for episode in group.episodes for turn in episode.turns]
    assert len({id(context) for context in contexts}) == len({context.key for context in contexts})


def test_without_weights_nothing_is_sampled(vlm) -> None:
    with pytest.raises(RolloutError, match="update_weights"):
        CopyEngine(vlm).generate([Request(Context.user("hello"), (1,))], BRIEF)


def test_a_family_that_was_not_tried_is_refused(vlm, monkeypatch) -> None:
    monkeypatch.setattr(type(vlm.family), "name", "another_vl")
    with pytest.raises(RolloutError, match=r"another_vl.*setup.engine.name=local"):
        CopyEngine(vlm)


def test_what_is_asked_is_dropped_when_nobody_listens(engine) -> None:
    arrivals = engine.arriving([Request(Context.user(view(), "where?"), (1, 2, 3))], BRIEF)
    next(arrivals)
    arrivals.close()
    assert engine.given_up == 2


def test_what_is_asked_is_dropped_when_the_next_cannot_be(engine, monkeypatch) -> None:
    submit = engine._submit

    def refusing(number, request, sampling):
        if number == 1:
            raise RolloutError("too long")
        submit(number, request, sampling)

    monkeypatch.setattr(engine, "_submit", refusing)
    with pytest.raises(RolloutError, match="too long"):
        engine.generate([Request(Context.user(view(), "where?"), (1, 2)), Request(Context.user("no"), (3,))], BRIEF)
    assert engine.given_up == 2


def test_a_context_goes_out_with_one_placeholder_a_picture(engine) -> None:
    context = Context.user(view(), view(5000), "which is larger?")
    family, collapsed = engine.family, engine._collapsed(context)
    whole = family.encode(context).token_ids
    assert collapsed.count(family.image_token_id) == 2
    assert [token for token in collapsed if token != family.image_token_id] == [
        token for token in whole if token != family.image_token_id
    ]
    engine._check_prompt(context, whole)
    with pytest.raises(RolloutError, match=r"has resized them.*pixel limits"):
        engine._check_prompt(context, collapsed)


@pytest.mark.parametrize("logprobs", [(-1.0,), (-1.0, math.nan), (-1.0, -math.inf), (-1.0, -1.0, -1.0)])
def test_every_token_comes_with_its_finite_log_prob(engine, logprobs) -> None:
    with pytest.raises(RolloutError, match="2 tokens"):
        engine._completion((40, 1), logprobs)
