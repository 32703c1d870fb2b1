"""Figures and counts as a comparison's page writes them."""

from __future__ import annotations

from foveate.evaluation.contrasts import Measure
from foveate.evaluation.statistics import Estimate


def figure_text(value: float, measure: Measure) -> str:
    """A figure in its unit."""
    if measure.percent:
        return f"{100 * value:.1f} %"
    if measure.name == "mean_iou":
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interval_text(figure: Estimate, measure: Measure) -> str:
    """Both ends of its interval, or nothing."""
    if figure.interval is None:
        return ""
    low, high = (figure_text(end, measure).removesuffix(" %") for end in figure.interval)
    return f"{low}\u2013{high}"


def points(value: float) -> str:
    """A difference of shares, in percentage points, with its sign."""
    return _minus(f"{100 * value:+.1f}")


def signed(value: float) -> str:
    """A difference with its sign."""
    return _minus(f"{value:+.3f}")


def _minus(text: str) -> str:
    return text.replace("-", "\u2212") if float(text) else text.lstrip("+-")


def counted(count: int, what: str) -> str:
    """A number of things."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def link_of(run: int, runs: int, asked: str) -> str:
    """The filter of the gallery for one run; it is named only among several."""
    return f"run={run + 1}&{asked}" if runs > 1 else asked
