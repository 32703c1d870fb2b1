"""The crop tool: the model decides, calls cost, errors say what to mend."""

import pytest
from tests.scripted import ScriptedGenerator, Traits, completion, question

from foveate.episodes import run_episodes
from foveate.protocols import FinishReason, Problem, StopReason, ZoomTool
from foveate.regions import Box

WHOLE = Box(0, 0, 1120, 840)
CARD_IN_ORIGINAL = Box(280, 140, 420, 280)


def call(box: str) -> str:
    return f'I look closer. <tool_call>{{"name": "crop", "arguments": {{"bbox_2d": {box}}}}}</tool_call>'


CARD = call("[112, 56, 168, 112]")  # of the small view, 448 x 336 for 1120 x 840


def run(*replies, max_calls=3, traits=None, **changes):
    generator = ScriptedGenerator(replies, traits or Traits())
    ((_, (episode,)),) = run_episodes([question(**changes)], ZoomTool(max_calls), generator)
    return episode


def said_last(turn):
    return "\n".join(part for part in turn.context.messages[-1].parts if isinstance(part, str))


def test_it_may_answer_at_once():
    episode = run("\\boxed{B}")
    assert (episode.stop, episode.answer, len(episode.turns), episode.boxes) == (StopReason.ANSWERED, "B", 1, ())
    system, asked = episode.turns[0].context.messages
    assert "<tool_call>" in system.parts[0]
    assert "(B) a dog" in asked.parts[1]


def test_each_call_brings_a_crop_of_the_original_into_a_growing_history():
    episode = run(CARD, call("[0, 0, 448, 336]"), "\\boxed{B}")
    assert episode.answer == "B"
    assert episode.boxes == (CARD_IN_ORIGINAL, WHOLE)
    last = episode.turns[-1].context
    assert [view.source for view in last.views] == [WHOLE, CARD_IN_ORIGINAL, WHOLE]
    assert last.messages[2].parts == (episode.turns[0].completion.sampled,)
    assert "2 calls left" in said_last(episode.turns[1])
    assert "one call left" in said_last(episode.turns[2])


@pytest.mark.parametrize(
    ("reply", "problem", "told"),
    [
        ("<tool_call>crop please</tool_call>", Problem.NO_BOX, "bbox_2d"),
        (call("[1, 2, 3]"), Problem.MALFORMED, "four numbers"),
        (call("[168, 56, 112, 112]"), Problem.REVERSED, "x1 must be less than x2"),
        (call("[0, 0, 5000, 10]"), Problem.OUTSIDE, "outside"),
        (completion("<tool_call>{", FinishReason.LENGTH), Problem.OVER_LENGTH, "cut off"),
    ],
)
def test_a_call_that_cannot_be_carried_out_is_answered_with_its_mend(reply, problem, told):
    episode = run(reply, "B")
    assert episode.turns[0].problem is problem
    assert told in said_last(episode.turns[1])
    assert len(episode.turns[1].context.views) == 1
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")


def test_the_budget_of_calls_ends_the_episode():
    episode = run(CARD, CARD, "\\boxed{B}", max_calls=2)
    assert "no call left" in said_last(episode.turns[2])
    assert episode.answer == "B"
    beyond = run(CARD, CARD, CARD, max_calls=2)
    assert (beyond.stop, beyond.answer, len(beyond.turns)) == (StopReason.OUT_OF_CALLS, None, 3)


def test_one_box_a_call():
    episode = run(call("[[112, 56, 168, 112], [0, 0, 50, 50]]"), "B")
    assert episode.turns[0].boxes == (CARD_IN_ORIGINAL,)
    assert episode.turns[0].problem is Problem.TOO_MANY


def test_the_short_style():
    episode = run("112 56 168 112", "7", traits=Traits(box_style="short"), choices=None, answer="7")
    assert episode.boxes == (CARD_IN_ORIGINAL,)
    assert episode.answer == "7"


def test_no_call_at_all_is_another_protocol():
    with pytest.raises(ValueError, match="direct"):
        ZoomTool(0)
