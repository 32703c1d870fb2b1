import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.study.cells import make, plain

from foveate.study import analysis
from foveate.study.analysis import difference, difference_in_differences, estimate, holm
from foveate.study.results import StudyError, UndefinedError


def drawn(rng, mean, *, seeds=5, questions=100, spread=0.0, hard=0.15):
    """A table of right answers of a method whose seeds differ by `spread`, on questions of different hardness."""
    luck = rng.normal(0, spread, (seeds, 1))
    return rng.random((seeds, questions)) < np.clip(mean + luck + rng.normal(0, hard, questions), 0, 1)


def by_loops(tops, bottoms, weights):
    """The interval as the text says it, one number at a time."""
    seeds, questions = len(tops[0]), len(tops[0][0])

    def figure(seed, counts):
        return sum(
            weight
            * sum(count * top[seed][q] for q, count in enumerate(counts))
            / sum(count * bottom[seed][q] for q, count in enumerate(counts))
            for weight, top, bottom in zip(weights, tops, bottoms, strict=True)
        )

    every = [1] * questions
    value = sum(figure(seed, every) for seed in range(seeds)) / seeds
    resamples = []
    for counts, picked in zip(analysis._question_draws(questions), analysis._seed_draws(seeds), strict=True):
        resamples.append(sum(figure(seed, counts) for seed in picked) / seeds)
    low, high = np.quantile(resamples, [0.025, 0.975])

    # The two-way layout of plain means (bottoms of 1), by its textbook sums of squares.
    cells = [
        [sum(w * t[s][q] for w, t in zip(weights, tops, strict=True)) for q in range(questions)] for s in range(seeds)
    ]
    rows = [np.mean(row) for row in cells]
    columns = [np.mean([row[q] for row in cells]) for q in range(questions)]
    of_seeds = questions * sum((row - value) ** 2 for row in rows) / (seeds - 1)
    of_questions = seeds * sum((column - value) ** 2 for column in columns) / (questions - 1)
    rest = sum((cells[s][q] - rows[s] - columns[q] + value) ** 2 for s in range(seeds) for q in range(questions))
    of_rest = rest / (seeds - 1) / (questions - 1)
    total = max(of_seeds, of_rest) + max(of_questions - of_rest, 0)
    freedom = total**2 / (of_seeds**2 / (seeds - 1))
    scale = (total / seeds / questions) ** 0.5 / np.std(resamples) * stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    return value, value + scale * (low - value), value + scale * (high - value)


def test_it_is_what_loops_give(monkeypatch):
    monkeypatch.setattr(analysis, "RESAMPLES", 50)
    analysis._question_draws.cache_clear()
    analysis._seed_draws.cache_clear()
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 12)), rng.random((3, 12))
    ones = np.ones((3, 12))
    try:
        one, two = estimate(plain("a", a), "own/accuracy"), difference(plain("a", a), plain("b", b), "own/accuracy")
        assert (one.value, one.low, one.high) == pytest.approx(by_loops([a], [ones], [1]))
        assert (two.value, two.low, two.high) == pytest.approx(by_loops([a, b], [ones, ones], [1, -1]))
    finally:
        analysis._question_draws.cache_clear()
        analysis._seed_draws.cache_clear()


@pytest.mark.parametrize("spread", [0.0, 0.04, 0.1])
def test_the_interval_holds_the_truth_nineteen_times_in_twenty(spread):
    """Between 91 and 99.9 % of 200 studies, whether the questions or the five seeds vary most (nominal: 95 %)."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(200):
        found = estimate(plain("a", drawn(rng, 0.5, spread=spread)), "own/accuracy")
        held.append(found.low <= 0.5 <= found.high)
    assert 0.91 <= np.mean(held) <= 0.999


@pytest.mark.parametrize("spread", [0.0, 0.06])
def test_no_effect_is_rarely_found(spread):
    """In at most 8 % of 200 studies without an effect (nominal: 5 %); the t-test in 2 to 9 %."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(200):
        hard = rng.normal(0, 0.15, 100)
        a, b = (rng.random((5, 100)) < np.clip(0.6 + rng.normal(0, spread, (5, 1)) + hard, 0, 1) for _ in "ab")
        found.append(difference(plain("a", a), plain("b", b), "own/accuracy"))
    assert np.mean([not each.low <= 0 <= each.high for each in found]) <= 0.08
    assert 0.02 <= np.mean([each.p < 0.05 for each in found]) <= 0.09


def test_a_planted_effect_is_found():
    better, worse = make("hart", place=0.65), make("hart-k0", place=0.4)
    found = difference(better, worse, "own/iog30")
    assert 0 < found.low < 0.25 < found.high
    assert found.p < 0.05
    assert difference(worse, better, "own/iog30").value == -found.value


def test_a_widening_lead_is_found():
    small = make("mgpo-small", accuracy=0.7), make("grpo-small", accuracy=0.3)
    large = make("mgpo", accuracy=0.75), make("grpo", accuracy=0.7)
    found = difference_in_differences(small, large, "own/accuracy")
    lead, other = difference(*small, "own/accuracy"), difference(*large, "own/accuracy")
    assert found.value == pytest.approx(lead.value - other.value)
    assert found.low > 0


def test_pairing_takes_out_what_both_sides_share():
    rng = np.random.default_rng(3)
    hard = rng.random(100)
    a, b = rng.normal(hard + 0.02, 0.05, (5, 100)), rng.normal(hard, 0.05, (5, 100))
    alone, paired = estimate(plain("a", a), "own/accuracy"), difference(plain("a", a), plain("b", b), "own/accuracy")
    assert paired.high - paired.low < (alone.high - alone.low) / 3


def test_p_is_the_paired_t_test_over_seeds():
    a, b = make("hart"), make("mgpo", accuracy=0.5)
    found = difference(a, b, "own/accuracy")
    means = [[np.mean(cell.measures["own/accuracy"]) for cell in cells] for cells in (a, b)]
    assert found.p == pytest.approx(stats.ttest_rel(*means).pvalue)


def test_the_same_cells_give_the_same_interval_in_any_order():
    cells = make("hart")
    assert estimate(cells, "own/iog30") == estimate(cells[::-1], "own/iog30")


def test_questions_are_paired_by_id():
    rng = np.random.default_rng(4)
    table, ids = rng.random((3, 20)), tuple(f"q{index}" for index in range(20))
    order = rng.permutation(20)
    shuffled = plain("b", table[:, order], questions=tuple(ids[index] for index in order))
    found = difference(plain("a", table, questions=ids), shuffled, "own/accuracy")
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_one_seed_has_an_interval_over_questions_but_no_test():
    a, b = make("hart", seeds=[0]), make("mgpo", seeds=[0], accuracy=0.3)
    found = difference(a, b, "own/accuracy")
    assert found.low < found.value < found.high
    assert found.p is None


def test_without_variance():
    same, ones = plain("a", np.zeros((3, 10))), plain("b", np.ones((3, 10)))
    nothing = difference(same, plain("c", np.zeros((3, 10))), "own/accuracy")
    assert (nothing.value, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)
    constant = difference(ones, same, "own/accuracy")
    assert (constant.value, constant.low, constant.high, constant.p) == (1, 1, 1, None)


def test_seeds_that_agree_by_chance_are_not_believed():
    table = np.array([[1, 0] * 50, [0, 1] * 50])
    found = estimate(plain("a", table), "own/accuracy")
    assert found.low < 0.45
    assert found.high > 0.55


def test_only_seeds_that_both_have_are_compared():
    found = difference(make("hart", seeds=[0, 1, 2]), make("mgpo", seeds=[1, 2, 3]), "own/accuracy")
    assert list(found.by_seed) == [1, 2]
    with pytest.raises(UndefinedError, match="no seed in common"):
        difference(make("hart", seeds=[0]), make("mgpo", seeds=[1]), "own/accuracy")


def test_seeds_without_the_figure_are_left_out():
    table = [[1.0, 0.0, 1.0], [float("nan")] * 3, [float("nan"), 1.0, 1.0]]
    found = estimate(plain("a", table), "own/accuracy")
    assert found.by_seed == pytest.approx({0: 2 / 3, 2: 1.0})
    assert found.value == pytest.approx(5 / 6)
    for cells in ([], plain("a", table[1:2]), plain("a", table, figure="own/iou")):
        with pytest.raises(UndefinedError):
            estimate(cells, "own/accuracy")


def test_what_cannot_be_compared():
    with pytest.raises(StudyError, match="one method's seeds"):
        estimate([*make("hart", seeds=[0]), *make("mgpo", seeds=[1])], "own/accuracy")
    with pytest.raises(StudyError, match="one method's seeds"):
        estimate(make("hart", seeds=[0, 0]), "own/accuracy")
    other = make("mgpo", questions=tuple(f"other-{index}" for index in range(120)))
    with pytest.raises(StudyError, match="other questions"):
        difference(make("hart"), other, "own/accuracy")


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 999))
def test_an_interval_holds_its_value_and_stays_within_the_values(seeds, questions, seed):
    table = np.random.default_rng(seed).choice([0.0, 1.0, np.nan], p=[0.6, 0.3, 0.1], size=(seeds, questions))
    if not (~np.isnan(table)).any():
        return
    found = estimate(plain("a", table), "own/accuracy")
    assert np.nanmin(table) <= found.low <= found.value <= found.high <= np.nanmax(table)


def test_holm():
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([None]) == [None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_and_keeps_the_order(values):
    corrected = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, corrected, strict=True))
    ranked = [q for _, q in sorted(zip(values, corrected, strict=True))]
    assert ranked == sorted(ranked)
