"""Learning curves as inline SVG: small, without scripts, in the colours of the page they stand in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 300, 160
"""Of a panel's drawing, in its own units."""
LEFT, RIGHT = 46, 294
"""Between them lie the curves; the words of the y axis are left of them."""
_TOP, _BOTTOM = 10, 24


@dataclass(frozen=True, slots=True)
class Panel:
    """What one figure's panel says.

    Attributes:
        key: in the metrics.
        percent: whether it is a share, shown in percent.
        full: whether the axis spans 0 to 1 whatever the values.
    """

    key: str
    title: str
    hint: str
    percent: bool = True
    full: bool = True


PANELS = (
    Panel("reward", "Reward", "What training pays for: 1 for a right answer, 0 otherwise.", percent=False),
    Panel("accuracy", "Right answers", "Share of attempts that answered correctly."),
    Panel("iog30", "Looked in the right place", "The box covers over 30 % of what has to be seen. Never rewarded."),
    Panel("mean_iou", "How tightly", "Mean IoU: overlap with the true region. Never rewarded.", percent=False),
    Panel("box_area", "Size of the box", "Share of the picture. Growing boxes would be a way to cheat.", full=False),
    Panel("valid_boxes", "Usable boxes", "Share of attempts whose box could be read and cut out."),
    Panel("kl", "Distance from the start", "KL divergence from the untrained model.", percent=False, full=False),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """A panel with its drawing: everything in units of the drawing, ready for a template."""

    panel: Panel
    first: str
    last: str
    raw: str
    smooth: str
    dots: tuple[tuple[float, float], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str, str], ...]
    steps: int


def draw_curves(rows: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """One curve for each panel whose key the rows have; rows without a number under it are passed over.

    Args:
        rows: metrics in the order of the steps, each with `step`.
    """
    curves = []
    for panel in PANELS:
        points = [(float(row["step"]), float(row[panel.key])) for row in rows if _is_number(row.get(panel.key))]
        if points:
            curves.append(_curve(panel, points))
    return curves


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The centred mean over `window` values, fewer at the ends."""
    half = window // 2
    means = []
    for i in range(len(values)):
        part = values[max(0, i - half) : i + half + 1]
        means.append(sum(part) / len(part))
    return means


def shown(value: float, percent: bool) -> str:
    """A figure as a person reads it."""
    if percent:
        return f"{100 * value:.1f} %" if 0 < abs(value) < 0.0995 else f"{100 * value:.0f} %"
    if value == 0:
        return "0"
    return f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.2g}"


def _curve(panel: Panel, points: Sequence[tuple[float, float]]) -> Curve:
    steps, values = [x for x, _ in points], [y for _, y in points]
    means = smoothed(values, max(1, 2 * (len(values) // 20) + 1))
    low, high, middle = _range(values, panel.full)
    first, last = min(steps), max(steps)
    x_ticks = [(first, "start"), ((first + last) / 2, "middle"), (last, "end")] if last > first else [(first, "middle")]

    def x(step: float) -> float:
        share = (step - first) / (last - first) if last > first else 0.5
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def path(heights: Sequence[float]) -> str:
        return " ".join(f"{x(step)},{y(value)}" for step, value in zip(steps, heights, strict=True))

    return Curve(
        panel=panel,
        first=shown(means[0], panel.percent),
        last=shown(means[-1], panel.percent),
        raw=path(values),
        smooth=path(means),
        dots=tuple((x(step), y(value)) for step, value in points) if len(points) <= 3 else (),
        y_ticks=tuple((y(value), shown(value, panel.percent)) for value in (low, middle, high)),
        x_ticks=tuple((x(step), f"{step:g}", anchor) for step, anchor in x_ticks if step == round(step)),
        steps=len(points),
    )


def _range(values: Sequence[float], full: bool) -> tuple[float, float, float]:
    """Bottom, top and middle of the axis: 0 to 1, or from 0 to a round number over the values."""
    low, high = min(*values, 0.0), max(values)
    if full and low >= 0 and high <= 1:
        return 0.0, 1.0, 0.5
    top = _round_up(high) if high > 0 else (0.0 if low < 0 else 1.0)
    bottom = -_round_up(-low) if low < 0 else 0.0
    return bottom, top, (bottom + top) / 2


def _round_up(value: float) -> float:
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value * (1 - 1e-9))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
