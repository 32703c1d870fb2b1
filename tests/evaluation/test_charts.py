import math

from hypothesis import given
from hypothesis import strategies as st

from foveate.evaluation.charts import HEIGHT, PANELS, WIDTH, draw_curves, shown, smoothed

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=1, max_size=30), st.sampled_from([panel.key for panel in PANELS]))
def test_points_stay_inside_the_drawing(values, key):
    (curve,) = draw_curves([{"step": i, key: value} for i, value in enumerate(values)])
    for points in (curve.raw, curve.smooth):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_a_missing_key_leaves_its_panel_out():
    curves = draw_curves([{"step": 0, "reward": 0.2, "kl": None}, {"step": 1, "reward": 0.4, "kl": math.nan}])
    assert [curve.panel.key for curve in curves] == ["reward"]
    assert draw_curves([]) == []


def test_steps_without_the_figure_are_passed_over():
    (curve,) = draw_curves([{"step": 0, "iog30": 0.1}, {"step": 1}, {"step": 2, "iog30": 0.3}])
    assert curve.steps == 2
    assert (curve.first, curve.last) == ("10 %", "30 %")
    assert len(curve.dots) == 2


def test_higher_is_higher():
    (curve,) = draw_curves([{"step": i, "reward": value} for i, value in enumerate((0.0, 0.5, 1.0))])
    heights = [float(point.split(",")[1]) for point in curve.raw.split()]
    assert heights == sorted(heights, reverse=True)
    assert [text for _, text in curve.y_ticks] == ["0", "0.50", "1.00"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(0, 4))
def test_the_running_mean_stays_within_the_values(values, half):
    means = smoothed(values, 2 * half + 1)
    assert len(means) == len(values)
    assert all(min(values) - 1e-12 <= mean <= max(values) + 1e-12 for mean in means)


def test_figures_as_people_read_them():
    assert [shown(v, True) for v in (0, 0.034, 0.0994, 0.0996, 0.5, 1)] == [
        "0 %",
        "3.4 %",
        "9.9 %",
        "10 %",
        "50 %",
        "100 %",
    ]
    assert [shown(v, False) for v in (0, 0.0022, 0.5, 1)] == ["0", "0.0022", "0.50", "1.00"]
