import math

from hypothesis import example, given
from hypothesis import strategies as st

from foveate.evaluation.plots import BOTTOM, LEFT, RIGHT, TOP, draw_scatter, draw_thresholds, nice_ticks
from foveate.evaluation.statistics import Estimate

shares = st.floats(0, 1)


@st.composite
def figures(draw, values):
    low, value, high = sorted(draw(st.tuples(values, values, values)))
    return Estimate(value, (low, high))


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=20))
def test_thresholds_stay_inside_and_fall_as_the_shares_do(curve):
    drawing = draw_thresholds([[], curve], usual=0.3)
    [(run, points)] = drawing.curves
    assert run == 1
    places = [tuple(map(float, point.split(","))) for point in points.split()]
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in places)
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert drawing.said[0] == ""


def test_no_curve_no_drawing():
    assert draw_thresholds([[], []]) is None


@given(st.lists(st.tuples(figures(st.floats(0, 1e6)), figures(shares)), min_size=2, max_size=6))
def test_dots_with_their_intervals_stay_inside(runs):
    drawing = draw_scatter([cost for cost, _ in runs], [share for _, share in runs])
    for dot in drawing.dots:
        assert LEFT <= dot.across[0] <= dot.at[0] <= dot.across[1] <= RIGHT
        assert TOP <= dot.along[1] <= dot.at[1] <= dot.along[0] <= BOTTOM


def test_a_run_without_a_cost_is_left_out_and_one_alone_is_no_chart():
    some = Estimate(0.5, (0.4, 0.6))
    assert draw_scatter([Estimate(10.0), None], [some, some]) is None
    drawing = draw_scatter([Estimate(10.0), None, Estimate(20.0)], [some, some, some])
    assert [dot.run for dot in drawing.dots] == [0, 2]


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=8))
@example([1.0, math.nextafter(1, 0)])
@example([0.0, 5e-324])
def test_ticks_enclose_the_values_evenly(values):
    ticks = nice_ticks(values)
    assert ticks[0] <= min(values)
    assert max(values) <= ticks[-1]
    assert len(set(ticks)) == len(ticks)
    assert 3 <= len(ticks) <= 12
    assert ticks[0] >= 0
