"""`objective: "p95 < 200ms"`: one text for the indicator, its threshold and the target.

It is read over events: 95 % of valid events within 200 ms. The other reading, that the percentile of every slice of
time shall be within, is `budgeting: timeslices` with `slice_target: "95%"`; `otelslo check` says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from otelslo.errors import BadValue, shown
from otelslo.window import MICROSECOND_NS, format_limit, format_target, parse_positive_duration, parse_target

_FORM = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,6})?) ?(<=|<) ?(.+)")
_REMEDY = 'Write a percentile and a duration, such as "p95 < 200ms" or "p99.9 <= 1s"'


@dataclass(frozen=True, slots=True)
class Shorthand:
    """What the text means. `<` is one nanosecond less than `<=`."""

    target: Fraction
    threshold_ns: int

    @property
    def note(self) -> str:
        """For `otelslo check`: how it is read, and how the other reading is written."""
        within, target = format_limit(self.threshold_ns), format_target(self.target)
        return (
            f"read as: {target} of all valid events of the window {within}. For the percentile of each slice of "
            f'time write budgeting: timeslices with slice_target: "{target}" and a target for the slices'
        )


def parse_objective(text: object) -> Shorthand:
    """Raises BadValue."""
    form = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if form is None:
        raise BadValue(f"{shown(text)} is no objective", _REMEDY)
    limit_ns = parse_positive_duration(form[3])
    if limit_ns < MICROSECOND_NS:
        raise BadValue(f"{shown(text)}: under a microsecond nothing can be measured", _REMEDY)
    return Shorthand(parse_target(f"{form[1]}%"), limit_ns - (form[2] == "<"))
