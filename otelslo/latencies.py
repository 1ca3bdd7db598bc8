"""Latencies as whole ns, and the quantiles of a histogram of them, within 4.43 % of the truth.

Exact bucket boundaries lie in `kernels.bounds`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import SupportsIndex

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


def whole_ns(latency_ns: object) -> int:
    """A latency that is no plain int; -1, which the core refuses, for what is no number or not finite.

    Without this the compiled call would convert: "5" and True would be counted, NaN and None would raise in a request.
    """
    if type(latency_ns).__name__ in ("bool", "bool_"):  # Python's and numpy's
        return -1
    if isinstance(latency_ns, SupportsIndex):
        try:
            return operator.index(latency_ns)
        except TypeError:  # an array of several
            return -1
    if isinstance(latency_ns, float) and math.isfinite(latency_ns) and latency_ns >= 0:
        return int(latency_ns)
    return -1
