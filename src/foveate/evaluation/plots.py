"""Charts of several runs as inline SVG, in units of the drawing, ready for a template: thresholds, and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.evaluation.statistics import Estimate

WIDTH, HEIGHT = 440, 270
"""Of a drawing, in its own units."""
LEFT, RIGHT, TOP, BOTTOM = 50, 428, 12, 226
"""The edges of what is plotted; the words of the axes are outside."""

Place = tuple[float, float]
"""x and y in units of the drawing."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Where the ticks stand, and what they say."""

    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Curves over a threshold: of each run that has one, its number (from 0) and its line's points."""

    axes: Axes
    curves: tuple[tuple[int, str], ...]
    usual: float | None
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """A run's place in a scatter, with the ends of both intervals, and where its number is written."""

    run: int
    at: Place
    across: tuple[float, float]
    along: tuple[float, float]
    label: Place


@dataclass(frozen=True, slots=True)
class Scatter:
    """Runs as dots with intervals."""

    axes: Axes
    dots: tuple[Dot, ...]


def draw_thresholds(curves: Sequence[Sequence[tuple[float, float]]], usual: float | None = None) -> Thresholds | None:
    """One line for each run's (threshold, share) pairs, on axes from 0 to 1; None where no run has any.

    Args:
        curves: by run; empty where it has none.
        usual: a threshold to mark.
    """
    drawn = tuple(
        (i, " ".join(f"{_x(t, 0, 1)},{_y(share, 0, 1)}" for t, share in sorted(curve)))
        for i, curve in enumerate(curves)
        if curve
    )
    ticks = (0, 0.2, 0.4, 0.6, 0.8, 1)
    axes = Axes(tuple((_x(t, 0, 1), f"{t:g}") for t in ticks), tuple((_y(t, 0, 1), f"{100 * t:.0f} %") for t in ticks))
    said = tuple(_said(curve) for curve in curves)
    return Thresholds(axes, drawn, None if usual is None else _x(usual, 0, 1), said) if drawn else None


def draw_scatter(costs: Sequence[Estimate | None], shares: Sequence[Estimate | None]) -> Scatter | None:
    """Runs by cost (from left to right) and share (upwards), each where it has both; None with fewer than two."""
    known = [(i, x, y) for i, (x, y) in enumerate(zip(costs, shares, strict=True)) if x and y]
    if len(known) < 2:
        return None
    x_ticks = nice_ticks([end for _, x, _ in known for end in _ends(x)])
    y_ticks = nice_ticks([end for _, _, y in known for end in _ends(y)], within=(0, 1))
    xs, ys = (x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1])
    dots = []
    for i, x, y in known:
        at = (_x(x.value, *xs), _y(y.value, *ys))
        (left, right), (low, high) = _ends(x), _ends(y)
        across, along = (_x(left, *xs), _x(right, *xs)), (_y(low, *ys), _y(high, *ys))
        side = -1 if at[0] > RIGHT - 30 else 1  # inside the drawing
        dots.append(Dot(i, at, across, along, (at[0] + side * 11, at[1] - 9)))
    axes = Axes(
        tuple((_x(t, *xs), f"{t:,.10g}") for t in x_ticks),
        tuple((_y(t, *ys), f"{round(100 * t, 6):g} %") for t in y_ticks),
    )
    return Scatter(axes, tuple(dots))


def nice_ticks(values: Sequence[float], within: tuple[float, float] | None = None) -> list[float]:
    """Four to eight round numbers, evenly spaced, from below the least value to above the greatest."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if size < 1e-9:  # nothing that a tick could tell apart
        low, high, size = 0.0, 0.0, 1.0
    room = 0.12 * (high - low if high - low > 1e-6 * size else size)
    low, high = low - room if low else 0.0, high + room
    low = max(low, 0.0) if min(values) >= 0 else low
    if within:
        low, high = max(low, within[0]), min(high, within[1])
    unit = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(s * unit for s in (1, 2, 2.5, 5, 10) if s * unit >= (high - low) / 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _ends(figure: Estimate) -> tuple[float, float]:
    return figure.interval or (figure.value, figure.value)


def _x(value: float, low: float, high: float) -> float:
    return round(LEFT + (value - low) / (high - low) * (RIGHT - LEFT), 1)


def _y(value: float, low: float, high: float) -> float:
    return round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)


def _said(curve: Sequence[tuple[float, float]]) -> str:
    """A curve in words, for those who cannot see it."""
    return ", ".join(f"{100 * share:.0f} % over {t:g}" for t, share in sorted(curve)[::4])
