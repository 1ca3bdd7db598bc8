"""The exact boundaries of the latency buckets: OpenTelemetry's base-2 exponential ones at scale 3. No compiler needed.

Bucket i holds (2**(i/8) s, 2**((i+1)/8) s]. A latency is a whole number of ns, so it lies at or under a boundary
exactly when it is at or under the boundary's floor, and a table of floors decides without rounding. Neighbouring
boundaries differ by a factor of 2**(1/8) = 1.0905; a quantile read as the geometric middle of its bucket is within
4.43 % of the truth.

Source: OpenTelemetry metrics data model, "ExponentialHistogram".
"""

from __future__ import annotations

import math

SCALE = 3
LOWEST_INDEX = -20 * 8  # boundaries from 2**-20 s = 0.95 us ...
BUCKETS = 30 * 8  # ... to 2**10 s = 1,024 s

# Words of a histogram: the sum of latencies, each rounded to 1,024 ns (in ns a busy host would overflow the word in
# months), the bucket of all at or under the lowest boundary (OTel's zero
# count with zero_threshold 2**-20 s), the buckets, and the bucket of all above the highest boundary.
SUM, ZERO, FIRST = 0, 1, 2
SUM_SHIFT = 10
OVERFLOW = FIRST + BUCKETS
USED_WORDS = OVERFLOW + 1
WORDS = 256


def boundary_ns(index: int) -> int:
    """Floor of the lower boundary of bucket `index` in ns: the 8th root of 2**index * 10**72."""
    scaled = 10**72 << index if index >= 0 else 10**72 >> -index
    return math.isqrt(math.isqrt(math.isqrt(scaled)))


UPPER_NS = tuple(boundary_ns(LOWEST_INDEX + i) for i in range(BUCKETS + 1))  # [0] closes the zero bucket
