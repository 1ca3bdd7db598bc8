"""What is promised: one objective, checked and resolved when it is made, so that nothing is left to find out later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, cast

from otelslo.about import About, parse_about
from otelslo.alerts import AlertPlan, parse_alerts
from otelslo.definition import (
    FIRST_EXCLUDED,
    OTHER,
    OVERFLOW,
    UNKNOWN,
    Definition,
    cell_index,
    cell_of,
    meaning_of,
    reason_cells,
)
from otelslo.errors import DefinitionError, Place, shown
from otelslo.event import EDGE_KINDS, Event, Outcome
from otelslo.group import Grouping, parse_grouping
from otelslo.indicators import FittingIndicator, Indicator, RateIndicator, load
from otelslo.keys import (
    OPTION_KEYS,
    Unsaid,
    arguments,
    checked_name,
    own_match,
    parse_options,
    parse_reasons,
    read_objective,
    usual_slices,
)
from otelslo.loss_class import classes_of
from otelslo.maintenance import Maintenance, parse_maintenance
from otelslo.match import Match, UserCode, import_name, parse_match, resolve, texts
from otelslo.period import Period, Rolling, parse_calendar
from otelslo.policy import Policy, parse_policy, refuse_dead_steps
from otelslo.predicting import Predicting
from otelslo.rules import CRASHED, Rules, parse_rules
from otelslo.sizes import Classes
from otelslo.slices import Slices, parse_rate_slices, parse_slices
from otelslo.validity import HEALTH_CHECK, INVALID, Validity, parse_validity
from otelslo.verdicts import MAINTENANCE, NOT_GOOD
from otelslo.window import DAY_NS, format_duration, parse_target, parse_window

__all__ = ["OVERFLOW", "SLO", "UNKNOWN", "Definition", "rules_table"]

DEFAULT_TARGET, DEFAULT_WINDOW = Unsaid("99.9%"), "30d"
_MOST_GROUPS = 10_000


@dataclass(frozen=True, eq=False, kw_only=True)
class SLO(Predicting):
    """`good / valid >= target` over a window. Every argument is checked at once; DefinitionError if wrong.

    - `indicator`: a file's name in otelslo/indicators/ ("availability", "latency", "websocket"), or an installed one.
    - `target`: "99.9%", 0.999, a Fraction. `window`: "30d", a timedelta, rolling; or `calendar`: day, week, month,
      quarter or year, in `timezone`. `objective`: "p95 < 200ms" says target and threshold of a latency in one.
    - `budgeting`: occurrences, or in slices of time: "timeslices", each good if it meets `slice_target` and
      `slice_count`, or "ratio_timeslices". A saturation is in timeslices by default, a throughput always. `slice` is
      their length, `empty_slices` says what one without events is, and `unattended` (bad or ignore) what one is in
      which no worker was attached either.
    - `sla`: the looser target that this one protects. `owner`, `because`, `runbook_url`, `labels` go with alerts.
    - `alerts`: changes of the burn-rate alerts, or "off"; `notify`: the channels that are told, by default all.
    - `policy`: the steps that `otelslo gate` goes by: see `otelslo.policy`.
    - `maintenance`: windows in which events are excluded, whatever else is said of them: see `otelslo.maintenance`.
    - `match`: `route` and `host` (globs), `method`, `kind`, and `where`, a predicate on the event.
    - `group_by`: route, method, version, host or any attribute; `group_values` declares the values that may be seen
      (for host it must), `max_groups` bounds them. By `batch_class` and `payload_class` are classes of sizes, whose
      upper bounds are `batch_classes` ([1, 8, 64]) and `payload_classes` (["1KiB", "64KiB", "1MiB"]).
    - `threshold` ("200ms" of latency, "80%" of a gauge), `cancel_after` ("10s", of availability), `options` for other
      indicators' keys.
    - `good(event)`: True, False, a reason (bad), or None: the indicator decides. `valid(event)`: False excludes.
    - `exclude`, `health_checks`, `rules`: who is excluded, and which lines of the indicator's table are changed.
    - `reasons`: the app's own bad reasons that shall have a cell of their own.

    The event's latency, of a stream its pace, decides last: what `good` or the app call good is still slow beyond a
    threshold. So is what `rules` call good beyond one of latency.
    """

    name: str = field(kw_only=False)
    indicator: str = "availability"
    target: str | float | Decimal | Fraction = DEFAULT_TARGET
    window: str | timedelta = DEFAULT_WINDOW
    calendar: str | None = None
    timezone: str | None = None
    objective: str | None = None
    match: Mapping[str, Any] | None = None
    group_by: str | Sequence[str] | None = None
    max_groups: int = 50
    group_values: Mapping[str, Sequence[str]] | None = None
    batch_classes: Sequence[int] | None = None
    payload_classes: Sequence[str | int] | None = None
    threshold: str | float | timedelta | None = None
    cancel_after: str | timedelta | None = None
    options: Mapping[str, Any] | None = None
    good: UserCode | str | None = None
    valid: UserCode | str | None = None
    exclude: Sequence[Mapping[str, Any]] | None = None
    health_checks: Sequence[str] | None = None
    rules: Mapping[str, str] | None = None
    reasons: Sequence[str] = ()
    budgeting: str | None = None
    slice: str | timedelta | None = None
    slice_target: str | float | Decimal | Fraction | None = None
    slice_count: int | None = None
    empty_slices: str | None = None
    unattended: str | None = None
    sla: str | float | Decimal | Fraction | None = None
    alerts: Mapping[str, Any] | str | bool | None = None
    notify: Sequence[str] | None = None
    policy: Sequence[Mapping[str, Any]] | None = None
    maintenance: Sequence[Mapping[str, Any]] | None = None
    owner: str = ""
    because: str = ""
    runbook_url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    target_ratio: Fraction = field(init=False, repr=False)
    period: Period = field(init=False, repr=False)
    window_ns: int = field(init=False, repr=False)
    slices: Slices | None = field(init=False, repr=False)
    sla_ratio: Fraction | None = field(init=False, repr=False)
    about: About = field(init=False, repr=False)
    alert_plan: AlertPlan = field(init=False, repr=False)
    release_policy: Policy = field(init=False, repr=False)
    planned: Maintenance = field(init=False, repr=False)
    threshold_ns: int | None = field(init=False, repr=False)
    reason_cells: tuple[str, ...] = field(init=False, repr=False)
    meaning: str = field(init=False, repr=False)
    _indicator: Indicator = field(init=False, repr=False)
    _options: Mapping[str, Any] = field(init=False, repr=False)
    _match: Match = field(init=False, repr=False)
    _where: UserCode | None = field(init=False, repr=False)
    _good: UserCode | None = field(init=False, repr=False)
    _valid: UserCode | None = field(init=False, repr=False)
    _validity: Validity = field(init=False, repr=False)
    _rules: Rules = field(init=False, repr=False)
    _grouping: Grouping = field(init=False, repr=False)
    _cells: Mapping[Outcome, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        place = checked_name(self.name)
        place.at("description").expect(self.description, str, "a text")
        if place.at("max_groups").expect(self.max_groups, int, "a whole number") not in range(1, _MOST_GROUPS + 1):
            raise place.at("max_groups").error(f"{self.max_groups} is out of range", f"Use 1 to {_MOST_GROUPS}")
        name = place.at("indicator").expect(self.indicator, str, "a name, such as availability")
        if self.objective is not None and name == "availability":
            name = "latency"
        indicator = load(name, str(place.at("indicator")))
        self._expand_objective(indicator, name, place)
        self._set(
            target_ratio=place.at("target").parse(parse_target, self.target),
            period=self._parse_period(place),
            _indicator=indicator,
            _options=parse_options(self._given_options(place), indicator, name, place),
        )
        if hasattr(indicator, "check"):
            place.at("indicator").parse(indicator.check, self._options)
        self._set(window_ns=self.period.longest_ns)
        self._surround(place)
        threshold = self._options.get("threshold")
        self._set(threshold_ns=threshold if isinstance(threshold, int) else None)  # a gauge's is no latency
        self._resolve(place)
        self._check_audit(place, sliced=self.slices is not None)
        self._fit(place.at("indicator"))
        cells = self._allot_cells(place)
        self._set(reason_cells=cells, _cells=cell_index(cells))
        self._set(meaning=meaning_of(self._meaning_parts()))

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _expand_objective(self, indicator: Indicator, name: str, place: Place) -> None:
        if self.objective is None:
            return
        options = self._given_options(place)
        beside = {"target": self.target, "threshold": options.pop("threshold", None)}
        meant = read_objective(self.objective, beside, indicator, name, place)
        threshold = format_duration(meant.threshold_ns)
        self._set(indicator=name, target=meant.target, threshold=threshold, options=options)

    def _given_options(self, place: Place) -> dict[str, Any]:
        written = {} if self.options is None else self.options
        given = dict(place.at("options").expect(written, Mapping, "a mapping"))  # type: ignore[type-abstract]
        return given | {key: getattr(self, key) for key in OPTION_KEYS if getattr(self, key) is not None}

    def _parse_period(self, place: Place) -> Period:
        if self.calendar is None:
            if self.timezone is not None:
                problem = "a rolling window has no time zone"
                raise place.at("timezone").error(problem, "Add calendar: month", at_key=True)
            return Rolling(place.at("window").parse(parse_window, self.window))
        if self.window != DEFAULT_WINDOW:
            raise place.at("window").error("there is a calendar window already", "Leave one out", at_key=True)
        return parse_calendar(self.calendar, self.timezone, place)

    def _fit(self, place: Place) -> None:
        if hasattr(self._indicator, "fits"):
            place.parse(partial(cast("FittingIndicator", self._indicator).fits, self._options), self._match_json())

    def _surround(self, place: Place) -> None:
        """What goes around the promise: slices, the SLA, metadata, alerts."""
        notify = None if self.notify is None else tuple(texts(self.notify, place.at("notify")))
        slices = self._parse_slices(place)
        slice_ns = slices.length_ns if slices is not None else DAY_NS if self.daily else None
        plan = parse_alerts(
            self.alerts,
            self.period.nominal_ns,
            self.target_ratio,
            place.at("alerts"),
            tickets_only=getattr(self._indicator, "TICKETS_ONLY", False),
            slice_ns=slice_ns,
            labels_ns=self.labels_ns,
        )
        plan = self._as_labels_come(plan, self.alerts)
        self._set(
            slices=slices,
            sla_ratio=None if self.sla is None else place.at("sla").parse(parse_target, self.sla),
            about=parse_about(self.owner, self.because, self.runbook_url, self.labels, place),
            alert_plan=plan,
            notify=notify,
            release_policy=self._parse_policy(plan, slice_ns, place.at("policy")),
            planned=parse_maintenance(self.maintenance, place.at("maintenance")),
        )

    def _parse_slices(self, place: Place) -> Slices | None:
        keys = ("slice", "slice_target", "slice_count", "empty_slices", "unattended")
        given = {key: getattr(self, key) for key in keys}
        if not hasattr(self._indicator, "promise"):
            return parse_slices(*usual_slices(self.budgeting, given, self._indicator), place)
        if self.group_by:
            problem = "the rate is promised of all requests together"
            remedy = "Leave it out, or write an SLO with a rate of its own for each: match: {route: ...}"
            raise place.at("group_by").error(problem, remedy, at_key=True)
        rate = cast("RateIndicator", self._indicator).promise(self._options)
        return parse_rate_slices(rate, self.budgeting, given, place)

    def _parse_policy(self, plan: AlertPlan, slice_ns: int | None, place: Place) -> Policy:
        policy = parse_policy(self.policy, place)
        refuse_dead_steps(
            policy, place, window_ns=self.window_ns, slice_ns=slice_ns, target=self.target_ratio, alerts=plan
        )
        return policy

    def _resolve(self, place: Place) -> None:
        if self.daily and self.good is not None:
            problem = "a day is judged by its value, and no prediction alone"
            raise place.at("good").error(problem, "Leave it out; valid says which predictions are in", at_key=True)
        match = {} if self.match is None else self.match
        if not isinstance(match, Mapping):
            raise place.at("match").error(f"{shown(match)} is no mapping", 'Write {route: "/checkout/*"}')
        match = own_match(match, self._indicator, self.name, place.at("match"))
        codes = {"_where": match.get("where"), "_good": self.good, "_valid": self.valid}
        spots = {"_where": place.at("match", "where"), "_good": place.at("good"), "_valid": place.at("valid")}
        self._set(
            _match=parse_match(match, self._indicator.KIND, place.at("match")),
            **{key: None if code is None else resolve(code, spots[key]) for key, code in codes.items()},
            _validity=parse_validity([] if self._checks_no_health else self.health_checks, self.exclude, place),
            _rules=parse_rules(self.rules, self._indicator, self._options, place.at("rules")),
            _grouping=parse_grouping(self.group_by, self.group_values, place, self.batch_classes, self.payload_classes),
        )

    def _allot_cells(self, place: Place) -> tuple[str, ...]:
        declared = parse_reasons(self.reasons, place.at("reasons"))
        bad_named = [
            *declared,
            *([NOT_GOOD] if self._good is not None else []),
            *self._rules.reasons("bad", by_operator=True),
        ]
        excluded_named = [rule.name for rule in self._validity.exclusions]
        excluded_named += [INVALID] if self._valid is not None else []
        health = [HEALTH_CHECK] if self._validity.health_checks.patterns else []
        return reason_cells(
            [CRASHED.reason, *self._rules.reasons("bad", by_operator=False)],
            bad_named,
            # Maintenance takes a cell from no other reason; where none is free it counts under "other".
            [*self._rules.reasons("excluded", by_operator=False), *health, MAINTENANCE],
            [*excluded_named, *self._rules.reasons("excluded", by_operator=True)],
        )

    def _meaning_parts(self) -> dict[str, object]:
        return {
            "indicator": self.indicator,
            "options": {key: str(value) for key, value in self._options.items() if self._indicator.OPTIONS[key].meant},
            "match": self._match_json(),
            "rules": {key: list(judgement) for key, judgement in self._rules.replaced.items()},
            "exclude": [rule.to_json() for rule in self._validity.exclusions],
            "health_checks": sorted(self._validity.health_checks.patterns),
            "good": import_name(self._good) if self._good is not None else None,
            "valid": import_name(self._valid) if self._valid is not None else None,
            "group_by": list(self._grouping.keys),
            "reason_cells": list(self.reason_cells),
            **{key: list(classes.bounds) for key, classes in self.size_classes.items()},
        }

    def _match_json(self) -> dict[str, object]:
        match = self._match
        return {
            "kind": match.kind,
            "route": list(match.routes.patterns) if match.routes is not None else None,
            "method": sorted(match.methods) if match.methods is not None else None,
            "host": list(match.hosts.patterns) if match.hosts is not None else None,
            "where": import_name(self._where) if self._where is not None else None,
        }

    @property
    def kind(self) -> str:
        """The kind of event that it is about, one of EVENT_KINDS."""
        return self._match.kind

    @property
    def group_keys(self) -> tuple[str, ...]:
        """The keys of `group_by`; empty if ungrouped."""
        return self._grouping.keys

    @property
    def validity(self) -> Validity:
        """Who is excluded before the indicator is asked."""
        return self._validity

    @property
    def size_classes(self) -> Mapping[str, Classes]:
        """The classes of sizes that it groups by, by its key of `group_by`."""
        return self._grouping.classes

    @property
    def _checks_no_health(self) -> bool:
        """Whether its events have no route that could be a health check's, unless somebody says so."""
        return self.health_checks is None and self._indicator.KIND not in EDGE_KINDS

    @property
    def grouped_by_attributes(self) -> bool:
        """Whether the group depends on what the app sets during the event."""
        return self._grouping.by_attributes

    def matches(self, kind: str, route: str | None, method: str, host: str) -> bool:
        """The static part of `match`: whether such an event can be this objective's."""
        return self._match.covers(kind, route, method, host)

    def group_of(self, event: Event) -> str | None:
        """The event's group, "route=/x,method=GET"; UNKNOWN, OVERFLOW, or None if the objective is not grouped."""
        return self._grouping.text(event)

    def cell(self, outcome: Outcome) -> int:
        """The cell, 0 to 15, that counts this outcome: its reason's own, or the "other" of its side."""
        return cell_of(self._cells, outcome)

    @property
    def as_definition(self) -> Definition:
        """The objective as plain data, without user code."""
        return Definition(
            name=self.name,
            indicator=self.indicator,
            target_ratio=self.target_ratio,
            window_ns=self.window_ns,
            meaning=self.meaning,
            reason_cells=self.reason_cells,
            threshold_ns=self.threshold_ns,
            match=self._match_json(),
            group_by=self._grouping.keys,
            max_groups=self.max_groups,
            description=self.description,
            period=self.period,
            slices=self.slices,
            sla_ratio=self.sla_ratio,
            about=self.about,
            alerts=self.alert_plan,
            notify=None if self.notify is None else tuple(self.notify),
            policy=self.release_policy,
            loss_classes=self._loss_classes(),
            audit=self.option("audit"),
            day_bar=self.option("bar") if self.daily else None,
        )

    def _loss_classes(self) -> dict[str, str]:
        bad = [reason for reason in self.reason_cells[1:FIRST_EXCLUDED] if reason]
        said = [*self.reasons, NOT_GOOD]
        found = classes_of(bad, self._rules.renamed(), said, getattr(self._indicator, "LOSS_CLASS", OTHER))
        return {reason: found[reason] for reason in bad}

    def definition(self) -> dict[str, Any]:
        """`as_definition` as JSON-able data, that `Definition.from_json` reads."""
        return self.as_definition.to_json() | {"maintenance": self.planned.to_json()}

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], place: str | None = None) -> SLO:
        """The SLO that a mapping (one item of `slos:`) describes. Unknown keys are refused.

        `place` says in errors where the mapping stands; the error's `path` is the key's way inside of it.
        """
        try:
            return cls(**arguments(data))
        except DefinitionError as refused:
            if place is None:
                raise
            problem = f"{refused.place}: {refused.problem}"
            raise DefinitionError(
                place, problem, refused.remedy, path=refused.path, at_key=refused.at_key
            ) from refused.__cause__


def rules_table(slo: SLO) -> list[tuple[str, str, str]]:
    """(what happened, outcome, reason), as `slo` has it, in the order in which it is asked."""
    rows = [(f"planned maintenance: {entry.text}", "excluded", MAINTENANCE) for entry in slo.planned.entries]
    if not slo._of_predictions:
        rows.append(("the app says good, bad or excluded", "as it says", "as it says"))
    if slo._validity.health_checks.patterns:
        rows.append((f"health check: {', '.join(slo._validity.health_checks.patterns)}", "excluded", HEALTH_CHECK))
    for rule in slo._validity.exclusions:
        parts = [f"{key} {value}" for key, value in rule.to_json().items() if key != "name" and value is not None]
        rows.append((f"the operator's rule: {', '.join(parts)}", "excluded", rule.name))
    if slo._valid is not None:
        rows.append((f"{import_name(slo._valid)} is false", "excluded", INVALID))
    if slo._good is not None:
        rows.append((f"{import_name(slo._good)} is asked, unless a changed rule applies", "as it says", "as it says"))
    if slo.dated:
        return [*rows, *slo._rules.rows()]
    killed = "in flight when its worker was killed" + (", in maintenance too" if slo.planned else "")
    return [*rows, *slo._rules.rows(), (killed, *CRASHED)]
