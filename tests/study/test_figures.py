import pytest

from foveate.evaluation import JointTable
from foveate.evaluation.curves import THRESHOLDS
from foveate.study.figures import quotient, title
from foveate.study.results import Cell

RIGHT = (1, 1, 1, 0, None, 1)
IOG = (0.9, 0.3, 0.0, 0.8, 0.7, None)
CELL = Cell(
    method="hart",
    base="view",
    seed=0,
    questions=tuple("abcdef"),
    measures={
        "own/accuracy": RIGHT,
        "own/iog": IOG,
        "own/answer:unchanged": RIGHT,
        "own/answer:wrong_card": (0, 1, 0, 0, 1, None),
        "own/answer:true_crop": (1, 1, 1, 1, 1, 1),
        "own/answer:crop_alone": (1, 0, None, None, None, None),
    },
)


def value(figure):
    top, bottom = quotient(CELL, figure)
    return top.sum() / bottom.sum()


def test_measures_are_means_of_what_is_defined():
    assert value("own/accuracy") == 4 / 5
    assert value("own/answer:crop_alone") == 1 / 2


def test_a_box_finds_what_it_covers_by_more_than_the_threshold():
    assert value("own/iog30") == 3 / 5
    assert value("own/iog>0.3") == value("own/iog30")
    assert value("own/iog>0.29") == 4 / 5
    curve = [value(f"own/iog>{threshold}") for threshold in THRESHOLDS]
    assert (len(curve), THRESHOLDS[0], THRESHOLDS[-1], curve[0]) == (20, 0, 0.95, 4 / 5)
    assert curve == sorted(curve, reverse=True)


def test_wrong_places_among_right_answers_are_those_of_the_joint_table():
    attempts = [
        (bool(right), None if iog is None else float(iog > 0.3))
        for right, iog in zip(RIGHT, IOG, strict=True)
        if right is not None
    ]
    assert value("own/wrong_place") == pytest.approx(JointTable.of(attempts).wrong_place_among_right_answers) == 2 / 3


def test_changes_are_taken_where_both_answers_are_known():
    assert value("own/look:wrong_card") == 2 / 4
    assert value("own/gain:true_crop") == 1 / 5


@pytest.mark.parametrize("figure", ["loop/accuracy", "loop/iog30", "loop/wrong_place", "own/look:noise", "own/typo"])
def test_what_was_not_measured(figure):
    assert quotient(CELL, figure) is None


def test_titles():
    assert title("own/iog30") == title("loop/iog30") == "IoG > 0.3"
    assert title("own/turns") == "turns"
