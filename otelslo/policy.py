"""What the state of an error budget means for releases: ordered steps, of which the first one that holds applies.

A policy is plain data that goes with its objective; `verdict` judges a status by it, and by the budget of a whole
window, as alerts do: early in a month one failure is not all of it. Without data it says no, unless a step speaks of
that very case. All comparisons are exact.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from otelslo.alerts import RESERVED, SEVERITIES, AlertPlan, can_fire
from otelslo.burn import BURN_WINDOWS
from otelslo.errors import Place, nearest, shown
from otelslo.status import Status
from otelslo.tiers import KNOWN_NAMES
from otelslo.window import format_duration, format_ratio, format_target, parse_positive_duration

ALLOW, DENY = "allow", "deny"
NO_DATA, NO_STEP = "no-data", "no-step"
MOST_STEPS = 16
LONGEST_MESSAGE = 300

_WINDOWS = dict(BURN_WINDOWS)
_STEP_KEYS = ("name", "when", "releases", "message")
_WHEN_KEYS = ("remaining", "burn", "alert", "no_data")
_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MOST_OVERSPENT = -1000
_FINEST, _LARGEST = 10**12, 10**12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_COMPARISON = re.compile(r"(<=|>=|<|>) ?(.{1,40})")
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:/[1-9][0-9]{0,17}|(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,2})?)")
_SILENT = "Nothing valid was seen in the window: nobody knows how a release would do."
_EXAMPLE = 'Write a list of steps: [{name: frozen, when: {remaining: "<= 0"}, releases: deny}, {name: free}]'
_REMAINING = 'Write a comparison such as "< 25%" or "<= 0"'
_BURN = "Write {over: 1h, above: 2}"


@dataclass(frozen=True, slots=True)
class Condition:
    """When a step applies: everything that is given holds. Without `no_data` it holds only where there is data.

    Args:
        remaining: (comparison, ratio): what is left of `Status.full_budget`, as a share of it.
        burn: (window, rate): the burn rate over one of BURN_WINDOWS is above `rate`.
        alert: a severity or an alert's name: one such alert fires, inhibited or not.
        no_data: nothing valid was seen in the objective's window.
    """

    remaining: tuple[str, Fraction] | None = None
    burn: tuple[str, Fraction] | None = None
    alert: str | None = None
    no_data: bool = False

    @property
    def always(self) -> bool:
        """Whether it holds for whatever has data."""
        return self == Condition()

    def holds(self, status: Status) -> bool:
        if self.no_data is not _is_silent(status):
            return False
        left, burning = status.full_budget.remaining_ratio, self._burning(status)
        if self.remaining is not None and (left is None or not _COMPARE[self.remaining[0]](left, self.remaining[1])):
            return False
        if self.burn is not None and (burning is None or burning <= self.burn[1]):
            return False
        return self.alert is None or bool(self._firing(status))

    def _burning(self, status: Status) -> Fraction | None:
        return None if self.burn is None else status.burn.get(self.burn[0])

    def _firing(self, status: Status) -> list[str]:
        return [
            str(alert.get("name"))
            for alert in status.alerts
            if alert.get("state") == "firing" and self.alert in (alert.get("severity"), alert.get("name"))
        ]

    def because(self, status: Status) -> str:
        """What made it hold, with the numbers that were compared."""
        parts = [_budget_text(status)]
        if self.remaining is not None:
            parts[0] += f" (asked: {self.remaining[0]} {format_target(self.remaining[1])})"
        burning = self._burning(status)
        if self.burn is not None and burning is not None:
            parts.append(
                f"burn rate {_number_text(burning)} over {self.burn[0]} (asked: > {_number_text(self.burn[1])})"
            )
        if self.alert is not None:
            parts.append(f"firing: {', '.join(self._firing(status))}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.remaining is not None:
            found["remaining"] = f"{self.remaining[0]} {format_target(self.remaining[1])}"
        if self.burn is not None:
            found["burn"] = {"over": self.burn[0], "above": str(self.burn[1])}
        if self.alert is not None:
            found["alert"] = self.alert
        return found | ({"no_data": True} if self.no_data else {})


@dataclass(frozen=True, slots=True)
class Step:
    """While `when` holds, and no earlier step does, releases are "allow"ed or "deny"ed; `message` says what to do."""

    name: str
    message: str = ""
    releases: str = ALLOW
    when: Condition = field(default_factory=Condition)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "when": self.when.to_json(), "releases": self.releases, "message": self.message}


@dataclass(frozen=True, slots=True)
class Policy:
    """Steps in the order in which they are asked; the last one always applies where there is data."""

    steps: tuple[Step, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data, in the form that people write, that `from_json` reads back."""
        return [step.to_json() for step in self.steps]

    @classmethod
    def from_json(cls, data: object) -> Policy:
        """The policy that `to_json` wrote, None: the default. DefinitionError if it is damaged, not half a policy."""
        return parse_policy(data, Place("saved policy"))


DEFAULT_POLICY = Policy(
    (
        Step(
            "frozen",
            "The error budget is used up: only what mends reliability goes out.",
            DENY,
            Condition(remaining=("<=", Fraction(0))),
        ),
        Step("on-fire", "A page is firing: mend that first, and release afterwards.", DENY, Condition(alert="page")),
        Step(
            "careful",
            "Less than a quarter of the error budget is left: release in small steps that can be taken back.",
            ALLOW,
            Condition(remaining=("<", Fraction(1, 4))),
        ),
        Step("free", "There is error budget to spend: release as you like.", ALLOW),
    )
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy says of a status.

    `because` has the exact numbers. `data` is False where nothing valid was seen in the window.
    """

    step: str
    allowed: bool
    message: str
    because: str
    data: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "releases": ALLOW if self.allowed else DENY,
            "message": self.message,
            "because": self.because,
            "data": self.data,
        }


def verdict(policy: Policy, status: Status) -> Verdict:
    """By the first step that holds; no if none does, as without data."""
    data = not _is_silent(status)
    for step in policy.steps:
        if step.when.holds(status):
            return Verdict(step.name, step.releases == ALLOW, step.message, step.when.because(status), data)
    if data:
        return Verdict(NO_STEP, False, "No step of the policy applies.", _budget_text(status))
    return Verdict(NO_DATA, False, _SILENT, _budget_text(status), data=False)


def _is_silent(status: Status) -> bool:
    return status.counts.valid == 0


def _budget_text(status: Status) -> str:
    left, sliced = status.full_budget, status.slices
    if left.remaining_ratio is None:
        seen = status.counts.excluded
        return f"no valid events in {status.window}" + (f", {seen} excluded" if seen and sliced is None else "")
    parts, unit = (1, "events") if sliced is None else (sliced.parts, "slices")
    spent, allowed = _number_text(Fraction(left.spent, parts)), left.allowed / parts
    shown_allowed = _number_text(allowed if status.projected is None else _rounded_down(allowed))
    said = f"{spent} of {shown_allowed} allowed bad {unit}{_basis_text(status)} spent"
    return f"{said}, {format_ratio(left.remaining_ratio)} of the budget left"


def _basis_text(status: Status) -> str:
    """Of what the budget is, where that has not been observed whole. How many slices come does not rest on traffic,
    unless idle ones are left out."""
    if status.projected is None:
        return ""
    whole = status.window if status.end_ns is None else f"the {status.window.partition(' ')[0]}"
    by_traffic = status.slices is None or status.slices.rate is not None
    return f" of {whole} at this traffic" if by_traffic else f" of {whole}"


def _rounded_down(value: Fraction) -> Fraction:
    """Of a projection, whose last digits say nothing: it is never shown larger than it is."""
    scale = 100 if value >= 1 else 10**6
    return Fraction(value.numerator * scale // value.denominator, scale)


def _number_text(value: Fraction) -> str:
    """Exactly where six decimals are enough, else as a fraction."""
    scaled = value * 10**6
    if scaled.denominator != 1:
        return str(value)
    whole = f"{abs(scaled.numerator):07d}"
    return ("-" if value < 0 else "") + f"{whole[:-6]}.{whole[-6:]}".rstrip("0").rstrip(".")


# ── as people write it ─────────────────────────────────────────────────────────────────────────────────────────────
def parse_policy(value: object, place: Place) -> Policy:
    """The policy of `policy:` (None: the default): a list of steps `{name, when, releases, message}`.

    `when` has any of `remaining: "< 25%"`, `burn: {over: 1h, above: 2}`, `alert: page` (or ticket, or an alert's name),
    `no_data: true`; a step without it always applies, and is the last. `releases` is allow by default.
    Raises DefinitionError.
    """
    if value is None:
        return DEFAULT_POLICY
    if not isinstance(value, list | tuple) or not value:
        raise place.error(f"{shown(value)} is no policy", _EXAMPLE)
    if len(value) > MOST_STEPS:
        raise place.error(f"{len(value)} steps are too many", f"Use {MOST_STEPS} at most")
    steps: list[Step] = []
    for index, item in enumerate(value):
        spot = place.at(index)
        if steps and steps[-1].when.always:
            problem = f"it can never apply: the step {steps[-1].name!r} before it always does"
            raise spot.error(problem, "Give that one a condition, or put it last")
        steps.append(_step(item, spot))
        if steps[-1].name in [step.name for step in steps[:-1]]:
            raise spot.at("name").error(f"two steps are named {steps[-1].name!r}", "Give each a name of its own")
    if not steps[-1].when.always:
        problem = f"the last step, {steps[-1].name!r}, has a condition: nothing says what applies otherwise"
        raise place.at(len(steps) - 1, "when").error(problem, "Add a last step without `when`")
    return Policy(tuple(steps))


def _step(value: object, place: Place) -> Step:
    if not isinstance(value, Mapping):
        raise place.error(
            f"{shown(value)} is no step", 'Write {name: frozen, when: {remaining: "<= 0"}, releases: deny}'
        )
    place.only(value, _STEP_KEYS)
    name, releases = value.get("name"), value.get("releases", ALLOW)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in (NO_DATA, NO_STEP):
        remedy = f"Use letters, digits and _ - (32 at most), not {NO_DATA} or {NO_STEP}"
        raise place.at("name").error(f"{shown(name)} cannot name a step", remedy)
    if releases not in (ALLOW, DENY):
        raise place.at("releases").error(f"{shown(releases)} is neither allow nor deny", "Write allow or deny")
    message = place.at("message").expect(value.get("message", ""), str, "a text")
    if len(message) > LONGEST_MESSAGE:
        raise place.at("message").error(f"it has {len(message)} characters", f"Use {LONGEST_MESSAGE} at most")
    return Step(name, message, str(releases), _condition(value.get("when"), place.at("when")))


def _condition(value: object, place: Place) -> Condition:
    if value is None:
        return Condition()
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no condition", 'Write {remaining: "< 25%"}, or leave it out: always')
    place.only(value, _WHEN_KEYS)
    remaining, burn, no_data = value.get("remaining"), value.get("burn"), value.get("no_data")
    if no_data is not None and no_data is not True:
        raise place.at("no_data").error(f"{shown(no_data)} is no condition", "Write true, or leave it out")
    if no_data and (remaining is not None or burn is not None):
        raise place.at("no_data").error("without data there is neither a budget nor a burn rate", "Write two steps")
    return Condition(
        None if remaining is None else _remaining(remaining, place.at("remaining")),
        None if burn is None else _burn(burn, place.at("burn")),
        None if value.get("alert") is None else _alert(value["alert"], place.at("alert")),
        bool(no_data),
    )


def _remaining(value: object, place: Place) -> tuple[str, Fraction]:
    found = _COMPARISON.fullmatch(value.strip()) if isinstance(value, str) else None
    ratio = exact_number(found[2]) if found is not None else None
    if found is None or ratio is None:
        raise place.error(f"{shown(value)} is no comparison", _REMAINING)
    if ratio > 1:
        hint = f'Did you mean "{found[0]}%"?' if ratio <= 100 and "%" not in found[2] else _REMAINING
        raise place.error(f"{shown(value)}: never more than 100% of a budget is left", hint)
    if ratio < _MOST_OVERSPENT:
        raise place.error(f"{shown(value)} is out of range", _REMAINING)
    if ratio == 1 and found[1] == ">":
        raise place.error(f"{shown(value)} can never hold", 'Write ">= 100%" for a budget that is whole')
    return found[1], ratio


def _burn(value: object, place: Place) -> tuple[str, Fraction]:
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no burn rate", _BURN)
    place.only(value, ("over", "above"))
    if value.get("over") is None or value.get("above") is None:
        raise place.error("it needs both a window and a rate", _BURN)
    over = format_duration(place.at("over").parse(parse_positive_duration, value["over"]))
    if over not in _WINDOWS:
        raise place.at("over").error(f"there is no burn rate over {over}", f"Use one of {', '.join(_WINDOWS)}")
    written = value["above"]
    above = None if isinstance(written, str) and "%" in written else exact_number(written)
    if above is None or above < 0:
        raise place.at("above").error(f"{shown(written)} is no burn rate", "Write a number such as 2 or 14.4")
    return over, above


def _alert(value: object, place: Place) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise place.error(f"{shown(value)} names no alert", "Write page, ticket, or an alert's name such as page-fast")
    return value


def exact_number(value: object) -> Fraction | None:
    """A number as it is written ("25%", 0.25, "1/4"), a float as it is printed; None for what is none or too fine."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | Fraction):
        return None
    text = repr(value) if isinstance(value, float) else str(value).strip()
    scale = 100 if text.endswith("%") else 1
    text = text.removesuffix("%").rstrip()
    number = Fraction(text) / scale if _NUMBER.fullmatch(text) else None
    return number if number is not None and number.denominator <= _FINEST and abs(number) <= _LARGEST else None


def refuse_dead_steps(
    policy: Policy, place: Place, *, window_ns: int, slice_ns: int | None, target: Fraction, alerts: AlertPlan
) -> None:
    """DefinitionError for a step that could never hold for such an objective: what it would deny would be let out.

    A severity is no mistake where the objective has no such alert, since a policy may be shared.
    """
    names = {*SEVERITIES, *KNOWN_NAMES, *RESERVED, *(tier.name for tier in alerts.tiers)}
    for index, step in enumerate(policy.steps):
        when, spot = step.when, place.at(index, "when")
        if when.burn is not None:
            _refuse_dead_burn(*when.burn, spot.at("burn"), window_ns, slice_ns or 0, target)
        if when.alert is not None and when.alert not in names:
            raise spot.at("alert").error(f"no alert is named {when.alert!r}", nearest(when.alert, names))


def _refuse_dead_burn(
    over: str, above: Fraction, place: Place, window_ns: int, slice_ns: int, target: Fraction
) -> None:
    if not slice_ns <= _WINDOWS[over] <= window_ns:
        span = f"the objective's window, {format_duration(window_ns)}"
        problem = f"{over} is longer than {span}" if _WINDOWS[over] > window_ns else f"{over} is shorter than a slice"
        raise place.at("over").error(problem, "Use another one, or give this objective a policy of its own")
    if not can_fire(above, target):
        problem = f"with a target of {format_target(target)} no burn rate exceeds {_number_text(1 / (1 - target))}"
        raise place.at("above").error(problem, "Lower it, or give this objective a policy of its own")
