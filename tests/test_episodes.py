"""Episodes: who is asked what, how often, and with which random numbers."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.scripted import ScriptedGenerator, Traits, picture, question

from foveate.context import Sampled
from foveate.episodes import Answerer, run_episodes
from foveate.generators.base import Sampling
from foveate.images import ImageError, PixelBudget
from foveate.protocols import (
    Completion,
    Direct,
    FinishReason,
    GroundAndAnswer,
    GroundThenAnswer,
    GroundUntilAnswered,
    LocateThenAnswer,
    PointThenCount,
    StopReason,
    ZoomTool,
)
from foveate.protocols.base import SharedContextError
from foveate.regions import Frame

CARD = "[112, 56, 168, 112]"
REPLIES = ("[0, 0, 112, 112]", "[28, 28, 112, 112]", CARD, "no box", "[9, 9, 3, 3]")


def by_seed(context, seed):
    """Random, but decided by the context and the seed, as a model's replies are."""
    words = str(context.messages[0].parts[-1])
    return REPLIES[seed % len(REPLIES)] if "bbox_2d" in words else "AB?"[seed % 3]


def said(groups):
    """What can be compared of two runs: views are equal only to themselves."""
    return [
        (
            group.question.id,
            [
                (
                    episode.answer,
                    episode.stop,
                    [(turn.context.key, turn.completion, turn.boxes) for turn in episode.turns],
                )
                for episode in group.episodes
            ],
        )
        for group in groups
    ]


def questions(count):
    return [question(f"q{i}", answer="AB"[i % 2]) for i in range(count)]


@settings(max_examples=8)
@given(at_once=st.integers(1, 9), n=st.integers(1, 5), seed=st.integers(0, 2**64))
def test_results_do_not_depend_on_how_many_run_at_once(at_once, n, seed):
    protocol = LocateThenAnswer(without_region="full_image")
    whole = run_episodes(questions(7), protocol, ScriptedGenerator(by_seed), n=n, seed=seed)
    parts = run_episodes(questions(7), protocol, ScriptedGenerator(by_seed), n=n, seed=seed, at_once=at_once)
    assert said(whole) == said(parts)


def test_seeds_do_not_depend_on_the_batch_the_order_or_the_number_of_episodes():
    def seeds(asked, n):
        generator = ScriptedGenerator(by_seed)
        groups = run_episodes(asked, LocateThenAnswer(), generator, n=n, seed=5)
        return {group.question.id: [e.turns[0].completion for e in group.episodes] for group in groups}

    all_of_them = seeds(questions(6), 4)
    assert seeds(questions(6)[::-1], 4) == all_of_them
    assert seeds([question("q3")], 4)["q3"] == all_of_them["q3"]
    assert seeds([question("q3")], 2)["q3"] == all_of_them["q3"][:2]


def test_every_episode_and_turn_has_its_own_seed_and_runs_theirs():
    def seeds(seed):
        generator = ScriptedGenerator(lambda context, seed: CARD)
        run_episodes(questions(5), LocateThenAnswer(), generator, n=4, seed=seed)
        return [s for request in generator.requests for s in request.seeds]

    drawn = seeds(0)
    assert len(set(drawn)) == len(drawn) == 5 * 4 * 2
    assert all(0 <= seed < 2**63 for seed in drawn)
    assert not set(drawn) & set(seeds(1))
    assert drawn == seeds(0)


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_a_question_that_comes_again_is_not_given_the_same_episodes_again(at_once):
    """A step takes small data more than once: copies of a group would teach nothing new."""

    def seeds(asked, n):
        generator = ScriptedGenerator(by_seed)
        run_episodes(asked, Direct(), generator, n=n, seed=5, at_once=at_once)
        return [s for request in generator.requests for s in request.seeds]

    [one, other] = questions(2)
    assert seeds([one, other, one, one], 2) == [*seeds([one], 2), *seeds([other], 2), *seeds([one], 6)[2:]]


def test_the_seeds_are_the_same_on_every_machine():
    """Runs are resumed elsewhere: these must not change."""
    generator = ScriptedGenerator(["B"])
    run_episodes([question("q")], Direct(), generator, n=2, seed=7)
    assert generator.requests[0].seeds == (2525401927468964288, 5421761263353149417)


def test_shared_contexts_are_asked_once():
    generator = ScriptedGenerator(by_seed)
    groups = run_episodes(questions(3), LocateThenAnswer(), generator, n=8, seed=3)
    first, second = generator.batches
    assert [len(request.seeds) for request in first] == [8, 8, 8]
    for group in groups:
        crops = [e.turns[1].context for e in group.episodes if len(e.turns) == 2]
        assert len({id(context) for context in crops}) == len({context.key for context in crops})
    answered = sum(len(e.turns) == 2 for group in groups for e in group.episodes)
    assert sum(len(request.seeds) for request in second) == answered
    assert len(second) == sum(
        len({e.turns[1].context.key for e in group.episodes if len(e.turns) == 2}) for group in groups
    )
    assert len(second) < answered


def test_contexts_of_different_pictures_are_not_shared_though_they_look_alike():
    generator = ScriptedGenerator(["B"])
    run_episodes([question("q1"), question("q2")], Direct(), generator, n=2)
    assert [len(request.seeds) for request in generator.requests] == [2, 2]


@pytest.mark.parametrize("other", [None, Answerer(LocateThenAnswer(), ScriptedGenerator(by_seed))])
def test_each_picture_is_opened_once_and_let_go(other):
    opened = []

    def source():
        image = picture()
        opened.append(weakref.ref(image))
        return image

    asked = [question(f"q{i}", image=source) for i in range(5)]
    alive = []

    def progress(count):
        gc.collect()
        alive.append((count, sum(image() is not None for image in opened)))

    groups = run_episodes(
        asked, LocateThenAnswer(), ScriptedGenerator(by_seed), answerer=other, n=6, at_once=2, on_progress=progress
    )
    assert len(opened) == 5
    assert alive == [(2, 0), (2, 0), (1, 0)]
    assert len(groups) == 5


@pytest.mark.parametrize(("bound", "chunks"), [(1, [1] * 7), (3, [3, 3, 1]), (2.5, [3, 3, 1]), (100, [5, 2])])
def test_originals_in_memory_stay_under_a_bound(monkeypatch, bound, chunks):
    monkeypatch.setattr("foveate.episodes.HELD_PIXELS", int(bound * 1120 * 840))
    seen = []
    groups = run_episodes(
        questions(7), LocateThenAnswer(), ScriptedGenerator(by_seed), n=3, at_once=5, on_progress=seen.append
    )
    assert seen == chunks
    assert said(groups) == said(run_episodes(questions(7), LocateThenAnswer(), ScriptedGenerator(by_seed), n=3))


def test_crops_are_cut_from_the_original_pixels():
    rng = np.random.default_rng(0)
    original = Image.fromarray(rng.integers(0, 256, (840, 1120, 3), np.uint8))
    ((_, (episode,)),) = run_episodes(
        [question(image=lambda: original)], LocateThenAnswer(), ScriptedGenerator([CARD, "B"])
    )
    (view,) = episode.turns[1].context.views
    part = original.crop((280, 140, 420, 280))
    assert view.source.corners == (280, 140, 420, 280)
    assert np.array_equal(np.asarray(view.image), np.asarray(part.resize(view.size, Image.Resampling.BICUBIC)))


def test_groups_hold_their_questions_in_order_with_n_episodes_each():
    asked = questions(5)
    groups = run_episodes(iter(asked), LocateThenAnswer(), ScriptedGenerator(by_seed), n=3, at_once=2)
    assert [group.question for group in groups] == asked
    for group in groups:
        assert len(group.episodes) == 3
        assert all(episode.question.id == group.question.id for episode in group.episodes)
        assert all(episode.image_size == (1120, 840) for episode in group.episodes)


@pytest.mark.parametrize(
    ("protocol", "asked"),
    [(Direct(), 0), (LocateThenAnswer(), 1), (GroundThenAnswer(), 1), (GroundThenAnswer(3), 2)],
    ids=str,
)
def test_final_turns_may_be_written_by_another_hand(protocol, asked):
    """The generator only locates; the context of the answer is the one that it would have been shown."""

    def answered_by(asked):
        return Completion((5, 1), (), f"\\boxed{{{asked.answer}}}", FinishReason.END)

    generator = ScriptedGenerator([CARD, "[0, 0, 28, 28]"])
    groups = run_episodes(questions(3), protocol, generator, answered_by=answered_by)
    script = [*[CARD, "[0, 0, 28, 28]"][:asked], "A"]
    whole = run_episodes(questions(3), protocol, ScriptedGenerator(script))
    assert len(generator.requests) == 3 * asked
    for group, own in zip(groups, whole, strict=True):
        [written], [sampled] = group.episodes, own.episodes
        assert (written.answer, written.stop) == (group.question.answer, StopReason.ANSWERED)
        assert [turn.context.key for turn in written.turns] == [turn.context.key for turn in sampled.turns]
        assert written.turns[-1].completion.token_ids == (5, 1)


def test_episodes_that_end_early_leave_the_batch():
    generator = ScriptedGenerator(["no box"])
    groups = run_episodes(questions(2), LocateThenAnswer(), generator, n=3)
    assert len(generator.batches) == 1
    assert {episode.stop for group in groups for episode in group.episodes} == {StopReason.NO_REGION}


@pytest.mark.parametrize("failing", [0, 1])
def test_a_turn_without_a_reply_ends_its_episode_and_no_other(failing):
    """An endpoint that failed: its reason is kept, nothing is read from it, and the others go on."""

    def script(context, seed):
        locating = "bbox_2d" in str(context.messages[0].parts[-1])
        if seed % 2 and locating == (failing == 0):
            return Completion((), (), "A", FinishReason.FAILED)
        return CARD if locating else "A"

    groups = run_episodes(questions(6), LocateThenAnswer(), ScriptedGenerator(script), n=4)
    episodes = [episode for group in groups for episode in group.episodes]
    failed = [episode for episode in episodes if episode.stop is StopReason.FAILED]
    assert 0 < len(failed) < len(episodes)
    for episode in failed:
        assert (episode.answer, len(episode.turns)) == (None, failing + 1)
        assert episode.turns[-1].completion.text == "A"
        assert not episode.turns[-1].boxes
    assert {episode.stop for episode in episodes if episode not in failed} == {StopReason.ANSWERED}


def test_no_questions_no_work():
    generator = ScriptedGenerator([])
    assert run_episodes([], Direct(), generator) == []
    assert generator.batches == []


def test_a_picture_that_cannot_be_used_is_named_with_its_question(tmp_path):
    with pytest.raises(ImageError, match=r"question q7: .*gone\.png"):
        run_episodes([question("q7", image=tmp_path / "gone.png")], Direct(), ScriptedGenerator(["B"]))


@pytest.mark.parametrize("options", [{"n": 0}, {"at_once": 0}, {"n": -1}])
def test_nothing_is_not_run(options):
    with pytest.raises(ValueError, match="at_once"):
        run_episodes(questions(1), Direct(), ScriptedGenerator(["B"]), **options)


def test_the_sampling_is_passed_on():
    passed = []

    class Listening(ScriptedGenerator):
        def generate(self, requests, sampling):
            passed.append(sampling)
            return super().generate(requests, sampling)

    run_episodes(questions(1), Direct(), Listening(["B"]), sampling=Sampling(0.3, 17))
    run_episodes(questions(1), Direct(), Listening(["B"]))
    assert passed == [Sampling(0.3, 17), Sampling()]


def test_a_generator_that_loses_a_reply_is_found_out():
    class Losing(ScriptedGenerator):
        def generate(self, requests, sampling):
            return [replies[:-1] for replies in super().generate(requests, sampling)]

    with pytest.raises(ValueError, match="zip"):
        run_episodes(questions(1), Direct(), Losing(["B"]), n=2)


SMALL = Traits(Frame.THOUSAND, "short", 28, PixelBudget(28 * 28, 28 * 28 * 20))
LARGE = Traits(Frame.PIXEL, "json", 32, PixelBudget(32 * 32, 32 * 32 * 300))
TWO_TURNS = [
    LocateThenAnswer(),
    LocateThenAnswer(without_region="full_image"),
    LocateThenAnswer(withhold_full_image=False, answer_view_budget=PixelBudget(784, 784 * 99)),
]


@pytest.mark.parametrize("protocol", TWO_TURNS, ids=str)
@pytest.mark.parametrize("itself", [True, False])
def test_two_models_that_are_the_same_are_one(protocol, itself):
    alone = run_episodes(questions(6), protocol, ScriptedGenerator(by_seed), n=5, seed=3)
    locator = ScriptedGenerator(by_seed)
    answerer = Answerer(protocol, locator if itself else ScriptedGenerator(by_seed))
    together = run_episodes(questions(6), protocol, locator, answerer=answerer, n=5, seed=3, at_once=4)
    assert said(together) == said(alone)


def test_each_turn_is_asked_of_its_own_model_in_its_own_terms():
    """The box is read in the locator's frame; patch, budget and words of the answer turn are the answerer's."""
    locator = ScriptedGenerator(["250 167 375 334"], SMALL)
    answerer = ScriptedGenerator([r"\boxed{B}"], LARGE)
    protocol = LocateThenAnswer(withhold_full_image=False)
    [[_, [episode]]] = run_episodes(questions(1), protocol, locator, answerer=Answerer(protocol, answerer))
    [asked], [answered] = locator.requests, answerer.requests
    [view] = asked.context.views
    full, crop = answered.context.views
    assert view.size[0] * view.size[1] <= SMALL.budget.max_pixels
    assert view.size[0] % 28 == view.size[1] % 28 == 0
    assert asked.context.messages[0].parts[-1] == "locate What is on the red card?"
    assert episode.boxes[0].corners == pytest.approx((280, 140, 420, 281), abs=1)
    for shown in (full, crop):
        assert shown.size[0] % 32 == shown.size[1] % 32 == 0
    assert SMALL.budget.max_pixels < full.size[0] * full.size[1] <= LARGE.budget.max_pixels
    assert crop.source.corners == tuple(round(c) for c in episode.boxes[0].corners)
    assert r"\boxed{}" in str(answered.context.messages[-1].parts[-1])
    assert (episode.answer, episode.stop) == ("B", StopReason.ANSWERED)
    parts = [part for message in answered.context.messages for part in message.parts]
    assert not any(isinstance(part, Sampled) for part in parts), "its token ids would mean nothing to another model"


def test_each_of_two_models_gets_full_batches_with_the_seeds_of_one():
    protocol = LocateThenAnswer()
    alone = ScriptedGenerator(lambda context, seed: CARD)
    run_episodes(questions(5), protocol, alone, n=4, seed=9)
    locator, answerer = (ScriptedGenerator(lambda context, seed: CARD) for _ in range(2))
    run_episodes(questions(5), protocol, locator, answerer=Answerer(protocol, answerer), n=4, seed=9)
    assert [len(batch) for batch in (*locator.batches, *answerer.batches)] == [5, 5]
    seeds = [[request.seeds for request in batch] for batch in (*locator.batches, *answerer.batches)]
    assert seeds == [[request.seeds for request in batch] for batch in alone.batches]


def test_who_finds_nothing_leaves_the_answerer_alone_or_the_full_image_to_it():
    for protocol, asked in ((LocateThenAnswer(), 0), (LocateThenAnswer(without_region="full_image"), 2)):
        answerer = ScriptedGenerator(["B"], LARGE)
        run_episodes(questions(2), protocol, ScriptedGenerator(["no box"]), answerer=Answerer(protocol, answerer))
        assert len(answerer.requests) == asked
        assert all(view.size[0] % 32 == 0 for request in answerer.requests for view in request.context.views)


def test_an_answerer_that_fails_fails_the_episode_and_a_reference_answer_comes_before_it():
    protocol, locator = LocateThenAnswer(), ScriptedGenerator(lambda context, seed: CARD)
    failed = ScriptedGenerator([Completion((), (), "gone", FinishReason.FAILED)])
    [[_, [episode]]] = run_episodes(questions(1), protocol, locator, answerer=Answerer(protocol, failed))
    assert (episode.stop, len(episode.turns), len(episode.boxes)) == (StopReason.FAILED, 2, 1)
    never = Answerer(protocol, ScriptedGenerator([]))
    written = Completion((), (), "A", FinishReason.END)
    [[_, [episode]]] = run_episodes(
        questions(1), protocol, locator, answerer=never, answered_by=lambda question: written
    )
    assert episode.answer == "A"


@pytest.mark.parametrize(
    "protocol",
    [Direct(), GroundThenAnswer(), GroundUntilAnswered(), GroundAndAnswer(), PointThenCount(), ZoomTool()],
    ids=lambda protocol: type(protocol).__name__,
)
def test_two_models_are_refused_where_one_would_go_on_in_the_words_of_the_other(protocol):
    locator, answerer = ScriptedGenerator([]), ScriptedGenerator([])
    with pytest.raises(SharedContextError, match=f"{type(protocol).__name__} has no .* by the protocol locate"):
        run_episodes(questions(1), protocol, locator, answerer=Answerer(protocol, answerer))
    assert locator.batches == answerer.batches == []
