"""Counting with points: the points of a reply, and a count that is never one of their coordinates."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from tests.scripted import ScriptedGenerator, Traits, completion, question

from foveate.episodes import run_episodes
from foveate.protocols import FinishReason, PointThenCount, Problem, StopReason, is_right, parse_points
from foveate.regions import Frame, Point
from foveate.traces import episode_record

SHORT = Traits(box_style="short")


def run(reply, traits=None, **changes):
    """One episode about 1120 x 840 pixels, of which the small view shows 448 x 336: 2.5 pixels of the original each."""
    asked = question(**{"choices": None, "answer": "2", "text": "How many cards are red?", **changes})
    ((_, (episode,)),) = run_episodes([asked], PointThenCount(), ScriptedGenerator([reply], traits or Traits()))
    return episode


def words(episode):
    (message,) = episode.turns[0].context.messages
    return message.parts[1]


TWO = '[{"point_2d": [100, 200], "label": "card"}, {"point_2d": [40, 80], "label": "card"}]'
TWO_POINTS = (Point(250, 500), Point(100, 200))


def test_one_turn_asks_for_points_and_then_for_the_count():
    episode = run(f"```json\n{TWO}\n```\nThere are \\boxed{{2}}.")
    (turn,) = episode.turns
    assert (episode.stop, episode.answer) == (StopReason.ANSWERED, "2")
    assert episode.points == turn.points == TWO_POINTS
    assert (turn.boxes, turn.located, turn.problem) == ((), False, None)
    assert turn.context.views[0].size == (448, 336)
    assert "How many cards are red?" in words(episode)
    assert "point_2d" in words(episode)
    assert "448 x 336" in words(episode)
    assert episode_record(episode)["turns"][0]["points"] == [[250, 500], [100, 200]]


def test_choices_are_shown_and_a_letter_is_read():
    episode = run(f"{TWO} \\boxed{{B}}", choices={"A": "100", "B": "2"}, answer="B")
    assert "(B) 2" in words(episode)
    assert (episode.answer, episode.turns[0].problem) == ("B", None)
    assert run(f"{TWO}\n(B)", choices={"A": "100", "B": "2"}).answer == "B"
    assert run(TWO, choices={"100": "a", "80": "b"}).answer is None
    assert run("[] \\boxed{A}", choices={"A": "0", "B": "2"}).turns[0].problem is None


@pytest.mark.parametrize("traits", [Traits(), SHORT])
def test_a_count_without_points_is_noted_unless_it_is_zero(traits):
    for count, problem in (("0", None), ("2", Problem.NO_POINT)):
        episode = run(count, traits)
        assert (episode.answer, episode.points, episode.turns[0].problem) == (count, (), problem)


def test_thousandths():
    episode = run("[[500, 250], [1000, 1000]] \\boxed{2}", Traits(frame=Frame.THOUSAND))
    assert episode.points == (Point(560, 210), Point(1120, 840))
    assert "thousandths" in words(episode)


@pytest.mark.parametrize(
    ("reply", "count", "points", "problem"),
    [
        ("100 200 40 80 2", "2", TWO_POINTS, None),
        ("0", "0", (), None),
        ("3", "3", (), Problem.NO_POINT),
        ("", None, (), Problem.NO_ANSWER),
        ("100 200 40 80", None, TWO_POINTS, Problem.NO_ANSWER),
        ("100 200 40 80 2 2", None, (*TWO_POINTS, Point(5, 5)), Problem.NO_ANSWER),
        ("100 200 red 80 2", "2", TWO_POINTS[:1], Problem.MALFORMED),
        ("100 200 nan 80 2", "2", TWO_POINTS[:1], Problem.MALFORMED),
        ("449 200 40 80 2", "2", TWO_POINTS[1:], Problem.OUTSIDE),
        ("448 336 0 0 2", "2", (Point(1120, 840), Point(0, 0)), None),
    ],
)
def test_the_short_style_is_pairs_and_then_the_count(reply, count, points, problem):
    episode = run(reply, SHORT)
    assert words(episode) == "count How many cards are red?"
    assert (episode.answer, episode.points, episode.turns[0].problem) == (count, points, problem)
    assert (episode.stop is StopReason.ANSWERED) == (count is not None)


@pytest.mark.parametrize("reply", ["100 200 40", "100 200 40 80", "100 200 [", "[[100, 200], [40", "[[100, 200]"])
def test_a_coordinate_of_a_reply_that_was_cut_off_is_not_its_count(reply):
    episode = run(completion(reply, FinishReason.LENGTH), Traits() if "[" in reply else SHORT)
    assert episode.turns[0].problem is Problem.OVER_LENGTH
    assert episode.answer is None


@pytest.mark.parametrize(
    ("reply", "count"),
    [
        (f"{TWO}", None),
        ("[[100, 2]]", None),
        ('{"point_2d": [100, 2]}', None),
        ("(100, 2)", None),
        ("[[100, 200], [40, 2", None),
        (f"{TWO} 2", "2"),
        (f"{TWO}\n\nThe answer is 2.", "2"),
        (f"```json\n{TWO}\n```\n2", "2"),
        (f"\\boxed{{2}}, at {TWO}", "2"),
        (f"{TWO}\\[\\boxed{{2}}\\]", "2"),
        (f"<think>[[1, 2]] \\boxed{{7}}</think>{TWO} 2", "2"),
        (f"{TWO}<answer>2</answer>", "2"),
    ],
)
def test_the_count_is_what_is_marked_or_what_follows_the_points(reply, count):
    episode = run(reply)
    assert is_right(episode.answer, count) if count else episode.answer is None
    assert (episode.turns[0].problem is None) == (count is not None)


@pytest.mark.parametrize(
    "reply",
    [
        TWO,
        '[{"point": [100, 200]}, {"point": ["40", "80"]}]',
        "[[100, 200], [40, 80]]",
        "[100, 200], [40, 80]",
        "One is at (100, 200), the other at (40, 80).",
        '[{"x": 100, "y": 200}, {"x": 40, "y": 80, "label": "card (1, 2)"}]',
        '{"points": [{"point_2d": {"x": 100, "y": 200}}, {"point_2d": [40, 80]}]}',
        "[{'point_2d': [100, 200], 'label': 'it's'}, {'point_2d': [40, 80]}]",
        "```json\n[\n  [100, 200],\n  [40, 80]\n]\n```",
        "【100， 200】 and （40， 80）",  # noqa: RUF001
        "<think>[[1, 2]]</think>[100, 200] [40, 80]",
        "[[100, 200], [40.0, 8e1]]",
    ],
)
def test_usual_notations_give_the_same_points(reply):
    assert parse_points(reply, "pixel", (448, 336), (1120, 840)) == (TWO_POINTS, None)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("[[100, 200], [40]]", Problem.MALFORMED),
        ("[[100, 200], [1, 2, 3]]", Problem.MALFORMED),
        ('[[100, 200], {"bbox_2d": [1, 2, 3, 4]}]', Problem.MALFORMED),
        ("[[100, 200], [NaN, 3]]", Problem.MALFORMED),
        ("[[100, 200], [Infinity, 3]]", Problem.MALFORMED),
        ("[[100, 200], [40, 8", Problem.MALFORMED),
        ("[[100, 200], [" + "9" * 5000 + ", 3]]", Problem.MALFORMED),
        ("[[100, 200], [-1, 3]]", Problem.OUTSIDE),
        ("[[100, 200], [3, 337], [NaN, 3]]", Problem.OUTSIDE),
    ],
)
def test_wrong_points_are_named_and_the_valid_ones_kept(reply, problem):
    assert parse_points(reply, "pixel", (448, 336), (1120, 840)) == (TWO_POINTS[:1], problem)


@pytest.mark.parametrize("reply", ["", "[]", "There is none.", "I see (3) of them, (about 2)", "{}", "\\boxed{0}"])
def test_no_point_is_no_problem_of_the_parser(reply):
    assert parse_points(reply, "pixel", (448, 336), (1120, 840)) == ((), None)


def test_forty_points_and_a_point_twice():
    written = [[11 * i, 8 * i] for i in range(40)]
    episode = run(f"{written} \\boxed{{40}}")
    assert len(episode.points) == 40
    assert episode.answer == "40"
    assert len(run("[[5, 5], [5, 5]] \\boxed{2}").points) == 2
    bare = " ".join(f"{x} {y}" for x, y in written)
    assert run(f"{bare} 40", SHORT).points == episode.points


def test_an_image_of_one_pixel():
    episode = run("[[14, 28]] \\boxed{1}", image=lambda: Image.new("RGB", (1, 1)))
    assert episode.points == (Point(0.5, 1),)


@given(st.text(alphabet="[](){}<>0123456789., \"'\n\\xy:e-boxed", max_size=200), st.sampled_from(Frame))
@example("[" * 3000, Frame.PIXEL)
@example("[[1, 2], " * 1000, Frame.PIXEL)
def test_any_text_is_read_and_no_point_leaves_the_image(reply, frame):
    points, _ = parse_points(reply, frame, (448, 336), (1120, 840))
    assert all(point.inside((1120, 840)) for point in points)
    for traits in (Traits(frame=frame), SHORT):
        episode = run(reply, traits)
        assert (episode.answer is None) == (episode.stop is StopReason.UNPARSED)
        assert all(
            math.isfinite(c) and point.inside((1120, 840)) for point in episode.points for c in point.coordinates
        )


@given(st.lists(st.tuples(st.integers(0, 448), st.integers(0, 336)), max_size=40))
def test_both_styles_read_the_same_points(places):
    bare = " ".join(f"{x} {y}" for x, y in places)
    json_style, short = (
        run(f"{[list(p) for p in places]} \\boxed{{{len(places)}}}"),
        run(f"{bare} {len(places)}", SHORT),
    )
    assert json_style.points == short.points
    assert json_style.answer == short.answer == str(len(places))
    assert json_style.turns[0].problem is short.turns[0].problem is None
