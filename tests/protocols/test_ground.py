"""MGPO's rollout: one growing history, the choices held back, the original image where no box was valid."""

import pytest
from tests.scripted import ScriptedGenerator, Traits, completion, question

from foveate.episodes import run_episodes
from foveate.protocols import FinishReason, GroundThenAnswer, Problem, StopReason
from foveate.regions import Box, Frame

WHOLE = Box(0, 0, 1120, 840)
CARD = '[{"bbox_2d": [112, 56, 168, 112], "label": "card"}]'  # of the small view, 448 x 336 for 1120 x 840
CARD_IN_ORIGINAL = Box(280, 140, 420, 280)


def run(*replies, turns=2, traits=None, **changes):
    generator = ScriptedGenerator(replies, traits or Traits())
    ((_, (episode,)),) = run_episodes([question(**changes)], GroundThenAnswer(turns), generator)
    return episode


def words(message):
    return "\n".join(part for part in message.parts if isinstance(part, str))


def test_the_template_of_two_turns():
    episode = run(CARD, "It is a dog. \\boxed{B}")
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")
    first, second = episode.turns
    assert first.boxes == (CARD_IN_ORIGINAL,)
    system, asked = first.context.messages
    assert (system.role, asked.role) == ("system", "user")
    assert "JSON" in words(asked)
    assert "a dog" not in words(asked), "the choices are not shown in the first turn"
    assert second.context.messages[:2] == first.context.messages, "the history grows, and nothing of it is rewritten"
    said, brought = second.context.messages[2:]
    assert said.parts == (first.completion.sampled,)
    assert "(B) a dog" in words(brought)
    assert [view.source for view in second.context.views] == [WHOLE, CARD_IN_ORIGINAL], "the full image stays"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("I see a card.", Problem.NO_BOX),
        ("[168, 56, 112, 112]", Problem.REVERSED),
        ("[112, 56, 5000, 112]", Problem.OUTSIDE),
        (completion("[112, 56", FinishReason.LENGTH), Problem.OVER_LENGTH),
    ],
)
def test_without_valid_coordinates_the_original_image_comes_back(reply, problem):
    episode = run(reply, "B")
    assert episode.turns[0].problem is problem
    assert [view.source for view in episode.turns[1].context.views] == [WHOLE, WHOLE]
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")


def test_further_turns_locate_within_the_newest_crop():
    # The crop of 140 x 140 original pixels is shown at 140 x 140: its lower right quarter is (350, 210) to (420, 280).
    episode = run(CARD, "[70, 70, 140, 140]", "B", turns=3)
    assert [turn.located for turn in episode.turns] == [True, True, False]
    assert episode.turns[1].boxes == (Box(350, 210, 420, 280),)
    assert [view.source for view in episode.turns[2].context.views] == [
        WHOLE,
        CARD_IN_ORIGINAL,
        Box(350, 210, 420, 280),
    ]
    assert episode.answer == "B"


def test_thousandths_are_of_the_image_shown_last():
    episode = run("[250, 167, 375, 333]", "[500, 500, 1000, 1000]", "B", turns=3, traits=Traits(frame=Frame.THOUSAND))
    inner = episode.turns[1].boxes[0]
    outer = episode.turns[2].context.views[1].source
    assert outer.contains(inner)
    assert inner.corners == pytest.approx((outer.x1 + outer.width / 2, outer.y1 + outer.height / 2, outer.x2, outer.y2))


def test_the_short_style_needs_no_system_message():
    episode = run("112 56 168 112", "7", traits=Traits(box_style="short"), choices=None, answer="7")
    assert [message.role for message in episode.turns[1].context.messages] == ["user", "assistant", "user"]
    assert episode.answer == "7"


def test_one_turn_is_too_few():
    with pytest.raises(ValueError, match="turns is 1"):
        GroundThenAnswer(1)
