"""The square adds up, and what was learned splits into what it is made of."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.evaluation.gains import Checkpoint, account, gains

rights = st.sampled_from([0.0, 1.0, None])
pairs = st.lists(st.tuples(rights, rights), min_size=1, max_size=40)
quadruples = st.lists(st.tuples(rights, rights, rights, rights), min_size=1, max_size=40)


def test_the_square() -> None:
    direct, zoomed = [1, 1, 0, 0, 0, None, 1], [1, 0, 1, 1, 0, 1, None]
    found = gains(direct, zoomed)
    assert (found.both, found.gain, found.harm, found.neither, found.left_out) == (1, 2, 1, 1, 2)
    assert (found.direct.value, found.zoomed.value) == (0.4, 0.6)
    assert (found.gained.value, found.harmed.value) == (0.4, 0.2)
    assert found.net.value == pytest.approx(0.2)
    assert found.p == 1


@given(pairs)
def test_net_gain_is_what_zooming_adds(answers: list[tuple[float | None, float | None]]) -> None:
    direct, zoomed = zip(*answers, strict=True)
    found = gains(direct, zoomed)
    assert found.questions + found.left_out == len(answers)
    if found.net is None:
        assert found.questions == 0
        return
    assert found.net.value == pytest.approx(found.zoomed.value - found.direct.value)
    assert found.net.value == pytest.approx(found.gained.value - found.harmed.value)
    for share in (found.direct, found.zoomed, found.gained, found.harmed, found.net):
        assert share.interval[0] <= share.value <= share.interval[1]
    swapped = gains(zoomed, direct)
    assert (swapped.gain, swapped.harm, swapped.p) == (found.harm, found.gain, found.p)


@given(quadruples)
def test_what_was_learned_is_the_sum_of_its_parts(answers: list[tuple[float | None, ...]]) -> None:
    direct_0, zoomed_0, direct, zoomed = zip(*answers, strict=True)
    first, last = account([Checkpoint("start", direct_0, zoomed_0), Checkpoint("end", direct, zoomed)])
    assert first.learned.questions >= last.learned.questions == sum(None not in row for row in answers)
    if last.learned.questions:
        parts = last.learned.to_see.value + last.learned.from_crops.value
        assert last.learned.in_all.value == pytest.approx(parts)
    if first.learned.questions:
        assert first.learned.to_see.value == first.learned.from_crops.value == 0


def test_one_that_learned_to_see_and_one_that_learned_from_crops() -> None:
    start = Checkpoint("start", [0.0] * 40, [0.0] * 40)
    _, sees = account([start, Checkpoint("sees", [1.0] * 40, [1.0] * 40)])
    assert sees.learned.to_see.interval[0] > 0.5
    assert sees.learned.from_crops.value == 0
    assert sees.learned.from_crops.interval[1] < 0.1
    _, crops = account([start, Checkpoint("crops", [0.0] * 40, [1.0] * 40)])
    assert crops.learned.from_crops.interval[0] > 0.5
    assert crops.learned.to_see.interval[1] < 0.1
    _, harmed_less = account([Checkpoint("start", [1.0] * 40, [0.0] * 40), Checkpoint("end", [1.0] * 40, [1.0] * 40)])
    assert harmed_less.learned.from_crops.value == 1
    assert harmed_less.gains.gain == 0


def test_without_a_reply_there_is_no_share() -> None:
    found = gains([None, 1], [1, None])
    assert (found.questions, found.left_out, found.net, found.p) == (0, 2, None, 1)
    [one] = account([Checkpoint("c", [None], [1])])
    assert one.learned.in_all is None


def test_as_many_answers_in_both_ways() -> None:
    with pytest.raises(ValueError, match="shorter"):
        gains([1, 0], [1])


def test_json() -> None:
    [one] = account([Checkpoint("start", [1, 0, None], [1, 1, 1])])
    written = one.to_json()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert written["gains"]["gain"] == 1
    assert written["gains"]["net"]["value"] == 0.5
    assert gains([], []).to_json()["net"] is None
