"""Concept drift by ADWIN: whether the rate of a stream of outcomes has changed, without a window that somebody chose.

The detector is river's (Bifet and Gavaldà, Learning from Time-Changing Data with Adaptive Windowing, 2007); it needs
the extra `river`, which is imported when the first one is made. One stream, one process, in the order in which outcomes
come: for a budget of all workers write an objective of quality instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from otelslo.errors import BadValue, OtelsloError, shown

DELTA = 0.002


@dataclass(frozen=True, slots=True)
class Change:
    """The rate of outcomes has changed: seen at outcome number `at` (from 1), from the mean of what was kept until then
    to that of the `kept` newest outcomes, which are all that is remembered from now on."""

    at: int
    before: float
    after: float
    kept: int


class OutcomeStream:
    """Outcomes one by one, such as whether a prediction was wrong, once its label has come. For one thread.

    Args:
        delta: how likely a change may be seen where there is none; smaller sees later.

    Raises:
        BadValue: a delta that is not between 0 and 1.
        OtelsloError: river is not installed.
    """

    def __init__(self, delta: float = DELTA) -> None:
        if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 < delta < 1:
            raise BadValue(f"a delta of {shown(delta)}", f"Write a number between 0 and 1, such as {DELTA}")
        try:
            from river.drift import ADWIN
        except ImportError as e:
            raise OtelsloError("ADWIN needs river: pip install 'otelslo[river]'") from e
        make: Any = ADWIN
        self._adwin = make(delta=delta)
        self._seen = 0

    def add(self, outcome: bool | float) -> Change | None:
        """Take the next outcome: True and False, or a score from 0 to 1. The change that it shows, None for none.

        Raises BadValue for anything else; it is not taken then.
        """
        value = float(outcome) if isinstance(outcome, bool | int | float) else math.nan
        if not 0 <= value <= 1:
            raise BadValue(f"{shown(outcome)} is no outcome", "Give True or False, or a score from 0 to 1")
        before = float(self._adwin.estimation)
        self._seen += 1
        self._adwin.update(value)
        if not self._adwin.drift_detected:
            return None
        return Change(self._seen, before, float(self._adwin.estimation), int(self._adwin.width))
