"""`objective: "p95 < 200ms"`: one text for the indicator, its threshold and the target.

It is read over events: 95 % of valid events within 200 ms. The other reading, that the percentile of every slice of
time shall be within, is written without it; `otelslo check` says how.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from otelslo.errors import BadValue, shown
from otelslo.window import MICROSECOND_NS, parse_positive_duration, parse_target

_FORM = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,6})?) ?(<=|<) ?(.+)")
_REMEDY = 'Write a percentile and a duration, such as "p95 < 200ms" or "p99.9 <= 1s"'


@dataclass(frozen=True, slots=True)
class Shorthand:
    """What the text means; `limit_ns` is the duration in it, and `strict` where it says `<`."""

    target: Fraction
    limit_ns: int
    strict: bool

    @property
    def threshold_ns(self) -> int:
        """`<` is one nanosecond less than `<=`."""
        return self.limit_ns - self.strict


def parse_objective(text: object) -> Shorthand:
    """Raises BadValue."""
    form = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if form is None:
        raise BadValue(f"{shown(text)} is no objective", _REMEDY)
    limit_ns = parse_positive_duration(form[3])
    if limit_ns < MICROSECOND_NS:
        raise BadValue(f"{shown(text)}: under a microsecond nothing can be measured", _REMEDY)
    return Shorthand(parse_target(f"{form[1]}%"), limit_ns, form[2] == "<")
