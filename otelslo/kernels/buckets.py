"""Latency buckets: OpenTelemetry's base-2 exponential ones at scale 3, in nanoseconds, exact at every boundary.

Bucket i holds (2**(i/8) s, 2**((i+1)/8) s]. A latency is a whole number of nanoseconds, so it lies at or under a boundary
exactly when it is at or under the boundary's floor, and the table of floors decides without rounding. Neighbouring
boundaries differ by a factor of 2**(1/8) = 1.0905; a quantile read as the bucket's geometric middle is within 4.43 % of
the truth.

Source: OpenTelemetry metrics data model, "Exponential Histogram".
"""

from __future__ import annotations

import math

import numpy as np

from . import words

SCALE = 3
LOWEST_INDEX = -20 * 8  # boundaries from 2**-20 s = 0.95 us ...
BUCKETS = 30 * 8  # ... to 2**10 s = 1,024 s

# Words of a histogram: the sum of latencies in ns, the bucket of all at or under the lowest boundary (OTel's zero
# count with zero_threshold 2**-20 s), the buckets, and the bucket of all above the highest boundary.
SUM, ZERO, FIRST = 0, 1, 2
OVERFLOW = FIRST + BUCKETS
USED_WORDS = OVERFLOW + 1
WORDS = 256


def _root8(n: int) -> int:
    return math.isqrt(math.isqrt(math.isqrt(n)))


def boundary_ns(index: int) -> int:
    """Floor of the lower boundary of bucket `index` in ns: the 8th root of 2**index * 10**72."""
    scaled = 10**72
    return _root8(scaled << index if index >= 0 else scaled >> -index)


UPPER_NS = np.array([boundary_ns(LOWEST_INDEX + i) for i in range(BUCKETS + 1)], dtype=np.int64)


def _first_candidates() -> np.ndarray:
    """For each (exponent, top three mantissa bits) of a latency, the first boundary that is not below its block."""
    table = np.zeros(64 * 8, dtype=np.int64)
    for exponent in range(3, 63):
        for part in range(8):
            smallest = (8 + part) << (exponent - 3)
            table[exponent * 8 + part] = np.searchsorted(UPPER_NS, smallest, side="left")
    return table


_FIRST_CANDIDATE = _first_candidates()


@words.inner
def word_of(latency_ns: int) -> int:
    """The histogram word that counts a latency of 0 or more ns."""
    if latency_ns <= UPPER_NS[0]:
        return ZERO
    exponent = 63 - words.leading_zeros(latency_ns)
    part = (latency_ns >> (exponent - 3)) & 7
    i = _FIRST_CANDIDATE[exponent * 8 + part]
    while i <= BUCKETS and latency_ns > UPPER_NS[i]:
        i += 1
    return FIRST + i - 1  # type: ignore[no-any-return]
