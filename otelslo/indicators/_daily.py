"""What the daily indicators have in common: metrics that no single prediction has, one unit for each UTC day.

The counts of a day add up over workers and labels, late ones too, and can be taken back; then the day's value is
computed from the sums and compared with `bar`. A day without a defined value is excluded as `undefined`: it is neither
met nor missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from otelslo.event import GOOD, Event, Judgement, Outcome, always
from otelslo.indicators import Option, Options
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled

MET, BELOW_BAR, UNDEFINED = "met", "below_bar", "undefined"
RULES = (
    labels.good(MET, "the day's value is at the bar, or above"),
    labels.bad(BELOW_BAR, "the day's value is below the bar"),
    labels.excluded(UNDEFINED, "the day has labels, and still no value"),
)


def options(**own: Option) -> dict[str, Option]:
    """A daily indicator's options: its own, how long a label is waited for, and which predictions are in."""
    return {**own, "label_within": labels.LABEL_WITHIN, "sample": labels.SAMPLE}


def outcome(value: Fraction | float | None, bar: Fraction) -> Outcome:
    """What a day of that value is. A fraction is compared exactly, and so is a float: as the fraction that it is."""
    if value is None:
        return Outcome(labels.EXCLUDED, UNDEFINED)
    return GOOD if value >= bar else Outcome(labels.BAD, BELOW_BAR)


@dataclass(frozen=True, eq=False)
class Parts:
    """Which predictions are parts of their day.

    Args:
        missing: why one that has a label is none; None if it is one.
    """

    missing: Callable[[Labelled], str | None]

    def keys_by(self, event: Event, options: Options) -> tuple[str, ...]:
        """What it is; no key of the table, which is about days."""
        labelled = event.labelled
        if labelled is None:
            return (labels.NO_LABEL,)
        if labelled.truth is None:
            return (labels.LAPSED if labelled.lapsed else labels.NO_LABEL,)
        return (self.missing(labelled) or "counted",)

    def judge(self, event: Event, options: Options) -> Judgement:
        """Good: it is a part of its day. Else excluded, with a reason."""
        (key,) = self.keys_by(event, options)
        return always(GOOD if key == "counted" else Outcome(labels.EXCLUDED, key))


def never_settled(labelled: Labelled, options: Options) -> bool:
    """Every one needs its label."""
    return False


def no_text(labelled: Labelled) -> str | None:
    """Why texts cannot be compared: one of them is none."""
    if labelled.output is None:
        return labels.NO_OUTPUT
    return None if isinstance(labelled.output, str) and isinstance(labelled.truth, str) else "no_text"
