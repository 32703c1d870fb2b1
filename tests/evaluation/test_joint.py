"""The papers' own figures come out of the project's metric code."""

import pytest

from foveate.evaluation.joint import JointTable, overall


@pytest.mark.parametrize(
    ("counts", "percent"),
    [
        ((1057, 1838, 466, 681), 36.5),  # Qwen2.5-VL-7B, full image kept
        ((502, 1830, 1028, 682), 21.5),  # withheld
        ((1359, 770, 1578, 335), 63.8),  # InternVL3-8B, full image kept
        ((998, 788, 1931, 325), 55.9),  # withheld
    ],
)
def test_harts_first_table(counts: tuple[int, int, int, int], percent: float) -> None:
    table = JointTable(*counts)
    assert table.attempts == 4042
    assert table.wrong_place_among_right_answers is not None
    assert round(100 * table.wrong_place_among_right_answers, 1) == percent


def test_harts_overall_on_mme_realworld_lite() -> None:
    sizes = {
        "perception AD": 350, "perception MO": 319, "perception OCR": 250, "perception RS": 150, "perception DT": 100,
        "reasoning AD": 400, "reasoning DT": 100, "reasoning OCR": 100, "reasoning MO": 150,
    }  # fmt: skip
    figures = (57.7, 49.8, 89.6, 58.7, 86.0, 51.0, 75.0, 72.0, 58.7)
    assert sum(sizes.values()) == 1919
    parts = {name: (figure, size) for (name, size), figure in zip(sizes.items(), figures, strict=True)}
    assert round(overall(parts), 1) == 62.4


def test_attempts_are_counted_where_there_is_a_true_region() -> None:
    table = JointTable.of([(True, 1.0), (True, 0.0), (True, 0.5), (False, 1.0), (True, None)])
    assert table == JointTable(2, 1, 0, 1)
    assert table.accuracy == 0.75
    assert table.right_place == 0.5
    assert table.wrong_place_among_right_answers == pytest.approx(2 / 3)


def test_nothing_counted_is_no_figure() -> None:
    empty = JointTable.of([])
    assert empty.accuracy is empty.right_place is empty.wrong_place_among_right_answers is None
    with pytest.raises(ValueError, match="no questions"):
        overall({})
