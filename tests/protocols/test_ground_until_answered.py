"""MGPO's general form: each turn answers or looks closer, the last one answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted import ScriptedGenerator, Traits, completion, question

from foveate.episodes import run_episodes
from foveate.protocols import FinishReason, GroundUntilAnswered, Problem, StopReason
from foveate.regions import Box

WHOLE = Box(0, 0, 1120, 840)
CARD = '[{"bbox_2d": [112, 56, 168, 112], "label": "B"}]'  # of the small view, 448 x 336 for 1120 x 840
CARD_IN_ORIGINAL, INNER = Box(280, 140, 420, 280), Box(350, 210, 420, 280)
SHORT = Traits(box_style="short")
OPEN = {"choices": None, "answer": "7"}


def run(*replies, turns=3, traits=None, **changes):
    generator = ScriptedGenerator(replies, traits or Traits())
    ((_, (episode,)),) = run_episodes([question(**changes)], GroundUntilAnswered(turns), generator)
    return episode


def words(message):
    return "\n".join(part for part in message.parts if isinstance(part, str))


@pytest.mark.parametrize(
    "reply",
    [
        "\\boxed{B}",
        "It is a dog. <answer>B</answer>",
        "B",
        "The answer is (B).",
        '{"answer": "B"}',
        f"{CARD} so \\boxed{{B}}",
        '{"bbox_2d": [112, 56, 168, 112], "answer": "B"}',
    ],
)
def test_an_answer_ends_the_episode_at_once(reply):
    episode = run(reply)
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")
    (turn,) = episode.turns
    assert (turn.located, turn.boxes, turn.problem) == (False, (), None), "nothing was cropped"


@pytest.mark.parametrize("reply", ["\\boxed{7}", "<answer>7</answer>", '{"answer": 7}', f"{CARD} \\boxed{{7}}"])
def test_so_does_an_open_answer_that_is_marked_as_one(reply):
    assert (run(reply, **OPEN).answer, len(run(reply, **OPEN).turns)) == ("7", 1)


def test_crops_come_into_a_growing_history_until_there_is_an_answer():
    episode = run(CARD, "[70, 70, 140, 140]", "B", turns=4)
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")
    assert [turn.located for turn in episode.turns] == [True, True, False]
    assert episode.boxes == (CARD_IN_ORIGINAL, INNER), "each within the image shown last"
    last = episode.turns[-1].context
    assert [view.source for view in last.views] == [WHOLE, CARD_IN_ORIGINAL, INNER]
    for turn in episode.turns:
        assert last.messages[: len(turn.context.messages)] == turn.context.messages
    assert last.messages[2].parts == (episode.turns[0].completion.sampled,)


def test_every_turn_shows_the_choices_and_says_what_may_be_done():
    episode = run(CARD, "I see nothing.", "B")
    system, *asked = (message for message in episode.turns[-1].context.messages if message.role != "assistant")
    assert "as soon as you can" in words(system)
    assert "up to 2 times" in words(system)
    assert all("(B) a dog" in words(message) for message in asked)
    first, second, last = map(words, asked)
    assert "If you cannot answer yet, give instead the coordinates" in first
    assert "448 x 336" in first
    assert "enlarged" in second
    assert "140 x 140" in second, "coordinates are of the crop"
    assert "coordinates of the key area" not in last
    assert "original image again" in last


@pytest.mark.parametrize("changes", [{}, OPEN], ids=["choices", "open"])
@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("I see a card.", Problem.NO_BOX),
        ("", Problem.NO_BOX),
        ("[168, 56, 112, 112]", Problem.REVERSED),
        ("[112, 56, 5000, 112] B", Problem.OUTSIDE),
        ("\\boxed{[112, 56, 5000, 112]}", Problem.OUTSIDE),
        (completion("[112, 56", FinishReason.LENGTH), Problem.OVER_LENGTH),
    ],
)
def test_without_an_answer_or_valid_coordinates_the_original_image_comes_back(reply, problem, changes):
    episode = run(reply, "\\boxed{B}", **changes)
    assert (episode.turns[0].problem, episode.turns[0].located) == (problem, True)
    assert [view.source for view in episode.turns[1].context.views] == [WHOLE, WHOLE]
    assert "original image again" in words(episode.turns[1].context.messages[-1])
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")


def test_in_the_last_turn_whatever_is_said_is_the_answer():
    said = run(CARD, "I see 7 cards", turns=2, **OPEN)
    assert (said.stop, said.answer) == (StopReason.ANSWERED, "I see 7 cards")
    located = run(CARD, CARD, turns=2)
    assert (located.stop, located.turns[1].problem) == (StopReason.UNPARSED, Problem.NO_ANSWER)
    assert not located.turns[1].located
    assert located.boxes == (CARD_IN_ORIGINAL,)


@pytest.mark.parametrize(
    ("replies", "boxes", "answer"),
    [
        (["7"], (), "7"),
        (["red"], (), "red"),
        (["7.5"], (), "7.5"),
        (["112 56 168 112", "7"], (CARD_IN_ORIGINAL,), "7"),
        (["112 56 168 112", "70 70 140 140", "7"], (CARD_IN_ORIGINAL, INNER), "7"),
        (["112 56", "7"], (), "7"),
        (["", "112 56 168 112", "7"], (CARD_IN_ORIGINAL,), "7"),
    ],
)
def test_the_short_style_is_one_number_for_an_answer_and_four_for_a_box(replies, boxes, answer):
    episode = run(*replies, traits=SHORT, **OPEN)
    assert (episode.boxes, episode.answer, len(episode.turns)) == (boxes, answer, len(replies))
    assert [message.role for message in episode.turns[-1].context.messages[:1]] == ["user"]


def test_one_turn_is_another_protocol():
    with pytest.raises(ValueError, match="direct"):
        GroundUntilAnswered(1)


@given(st.lists(st.text(alphabet='0123456789 .,:-[](){}<>/|"\\\nBbox_2danswer', max_size=60), min_size=3, max_size=3))
def test_any_replies_lead_to_an_end_within_the_turns(replies):
    for traits in (None, SHORT):
        episode = run(*replies, traits=traits, **OPEN)
        assert 1 <= len(episode.turns) <= 3
        assert episode.stop in (StopReason.ANSWERED, StopReason.UNPARSED)
        assert not episode.turns[-1].located
