"""What a score is worth: bootstrap intervals, and tests of paired answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval over questions, where there is one."""

    value: float
    interval: Interval | None = None


_BLOCK = 4_000_000
"""Numbers drawn at once: 32 MB of indices."""


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The percentile bootstrap interval of the mean, resampling with replacement.

    Give it one value per question: samples of the same question are not independent. Where all values are equal, the
    interval has no width; that tells nothing about questions that were not asked.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("a bootstrap interval needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(array))
    means = [
        array[rng.integers(len(array), size=(min(rows, resamples - start), len(array)))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    mean = float(array.mean())
    return min(float(low), mean), max(float(high), mean)  # equal values: sums in another order differ in the last bit


def paired_interval(changes: Sequence[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """The bootstrap interval of a mean change over questions that were answered twice, right or wrong.

    One question more that was gained and one that was lost are among those that are drawn from (Bonett and Price,
    Journal of Educational and Behavioral Statistics 37, 2012, for the interval in closed form). Without them it would
    have no width wherever no question changed, be they three or three hundred; with them it is as wide there as the
    rule of three says, about 3 in n to either side. One question gives all that is possible, -1 to 1.

    Raises:
        ValueError: no values.
    """
    if not changes:
        raise ValueError("an interval of a change needs at least one value")
    low, high = bootstrap_interval([*changes, 1.0, -1.0], level=level, resamples=resamples, seed=seed)
    mean = math.fsum(changes) / len(changes)
    return min(low, mean), max(high, mean)


def mcnemar(gained: int, lost: int) -> float:
    """The p-value of McNemar's exact test, two-sided: of questions answered twice only those that changed tell.

    Args:
        gained: wrong before, right after.
        lost: right before, wrong after.
    """
    from scipy.stats import binomtest  # half a second that only this test pays

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
