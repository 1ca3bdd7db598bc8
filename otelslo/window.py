"""How people write durations, targets and ratios, and how they are written back to them.

Everything that decides is an integer number of nanoseconds or a Fraction; text is read exactly ("99.9%" is 999/1000)
and written so that rounding never makes things look better than they are.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from otelslo.errors import BadValue, shown

MICROSECOND_NS = 1_000
MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
WEEK_NS = 7 * DAY_NS

SHORTEST_WINDOW_NS = MINUTE_NS
LONGEST_WINDOW_NS = 400 * DAY_NS

_UNITS = {
    "w": WEEK_NS,
    "d": DAY_NS,
    "h": HOUR_NS,
    "m": MINUTE_NS,
    "min": MINUTE_NS,
    "s": SECOND_NS,
    "ms": MILLISECOND_NS,
    "us": MICROSECOND_NS,
    "µs": MICROSECOND_NS,
    "μs": MICROSECOND_NS,
    "ns": 1,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-zµμ]+) ?")
_COMPACT = [("d", DAY_NS), ("h", HOUR_NS), ("m", MINUTE_NS), ("s", SECOND_NS)]
_COMPACT += [("ms", MILLISECOND_NS), ("us", MICROSECOND_NS), ("ns", 1)]
_READABLE = [("d", DAY_NS), ("h", HOUR_NS), ("min", MINUTE_NS), ("s", SECOND_NS)]
_READABLE += [("ms", MILLISECOND_NS), ("µs", MICROSECOND_NS), ("ns", 1)]
_TARGET = re.compile(r"([0-9]*\.?[0-9]+) ?(%?)")
_MOST_DECIMALS = 12
_LARGEST_NS = 2**63 - 1
_DURATION_REMEDY = "Write a number and a unit, such as 30d, 1h30m, 5m, 1.5s or 200ms"
_TARGET_REMEDY = 'Write a percentage between 0% and 100%, such as "99.9%"'


def parse_duration(value: str | timedelta) -> int:
    """Nanoseconds of "30d", "1h30m", "200ms", "1.5s" or a timedelta, exactly.

    BadValue for anything else: no unit, an unknown one, calendar units, negative, finer than 1 ns, over 292 years.
    """
    if isinstance(value, timedelta):
        return _checked_ns(Fraction(value // timedelta(microseconds=1)) * MICROSECOND_NS, value)
    if not isinstance(value, str):
        raise BadValue(f"{shown(value)} is no duration", _DURATION_REMEDY)
    text = value.strip()
    if not text or len(text) > 64:
        raise BadValue(f"{shown(value)} is no duration", _DURATION_REMEDY)
    total, position, last_unit_ns = Fraction(0), 0, _LARGEST_NS
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise _no_duration(text)
        unit_ns = _unit_ns(part[2], value)
        if unit_ns >= last_unit_ns:
            raise BadValue(f"{shown(value)} has its units out of order", "Write the largest first and each once: 1h30m")
        total, position, last_unit_ns = total + Fraction(part[1]) * unit_ns, part.end(), unit_ns
    return _checked_ns(total, value)


def _unit_ns(unit: str, value: str) -> int:
    if unit in _UNITS:
        return _UNITS[unit]
    if unit == "M" or unit.lower().startswith(("mo", "quarter", "q", "y")):
        remedy = "Use a rolling window such as 30d, or calendar: month; m is for minutes"
        raise BadValue(f"{shown(value)} has no fixed length", remedy)
    close = unit.lower()[: 2 if unit.lower() == "ms" else 1]
    hint = f"Did you mean {close!r}? Units: w d h m s ms us ns" if close in _UNITS else "Units: w d h m s ms us ns"
    raise BadValue(f"{shown(value)} has an unknown unit {shown(unit)}", hint)


def _no_duration(text: str) -> BadValue:
    if text.startswith("-"):
        return BadValue(f"{shown(text)} is negative", "Write a length above zero, such as 30d")
    if "month" in text.lower() or "quarter" in text.lower():
        return BadValue(f"{shown(text)} has no fixed length", "Write calendar: month, or a rolling window such as 30d")
    if "," in text:
        return BadValue(f"{shown(text)} has a comma", "Use a point: 1.5s")
    return BadValue(f"{shown(text)} is no duration", _DURATION_REMEDY)


def _checked_ns(total: Fraction, value: object) -> int:
    if total < 0:
        raise BadValue(f"{value} is negative", "Write a length above zero, such as 30d")
    if total.denominator != 1:
        raise BadValue(f"{shown(value)} is finer than a nanosecond", "Write whole nanoseconds")
    if total > _LARGEST_NS:
        raise BadValue(f"{shown(value)} is over 292 years", "Write a shorter duration")
    return int(total)


def parse_positive_duration(value: str | timedelta) -> int:
    """As `parse_duration`, above zero: a threshold of nothing cannot be met."""
    duration_ns = parse_duration(value)
    if duration_ns == 0:
        raise BadValue(f"{shown(value)} is zero", _DURATION_REMEDY)
    return duration_ns


def parse_window(value: str | timedelta) -> int:
    """Nanoseconds of a rolling window: 1 minute to 400 days. Raises BadValue outside of that."""
    window_ns = parse_duration(value)
    if window_ns < SHORTEST_WINDOW_NS:
        raise BadValue(f"a window of {format_duration(window_ns)} is too short", "Use 1m at least; 28d or 30d is usual")
    if window_ns > LONGEST_WINDOW_NS:
        raise BadValue(f"a window of {format_duration(window_ns)} is too long", "Use 400d at most; 28d or 30d is usual")
    return window_ns


def parse_target(value: str | float | Decimal | Fraction) -> Fraction:
    """The exact target: "99.9%", "0.999", 0.999, Decimal and Fraction all give 999/1000.

    A float is read as it is printed. Raises BadValue unless it lies strictly between 0 and 1.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | Fraction):
        raise BadValue(f"{shown(value)} is no target", _TARGET_REMEDY)
    if isinstance(value, Fraction):
        ratio, text = value, str(value)
    else:
        text = float.__repr__(value) if isinstance(value, float) else str(value).strip()
        ratio = _target_from_text(text)
    if ratio <= 0:
        raise BadValue(f"a target of {_clip(text)} promises nothing", _TARGET_REMEDY)
    if ratio == 1:
        remedy = 'Leave room for failure, such as "99.9%", or declare a limit for what must never be exceeded'
        raise BadValue(f"a target of {_clip(text)} leaves no error budget at all", remedy)
    if ratio > 1:
        raise BadValue(f"a target of {_clip(text)} is more than everything", _above_one(ratio, text))
    if ratio.denominator > 10**_MOST_DECIMALS:
        raise BadValue(f"a target of {_clip(text)} is too fine", f"Use {_MOST_DECIMALS} decimals at most")
    return ratio


def _target_from_text(text: str) -> Fraction:
    if "," in text:
        fixed = text.replace(",", ".")
        percent = "" if fixed.endswith("%") or fixed.startswith(("0", ".")) else "%"
        raise BadValue(f"a target of {shown(text)} has a comma", f"Use a point: {_clip(fixed)}{percent}")
    written = _TARGET.fullmatch(text)
    if written is None and re.fullmatch(r"[0-9.]{1,24}[eE][-+]?[0-9]{1,2}", text):
        return Fraction(Decimal(text))  # how a small float or Decimal prints itself
    if written is None or len(text) > 40:
        raise BadValue(f"{shown(text)} is no target", _TARGET_REMEDY)
    return Fraction(written[1]) / (100 if written[2] else 1)


def _above_one(ratio: Fraction, text: str) -> str:
    if "%" not in text and Fraction(2) < ratio < 100 and len(text) <= 40:
        return f'Did you mean "{text}%"?'
    return _TARGET_REMEDY


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def format_duration(duration_ns: int) -> str:
    """The shortest exact text that `parse_duration` reads back: "30d", "1h30m", "200ms", "0s"."""
    parts, rest_ns = [], duration_ns
    for unit, unit_ns in _COMPACT:
        amount, rest_ns = divmod(rest_ns, unit_ns)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"


def readable_duration(duration_ns: int) -> str:
    """For people: the two largest units, the rest cut off: "43 min 12 s", "30 d", "-2 h 5 min", "0 s"."""
    if duration_ns < 0:
        return "-" + readable_duration(-duration_ns)
    for index, (unit, unit_ns) in enumerate(_READABLE):
        if duration_ns >= unit_ns:
            amount, rest_ns = divmod(duration_ns, unit_ns)
            finer, finer_ns = _READABLE[min(index + 1, len(_READABLE) - 1)]
            second = rest_ns // finer_ns
            return f"{amount} {unit} {second} {finer}" if second else f"{amount} {unit}"
    return "0 s"


def format_limit(threshold_ns: int) -> str:
    """A threshold for people: "at or under 200ms", and "under 200ms" where the limit itself is too long."""
    strict = (threshold_ns + 1) % MICROSECOND_NS == 0
    return f"under {format_duration(threshold_ns + 1)}" if strict else f"at or under {format_duration(threshold_ns)}"


def format_target(target: Fraction) -> str:
    """The exact text of a target: "99.9%", or "1/3" where no decimal is exact."""
    decimals = _exact_decimals(target * 100)
    return f"{target}" if decimals is None else f"{_floored(target * 100, decimals)}%"


def format_ratio(ratio: Fraction, target: Fraction | None = None) -> str:
    """A ratio as a percentage, always rounded down: "99.95%".

    It has two decimals, or as many as the target has (and, for a target without an exact decimal, enough to tell the
    two apart): so what is shown reaches the target exactly if the ratio does, and 100% is shown only for 1.
    """
    percent = ratio * 100
    if target is None:
        return f"{_floored(percent, 2)}%"
    exact = _exact_decimals(target * 100)
    decimals = max(2, exact or 0)
    while exact is None and decimals < _MOST_DECIMALS and ratio > target and _floor(percent, decimals) < target * 100:
        decimals += 1
    return f"{_floored(percent, decimals)}%"


def _exact_decimals(value: Fraction) -> int | None:
    for decimals in range(_MOST_DECIMALS + 1):
        if 10**decimals % value.denominator == 0:
            return decimals
    return None


def _floor(value: Fraction, decimals: int) -> Fraction:
    scale = 10**decimals
    return Fraction(value.numerator * scale // value.denominator, scale)


def _floored(value: Fraction, decimals: int) -> str:
    units = value.numerator * 10**decimals // value.denominator
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else f"{sign}{digits}"
