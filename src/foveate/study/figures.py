"""What is reported of a cell: measures as they are, and figures derived from several of them.

Every figure is a quotient of two sums over questions, which is what a bootstrap over questions needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foveate.evaluation.grounding import IOG_THRESHOLD
from foveate.study.results import Cell, Floats

TITLES = {
    "accuracy": "right answers",
    "iog30": f"IoG > {IOG_THRESHOLD}",
    "iou": "mean IoU",
    "area": "box area",
    "wrong_place": "wrong place among right answers",
    "look:wrong_card": "look dependence (wrong card)",
    "look:noise": "look dependence (noise)",
    "gain:true_crop": "gain with the true crop",
    "answer:crop_alone": "crop alone suffices",
}


class Quotient(NamedTuple):
    """A figure's parts over questions: the figure is the sum of `top` over the sum of `bottom`.

    Both are 0 where a question says nothing about the figure, never NaN.
    """

    top: Floats
    bottom: Floats


def title(figure: str) -> str:
    """A figure's name for people, without its way of asking."""
    kind = figure.partition("/")[2]
    return TITLES.get(kind, kind)


def quotient(cell: Cell, figure: str) -> Quotient | None:
    """A figure of a cell, None where the measures that it needs were not taken.

    Args:
        figure: `<way>/<kind>`. Kinds, beside the names of measures: `iog30` (IoG > 0.3), `iog>T` for any threshold T,
            `wrong_place` (share of the right answers without IoG > 0.3: HART, Table 1), `look:X` (right answers
            less those with the crop replaced by X, both greedy: LFPC, Table 5) and `gain:X` (the opposite).
    """
    way, _, kind = figure.partition("/")

    def measure(name: str) -> Floats | None:
        return cell.values(f"{way}/{name}")

    if kind == "iog30":
        kind = f"iog>{IOG_THRESHOLD}"
    if kind.startswith("iog>"):
        iog, threshold = measure("iog"), float(kind.removeprefix("iog>"))
        return None if iog is None else _mean(np.where(np.isnan(iog), np.nan, iog > threshold))
    if kind == "wrong_place":
        right, iog = measure("accuracy"), measure("iog")
        if right is None or iog is None:
            return None
        known = (right == 1) & ~np.isnan(iog)
        return Quotient((known & ~(iog > IOG_THRESHOLD)).astype(np.float64), known.astype(np.float64))
    change, _, probe = kind.partition(":")
    if change in ("look", "gain"):
        own, replaced = measure("answer:unchanged"), measure(f"answer:{probe}")
        if own is None or replaced is None:
            return None
        return _mean(own - replaced if change == "look" else replaced - own)
    plain = measure(kind)
    return None if plain is None else _mean(plain)


def _mean(values: Floats) -> Quotient:
    known = ~np.isnan(values)
    return Quotient(np.where(known, values, 0.0), known.astype(np.float64))
