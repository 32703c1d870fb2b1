import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.evaluation.statistics import bootstrap_interval, mcnemar, paired_interval

values = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(values, st.integers(0, 2**32))
def test_the_interval_holds_the_mean_and_stays_within_the_values(numbers, seed):
    low, high = bootstrap_interval(numbers, resamples=200, seed=seed)
    assert low <= sum(numbers) / len(numbers) + 1e-12
    assert high >= sum(numbers) / len(numbers) - 1e-12
    assert min(numbers) - 1e-12 <= low <= high <= max(numbers) + 1e-12


@given(values)
def test_the_same_seed_gives_the_same_interval(numbers):
    assert bootstrap_interval(numbers, resamples=100, seed=3) == bootstrap_interval(numbers, resamples=100, seed=3)


def test_more_questions_make_it_narrower():
    few, many = bootstrap_interval([0.0, 1.0] * 20), bootstrap_interval([0.0, 1.0] * 500)
    assert many[1] - many[0] < (few[1] - few[0]) / 3


def test_it_is_the_normal_interval_for_many_questions():
    low, high = bootstrap_interval([0.0, 1.0] * 500)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.5 / 1000**0.5, 0.5 + 1.96 * 0.5 / 1000**0.5), abs=0.003)


def test_blocks_do_not_change_how_many_resamples_there_are(monkeypatch):
    monkeypatch.setattr("foveate.evaluation.statistics._BLOCK", 10)
    low, high = bootstrap_interval([0.0, 1.0, 0.5, 0.25], resamples=501)
    assert 0 <= low < 0.4375 < high <= 1


def test_no_values():
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])


changes = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60)


@given(changes, st.integers(0, 2**32))
def test_an_interval_of_a_change_holds_it_and_turns_with_its_sign(numbers, seed):
    low, high = paired_interval(numbers, resamples=200, seed=seed)
    mean = sum(numbers) / len(numbers)
    assert -1 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    assert low < high


@pytest.mark.parametrize("questions", [30, 100, 300])
def test_where_nothing_changed_it_is_as_wide_as_the_rule_of_three(questions):
    low, high = paired_interval([0.0] * questions)
    assert high == pytest.approx(3 / questions, rel=0.35)
    assert low == pytest.approx(-3 / questions, rel=0.35)


def test_one_question_tells_nothing():
    assert paired_interval([0.0]) == paired_interval([1.0]) == paired_interval([-1.0]) == (-1, 1)
    with pytest.raises(ValueError, match="at least one"):
        paired_interval([])


@pytest.mark.parametrize(("gained", "lost"), [(0.3, 0.1), (0.02, 0.02), (0.0, 0.7), (0.5, 0.5)])
def test_it_holds_the_truth_as_often_as_it_says(gained, lost):
    rng = np.random.default_rng(7)
    held = 0
    for seed in range(300):
        numbers = rng.choice([1.0, -1.0, 0.0], size=60, p=[gained, lost, 1 - gained - lost])
        low, high = paired_interval(numbers.tolist(), resamples=300, seed=seed)
        held += low <= gained - lost <= high
    assert held / 300 > 0.92


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test_of_those_that_changed(gained, lost):
    changed = gained + lost
    expected = min(1.0, 2 * sum(math.comb(changed, k) for k in range(min(gained, lost) + 1)) / 2**changed)
    assert mcnemar(gained, lost) == pytest.approx(expected)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_mcnemar_of_many_questions():
    assert 0 < mcnemar(1000, 2000) < 1e-70
    assert mcnemar(50_000, 50_000) == pytest.approx(1)
