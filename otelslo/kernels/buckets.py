"""The histogram word of a latency, compiled: one look at a table of exact boundaries, then at most two comparisons."""

from __future__ import annotations

import numpy as np

from otelslo.kernels import words
from otelslo.kernels.bounds import BUCKETS, FIRST, ZERO
from otelslo.kernels.bounds import UPPER_NS as _UPPER

UPPER_NS = np.array(_UPPER, dtype=np.int64)


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
