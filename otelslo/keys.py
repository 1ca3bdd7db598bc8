"""How an SLO is written down: its keys, its name, and the options and reasons that go with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from otelslo.definition import MOST_DECLARED
from otelslo.errors import Place, shown
from otelslo.event import EDGE_KINDS, EVENT_KINDS
from otelslo.indicators import Indicator, having, load
from otelslo.shorthand import Shorthand, parse_objective
from otelslo.slices import OCCURRENCES, TIMESLICES
from otelslo.validity import parse_reason
from otelslo.window import format_duration, format_limit, format_target, parse_target

OPTION_KEYS = ("threshold", "cancel_after")
_GENERAL_KEYS = (
    *("name", "indicator", "target", "window", "match", "group_by", "max_groups", "group_values", "good", "valid"),
    *("batch_classes", "payload_classes"),
    *("exclude", "health_checks", "rules", "reasons", "description", "objective", "calendar", "timezone"),
    *("budgeting", "slice", "slice_target", "slice_count", "empty_slices", "unattended", "sla", "alerts", "notify"),
    *("policy", "maintenance", "owner", "because", "runbook_url", "labels"),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def checked_name(name: object, kind: str = "SLO") -> Place:
    """Where errors say that something is wrong with the `kind` of this name. Raises DefinitionError for a bad one."""
    text = Place(kind).at("name").expect(name, str, "a name, such as checkout-availability")
    if not _NAME.fullmatch(text):
        remedy = "Use letters, digits and _ . - (64 at most), a letter or digit first"
        raise Place(f"{kind} {shown(text)}").at("name").error(f"{shown(text)} cannot be a name", remedy)
    return Place(f"{kind} {text!r}")


def parse_options(given: Mapping[str, Any], indicator: Indicator, name: str, place: Place) -> dict[str, Any]:
    """The options of the indicator called `name`, those not given with their defaults. Raises DefinitionError."""
    for key in given:
        if key not in indicator.OPTIONS:
            known = ", ".join(indicator.OPTIONS) or "none"
            problem = f"the indicator {name!r} has no option {shown(key)}"
            raise place.at(key).error(problem, f"Leave it out; its options: {known}", at_key=True)
    options = {}
    for key, option in indicator.OPTIONS.items():
        if key in given:
            options[key] = place.at(key).parse(option.parse, given[key])
        elif option.required:
            raise place.at(key).error(f"the indicator {name!r} needs {key}", f"Add {key}: {option.example}")
        else:
            options[key] = option.default
    return options


class Unsaid(str):
    """A default, told from the same text where somebody wrote it."""


def read_objective(
    objective: str, beside: Mapping[str, Any], indicator: Indicator, name: str, place: Place
) -> Shorthand:
    """What `objective` means for the indicator called `name`. Raises DefinitionError.

    `beside` are the target and threshold as written; None and `Unsaid` are not. They may say no other.
    """
    spot = place.at("objective")
    meant = spot.parse(parse_objective, objective)
    option = indicator.OPTIONS.get("threshold")
    if option is None:
        remedy = f"Leave it out and write a target; it is for {', '.join(having('threshold'))}"
        raise spot.error(f"the indicator {name!r} has no threshold, which it sets", remedy, at_key=True)
    limits = [spot.parse(option.parse, format_duration(ns)) for ns in (meant.threshold_ns, meant.limit_ns)]
    readings = {
        "target": (parse_target, [meant.target], format_target(meant.target)),
        "threshold": (option.parse, limits, format_limit(meant.threshold_ns)),
    }
    for key, (parse, same, said) in readings.items():
        own = beside[key]
        if own is None or isinstance(own, Unsaid) or place.at(key).parse(parse, own) in same:
            continue
        problem = f"it says {shown(own)}, and objective {shown(objective)} says {said}"
        raise place.at(key).error(problem, "Leave one out, or make both say the same", at_key=True)
    return meant


def own_match(match: Mapping[str, Any], indicator: Indicator, name: str, place: Place) -> Mapping[str, Any]:
    """`match`, or of an indicator whose events are made for this objective: its name is their route, and nothing else
    may be said of them. Raises DefinitionError."""
    if not getattr(indicator, "OWN_EVENTS", False):
        _refuse_other_kinds(match, indicator, place)
        return match
    for key in match:
        if key != "where":
            problem = "its events are made for it alone, so there is nothing to match"
            raise place.at(str(key)).error(problem, "Leave it out", at_key=True)
    return {**match, "route": name}


def _refuse_other_kinds(match: Mapping[str, Any], indicator: Indicator, place: Place) -> None:
    """What is about no event of an edge is about its own kind alone, and predictions are nobody else's."""
    kind, own = match.get("kind"), indicator.KIND
    if kind in EVENT_KINDS and kind != own and (own not in EDGE_KINDS or kind == "prediction"):
        problem = f"the indicator is about events of the kind {own}, and never about {kind}"
        raise place.at("kind").error(problem, "Leave kind out", at_key=True)


def usual_slices(
    budgeting: str | None, given: Mapping[str, Any], indicator: Indicator
) -> tuple[str, Mapping[str, Any]]:
    """How to budget, and the keys of slices: as given, else as is usual for the indicator."""
    usual = getattr(indicator, "SLICED", None)
    method = budgeting if budgeting is not None else OCCURRENCES if usual is None else TIMESLICES
    if usual is None or method != TIMESLICES:
        return method, given
    return method, {**usual, **{key: value for key, value in given.items() if value is not None}}


def parse_reasons(value: object, place: Place) -> list[str]:
    if not isinstance(value, list | tuple):
        raise place.error(f"{shown(value)} is no list", "Write [nonsense, stale]")
    if len(value) > MOST_DECLARED:
        raise place.error(f"{len(value)} reasons are more than there are cells", f"Declare {MOST_DECLARED} at most")
    return [parse_reason(reason, place.at(index)) for index, reason in enumerate(value)]


def arguments(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise Place("SLO").error(
            f"{shown(data)} is no definition", 'Write a mapping: {name: checkout, target: "99.9%"}'
        )
    if data.get("name") is None:
        raise Place("SLO").error("it has no name", "Add name: checkout-availability")
    place = checked_name(data["name"])
    name = place.at("indicator").expect(data.get("indicator", "availability"), str, "a name, such as availability")
    extra = load(name, str(place.at("indicator"))).OPTIONS
    place.only(data, {*_GENERAL_KEYS, *OPTION_KEYS, *extra})
    if data.get("calendar") is not None and data.get("window") is not None:
        raise place.at("window").error("there is a calendar window already", "Leave one out", at_key=True)
    general = {key: value for key, value in data.items() if key not in extra}
    arguments = {key: value for key, value in general.items() if value is not None or key in ("target", "window")}
    return arguments | {"options": {key: data[key] for key in extra if data.get(key) is not None}}
