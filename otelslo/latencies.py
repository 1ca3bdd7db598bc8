"""Quantiles of a latency histogram, within 4.43 % of the truth; exact bucket boundaries lie in `kernels.bounds`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from otelslo.kernels.bounds import FIRST, OVERFLOW, UPPER_NS, USED_WORDS, ZERO


def observed(words: Sequence[int]) -> int:
    """How many latencies a histogram holds."""
    return sum(words[ZERO:USED_WORDS])


def quantile_ns(words: Sequence[int], q: float) -> int | None:
    """The latency (ns) that a share `q` of all is at or under; None of an empty histogram.

    The geometric middle of the bucket that holds rank ceil(q * n). At the open ends: the lowest boundary, 0.95 us, or
    the highest, 1,024 s.
    """
    total = observed(words)
    if total == 0:
        return None
    rank = max(1, math.ceil(q * total))
    for word in range(ZERO, USED_WORDS):
        rank -= words[word]
        if rank <= 0:
            return _middle_ns(word)
    raise AssertionError("the words add up to the total")


def _middle_ns(word: int) -> int:
    if word == ZERO:
        return UPPER_NS[0]
    if word == OVERFLOW:
        return UPPER_NS[-1]
    return math.isqrt(UPPER_NS[word - FIRST] * UPPER_NS[word - FIRST + 1])
