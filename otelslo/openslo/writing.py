"""SLOs as OpenSLO documents: what is written is read again at once, and what OpenSLO could not say is annotated."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import yaml

from otelslo.document import compose_all
from otelslo.errors import DefinitionError, Place, shown
from otelslo.match import import_name, import_object
from otelslo.openslo.annotations import ALERTS, KEYS, STRUCTURED_KEYS
from otelslo.openslo.draft import Draft
from otelslo.openslo.objects import catalogue
from otelslo.openslo.policies_out import alerts_annotation, policies, target
from otelslo.openslo.reading import Reading
from otelslo.openslo.spelling import (
    API_VERSION,
    CALENDAR_UNITS,
    METHODS,
    PREFIX,
    SERVICE,
    SLA,
    SOURCE_TYPE,
    clipped,
    dns_name,
    duration_text,
    number,
    ratio,
    ratio_text,
    shorthand,
)
from otelslo.period import Calendar
from otelslo.slices import TIMESLICES
from otelslo.slo import SLO
from otelslo.window import MICROSECOND_NS, MILLISECOND_NS

_NO_SERVICE = "default"  # OpenSLO asks for one
_START = "2024-01-01 00:00:00"  # a Monday, and the first day of a month, a quarter and a year
_ANY = Fraction(1, 10**6)  # the bar of a slice that has none: OpenSLO asks for one
_LABEL = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_SAID_ELSEWHERE = {
    *("name", "description", "target", "window", "calendar", "timezone", "objective", "budgeting", "slice"),
    *("slice_target", "slice_count", "empty_slices", "unattended", "sla", "alerts", "notify", "owner", "because"),
    *("runbook_url", "labels", "options", "indicator", "policy", "maintenance"),
}


def write(slos: Iterable[SLO], channels: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None) -> str:
    """The SLOs as OpenSLO v1, one document for each, that `read` makes the same SLOs of.

    `channels` are kinds and options by name; each is a document too, with its secrets by reference as they are given.
    DefinitionError for what no text can say: code without an import path, an option that is no plain value.
    """
    taken: set[str] = set()
    texts = []
    for slo in slos:
        name = dns_name(slo.name, taken)
        taken.add(name)
        texts.append(_document(slo, name))
    for channel, (kind, options) in (channels or {}).items():
        how = flow({kind: _plain(options, Place("channels").at(channel))})
        texts.append(dump({"apiVersion": API_VERSION} | target(channel, {"channel": how})))
    return "---\n".join(texts)


def _document(slo: SLO, name: str) -> str:
    place = Place(f"SLO {slo.name!r}")
    labels = {key: value for key, value in slo.labels.items() if _is_label(key, value) and key != SERVICE}
    body = {
        "apiVersion": API_VERSION,
        "kind": "SLO",
        "metadata": {"name": name} | ({"labels": labels} if labels else {}),
        "spec": _spec(slo, name, place),
    }
    annotations = {f"{PREFIX}{key}": text for key, text in _unsaid(slo, _read_back(body), place).items()}
    alerts = alerts_annotation(slo.alert_plan)
    if alerts:
        annotations[f"{PREFIX}{ALERTS}"] = alerts if isinstance(alerts, str) else flow(alerts)
    if annotations:
        body["metadata"]["annotations"] = annotations  # type: ignore[index]  # the mapping above
    if _read_back(body).slo().definition() != slo.definition():
        raise place.error("it cannot be written as OpenSLO without changing it", "Keep it in slo.yaml")
    return dump(body)


def _is_label(key: str, value: str) -> bool:
    return bool(value) and _LABEL.fullmatch(key) is not None


def _read_back(body: Mapping[str, Any]) -> Draft:
    (draft,) = Reading(catalogue(compose_all("openslo", dump(body)))).drafts()
    return draft


def _unsaid(slo: SLO, draft: Draft, place: Place) -> dict[str, str]:
    """Annotations for the keys that the document says otherwise than the SLO."""
    wanted, found = _wanted(slo, place), {}
    labels = draft.data.get("labels", {})
    if {key: value for key, value in labels.items() if key != SERVICE} == slo.labels:
        wanted["labels"], found[SERVICE] = labels, ""
    for key in KEYS:
        value = wanted.get(key)
        if key in (ALERTS, SERVICE) or value == draft.data.get(key):
            continue
        found[key] = "" if value is None else flow(value) if key in STRUCTURED_KEYS else str(value)
    return found


def _wanted(slo: SLO, place: Place) -> dict[str, Any]:
    """The keys that annotations can say, as slo.yaml has them; None where the default is meant."""
    period, slices = slo.period, slo.slices
    calendar = period if isinstance(period, Calendar) else None
    texts = {key: getattr(slo, key) or None for key in ("description", "owner", "because", "runbook_url")}
    wanted = texts | {
        "name": slo.name,
        "target": ratio(ratio_text(slo.target_ratio)),
        "window": duration_text(period.longest_ns) if calendar is None else None,
        "calendar": calendar.unit if calendar is not None else None,
        "timezone": calendar.timezone if calendar is not None else None,
        "sla": ratio(ratio_text(slo.sla_ratio)) if slo.sla_ratio is not None else None,
        "labels": dict(slo.labels),
        "policy": _plain(slo.policy, place.at("policy")),
        "maintenance": _plain(slo.maintenance, place.at("maintenance")),
        "notify": list(slo.as_definition.notify) if slo.as_definition.notify is not None else None,
    }
    if slices is None:
        return wanted
    return wanted | {
        "slice": duration_text(slices.length_ns),
        "slice_target": ratio(ratio_text(slices.bar)) if slices.bar is not None and slices.rate is None else None,
        "slice_count": slices.least or None,
        "empty_slices": slices.empty if slices.empty != "ignore" else None,
        "unattended": slices.unattended,
    }


def _spec(slo: SLO, name: str, place: Place) -> dict[str, Any]:
    measure = {"indicator": slo.indicator} | _measure(slo, place)
    limit = slo.threshold_ns
    if limit is not None:
        measure.pop("threshold", None)  # the objective's op and value say it
    objective = {} if limit is None else {"op": "lte", "value": number(Fraction(limit, MILLISECOND_NS))}
    if limit is not None and (limit + 1) % MICROSECOND_NS == 0:  # "< 200ms", rather than "<= 199.999999ms"
        objective = {"op": "lt", "value": number(Fraction(limit + 1, MILLISECOND_NS))}
    objective |= {"target": number(slo.target_ratio)} | _slices(slo)
    objectives = [objective]
    if slo.sla_ratio is not None and limit is None:
        objectives = [{"displayName": "SLO"} | objective, {"displayName": SLA.upper()} | objective]
        objectives[1]["target"] = number(slo.sla_ratio)
    spec: dict[str, Any] = {"description": clipped(slo.description)} if slo.description else {}
    method = slo.slices.method if slo.slices is not None else METHODS["Occurrences"]
    spec |= {
        "service": slo.labels.get(SERVICE) or _NO_SERVICE,
        "indicator": {"metadata": {"name": name}, "spec": _metric(measure, by_threshold=limit is not None)},
        "timeWindow": [_window(slo)],
        "budgetingMethod": next(word for word, ours in METHODS.items() if ours == method),
        "objectives": objectives,
    }
    alerting = policies(slo.alert_plan, slo.as_definition.notify)
    return spec | ({"alertPolicies": alerting} if alerting else {})


def _metric(measure: dict[str, Any], by_threshold: bool) -> dict[str, Any]:
    if by_threshold:
        source = {"type": SOURCE_TYPE, "spec": measure | {"unit": "ms"}}
        return {"thresholdMetric": {"metricSource": source}}
    whole = {key: measure[key] for key in ("indicator", "match") if key in measure}
    return {
        "ratioMetric": {
            "counter": True,
            "good": {"metricSource": {"type": SOURCE_TYPE, "spec": measure}},
            "total": {"metricSource": {"type": SOURCE_TYPE, "spec": whole}},
        }
    }


def _window(slo: SLO) -> dict[str, Any]:
    period = slo.period
    if not isinstance(period, Calendar):
        return {"duration": shorthand(period.length_ns), "isRolling": True}
    letter = next(letter for letter, unit in CALENDAR_UNITS.items() if unit == period.unit)
    calendar = {"startTime": _START, "timeZone": period.timezone}
    return {"duration": f"1{letter}", "isRolling": False, "calendar": calendar}


def _slices(slo: SLO) -> dict[str, Any]:
    if slo.slices is None:
        return {}
    length = {"timeSliceWindow": shorthand(slo.slices.length_ns)}
    if slo.slices.method != TIMESLICES:
        return length
    return {"timeSliceTarget": number(_ANY if slo.slices.bar is None else slo.slices.bar)} | length


def _measure(slo: SLO, place: Place) -> dict[str, Any]:
    """The SLO's other keys, which say what is good and what is valid, where they are not the default."""
    given = {
        field.name: getattr(slo, field.name)
        for field in fields(slo)
        if field.init and field.name not in _SAID_ELSEWHERE and getattr(slo, field.name) != field.default
    }
    return {key: _plain(value, place.at(key)) for key, value in ({**(slo.options or {})} | given).items()}


def _plain(value: Any, place: Place) -> Any:
    if value is None or isinstance(value, str | bool | int | Decimal):
        return value
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Fraction):
        return ratio_text(value)
    if isinstance(value, date):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, timedelta):
        return duration_text(value // timedelta(microseconds=1) * MICROSECOND_NS)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, place.at(str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, place.at(index)) for index, item in enumerate(value)]
    if callable(value):
        return _import_path(value, place)
    raise place.error(f"{shown(value)} cannot be written", "Use texts, numbers, lists and mappings")


def _import_path(code: Any, place: Place) -> str:
    path = import_name(code)
    try:
        same = import_object(path, place) is code
    except DefinitionError:
        same = False
    if not same:
        raise place.error(f"{shown(path)} leads to no code that could be named", "Name a function of a module")
    return path


class _Dumper(yaml.SafeDumper):
    """YAML that no reader takes otherwise: a text is in quotes unless it is a plain word, nothing is an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_-]+)*|[1-9][0-9]*[mhdwMQY]")
_NO_TEXTS: Collection[str] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _NO_TEXTS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


def _number_node(dumper: yaml.SafeDumper, value: Decimal) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:float", f"{value:f}")


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(Decimal, _number_node)


def dump(value: Any) -> str:
    """YAML in block style."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)


def flow(value: Any) -> str:
    """YAML on one line."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=True)
    return str(text).removesuffix("...\n").strip()
