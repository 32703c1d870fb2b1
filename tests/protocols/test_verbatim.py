"""A verbatim question is asked for its answer in its own words alone, and its reply needs no mark of ours."""

import pytest
from tests.scripted import CHOICES, ScriptedGenerator, question

from foveate.episodes import run_episodes
from foveate.protocols import Direct, GroundThenAnswer, GroundUntilAnswered, LocateThenAnswer, StopReason, ZoomTool

TASK = "What is on the card?\n(A) a cat\n(B) a dog\nAnswer with the option's letter from the given choices directly."
BOX = '[{"bbox_2d": [280, 140, 420, 280]}]'
CALL = f'<tool_call>{{"name": "crop", "arguments": {BOX[1:-1]}}}</tool_call>'
REPLIES = {
    Direct(): ["B"],
    LocateThenAnswer(): [BOX, "B"],
    GroundThenAnswer(): [BOX, "B"],
    GroundUntilAnswered(): [BOX, "B"],
    ZoomTool(max_calls=1): [CALL, "B"],
}
NAMES = [type(protocol).__name__ for protocol in REPLIES]


def asked(protocol, replies, **changes):
    """The episode, and what the model was told in each turn: the words of its messages, without the pictures."""
    generator = ScriptedGenerator(replies)
    [[_, [episode]]] = run_episodes([question(**changes)], protocol, generator)
    told = [
        [part for message in request.context.messages for part in message.parts if isinstance(part, str)]
        for request in generator.requests
    ]
    return episode, told


@pytest.mark.parametrize(("protocol", "replies"), REPLIES.items(), ids=NAMES)
def test_own_words_and_no_others_say_how_to_answer(protocol, replies):
    episode, told = asked(protocol, replies, text=TASK, choices=None, verbatim=True)
    assert (episode.answer, episode.stop) == ("B", StopReason.ANSWERED)
    for turn in told:
        assert TASK in "\n".join(turn)
        assert "boxed" not in "\n".join(turn)
        assert "(A) a cat" not in "\n".join(turn).replace(TASK, "")


@pytest.mark.parametrize(("protocol", "replies"), REPLIES.items(), ids=NAMES)
def test_other_questions_are_told_where_the_answer_is_to_stand(protocol, replies):
    _, told = asked(protocol, [*replies[:-1], "\\boxed{B}"], choices=CHOICES)
    assert "boxed" in "\n".join(told[-1])


@pytest.mark.parametrize(
    ("protocol", "replies", "before"),
    [
        (Direct(), ["B"], None),
        (LocateThenAnswer(withhold_full_image=False), [BOX, "B"], "After the full image you see one crop of it"),
        (LocateThenAnswer(), [BOX, "B"], "The full image is withheld."),
    ],
    ids=["direct", "kept", "withheld"],
)
def test_the_answer_turn_ends_in_the_text_as_it_is(protocol, replies, before):
    _, told = asked(protocol, replies, text=TASK, choices=None, verbatim=True)
    [words] = told[-1]
    first, _, rest = words.rpartition(TASK)
    assert rest == ""
    assert first.startswith(before) if before else first == ""


def test_a_reply_without_coordinates_ends_the_general_form():
    """Without the mark that other open questions ask for, which would bring the original image again."""
    reply = "It is a dog."
    episode, _ = asked(GroundUntilAnswered(turns=3), [reply], text=TASK, choices=None, verbatim=True)
    assert (episode.answer, len(episode.turns)) == (reply, 1)
