"""Freshness: was the model version that served trained, or evaluated since, at most `max_age` ago?

Good: it answered, and its age is within `max_age`; just at it is good. Bad: `stale` beyond; `undated` where nobody has
told that version's dates (see `otelslo.model`). Valid: what was answered. How often it fails is another objective's
question: calls and requests that were not answered well are excluded. So is what comes before the dates could be read
for the first time: `unknown_yet`.
Not seen: how good the version is, and versions that serve nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from otelslo.errors import BadValue, shown
from otelslo.event import GOOD, Ending, Event, Judgement, Outcome, always
from otelslo.indicators import Option, Options, by_table, http_keys, rule
from otelslo.indicators.websocket import keys as websocket_keys
from otelslo.models import SINCE, Facts
from otelslo.window import parse_positive_duration

KIND = "call"
AGES = True
TICKETS_ONLY = True
LOSS_CLASS = "quality"
_NOT_ANSWERED = ("4xx", "5xx", "closed_by_error")
_FAILED = Outcome("excluded", "failed")
_UNANSWERED = Outcome("excluded", "unanswered")


def _parse_since(value: Any) -> str:
    if value not in SINCE:
        raise BadValue(f"{shown(value)} says not what a version's age counts from", f"Write {', '.join(SINCE)}")
    return str(value)


def _parse_name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadValue(f"{shown(value)} is no name", 'Write it as a text in quotes, as otelslo.model() is told: "7"')
    return value


OPTIONS = {
    "max_age": Option(parse_positive_duration, required=True, example="90d"),
    "since": Option(_parse_since, default="either", example="either"),
    "model": Option(_parse_name, example="recommender", free=True),
    "version": Option(_parse_name, example="2026-11-01", free=True),
}
RULES = (
    rule("complete", "answered by a version that is fresh enough", GOOD),
    rule("stale", "the version that answered is older than max_age", Outcome("bad", "stale")),
    rule("undated", "nobody has told when that version was trained or evaluated", Outcome("bad", "undated")),
    rule("unknown_yet", "the dates of versions could not be read yet", Outcome("excluded", "unknown_yet")),
    rule("exception", "an exception", _FAILED),
    rule("5xx", "answered with a server error", _FAILED),
    rule("closed_by_error", "a connection closed with 1011, 1012, 1013 or 1014", _FAILED),
    rule("cut", "the server cut the stream", _FAILED),
    rule("no_response", "ended with no response at all", _FAILED),
    rule("server_cancel", "cancelled by the server (shutdown, worker timeout)", _FAILED),
    rule("shed", "refused by our own shedding of load", _UNANSWERED),
    rule("client_cancel", "the caller went away", _UNANSWERED),
    rule("4xx", "refused, a client error", _UNANSWERED),
)
_TABLE = {line.key: line for line in RULES}


def keys(event: Event) -> tuple[str, ...]:
    """Those of its ending, by its kind."""
    return websocket_keys(event) if event.kind == "websocket" else http_keys(event)


def keys_by(event: Event, options: Options) -> tuple[str, ...]:
    """What the age of the version makes of an event that was answered, then its ending's keys."""
    own = keys(event)
    if event.ending is not Ending.COMPLETE or own[-1] in _NOT_ANSWERED:
        return own
    age = _age(event, options)
    return own if age is None else (age, *own)


def answered(options: Options) -> Judgement:
    """Without the event at hand, a good answer is good at any age."""
    return always(GOOD)


def answered_by(event: Event, options: Options) -> Judgement:
    """What an answer that someone calls good is worth: good, if its version is fresh enough."""
    age = _age(event, options)
    return always(GOOD) if age is None else _TABLE[age].judgement(options)


def judge(event: Event, options: Options) -> Judgement:
    """The outcome by the table and the age."""
    return by_table(_TABLE, keys_by(event, options), options)


def turning_points(facts: Facts, options: Options) -> Iterator[int]:
    """The moments (Unix ns) from which on events of some version are judged otherwise than before."""
    for (model, _), version in facts.items():
        since_ns = version.since_ns(options["since"])
        if since_ns is not None and options["model"] in (None, model):
            yield since_ns + options["max_age"] + 1


def _age(event: Event, options: Options) -> str | None:
    """The key of the line that says what is wrong with the version's age; None if nothing is."""
    known = event.known
    if known is None or known.facts is None:
        return "unknown_yet"
    model = options["model"] or event.attributes.get("model") or event.route or ""
    version = event.attributes.get("version") or options["version"] or ""
    found = known.facts.get((model, version))
    since_ns = None if found is None else found.since_ns(options["since"])
    if since_ns is None:
        return "undated"
    return "stale" if known.at_wall_ns - since_ns > options["max_age"] else None
