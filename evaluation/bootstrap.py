"""The percentile bootstrap: units drawn anew with replacement, and the interval of a statistic of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_DRAWN_AT_ONCE = 1_000_000
"""Units that are held in memory at once, over all resamples."""

Floats = NDArray[np.float64]


def draws(units: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The resamples of N units: indices [resamples, units], in stretches that fit in memory."""
    random = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // units)
    for done in range(0, resamples, at_once):
        yield random.integers(0, units, (min(at_once, resamples - done), units))


def interval(found: Floats) -> tuple[float | None, float | None, int]:
    """The middle 95 % of a statistic over the resamples [resamples], NaN where it is undefined.

    Returns:
        Lower end, upper end, and the number of resamples that were left out because it is undefined in them. Both ends
        are None when it is undefined in every one.
    """
    defined = found[~np.isnan(found)]
    if not defined.size:
        return None, None, found.size
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high), found.size - defined.size
