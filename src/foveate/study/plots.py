"""A study's plots, as SVG: the same estimates give the same bytes on the same matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.study.analysis import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Sequence[tuple[float, Estimate]]
"""Amounts, ascending, and what was found at each."""

# Okabe and Ito's colours, which colour-blind readers can tell apart, in an order that also differs in lightness.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
_MARKERS = "osD^vP*X"
_DASHES = ("-", "--", "-.", ":")
_INK, _PALE = "#222222", "#dddddd"
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "foveate",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def dots(path: Path, rows: Mapping[str, Estimate], xlabel: str) -> None:
    """A row per method: its mean with the interval, and each seed as a small dot."""
    with _drawing(path, height=0.9 + 0.42 * len(rows)) as axes:
        axes.grid(axis="x", color=_PALE)
        for place, found in enumerate(rows.values()):
            seeds = list(found.by_seed.values())
            axes.scatter(seeds, [place + 0.22] * len(seeds), s=14, color="#8a8a8a", linewidths=0)
            axes.errorbar(found.value, place, xerr=_ends([found]), fmt="o", color=_COLOURS[0], capsize=3, ms=6)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.45, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(xlabel)


def curves(
    path: Path,
    lines: Mapping[str, Curve],
    xlabel: str,
    ylabel: str,
    *,
    bands: bool = False,
    mark: float | None = None,
) -> None:
    """A line per method over some amount, with intervals as bars, or as bands where the amounts lie close.

    Two seeds get no band: what little they say of their spread would jump from amount to amount.

    Args:
        mark: an amount to be seen among the others.
    """
    with _drawing(path, height=3.9) as axes:
        axes.grid(color=_PALE)
        if mark is not None:
            axes.axvline(mark, color=_INK, linewidth=1, linestyle=":")
        faint = 0.18 if len(lines) <= 4 else 0.1  # many bands on one another make mud
        amounts = sorted({amount for curve in lines.values() for amount, _ in curve})
        gaps = [right - left for left, right in pairwise(amounts)]
        aside = 0.0 if bands else 0.06 * min(gaps, default=0.0)
        for index, (label, curve) in enumerate(lines.items()):
            style: dict[str, Any] = {"color": _COLOURS[index % len(_COLOURS)], "label": label, "linewidth": 1.8}
            found = [estimate for _, estimate in curve]
            xs = [amount + aside * (index - (len(lines) - 1) / 2) for amount, _ in curve]  # bars side by side
            ys = [estimate.value for estimate in found]
            if bands:
                lows, highs = [estimate.low for estimate in found], [estimate.high for estimate in found]
                if all(len(estimate.by_seed) != 2 for estimate in found):
                    axes.fill_between(xs, lows, highs, color=style["color"], alpha=faint, linewidth=0)
                axes.plot(xs, ys, linestyle=_DASHES[(index + index // len(_COLOURS)) % len(_DASHES)], **style)
            else:
                marker = _MARKERS[index % len(_MARKERS)]
                axes.errorbar(xs, ys, yerr=_ends(found), marker=marker, ms=6, capsize=3, **style)
        if not bands:
            axes.set_xticks(amounts, [f"{amount:g}" for amount in amounts])
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        _legend(axes)


def bars(path: Path, rows: Mapping[str, Mapping[str, Estimate]], ylabel: str) -> None:
    """A cluster of bars per method, one bar for each thing that was shown to it in place of its crop."""
    with _drawing(path, width=max(6.4, 1.2 + 1.7 * len(rows)), height=3.9) as axes:
        axes.grid(axis="y", color=_PALE)
        kinds = list(dict.fromkeys(kind for row in rows.values() for kind in row))
        width = 0.82 / max(1, len(kinds))
        for index, kind in enumerate(kinds):
            there = [(place, row[kind]) for place, row in enumerate(rows.values()) if kind in row]
            found = [estimate for _, estimate in there]
            axes.bar(
                [place + width * (index - (len(kinds) - 1) / 2) for place, _ in there],
                [estimate.value for estimate in found],
                width=width * 0.92,
                yerr=_ends(found),
                color=_COLOURS[index % len(_COLOURS)],
                error_kw={"ecolor": _INK, "elinewidth": 1, "capsize": 2},
                label=kind,
            )
        axes.set_xticks(range(len(rows)), list(rows))
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(ylabel)
        _legend(axes)


def _ends(found: Sequence[Estimate]) -> list[list[float]]:
    """How far the interval goes below and above each value."""
    return [[each.value - each.low for each in found], [each.high - each.value for each in found]]


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, handlelength=3)  # dashes tell apart


@contextmanager
def _drawing(path: Path, *, height: float, width: float = 6.4) -> Iterator[Axes]:
    """Axes to draw on, saved afterwards; without pyplot, so that no state is shared with a caller's own plots."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), facecolor="white")
        yield figure.add_subplot()
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {}
        figure.savefig(path, bbox_inches="tight", pad_inches=0.12, dpi=150, metadata=metadata)
