"""AlertPolicies as an SLO's `alerts` and `notify`: each condition becomes one tier of its burn-rate alerts.

OpenSLO's condition has one window, a tier has two: the condition's `lookbackWindow`, and a short one, so that an alert
ends soon after the burning. The short one is a twelfth, or what the annotation `otelslo.io/short` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from otelslo.errors import shown
from otelslo.openslo.annotations import disagreement
from otelslo.openslo.metrics import OPERATORS, Note
from otelslo.openslo.objects import Catalogue, Object, Part
from otelslo.openslo.spelling import ALL_CHANNELS, SOURCE_TYPE, duration_text, length_ns, number, ratio, shorthand
from otelslo.tiers import KNOWN_NAMES
from otelslo.window import SECOND_NS, parse_duration, parse_positive_duration

SHORTEST_NS = 10 * SECOND_NS
_PAGES = ("page", "critical", "sev1", "sev-1", "p1")
_TICKETS = ("ticket", "warning", "sev2", "sev-2", "p2")
_CONDITION_NOTES = ("name", "short", "long", "factor", "for")
CHANNEL_EXAMPLE = "otelslo.io/channel: '{webhook: {url: \"env:OPS_HOOK\"}}'"


@dataclass(slots=True)
class Alerting:
    """What the policies of one SLO ask for, and where: `origins` by the way of each tier and its keys."""

    tiers: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[tuple[str, ...], Part] = field(default_factory=dict)
    no_data_ns: int | None = None
    notify: dict[str, Part] = field(default_factory=dict)
    channels: dict[str, Part] = field(default_factory=dict)

    def plan(self) -> dict[str, Any]:
        """As an SLO's `alerts` takes it: these tiers and no default ones."""
        dropped = {name: "off" for name in KNOWN_NAMES if name not in self.tiers}
        plan: dict[str, Any] = {"tiers": dropped | self.tiers}
        return plan if self.no_data_ns is None else plan | {"no_data": duration_text(self.no_data_ns)}


@dataclass(slots=True)
class Policies:
    """Reads the policies of one SLO. `slice_ns` is its slice's length, None without slices.

    `note` takes what is said and goes on; `refuse` what cannot be done: an error, unless the SLO is left out anyway.
    """

    catalogue: Catalogue
    note: Note
    refuse: Note
    slice_ns: int | None = None
    found: Alerting = field(default_factory=Alerting)

    def read(self, items: Iterable[Part]) -> Alerting:
        everyone = False
        for item in items:
            spot, policy = self.catalogue.resolve(item, "alertPolicyRef", "AlertPolicy")
            if policy is None:
                self.refuse(spot, *self.catalogue.missing("AlertPolicy", spot.text()))
            else:
                everyone = self.policy(policy) or everyone
        if everyone:
            self.found.notify.clear()
        return self.found

    def policy(self, policy: Object) -> bool:
        """Add its condition and targets; whether it asks for all channels."""
        breaching = policy.spec.get("alertWhenBreaching")
        if breaching is None:
            self.note(policy.spec, "it has no alertWhenBreaching; true is assumed", "Add alertWhenBreaching: true")
        resolved = policy.spec.get("alertWhenResolved")
        if resolved is not None and not resolved.flag():
            self.note(resolved, "that an alert has ended is told all the same", "Leave it out, or write true")
        conditions = policy.spec.need("conditions", "[{conditionRef: fast-burn}]")
        if len(conditions.items()) != 1:
            raise conditions.error(f"it has {len(conditions.items())} conditions", "Write one in each AlertPolicy")
        spot, condition = self.catalogue.resolve(conditions.items()[0], "conditionRef", "AlertCondition")
        if condition is None:
            self.refuse(spot, *self.catalogue.missing("AlertCondition", spot.text()))
        else:
            lookback_ns = self.condition(condition, breaching is None or breaching.flag())
            no_data = policy.spec.get("alertWhenNoData")
            if no_data is not None and no_data.flag():
                self.found.no_data_ns = min(lookback_ns, self.found.no_data_ns or lookback_ns)
        return self._targets(policy)

    def condition(self, found: Object, breaching: bool = True) -> int:
        """Add its tier, if it alerts when `breaching`; its lookback window in nanoseconds."""
        condition = found.spec.need("condition", "{kind: burnrate, op: gt, threshold: 14.4, lookbackWindow: 1h}")
        condition.only("kind", "op", "threshold", "lookbackWindow", "alertAfter")
        kind = condition.get("kind")
        if kind is not None:
            kind.one_of(("burnrate",))
        self._operator(condition.need("op", "gt"))
        _known(found, _CONDITION_NOTES)
        threshold, lookback = condition.need("threshold", "14.4"), condition.need("lookbackWindow", "1h")
        after = condition.get("alertAfter")
        long_ns = _exact_ns(found.ours.get("long"), lookback.parse(length_ns))
        tier: dict[str, Any] = {
            "severity": self._severity(found.spec.need("severity", "page")),
            "long": duration_text(long_ns),
            "short": duration_text(self._short_ns(found, lookback, long_ns)),
            "factor": _exact_factor(found.ours.get("factor"), threshold),
        }
        for_ns = _exact_ns(found.ours.get("for"), 0 if after is None else after.parse(_length_or_zero_ns))
        if for_ns:
            tier["for"] = duration_text(for_ns)
        if breaching:
            name = self._name(found)
            self.found.tiers[name] = tier
            severity, short = found.spec.get("severity"), found.ours.get("short")
            parts = {"factor": threshold, "long": lookback, "short": short or lookback, "for": after}
            for key, part in (parts | {"severity": severity}).items():
                self.found.origins[(name, key)] = part or condition
            self.found.origins[(name,)] = condition
        return long_ns

    def _operator(self, op: Part) -> None:
        word = op.one_of(OPERATORS)
        if word in ("lt", "lte"):
            self.note(op, f"{word} would alert while little burns; it is read as gt", "Write op: gt")
        elif word == "gte":
            self.note(op, "an alert fires above its threshold, not at it; gte is read as gt", "Write op: gt")

    def _severity(self, part: Part) -> str:
        word = part.text()
        if word.lower() in ("page", "ticket"):
            return word.lower()
        meant = "page" if word.lower() in _PAGES else "ticket"
        if word.lower() not in (*_PAGES, *_TICKETS):
            self.note(part, f"the severity {shown(word)} is unknown; it is read as {meant}", "Write page or ticket")
        return meant

    def _short_ns(self, found: Object, lookback: Part, long_ns: int) -> int:
        own = found.ours.get("short")
        if own is not None:
            return own.parse(parse_positive_duration)
        step_ns = self.slice_ns or SHORTEST_NS
        short_ns = max(-(-long_ns // 12 // step_ns) * step_ns, 2 * self.slice_ns if self.slice_ns else step_ns)
        text = duration_text(short_ns)
        if short_ns < long_ns:
            problem = f"it must burn in a short window of {text} too, so that the alert ends soon after the burning"
            self.note(lookback, problem, f'Say it by the condition\'s annotation otelslo.io/short: "{text}"')
        return short_ns

    def _name(self, found: Object) -> str:
        """A tier's name: letters, digits and _ -, 32 at most, each once."""
        own = found.ours.get("name")
        plain = own.text() if own is not None else re.sub(r"[^A-Za-z0-9_-]", "-", found.name).lstrip("-_")[:32] or "x"
        name, count = plain, 1
        while name in self.found.tiers:
            count += 1
            name = f"{plain[:28]}-{count}"
        return name

    def _targets(self, policy: Object) -> bool:
        targets = policy.spec.get("notificationTargets")
        everyone = targets is None
        for item in targets.items() if targets is not None else ():
            spot, target = self.catalogue.resolve(item, "targetRef", "AlertNotificationTarget")
            if target is None:
                problem, remedy = self.catalogue.missing("AlertNotificationTarget", spot.text())
                self.note(spot, f"{problem}; all channels are told instead", remedy)
            else:
                everyone = self.target(target) or everyone
        return everyone

    def target(self, target: Object) -> bool:
        """Add the channel that it names or its annotation `otelslo.io/channel` sets up; whether all are meant."""
        _known(target, ("channel", "name"))
        channel, kind = target.ours.get("channel"), target.spec.need("target", "webhook")
        own = target.ours.get("name")
        name = target.name if own is None else own.text()
        if channel is not None:
            self.found.channels[name] = channel
        elif kind.text() != SOURCE_TYPE:
            problem = f"nothing is set up here to send to {shown(kind.text())}; other channels are told instead"
            self.note(kind, problem, f"Add to its metadata the annotation {CHANNEL_EXAMPLE}")
            return False
        if name == ALL_CHANNELS:
            return True
        self.found.notify[name] = kind
        return False


def _known(found: Object, names: tuple[str, ...]) -> None:
    for key, part in found.ours.items():
        if key not in names:
            known = ", ".join(f"otelslo.io/{name}" for name in names)
            raise part.error(f"unknown annotation otelslo.io/{key}", f"Known here: {known}", at_key=True)


def _length_or_zero_ns(value: object) -> int:
    return 0 if isinstance(value, str) and re.fullmatch(r"0+[mhdwMQY]", value) else length_ns(value)


def _exact_ns(own: Part | None, said_ns: int) -> int:
    """What our annotation says more exactly than OpenSLO can; it must round to what stands in the document."""
    if own is None:
        return said_ns
    exact_ns = own.parse(parse_duration)
    if length_ns(shorthand(exact_ns)) != said_ns:
        raise disagreement(own, duration_text(said_ns))
    return exact_ns


def _exact_factor(own: Part | None, threshold: Part) -> Fraction:
    said = threshold.number()
    if own is None:
        return said
    parse: Callable[[Any], Any] = ratio
    exact = own.parse(parse)
    if not isinstance(exact, Fraction):
        raise own.error(f"{shown(own.value)} is no fraction", 'Write it as "14/15"')
    if Fraction(number(exact)) != said:
        raise disagreement(own, str(threshold.value))
    return exact
