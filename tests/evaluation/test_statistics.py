import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.evaluation.statistics import bootstrap_interval

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
