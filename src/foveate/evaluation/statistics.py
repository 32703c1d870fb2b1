"""What a score is worth: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]
"""Lower and upper end."""

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
