"""What each protocol shows, reads and stops for."""

import dataclasses

import pytest
from tests.scripted import CHOICES, ScriptedGenerator, Traits, completion, question, subject

from foveate.episodes import run_episodes
from foveate.images import PixelBudget
from foveate.protocols import (
    Ask,
    Direct,
    FinishReason,
    GroundAndAnswer,
    LocateThenAnswer,
    Problem,
    Protocol,
    Stop,
    StopReason,
)
from foveate.regions import Box, Frame

WHOLE = Box(0, 0, 1120, 840)
CARD = "[112, 56, 168, 112]"  # of the small view, 448 x 336 for 1120 x 840
CARD_IN_ORIGINAL = Box(280, 140, 420, 280)
BROKEN = completion("[112, 56, 1", FinishReason.LENGTH)
PROTOCOLS = [
    Direct(),
    GroundAndAnswer(),
    LocateThenAnswer(),
    LocateThenAnswer(withhold_full_image=False, max_boxes=1),
    LocateThenAnswer(without_region="full_image"),
]


def run(protocol, *replies, traits=None, **changes):
    generator = ScriptedGenerator(replies, traits or Traits())
    ((_, (episode,)),) = run_episodes([question(**changes)], protocol, generator)
    return episode


def words_of(context):
    (message,) = context.messages
    assert message.role == "user"
    return "\n".join(part for part in message.parts if isinstance(part, str))


def test_the_small_view_is_what_the_boxes_are_written_about():
    assert run(Direct(), "B").turns[0].context.views[0].size == (448, 336)


# --- direct ---------------------------------------------------------------------------------------------------------


def test_direct_shows_the_full_image_once_and_reads_the_answer():
    episode = run(Direct(), "\\boxed{B}")
    assert episode.stop is StopReason.ANSWERED
    assert episode.answer == "B"
    (turn,) = episode.turns
    assert [view.source for view in turn.context.views] == [WHOLE]
    assert not turn.located
    assert turn.problem is None
    assert episode.boxes == ()


def test_direct_without_an_answer():
    episode = run(Direct(), "I cannot tell.")
    assert (episode.stop, episode.answer, episode.turns[0].problem) == (
        StopReason.UNPARSED,
        None,
        Problem.NO_ANSWER,
    )


def test_direct_over_length_keeps_an_answer_that_was_given():
    episode = run(Direct(), completion("\\boxed{B} and so", FinishReason.LENGTH))
    assert (episode.stop, episode.answer, episode.turns[0].problem) == (
        StopReason.ANSWERED,
        "B",
        Problem.OVER_LENGTH,
    )
    cut = run(Direct(), completion("I think that", FinishReason.LENGTH))
    assert (cut.stop, cut.turns[0].problem) == (StopReason.UNPARSED, Problem.OVER_LENGTH)


def test_budgets_of_the_protocol_prevail():
    budget = PixelBudget(28 * 28, 28 * 28 * 4)
    assert run(Direct(view_budget=budget), "B").turns[0].context.views[0].size == (56, 28)
    located = run(LocateThenAnswer(view_budget=budget), "[0, 0, 28, 28]", "B")
    assert [turn.context.views[0].size for turn in located.turns] == [(56, 28), (28, 56)]
    both = LocateThenAnswer(view_budget=budget, crop_budget=PixelBudget(28 * 28, 28 * 28 * 9))
    assert run(both, "[0, 0, 28, 28]", "B").turns[1].context.views[0].size == (56, 84)


@pytest.mark.parametrize(("own", "size"), [(28 * 28 * 4, (56, 28)), (28 * 28 * 1000, (448, 336)), (1, (28, 28))])
def test_a_questions_own_budget_lowers_that_of_the_full_image_and_never_raises_it(own, size):
    assert run(Direct(), "B", view_pixels=own).turns[0].context.views[0].size == size
    smaller = PixelBudget(28 * 28, 28 * 28 * 2)
    assert run(Direct(smaller), "B", view_pixels=own).turns[0].context.views[0].size in ((28, 28), (56, 28))
    assert subject(view_pixels=own).full_view().size == size


@pytest.mark.parametrize("withhold", [True, False])
def test_crops_do_not_know_the_questions_own_budget(withhold):
    protocol = LocateThenAnswer(withhold_full_image=withhold)
    free = run(protocol, CARD, "B").turns[1].context.views[-1]
    small = run(protocol, "[14, 7, 21, 14]", "B", view_pixels=28 * 28 * 4)
    assert small.turns[0].context.views[0].size == (56, 28)
    crop = small.turns[1].context.views[-1]
    assert crop.source == Box(280, 210, 420, 420)
    assert crop.size == (140, 224)
    assert subject(view_pixels=1).crop_view(CARD_IN_ORIGINAL).size == free.size


# --- locate, then answer --------------------------------------------------------------------------------------------


def test_a_valid_box_leads_to_a_crop_and_the_full_image_is_withheld():
    episode = run(LocateThenAnswer(), f'[{{"bbox_2d": {CARD}}}]', "\\boxed{B}")
    locate, answer = episode.turns
    assert locate.boxes == (CARD_IN_ORIGINAL,)
    assert locate.located
    assert locate.problem is None
    assert not answer.located
    assert [view.source for view in locate.context.views] == [WHOLE]
    assert [view.source for view in answer.context.views] == [CARD_IN_ORIGINAL]
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")


@pytest.mark.parametrize("boxes", [1, 2, 4])
@pytest.mark.parametrize("style", ["json", "short"])
def test_the_full_image_is_in_no_view_of_harts_answer_turn(boxes, style):
    rows = [(28 * i, 28 * i, 28 * i + 56, 28 * i + 56) for i in range(boxes)]
    reply = "\n".join(f"{a}, {b}, {c}, {d}" for a, b, c, d in rows)
    episode = run(LocateThenAnswer(), reply, "B", traits=Traits(box_style=style))
    answer = episode.turns[1].context
    assert [view.source for view in answer.views] == list(episode.boxes)
    assert len(answer.views) == boxes
    assert WHOLE not in [view.source for view in answer.views]
    assert all(view.original_size == (1120, 840) for view in answer.views)
    assert len(answer.messages) == 1  # fresh: nothing of the locating turn is in it


def test_the_full_image_can_be_kept():
    episode = run(LocateThenAnswer(withhold_full_image=False), CARD, "B")
    assert [view.source for view in episode.turns[1].context.views] == [WHOLE, CARD_IN_ORIGINAL]
    assert "withheld" not in words_of(episode.turns[1].context)


@pytest.mark.parametrize(("pixels", "size"), [(None, (448, 336)), (28 * 28 * 4, (56, 28)), (1120 * 840, (1120, 840))])
def test_the_full_image_that_is_kept_can_have_a_size_of_its_own(pixels, size):
    budget = PixelBudget(28 * 28, pixels) if pixels else None
    kept = LocateThenAnswer(withhold_full_image=False, answer_view_budget=budget)
    plain = run(LocateThenAnswer(withhold_full_image=False), CARD, "B")
    episode = run(kept, CARD, "B")
    assert [view.size for view in episode.turns[0].context.views] == [(448, 336)]  # what is pointed at stays as it is
    full, crop = episode.turns[1].context.views
    assert (full.source, full.size) == (WHOLE, size)
    assert crop.key == plain.turns[1].context.views[1].key
    assert words_of(episode.turns[1].context) == words_of(plain.turns[1].context)

    withheld = run(LocateThenAnswer(answer_view_budget=budget), CARD, "B")
    assert [view.key for view in withheld.turns[1].context.views] == [crop.key]
    fallen_back = run(LocateThenAnswer(without_region="full_image", answer_view_budget=budget), "no", "B")
    assert [view.size for view in fallen_back.turns[1].context.views] == [size]


def test_a_questions_own_budget_lowers_the_answer_turns_full_image_too():
    kept = LocateThenAnswer(withhold_full_image=False, answer_view_budget=PixelBudget(28 * 28, 1120 * 840))
    episode = run(kept, "[14, 7, 21, 14]", "B", view_pixels=28 * 28 * 4)
    assert episode.turns[1].context.views[0].size == (56, 28)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("I see no card.", Problem.NO_BOX),
        ("", Problem.NO_BOX),
        ("[112, 56, 168]", Problem.MALFORMED),
        ("[168, 112, 112, 56]", Problem.REVERSED),
        ("[280, 140, 420, 400]", Problem.OUTSIDE),
        (BROKEN, Problem.OVER_LENGTH),
    ],
)
def test_without_a_valid_box_the_closed_loop_ends(reply, problem):
    episode = run(LocateThenAnswer(), reply)
    assert (episode.stop, episode.answer) == (StopReason.NO_REGION, None)
    (turn,) = episode.turns
    assert (turn.boxes, turn.located, turn.problem) == ((), True, problem)


@pytest.mark.parametrize("withhold", [True, False])
@pytest.mark.parametrize("reply", ["I see no card.", "[280, 140, 420, 400]", BROKEN])
def test_without_a_valid_box_the_full_image_can_be_shown_again(reply, withhold):
    protocol = LocateThenAnswer(without_region="full_image", withhold_full_image=withhold)
    episode = run(protocol, reply, "\\boxed{B}")
    answer = episode.turns[1].context
    assert [view.source for view in answer.views] == [WHOLE]
    assert answer.views[0] is episode.turns[0].context.views[0]
    assert "withheld" not in words_of(answer)
    assert "crop" not in words_of(answer)
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")


def test_the_fallback_is_not_taken_when_there_is_a_box():
    episode = run(LocateThenAnswer(without_region="full_image"), CARD, "B")
    assert [view.source for view in episode.turns[1].context.views] == [CARD_IN_ORIGINAL]


def test_an_over_long_reply_keeps_the_boxes_it_finished():
    episode = run(LocateThenAnswer(), completion(f"{CARD} and [1, 2", FinishReason.LENGTH), "B")
    assert episode.boxes == (CARD_IN_ORIGINAL,)
    assert episode.turns[0].problem is Problem.OVER_LENGTH
    assert episode.stop is StopReason.ANSWERED


def test_boxes_beyond_the_allowed_number_are_left_out_and_noted():
    reply = str([[28 * i, 0, 28 * i + 28, 28] for i in range(6)])
    episode = run(LocateThenAnswer(max_boxes=2), reply, "B")
    assert len(episode.boxes) == len(episode.turns[1].context.views) == 2
    assert episode.turns[0].problem is Problem.TOO_MANY


def test_a_good_box_among_bad_ones_counts():
    episode = run(LocateThenAnswer(), f"[{CARD}, [0, 0, 9999, 10]]", "B")
    assert episode.boxes == (CARD_IN_ORIGINAL,)
    assert episode.turns[0].problem is Problem.OUTSIDE


def test_boxes_of_the_same_pixels_give_one_crop():
    episode = run(LocateThenAnswer(), "[[112, 56, 168, 112], [112.01, 56.01, 167.99, 111.99]]", "B")
    assert len(episode.boxes) == 2
    assert len(episode.turns[1].context.views) == 1


def test_the_answer_turn_may_hold_no_answer():
    episode = run(LocateThenAnswer(), CARD, "It is blurred.")
    assert (episode.stop, episode.answer) == (StopReason.UNPARSED, None)
    assert episode.turns[1].problem is Problem.NO_ANSWER


def test_every_stop_reason_is_reached():
    reached = {
        run(LocateThenAnswer(), CARD, "B").stop,
        run(LocateThenAnswer(), CARD, "?").stop,
        run(LocateThenAnswer(), "?").stop,
    }
    elsewhere = {StopReason.OUT_OF_CALLS, StopReason.FAILED}
    assert reached == set(StopReason) - elsewhere, "which test_zoom.py and test_episodes.py reach"


def test_boxes_in_thousandths():
    episode = run(LocateThenAnswer(), "[250, 166, 375, 334]", "B", traits=Traits(frame=Frame.THOUSAND))
    assert episode.boxes[0].corners == pytest.approx((280, 139.44, 420, 280.56))
    words = words_of(episode.turns[0].context)
    assert "1000" in words
    assert "448" not in words


@pytest.mark.parametrize("options", [{"max_boxes": 0}, {"max_boxes": -1}, {"without_region": "guess"}])
def test_options_without_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LocateThenAnswer(**options)


# --- every protocol -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocols_are_stateless(protocol):
    """What they do depends on the turns alone: asked twice, or after other episodes, they do the same."""
    assert dataclasses.is_dataclass(protocol)
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        protocol.anything = 1
    about, turns = subject(), []
    for _ in range(4):
        step, again = protocol.next(about, turns), protocol.next(subject(), list(turns))
        run(protocol, "[0, 0, 28, 28]", "A")  # another episode in between
        if isinstance(step, Stop):
            assert step == again
            return
        assert step.context.key == again.context.key
        reply = completion(CARD if not turns and not isinstance(protocol, Direct) else "B")
        turn = protocol.read(about, turns, step.context, reply)
        assert turn == protocol.read(about, list(turns), step.context, reply)
        turns = [*turns, turn]
    pytest.fail("the protocol does not stop")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("style", ["json", "short"])
@pytest.mark.parametrize("choices", [CHOICES, None])
def test_prompts_leak_neither_answer_nor_regions(protocol, style, choices):
    """Another answer, other true boxes, another category: the very same words."""
    shown = []
    for answer, regions in (("A", ()), ("B", ((Box(280, 140, 420, 280),),))):
        expected = answer if choices else f"secret-{answer}"
        episode = run(
            protocol,
            CARD,
            "B",
            traits=Traits(box_style=style),
            answer=expected,
            choices=choices,
            regions=regions,
            category=f"category-{answer}",
        )
        shown.append([words_of(turn.context) for turn in episode.turns])
        assert all("secret" not in words and "category" not in words for words in shown[-1])
    assert shown[0] == shown[1]


@pytest.mark.parametrize("style", ["json", "short"])
def test_the_choices_are_shown_when_the_answer_is_asked_only(style):
    locate, answer = run(LocateThenAnswer(), CARD, "B", traits=Traits(box_style=style)).turns
    assert "dog" not in words_of(locate.context)
    assert ("(B) a dog" in words_of(answer.context)) == (style == "json")


def test_the_json_style_says_what_is_needed():
    locate, answer = run(LocateThenAnswer(), CARD, "B").turns
    asked, answered = words_of(locate.context), words_of(answer.context)
    for words in ("What is on the red card?", "bbox_2d", "448 x 336", "at most 4"):
        assert words in asked
    for words in ("What is on the red card?", "withheld", "one crop", "\\boxed{}", "(A) a cat"):
        assert words in answered
    assert "one region" in words_of(run(LocateThenAnswer(max_boxes=1), CARD, "B").turns[0].context)
    assert "2 crops" in words_of(run(LocateThenAnswer(), f"[{CARD}, [0, 0, 28, 28]]", "B").turns[1].context)


def test_the_short_style_is_the_verb_and_the_question():
    locate, answer = run(LocateThenAnswer(), CARD, "B", traits=Traits(box_style="short")).turns
    assert words_of(locate.context) == "locate What is on the red card?"
    assert words_of(answer.context) == "answer What is on the red card?"


def test_a_protocol_of_ones_own_needs_two_methods():
    class Twice(Protocol):
        def next(self, subject, turns):
            return Ask(Direct().next(subject, []).context) if len(turns) < 2 else Stop(StopReason.ANSWERED, "B")

        def read(self, subject, turns, context, completion):
            return Direct().read(subject, turns, context, completion)

    assert len(run(Twice(), "A", "B").turns) == 2
