"""Which alerts an objective has: the tiers of its burn-rate alerts and what else it tells people about, as plain data.

Nothing here decides whether an alert fires.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from otelslo.errors import DefinitionError, Place, nearest, shown
from otelslo.tiers import (
    CONFIDENCE,
    KNOWN_NAMES,
    PAGE,
    SEVERITIES,
    TICKET,
    Share,
    Tier,
    bases,
    can_fire,
    default_tiers,
    known_severity,
)
from otelslo.window import HOUR_NS, MINUTE_NS, format_target, parse_duration, parse_positive_duration
from otelslo.window import format_duration as text_of

__all__ = [
    "BUDGET_EXHAUSTED",
    "EXCLUSION_SHARE",
    "NO_DATA",
    "OFF",
    "PAGE",
    "RESERVED",
    "SEVERITIES",
    "TICKET",
    "AlertPlan",
    "Tier",
    "can_fire",
    "default_tiers",
    "parse_alerts",
]

NO_DATA, BUDGET_EXHAUSTED, EXCLUSION_SHARE = "no-data", "budget-exhausted", "exclusion-share"
RESERVED = (NO_DATA, BUDGET_EXHAUSTED, EXCLUSION_SHARE)
SHORTEST_LONG_NS = MINUTE_NS
MOST_TIERS = 16

_KEYS = ("guard", "no_data", "exhausted", "exclusion_share", "tiers")
_TIER_KEYS = ("severity", "long", "short", "budget", "factor", "for")
_FINEST = 10**12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_NUMBER = re.compile(r"([0-9]{0,12}\.?[0-9]{1,12}) ?(%?)")
_EXPONENT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?[eE][-+]?[0-9]{1,2}")
_TIER_REMEDY = 'Write {severity: page, long: 1h, short: 5m, budget: "2%"}'


@dataclass(frozen=True, slots=True)
class AlertPlan:
    """All alerts of one objective.

    `confidence` is how sure the exact binomial test must be before a tier fires, None without one. `no_data_ns` is how
    long nothing valid may happen, None for ever. `exhausted` and `exclusion_share` are severities, None for no alert;
    `excluded_over_ns` is the longest window that the share of excluded events is looked at in.
    """

    tiers: tuple[Tier, ...] = ()
    confidence: Fraction | None = CONFIDENCE
    no_data_ns: int | None = None
    exhausted: str | None = TICKET
    exclusion_share: str | None = TICKET
    excluded_over_ns: int = HOUR_NS

    @property
    def off(self) -> bool:
        """Whether nothing can fire."""
        return not self.tiers and self.no_data_ns is None and self.exhausted is None and self.exclusion_share is None

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back, here or in another process."""
        return {
            "tiers": [tier.to_json() for tier in self.tiers],
            "confidence_num": self.confidence.numerator if self.confidence is not None else None,
            "confidence_den": self.confidence.denominator if self.confidence is not None else None,
            "no_data_ns": self.no_data_ns,
            "exhausted": self.exhausted,
            "exclusion_share": self.exclusion_share,
            "excluded_over_ns": self.excluded_over_ns,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AlertPlan:
        """The plan that `to_json` wrote; unknown keys are left alone. DefinitionError if it is damaged."""
        try:
            guard, no_data_ns = data["confidence_num"], data["no_data_ns"]
            exhausted, exclusion_share = data["exhausted"], data["exclusion_share"]
            return cls(
                tiers=tuple(Tier.from_json(tier) for tier in data["tiers"]),
                confidence=None if guard is None else Fraction(int(guard), int(data["confidence_den"])),
                no_data_ns=None if no_data_ns is None else int(no_data_ns),
                exhausted=None if exhausted is None else known_severity(exhausted),
                exclusion_share=None if exclusion_share is None else known_severity(exclusion_share),
                excluded_over_ns=int(data.get("excluded_over_ns", HOUR_NS)),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as damage:
            problem = f"it cannot be read ({type(damage).__name__}: {shown(str(damage))})"
            raise DefinitionError("saved alerts", problem, "Let a running worker write them anew") from damage


OFF = AlertPlan((), confidence=None, exhausted=None, exclusion_share=None)


def parse_alerts(
    value: object,
    window_ns: int,
    target: Fraction,
    place: Place,
    *,
    tickets_only: bool = False,
    slice_ns: int | None = None,
    labels_ns: int | None = None,
) -> AlertPlan:
    """The plan of `alerts:` (None: the defaults; "off" or False: nothing). Raises DefinitionError.

    `window_ns` is the objective's window, a calendar's longest; `tickets_only`, `slice_ns` and `labels_ns` are as in
    `default_tiers`.
    """
    if _is_off(value):
        return OFF
    parser = _Tiers(window_ns, target, tickets_only, slice_ns, labels_ns)
    excluded_over_ns = max(HOUR_NS, 2 * (labels_ns or 0))
    if value is None:
        return AlertPlan(parser.defaults, excluded_over_ns=excluded_over_ns)
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no plan of alerts", "Write off, or a mapping such as {no_data: 1h}")
    place.only(value, _KEYS)
    return AlertPlan(
        parser.parse(value.get("tiers"), place.at("tiers")),
        _guard(value.get("guard"), place.at("guard")),
        _no_data(value.get("no_data"), window_ns, place.at("no_data")),
        _severity_or_off(value.get("exhausted"), place.at("exhausted")),
        _severity_or_off(value.get("exclusion_share"), place.at("exclusion_share")),
        excluded_over_ns,
    )


@dataclass(frozen=True, slots=True)
class _Tiers:
    """What is written under `tiers:`, laid over the defaults."""

    window_ns: int
    target: Fraction
    tickets_only: bool
    slice_ns: int | None
    labels_ns: int | None

    @property
    def defaults(self) -> tuple[Tier, ...]:
        return default_tiers(
            self.window_ns,
            self.target,
            tickets_only=self.tickets_only,
            slice_ns=self.slice_ns,
            labels_ns=self.labels_ns,
        )

    def parse(self, value: object, place: Place) -> tuple[Tier, ...]:
        defaults = self.defaults
        tiers = {tier.name: tier for tier in defaults}
        if value is None:
            return defaults
        if _is_off(value):
            return ()
        if not isinstance(value, Mapping):
            raise place.error(f"{shown(value)} is no mapping of tiers", "Write {page-fast: off} or a tier by its name")
        for name, written in value.items():
            spot = place.at(str(name))
            if _is_off(written):
                if name not in KNOWN_NAMES:
                    raise spot.error(f"no default tier is named {shown(name)}", nearest(str(name), KNOWN_NAMES))
                tiers.pop(name, None)
            else:
                tiers[name] = self._tier(_tier_name(name, spot), written, spot)
        if len(tiers) > MOST_TIERS:
            raise place.error(f"{len(tiers)} tiers are too many", f"Use {MOST_TIERS} at most")
        return tuple(tiers.values())

    def _tier(self, name: str, value: object, place: Place) -> Tier:
        if not isinstance(value, Mapping):
            raise place.error(f"{shown(value)} is no tier", _TIER_REMEDY)
        place.only(value, _TIER_KEYS)
        if value.get("budget") is not None and value.get("factor") is not None:
            raise place.error("it has both budget and factor, which say the same", "Write one of them")
        found = bases(self.window_ns, self.tickets_only, self.slice_ns, self.labels_ns)
        base = {share.name: share for share in found}.get(name)
        if base is None:
            _all_keys(value, place)
        tier = Tier(
            name,
            _severity(value["severity"], place.at("severity"))
            if base is None or "severity" in value
            else base.severity,
            _duration(value["long"], place.at("long")) if base is None or "long" in value else base.long_ns,
            _duration(value["short"], place.at("short")) if base is None or "short" in value else base.short_ns,
            Fraction(1),
            place.at("for").parse(parse_duration, value["for"]) if value.get("for") is not None else 0,
        )
        self._check_windows(tier, place)
        return self._with_factor(tier, base, value, place)

    def _check_windows(self, tier: Tier, place: Place) -> None:
        long, short = text_of(tier.long_ns), text_of(tier.short_ns)
        if tier.long_ns < SHORTEST_LONG_NS:
            raise place.at("long").error(f"a long window of {long} is too short", "Use 1m at least; 1h is usual")
        if tier.short_ns >= tier.long_ns:
            remedy = "Use a twelfth of the long one, such as 5m for 1h"
            raise place.at("short").error(
                f"the short window ({short}) is not shorter than the long one ({long})", remedy
            )
        if tier.long_ns >= self.window_ns:
            own = text_of(self.window_ns)
            remedy = "Use a shorter one, or turn the tier off"
            raise place.at("long").error(
                f"the long window ({long}) is not shorter than the objective's ({own})", remedy
            )
        if self.slice_ns is not None and tier.short_ns < 2 * self.slice_ns:
            problem = f"the short window ({short}) does not hold two slices of {text_of(self.slice_ns)}"
            raise place.at("short").error(problem, f"Use {text_of(2 * self.slice_ns)} at least")

    def _with_factor(self, tier: Tier, base: Share | None, value: Mapping[str, object], place: Place) -> Tier:
        if value.get("factor") is not None:
            factor, key = _factor(value["factor"], place.at("factor")), "factor"
        else:
            written, key = value.get("budget"), "budget"
            if base is not None and written is None:
                factor = base.factor(self.window_ns, tier.long_ns)
            else:
                factor = _ratio(written, place.at(key), '"2%"') * self.window_ns / tier.long_ns
        if not can_fire(factor, self.target):
            fastest = format(float(1 / (1 - self.target)), ".6g")
            raise place.at(key).error(
                f"a dead alert: with a target of {format_target(self.target)} no burn rate exceeds {fastest}, "
                f"and it asks for more than {format(float(factor), '.6g')}",
                "Lower it, or lengthen the long window",
            )
        return replace(tier, factor=factor)


def _all_keys(value: Mapping[str, object], place: Place) -> None:
    missing = [key for key in ("severity", "long", "short") if value.get(key) is None]
    if value.get("budget") is None and value.get("factor") is None:
        missing.append("budget or factor")
    if missing:
        problem = f"no default tier has this name, and it has no {', no '.join(missing)}"
        raise place.error(problem, f"{_TIER_REMEDY}, or change one of {', '.join(KNOWN_NAMES)}")


def _tier_name(value: object, place: Place) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise place.error(f"{shown(value)} cannot name a tier", "Use letters, digits and _ - (32 at most)", at_key=True)
    if value in RESERVED:
        raise place.error(f"{value!r} is an alert of its own", "Choose another name", at_key=True)
    return value


def _is_off(value: object) -> bool:
    return value is False or value == "off"


def _guard(value: object, place: Place) -> Fraction | None:
    if value is None:
        return CONFIDENCE
    if _is_off(value):
        return None
    confidence = _ratio(value, place, 'a confidence such as "99%", or off')
    if not Fraction(1, 2) < confidence < 1:
        raise place.error(f"a confidence of {shown(value)} is none", 'Write one between "50%" and "100%", or off')
    return confidence


def _no_data(value: object, window_ns: int, place: Place) -> int | None:
    if value is None or _is_off(value):
        return None
    length_ns = _duration(value, place)
    if not SHORTEST_LONG_NS <= length_ns <= window_ns:
        text = f"from 1m to the objective's window, {text_of(window_ns)}, or off"
        raise place.error(f"{text_of(length_ns)} is out of range", f"Write a duration {text}")
    return length_ns


def _severity_or_off(value: object, place: Place) -> str | None:
    if value is None:
        return TICKET
    return None if _is_off(value) else _severity(value, place, ", or off")


def _severity(value: object, place: Place, otherwise: str = "") -> str:
    if not isinstance(value, str) or value not in SEVERITIES:
        raise place.error(f"{shown(value)} is no severity", f"Write page or ticket{otherwise}")
    return value


def _duration(value: object, place: Place) -> int:
    return place.parse(parse_positive_duration, value)  # type: ignore[arg-type]  # it refuses what is no duration


def _ratio(value: object, place: Place, wanted: str) -> Fraction:
    """A share above 0 and up to 1: "2%", 0.02, "0.02"."""
    ratio = _exactly(value)
    if ratio is None or ratio <= 0:
        raise place.error(f"{shown(value)} is no share", f"Write {wanted}")
    if ratio > 1:
        raise place.error(f"{shown(value)} is more than everything", f"Write {wanted}")
    return ratio


def _factor(value: object, place: Place) -> Fraction:
    factor = None if isinstance(value, str) and "%" in value else _exactly(value)
    if factor is None or factor <= 0:
        raise place.error(f"{shown(value)} is no burn rate", "Write a number above 0, such as 14.4")
    return factor


def _exactly(value: object) -> Fraction | None:
    """A number as it is written, a float as it is printed; None if it is none, or finer than 12 decimals."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | Fraction):
        return None
    if isinstance(value, Fraction):
        return value if value.denominator <= _FINEST else None
    text = repr(value) if isinstance(value, float) else str(value).strip()
    written = _NUMBER.fullmatch(text)
    if written is not None:
        return Fraction(written[1]) / (100 if written[2] else 1)
    number = Fraction(Decimal(text)) if _EXPONENT.fullmatch(text) else None
    return number if number is not None and number.denominator <= _FINEST else None
