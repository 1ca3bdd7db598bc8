"""How much load held: steps of a load profile, each judged by the rule of a promised rate's slices, and what follows.

Pure: counts and times in, verdicts out. A step to which less came than it asked for says nothing of the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from otelslo.counts import Counts
from otelslo.throughput import Throughput, pace_text, rate_text
from otelslo.window import SECOND_NS, format_ratio, format_target

REACHED, NOT_REACHED, NOT_KNOWN = 0, 1, 3


class Verdict(StrEnum):
    """Of a step. WEAK: less load came than was asked for, and it was answered as promised; NOTHING: none came."""

    HELD = "held"
    FAILED = "failed"
    WEAK = "weak"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Step:
    """What came while a load tool ran that was told `rate` (requests a second) for `asked_ns`.

    `events` are those of the objective, by the exact difference of its counts, and `shed` the refused ones of them.
    `span_ns` is from the first that was counted to the last: a tool that takes longer than it was told makes a lower
    rate. `code` is the tool's exit code, None if it had to be ended. `tolerance` is the share of the load that may be
    missing.
    """

    rate: Fraction
    asked_ns: int
    span_ns: int
    events: Counts
    shed: int
    promise: Throughput
    tolerance: Fraction = Fraction(0)
    code: int | None = 0

    @property
    def length_ns(self) -> int:
        """What rates are counted over."""
        return max(self.asked_ns, self.span_ns)

    @property
    def offered_rate(self) -> Fraction:
        """Requests a second."""
        return Fraction(self.events.valid * SECOND_NS, self.length_ns)

    @property
    def verdict(self) -> Verdict:
        """As a slice of the objective with the step's rate as promise; only the load may be short by the tolerance."""
        needed = self.rate * self.length_ns / SECOND_NS
        if not self.events.valid and not self.shed:
            return Verdict.NOTHING
        if self.promise.held(self.events, self.shed):
            return Verdict.HELD if self.events.valid >= needed * (1 - self.tolerance) else Verdict.WEAK
        return Verdict.HELD if self.events.good >= needed else Verdict.FAILED

    @property
    def in_time(self) -> Fraction | None:
        """The share of what was served that was answered well and in time; None if nothing was served."""
        served = self.events.valid - self.shed
        return Fraction(self.events.good, served) if served > 0 else None

    @property
    def text(self) -> str:
        """Why the verdict is what it is."""
        verdict, share = self.verdict, format_target(self.promise.share)
        if verdict is Verdict.NOTHING:
            return "no request of the objective came"
        if verdict is Verdict.WEAK:
            weak = "the tool is too weak or waits for answers, or the service took no more"
            return f"only {pace_text(self.offered_rate)} came: {weak}"
        if self.shed:
            found = f"{self.shed:,} were shed"
        elif self.in_time is not None and self.in_time < self.promise.share:
            found = f"{format_ratio(self.in_time)} in time, {share} are promised"
        else:
            return ""
        return found + (", and yet enough were answered well" if verdict is Verdict.HELD else "")

    def to_json(self) -> dict[str, Any]:
        """Rates are requests a second."""
        return {
            "rate": float(self.rate),
            "verdict": self.verdict.value,
            "text": self.text,
            "offered": self.events.valid,
            "good": self.events.good,
            "bad": self.events.bad,
            "shed": self.shed,
            "excluded": self.events.excluded,
            "offered_per_s": float(self.offered_rate),
            "in_time": None if self.in_time is None else float(self.in_time),
            "seconds": self.length_ns / SECOND_NS,
            "tool_exit_code": self.code,
        }


def highest(steps: Sequence[Step]) -> Fraction | None:
    """The highest rate that held, below the first that failed; None if none did."""
    held = None
    for step in sorted(steps, key=lambda step: step.rate):
        if step.verdict is Verdict.FAILED:
            break
        held = step.rate if step.verdict is Verdict.HELD else held
    return held


def answer(steps: Sequence[Step], at_least: Fraction | None) -> int:
    """The exit code: whether `at_least` (or any rate at all) held; not known where nothing failed either."""
    found = highest(steps)
    if found is not None and (at_least is None or found >= at_least):
        return REACHED
    return NOT_REACHED if any(step.verdict is Verdict.FAILED for step in steps) else NOT_KNOWN


def in_words(steps: Sequence[Step], at_least: Fraction | None) -> str:
    """One sentence: what held, and whether that is enough."""
    found, code = highest(steps), answer(steps, at_least)
    held = "no rate was seen to hold" if found is None else f"{rate_text(found)} held"
    failed = [step.rate for step in steps if step.verdict is Verdict.FAILED]
    held += f", {rate_text(min(failed))} did not" if failed else ""
    if at_least is None:
        return held
    wanted = rate_text(at_least)
    if code == REACHED:
        return f"{held}; at least {wanted} was asked for"
    return f"{held}; {wanted} " + ("was not reached" if code == NOT_REACHED else "is not known to hold")
