"""Reward terms: what is paid for."""

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted import ScriptedGenerator, Traits, completion, picture, question

from foveate.context import Context
from foveate.episodes import Episode, run_episodes
from foveate.images import full_view
from foveate.protocols import LocateThenAnswer, StopReason, Turn
from foveate.regions import Box, Point, normalised_l1
from foveate.rewards import (
    NEED_POINTS,
    NEED_REGIONS,
    POINT_REACH,
    SUFFICIENT,
    TERMS,
    accuracy,
    conditional_iou,
    conditional_iou_of,
    format_valid,
    gated_tool,
    l1_closeness,
    matched_points,
    reward_terms,
    total_reward,
)

CARD = "[112, 56, 168, 112]"


def episode(*replies, **changes):
    ((_, (made,)),) = run_episodes([question(**changes)], LocateThenAnswer(), ScriptedGenerator(replies))
    return made


@pytest.mark.parametrize(
    ("reply", "reward"),
    [("\\boxed{B}", 1.0), ("B", 1.0), ("a dog", 1.0), ("\\boxed{A}", 0.0), ("A dog and a cat", 0.0), ("", 0.0)],
)
def test_the_right_letter_is_paid(reply, reward):
    assert accuracy(episode(CARD, reply)) == reward


@pytest.mark.parametrize(
    ("reply", "reward"),
    [("7", 1.0), ("\\boxed{7.0}", 1.0), ("The answer is 7.", 1.0), ("17", 0.0), ("It is 7", 0.0), ("", 0.0)],
)
def test_the_right_open_answer_is_paid(reply, reward):
    assert accuracy(episode(CARD, reply, choices=None, answer="7")) == reward


def test_letters_are_compared_exactly():
    assert accuracy(episode(CARD, "b", answer="B")) == 1.0  # read as the letter B
    assert accuracy(episode(CARD, "1", choices={"1": "one", "1.0": "uno"}, answer="1.0")) == 0.0


def test_an_episode_without_an_answer_is_paid_nothing():
    assert accuracy(episode("no box")) == 0.0


def test_the_format_is_valid_when_every_turn_is():
    assert format_valid(episode(CARD, "B")) == 1.0
    assert format_valid(episode(CARD, "?")) == 0.0
    assert format_valid(episode("no box")) == 0.0
    assert format_valid(episode(f"[{CARD}, [0, 0, 9999, 1]]", "B")) == 0.0


def test_terms_are_logged_by_name_and_summed_with_their_weights():
    made = episode(CARD, "B")
    weights = {"accuracy": 1.0, "format": 0.25}
    terms = reward_terms(made, weights)
    assert terms == {"accuracy": 1.0, "format": 1.0}
    assert total_reward(terms, weights) == 1.25
    assert total_reward({}, weights) == 0.0
    assert set(weights) <= set(TERMS)


def test_an_unknown_term_is_refused():
    with pytest.raises(KeyError, match="beauty"):
        reward_terms(episode(CARD, "B"), {"beauty": 1.0})


# --- LFPC's terms -----------------------------------------------------------------------------------------------------

SIZE = (1120, 840)
NESTED = (Box(300, 160, 400, 260), Box(280, 140, 420, 280))
sides = st.floats(0, 1).map(lambda share: round(share, 3))


@st.composite
def boxes(draw):
    """A box inside the picture, in its pixels."""
    x1, x2 = sorted((draw(sides), draw(sides)))
    y1, y2 = sorted((draw(sides), draw(sides)))
    return Box(x1 * 1119, y1 * 839, x2 * 1119 + 1, y2 * 839 + 1)


def pointing(*pointed, regions=(NESTED,), answer="B"):
    """An episode that pointed at these boxes of the original."""
    asked = question(regions=regions)
    view = full_view(picture(), Traits().budget, 28)
    turn = Turn(Context.user(view, "?"), completion("..."), tuple(pointed), located=True)
    return Episode(asked, (turn,), answer, StopReason.ANSWERED)


@given(boxes())
def test_conditional_iou_is_nothing_below_tau(box):
    covered = box.intersection(NESTED[0]) / NESTED[0].area
    reward = conditional_iou(pointing(box))
    assert 0 <= reward <= 1
    assert (reward > 0) == (covered > SUFFICIENT)


@given(boxes(), st.sampled_from([0.5, 2.0, 3.0]))
def test_geometry_knows_nothing_of_the_scale_of_the_image(box, factor):
    larger = [true.scaled(factor, factor) for true in NESTED]
    assert conditional_iou_of(box.scaled(factor, factor), tuple(larger)) == pytest.approx(
        conditional_iou_of(box, NESTED)
    )
    scaled_size = (SIZE[0] * factor, SIZE[1] * factor)
    assert normalised_l1(box.scaled(factor, factor), larger[0], scaled_size) == pytest.approx(
        normalised_l1(box, NESTED[0], SIZE)
    )


@given(boxes(), boxes())
def test_l1_lies_between_nothing_and_one_and_is_symmetric(first, second):
    distance = normalised_l1(first, second, SIZE)
    assert 0 <= distance <= 1
    assert distance == normalised_l1(second, first, SIZE)
    assert 0 <= l1_closeness(pointing(first)) <= 1


@given(boxes())
def test_the_exact_box_is_best_under_stage_two(box):
    for term in (conditional_iou, l1_closeness):
        exact, whole = term(pointing(NESTED[0])), term(pointing(Box(0, 0, *SIZE)))
        assert exact == pytest.approx(1.0)
        assert term(pointing(box)) <= exact + 1e-9
        assert whole < exact


def test_every_level_of_a_region_is_a_good_box_and_every_region_counts():
    assert conditional_iou(pointing(NESTED[1])) == pytest.approx(1.0)
    two = (NESTED, (Box(700, 500, 800, 600),))
    assert conditional_iou(pointing(NESTED[0], regions=two)) == pytest.approx(0.5)
    assert conditional_iou(pointing(NESTED[0], Box(700, 500, 800, 600), regions=two)) == pytest.approx(1.0)


def test_without_a_box_geometry_pays_nothing_and_without_a_true_one_it_is_refused():
    assert conditional_iou(pointing()) == l1_closeness(pointing()) == 0.0
    for term in NEED_REGIONS:
        with pytest.raises(ValueError, match="'q' has no true box"):
            TERMS[term](pointing(NESTED[0], regions=()))


@pytest.mark.parametrize(
    ("answer", "made", "reward"), [("B", True, 1), ("A", True, 0), ("B", False, 0), (None, True, 0)]
)
def test_the_tool_is_paid_for_only_with_a_right_answer(answer, made, reward):
    assert gated_tool(pointing(*NESTED[: int(made)], answer=answer)) == reward


# --- points -----------------------------------------------------------------------------------------------------------

pixels = st.tuples(st.integers(0, 1120), st.integers(0, 840)).map(lambda place: Point(*place))
some_points = st.lists(pixels, max_size=5)


def counting(*pointed, points):
    """An episode that pointed there."""
    view = full_view(picture(), Traits().budget, 28)
    turn = Turn(Context.user(view, "?"), completion("..."), points=tuple(pointed))
    return Episode(question(points=points), (turn,), "B", StopReason.ANSWERED)


def brute_force(predicted, true, size):
    """The best of all assignments, one by one."""
    few, many = sorted((predicted, true), key=len)
    worth = [
        [max(0.0, 1 - math.hypot((a.x - b.x) / size[0], (a.y - b.y) / size[1]) / POINT_REACH) for b in many]
        for a in few
    ]
    sums = (sum(worth[i][j] for i, j in enumerate(chosen)) for chosen in permutations(range(len(many)), len(few)))
    return max(sums) / len(many) if many else 1.0


@given(some_points, some_points)
def test_matched_points_are_the_best_assignment(predicted, true):
    value = matched_points(predicted, true, SIZE)
    assert 0 <= value <= 1
    assert value == pytest.approx(brute_force(predicted, true, SIZE), abs=1e-12)
    assert (value == 1) == (sorted(predicted, key=str) == sorted(true, key=str))
    assert value == pytest.approx(matched_points(true, predicted, SIZE), abs=1e-12)


@given(st.lists(st.tuples(pixels, pixels), max_size=30), st.randoms(use_true_random=False))
def test_matched_points_do_not_depend_on_the_order(pairs, random):
    predicted, true = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    shuffled = random.sample(predicted, len(predicted)), random.sample(true, len(true))
    assert matched_points(*shuffled, SIZE) == pytest.approx(matched_points(predicted, true, SIZE), abs=1e-12)


@given(st.lists(pixels, min_size=1, max_size=30), pixels)
def test_a_point_too_many_or_too_few_lowers_the_reward(true, extra):
    exact = matched_points(true, true, SIZE)
    assert exact == 1
    assert matched_points([*true, extra], true, SIZE) == pytest.approx(len(true) / (len(true) + 1))
    assert matched_points(true[1:], true, SIZE) == pytest.approx((len(true) - 1) / len(true))


@given(some_points, some_points, st.sampled_from([0.5, 3.0]), st.sampled_from([2.0, 7.0]))
def test_matched_points_know_nothing_of_the_scale_of_the_image(predicted, true, factor_x, factor_y):
    larger = ([point.scaled(factor_x, factor_y) for point in points] for points in (predicted, true))
    size = (SIZE[0] * factor_x, SIZE[1] * factor_y)
    assert matched_points(*larger, size) == pytest.approx(matched_points(predicted, true, SIZE), abs=1e-9)


def test_a_point_is_worth_less_the_further_it_is_and_nothing_beyond_reach():
    true = [Point(560, 420)]
    worths = [matched_points([Point(560 + step, 420)], true, SIZE) for step in (0, 28, 56, 112, 500)]
    assert worths == pytest.approx([1, 0.75, 0.5, 0, 0])
    assert matched_points([Point(0, 1)], [Point(0, 1)], (1, 1)) == 1  # of an image of one pixel


def test_where_nothing_is_to_be_counted_pointing_at_nothing_is_right():
    assert TERMS["points"](counting(points=())) == 1
    assert TERMS["points"](counting(Point(1, 1), points=())) == 0
    assert TERMS["points"](counting(points=(Point(1, 1),))) == 0


def test_unknown_points_are_refused():
    for term in NEED_POINTS:
        with pytest.raises(ValueError, match="'q' has no true points"):
            TERMS[term](counting(Point(1, 1), points=None))
