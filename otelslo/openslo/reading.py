"""From OpenSLO's objects to SLOs: each objective of an SLO document is first a draft, a mapping as slo.yaml has it.

Our own annotations are laid over a draft last: they say what OpenSLO has no word for, or says less exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from otelslo.errors import BadValue, shown
from otelslo.openslo.annotations import lay_over
from otelslo.openslo.draft import Draft
from otelslo.openslo.metrics import Metric, read_metric, read_ratio, read_threshold
from otelslo.openslo.objects import Catalogue, Finding, Object, Part, read_object
from otelslo.openslo.policies import Policies
from otelslo.openslo.spelling import (
    CALENDAR_UNITS,
    METHODS,
    SERVICE,
    SLA,
    SOURCE_TYPE,
    clipped,
    dns_name,
    duration_text,
    length_ns,
    parse_shorthand,
    ratio,
    ratio_text,
)
from otelslo.window import MINUTE_NS, parse_duration

_OBJECTIVE_KEYS = (
    *("displayName", "op", "value", "target", "targetPercent", "timeSliceTarget", "timeSliceWindow"),
    *("indicator", "indicatorRef", "compositeWeight"),
)
_ALIKE = ("value", "timeSliceTarget", "timeSliceWindow", "indicator", "indicatorRef", "compositeWeight")
_LONGEST_NAME = 64
_LONGEST_SUFFIX = 24


class Reading:
    """Reads all SLOs of a catalogue. `notices` are what there is to say, each once, in the order of the reading."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.channels: dict[str, Part] = {}
        self._notices: dict[Finding, None] = {}

    @property
    def notices(self) -> tuple[Finding, ...]:
        return tuple(self._notices)

    def note(self, part: Part, problem: str, remedy: str) -> None:
        self._notices[part.finding(problem, remedy)] = None

    def drafts(self) -> list[Draft]:
        """All, measured here or not; what no SLO refers to is read too, and noted. Raises DefinitionError."""
        found = [draft for slo in self.catalogue.of("SLO") for draft in self._drafts_of(slo)]
        self._leftovers()
        return found

    def refuser(self, measured: bool) -> Callable[[Part, str, str], None]:
        """What to do with what is not supported: an SLO that would be measured otherwise than written is refused."""

        def refuse(part: Part, problem: str, remedy: str) -> None:
            if measured:
                raise part.error(problem, remedy)
            self.note(part, problem, remedy)

        return refuse

    def _drafts_of(self, slo: Object) -> list[Draft]:
        objectives = slo.spec.need("objectives", "[{target: 0.999}]")
        items = [item.only(*_OBJECTIVE_KEYS) for item in objectives.items()]
        if not items:
            raise objectives.error("there is no objective", "Add one: [{target: 0.999}]")
        self._check_composite(slo, items)
        sla = _sla_of(items)
        items = [item for item in items if item is not sla]
        if len(items) > 1:
            said = f"each of the {len(items)} objectives becomes an SLO of its own"
            self.note(objectives, said, "Nothing has to be done")
        taken: set[str] = set()
        drafts = []
        for index, item in enumerate(items):
            suffix = _suffix(item, index, taken) if len(items) > 1 else ""
            drafts.append(self._draft(slo, item, suffix, sla))
        return drafts

    def _check_composite(self, slo: Object, items: Sequence[Part]) -> None:
        own = slo.spec.get("indicator") or slo.spec.get("indicatorRef")
        inner = [part for item in items if (part := item.get("indicator") or item.get("indicatorRef")) is not None]
        if own is not None and inner:
            raise inner[0].error("the SLO has an indicator of its own already", "Keep one of them", at_key=True)
        if own is None and len(inner) < len(items):
            raise slo.spec.error("it has neither indicator nor indicatorRef", "Add indicatorRef: availability")
        if inner:
            problem = "a composite budget is not kept; each objective is an SLO of its own"
            self.note(inner[0], problem, "Nothing has to be done, or alert on each")
        for weight in (part for item in items if (part := item.get("compositeWeight")) is not None):
            weight.number()
            self.note(weight, "weights are ignored, as there is no composite budget", "Leave it out")

    def _draft(self, slo: Object, objective: Part, suffix: str, sla: Part | None) -> Draft:
        name = slo.root.need("metadata", "{}").need("name", "checkout")
        composite = objective.get("indicator") is not None or objective.get("indicatorRef") is not None
        metric = self._metric(objective if composite else slo.spec)
        draft = Draft(objective, name, metric.foreign)
        for key, part in metric.keys.items():
            draft.put(key, part.value, part)
        limit = read_threshold(metric, objective, self.note)
        if limit is not None:
            draft.put("threshold", *limit)
        draft.put("name", f"{slo.name[: _LONGEST_NAME - len(suffix)]}{suffix}", name)
        self._about(draft, slo)
        self._window(draft, slo.spec)
        self._budgeting(draft, slo.spec, objective)
        for key, promise in (("target", objective), ("sla", sla)):
            if promise is not None:
                value, spot = read_ratio(promise)
                draft.put(key, ratio(ratio_text(value)), spot)
        has_policies = self._alerting(draft, slo.spec)
        lay_over(draft, slo.ours, has_policies, one_of_many=bool(suffix))
        return draft

    def _metric(self, holder: Part) -> Metric:
        inline, reference = holder.get("indicator"), holder.get("indicatorRef")
        if inline is not None and reference is not None:
            raise reference.error("it has an indicator too", "Keep one of them", at_key=True)
        if inline is not None:
            return read_metric(read_object(inline.only("metadata", "spec"), "SLI"), self.catalogue, self.note)
        part = holder.need("indicatorRef", "availability")
        sli = self.catalogue.find("SLI", part.text())
        if sli is None:
            problem, remedy = self.catalogue.missing("SLI", part.text())
            raise part.error(problem, remedy)
        return read_metric(sli, self.catalogue, self.note)

    def _about(self, draft: Draft, slo: Object) -> None:
        description, service = slo.spec.get("description"), slo.spec.get("service")
        metadata = slo.root.need("metadata", "{}")
        if description is not None:
            draft.put("description", clipped(description.text()), description)
        elif slo.display_name:
            draft.put("description", slo.display_name, metadata.need("displayName", ""))
        labels = dict(slo.labels)
        if service is not None:
            self.catalogue.find("Service", service.text())
            if labels.setdefault(SERVICE, service.text()) != service.text():
                said = f"the label {SERVICE} says {shown(labels[SERVICE])}, and it is what counts"
                self.note(service, said, "Make both say the same")
        if labels:
            draft.put("labels", labels, metadata.get("labels") or service or metadata)

    def _window(self, draft: Draft, spec: Part) -> None:
        windows = spec.get("timeWindow")
        if windows is None:
            self.note(spec, "it has no timeWindow; a rolling one of 30d is assumed", "Add timeWindow")
            return
        if len(windows.items()) != 1:
            raise windows.error(f"it has {len(windows.items())} time windows", "Write exactly one")
        window = windows.items()[0].only("duration", "isRolling", "calendar")
        duration, calendar, rolling = window.need("duration", "28d"), window.get("calendar"), window.get("isRolling")
        amount, unit = duration.parse(parse_shorthand)
        if rolling is not None and rolling.flag() is (calendar is not None):
            said = "it rolls and has a calendar" if calendar is not None else "it does not roll and has no calendar"
            raise rolling.error(said, "Write isRolling: true without a calendar, or false with one")
        if calendar is not None:
            self._calendar(draft, duration, calendar.only("startTime", "timeZone"), (amount, unit))
            return
        if unit in "MQY":
            text = duration_text(duration.parse(length_ns))
            problem = f"a rolling {duration.value} has no length of its own; {text} is meant"
            self.note(duration, problem, f"Write {text}")
        draft.put("window", duration_text(duration.parse(length_ns)), duration)

    def _calendar(self, draft: Draft, duration: Part, calendar: Part, form: tuple[int, str]) -> None:
        unit = CALENDAR_UNITS.get(form[1])
        if unit is None or form[0] != 1:
            hint = "m is a minute; write 1M for a month" if form[1] == "m" else "Write 1d, 1w, 1M, 1Q or 1Y"
            problem = f"a calendar window of {duration.value} is not supported"
            self.refuser(draft.measured)(duration, problem, hint)
            return
        zone, start = calendar.get("timeZone"), calendar.get("startTime")
        if zone is None:
            self.note(calendar, "it has no timeZone; UTC is assumed", "Add timeZone: UTC")
        if start is not None and not _on_boundary(start.parse(_start), unit):
            first = " (Monday)" if unit == "week" else ""
            problem = f"{start.value} is ignored: a {unit} begins at midnight of its first day{first}"
            self.note(start, problem, "Write such a midnight, to say what is done")
        draft.put("calendar", unit, duration)
        if zone is not None:
            draft.put("timezone", zone.text(), zone)

    def _budgeting(self, draft: Draft, spec: Part, objective: Part) -> None:
        method, bar = spec.get("budgetingMethod"), objective.get("timeSliceTarget")
        length = objective.get("timeSliceWindow")
        if method is None:
            self.note(spec, "it has no budgetingMethod; Occurrences is assumed", "Add budgetingMethod: Occurrences")
        word = "Occurrences" if method is None else method.one_of(tuple(METHODS))
        for part, needed in ((length, word != "Occurrences"), (bar, word == "Timeslices")):
            if part is not None and not needed:
                self.note(part, f"it has no meaning with {word}; it is ignored", "Leave it out")
        draft.put("budgeting", METHODS[word], spec if method is None else method)
        if word == "Occurrences":
            return
        length = objective.need("timeSliceWindow", "5m")
        draft.put("slice", duration_text(length.parse(_slice_ns)), length)
        if word == "Timeslices":
            bar = objective.need("timeSliceTarget", "0.95")
            if not 0 < bar.number() <= 1:
                raise bar.error(f"{bar.value} is out of range", "Write a number above 0, and 1 at most")
            draft.put("slice_target", ratio_text(bar.number()), bar)

    def _alerting(self, draft: Draft, spec: Part) -> bool:
        """Read the policies, if there are any."""
        policies = spec.get("alertPolicies")
        if policies is None or not policies.items():
            return False
        slice_ns = parse_duration(draft.data["slice"]) if "slice" in draft.data else None
        reader = Policies(self.catalogue, self.note, self.refuser(draft.measured), slice_ns)
        found = reader.read(policies.items())
        self.channels.update(found.channels)
        draft.put("alerts", found.plan(), policies)
        draft.origins.update({("alerts", "tiers", *path): part for path, part in found.origins.items()})
        if found.notify:
            draft.put("notify", list(found.notify), policies)
            parts = enumerate(found.notify.values())
            draft.origins.update({("notify", index): part for index, part in parts})
        return True

    def _leftovers(self) -> None:
        """Read what no SLO refers to, so that a mistake in it is found now."""
        unused = {kind: self.catalogue.unused(kind) for kind in self.catalogue.objects}
        reader = Policies(self.catalogue, self.note, self.note)
        for policy in unused["AlertPolicy"]:
            reader.policy(policy)
        for condition in self.catalogue.unused("AlertCondition"):
            reader.condition(condition)
        for target in self.catalogue.unused("AlertNotificationTarget"):
            reader.target(target)
        self.channels = reader.found.channels | self.channels
        for sli in unused["SLI"]:
            read_metric(sli, self.catalogue, self.note)
        for kind in ("SLI", "AlertPolicy", "AlertCondition", "AlertNotificationTarget"):
            for found in unused[kind]:
                if found in self.catalogue.unused(kind) and "channel" not in found.ours:
                    problem = f"no SLO of this file uses the {kind} {found.name!r}"
                    self.note(found.root, problem, "Refer to it, or leave it out")
        for source in self.catalogue.of("DataSource"):
            if source.spec.need("type", "Prometheus").text() != SOURCE_TYPE:
                problem = f"nothing connects to the DataSource {source.name!r}"
                self.note(source.root, problem, "Nothing has to be done: otelslo measures in the process itself")


def _sla_of(items: Sequence[Part]) -> Part | None:
    """Of two objectives that differ only in their target, the one whose displayName is SLA."""
    named = [item for item in items if str(item.value.get("displayName")).casefold() == SLA]
    alike = all(items[0].value.get(key) == items[-1].value.get(key) for key in _ALIKE)
    return named[0] if len(named) == 1 and len(items) == 2 and alike else None


def _suffix(objective: Part, index: int, taken: set[str]) -> str:
    display = objective.get("displayName")
    suffix = dns_name(display.text()[:_LONGEST_SUFFIX] if display is not None else str(index + 1), taken)
    taken.add(suffix)
    return f"-{suffix}"


def _slice_ns(value: object) -> int:
    """A timeSliceWindow: a number is in minutes."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value * MINUTE_NS
    return length_ns(value)


def _start(value: object) -> datetime:
    try:
        return datetime.strptime(str(value), "%Y-%m-%d %H:%M:%S")
    except ValueError:
        raise BadValue(f"{shown(value)} is no start", "Write 2026-01-01 00:00:00, without a time zone") from None


def _on_boundary(start: datetime, unit: str) -> bool:
    first = {"week": start.weekday() == 0, "month": start.day == 1, "quarter": (start.month % 3, start.day) == (1, 1)}
    first |= {"day": True, "year": (start.month, start.day) == (1, 1)}
    return first[unit] and (start.hour, start.minute, start.second) == (0, 0, 0)
