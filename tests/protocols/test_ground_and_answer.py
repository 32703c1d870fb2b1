"""MGPO's baseline: a box and an answer in one reply, which are never taken for one another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted import ScriptedGenerator, Traits, completion, question

from foveate.episodes import Group, run_episodes
from foveate.evaluation.marking import Marker
from foveate.evaluation.scoring import score
from foveate.protocols import FinishReason, GroundAndAnswer, Problem, StopReason
from foveate.regions import Box, Frame
from foveate.traces import episode_record

CARD = '[{"bbox_2d": [112, 56, 168, 112], "label": "card"}]'  # of the small view, 448 x 336 for 1120 x 840
CARD_IN_ORIGINAL = Box(280, 140, 420, 280)
OPEN = {"choices": None, "answer": "7"}
SHORT = Traits(box_style="short")


def run(reply, traits=None, **changes):
    generator = ScriptedGenerator([reply], traits or Traits())
    ((_, (episode,)),) = run_episodes([question(**changes)], GroundAndAnswer(), generator)
    return episode


def test_one_turn_gives_box_and_answer():
    episode = run(f"{CARD}\nIt is a dog. \\boxed{{B}}")
    (turn,) = episode.turns
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")
    assert (turn.boxes, turn.located, turn.problem) == ((CARD_IN_ORIGINAL,), True, None)
    assert turn.completion.text.endswith("\\boxed{B}"), "the whole reply is kept, and trained on"
    (asked,) = turn.context.messages
    words = "\n".join(part for part in asked.parts if isinstance(part, str))
    for expected in ("What is on the red card?", "(B) a dog", "bbox_2d", "448 x 336", "\\boxed{}"):
        assert expected in words


def test_thousandths():
    (turn,) = run('[{"bbox_2d": [250, 500, 375, 750]}] \\boxed{B}', traits=Traits(frame=Frame.THOUSAND)).turns
    assert turn.boxes == (Box(280, 420, 420, 630),)


ANSWERED = {
    "B": "B",
    "\\boxed{B}": "B",
    f"\\boxed{{B}}\n{CARD}": "B",
    f"```json\n{CARD}\n```\nB": "B",
    f"{CARD}\n\n(B)": "B",
    f"{CARD} The answer is B.": "B",
    f"{CARD} <answer>B</answer>": "B",
    "(112, 56), (168, 112)\nB": "B",
    "112 56 168 112\nB": "B",
    "bbox: 112, 56, 168, 112\nAnswer: B": "B",
    "x1: 112, y1: 56, x2: 168, y2: 112\nB": "B",
    "<|box_start|>(112,56),(168,112)<|box_end|>\nB": "B",
    '[{"bbox_2d": [112, 56, 168, 112], "label": "A"}]\nB': "B",
    '[{"bbox_2d": [112, 56, 168, 112], "label": "a cat"}\nB': "B",
    '{"bbox_2d": [112, 56, 168, 112], "answer": "B"}': "B",
    '[{"bbox_2d": [112, 56, 168, 112], "label": "A", "answer": "(B) a dog"}]': "B",
    '```json\n[{"answer": "a dog", "bbox_2d": [112, 56, 168, 112]}]\n```': "B",
    '{"boxes": [{"bbox_2d": [112, 56, 168, 112]}], "answer": "B"}': "B",
    '[{"bbox_2d": [112, 56, 168, 112]}, {"Final answer": "B"}]': "B",
    "{'bbox_2d': [112, 56, 168, 112], 'answer': 'B'}": "B",
    '{"bbox_2d": [112, 56, 168, 112], "answer": "A"} \\boxed{B}': "B",
    '{"bbox_2d": [112, 56, 168, 112], "answer": "B"': "B",
}


@pytest.mark.parametrize("reply", ANSWERED)
def test_the_answer_is_read_beside_any_box(reply):
    episode = run(reply)
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, ANSWERED[reply])


@pytest.mark.parametrize(
    "reply",
    [
        "7",
        "\\boxed{7}",
        f"{CARD}\n7",
        f"{CARD}\nThe answer is 7",
        f"7\n{CARD}",
        '{"bbox_2d": [112, 56, 168, 112], "answer": 7}',
        '{"boxes": [{"bbox_2d": [112, 56, 168, 112], "label": "8"}], "answer": "7"}',
        '{"bbox_2d": [112, 56, 168, 112], "answer": "The answer is 7"}',
    ],
)
def test_open_answers(reply):
    assert run(reply, **OPEN).answer == "7"


@pytest.mark.parametrize("changes", [{}, OPEN], ids=["choices", "open"])
@pytest.mark.parametrize(
    "reply",
    [
        CARD,
        f"```json\n{CARD}\n```",
        '[{"bbox_2d": [112, 56, 168, 112], "label": "B"}]',
        '[{"bbox_2d": [112, 56, 168, 112], "label": "a dog"}]',
        "[112, 56, 168, 112]",
        "112 56 168 112",
        "(112, 56), (168, 112)",
        "<|box_start|>(112,56),(168,112)<|box_end|>",
        "x1: 112, y1: 56, x2: 168, y2: 112",
        "\\boxed{[112, 56, 168, 112]}",
        f"<answer>{CARD}</answer>",
        '{"bbox_2d": [112, 56, 168, 112], "answer": [112, 56, 168, 112]}',
        '{"bbox_2d": [112, 56, 168, 112], "answer": "[112, 56, 168, 112]"}',
        '{"bbox_2d": [112, 56, 168, 112], "answer": "112 56 168 112"}',
        '{"bbox_2d": [112, 56, 168, 112], "answer": ""}',
        '{"bbox_2d": [112, 56, 168, 112], "answer": null, "label": "B"}',
        '[{"bbox_2d": [112, 56, 168, 112], "answer": "A"}, {"answer": "B"}]',
        '{"bbox_2d": [112, 56, 168, 112], "label": "answer: B"}',
    ],
)
def test_coordinates_are_never_the_answer(reply, changes):
    episode = run(reply, **changes)
    assert (episode.stop, episode.answer) == (StopReason.UNPARSED, None)
    assert episode.turns[0].boxes == (CARD_IN_ORIGINAL,)
    assert episode.turns[0].problem is Problem.NO_ANSWER


@pytest.mark.parametrize(
    "reply",
    [
        '[{"bbox_2d": [112, 56, 1',
        "[112, 56",
        '[{"bbox_2d": [112, 56, 168, 112], "lab',
        '{"bbox_2d": [112, 56, 168, 112], "answer": 4',
        '{"bbox_2d": [112, 56, 168, 112], "answer": "4',
    ],
)
def test_a_reply_cut_off_within_its_coordinates_has_no_answer(reply):
    for changes in ({}, OPEN):
        episode = run(completion(reply, FinishReason.LENGTH), **changes)
        assert (episode.stop, episode.turns[0].problem) == (StopReason.UNPARSED, Problem.OVER_LENGTH)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("B", Problem.NO_BOX),
        ("[168, 56, 112, 112]\nB", Problem.REVERSED),
        ("[112, 56, 5000, 112]\nB", Problem.OUTSIDE),
    ],
)
def test_an_answer_without_a_valid_box_counts(reply, problem):
    episode = run(reply)
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "B")
    assert (episode.turns[0].boxes, episode.turns[0].problem) == ((), problem)


@pytest.mark.parametrize(
    ("reply", "boxes", "answer"),
    [
        ("112 56 168 112 7", (CARD_IN_ORIGINAL,), "7"),
        ("112 56 168 112 1 2", (CARD_IN_ORIGINAL,), "1 2"),
        ("112 56 168 112", (CARD_IN_ORIGINAL,), None),
        ("7", (), "7"),
        ("red", (), "red"),
        ("112 56", (), None),
        ("112 56 red", (), "red"),
        ("168 56 112 112 7", (), "7"),
        ("", (), None),
    ],
)
def test_the_short_style_is_four_numbers_and_the_answer(reply, boxes, answer):
    episode = run(reply, traits=SHORT, **OPEN)
    assert (episode.turns[0].boxes, episode.answer) == (boxes, answer)
    (_, asked) = episode.turns[0].context.messages[0].parts
    assert asked == "point What is on the red card?"


def test_evaluation_and_traces_see_box_and_answer():
    asked = question()
    groups = [run(reply) for reply in (f"{CARD}\n\\boxed{{B}}", "B", CARD)]
    marks = [mark for (mark,) in Marker().marks([Group(asked, (episode,)) for episode in groups])]
    figures = [
        score(asked, [episode], [mark], tokens_of=Traits().feature_count).attempts[0]
        for episode, mark in zip(groups, marks, strict=True)
    ]
    assert [attempt.right for attempt in figures] == [True, True, False]
    assert [attempt.grounding.iog30 for attempt in figures] == [1, 0, 1]
    assert [attempt.grounding.valid_boxes for attempt in figures] == [True, False, True]
    (turn,) = episode_record(groups[0])["turns"]
    assert turn["boxes"] == [list(CARD_IN_ORIGINAL.corners)]


@given(st.text(alphabet='0123456789 .,:-[](){}<>/|"\\\nBbox_2dlabel', max_size=200))
def test_any_text_is_read(text):
    episode = run(text, **OPEN)
    assert episode.stop in (StopReason.ANSWERED, StopReason.UNPARSED)


@given(st.lists(st.integers(-50, 5000), min_size=2, max_size=12), st.sampled_from([" ", ", ", ",", "\n"]))
def test_numbers_in_brackets_are_no_answer(numbers, mark):
    assert run(f"[{mark.join(map(str, numbers))}]", **OPEN).answer is None
