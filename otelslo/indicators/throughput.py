"""Throughput: is the promised rate sustained while the latency objective holds? Idle time is no failure.

An event is good if it was answered well within `threshold`, a refusal of the client's (4xx) too: it is load that was
served. Slow, failed and shed ones are bad. What counts are slices of time (`slice`, 1m): see `otelslo.throughput`.
Not seen: what never reached the service, and load that a client held back because answers were slow.
"""

from __future__ import annotations

from otelslo.event import GOOD, Event, Judgement, Outcome
from otelslo.indicators import Option, Options, Rule, by_table, http_keys, rule
from otelslo.throughput import HOST, Throughput, parse_rate, parse_scope, parse_share
from otelslo.window import parse_positive_duration

KIND = "http"
OPTIONS = {
    "threshold": Option(parse_positive_duration, required=True, example="200ms"),
    "rate": Option(parse_rate, required=True, example="1000/s", meant=False),
    "share": Option(parse_share, default=parse_share("99%"), example="99%", meant=False),
    "scope": Option(parse_scope, default=HOST, example=HOST, meant=False),
}

_SLOW = Outcome("bad", "slow")


def _timed(key: str, happened: str) -> Rule:
    return Rule(key, happened, GOOD, _SLOW, "threshold")


def _failed(key: str, happened: str) -> Rule:
    return rule(key, happened, Outcome("bad", key))


RULES = (
    _timed("complete", "a call returned"),
    _timed("1xx", "switched to another protocol (interim answers are not counted)"),
    _timed("2xx", "answered with success"),
    _timed("3xx", "answered with a redirect"),
    _timed("4xx", "refused, a client error: load all the same"),
    _failed("shed", "429 or 503 by our own shedding"),
    _failed("5xx", "answered with a server error"),
    _failed("exception", "an exception left the app, before or after the response started"),
    Rule(
        "client_cancel",
        "the client went away",
        Outcome("excluded", "client_cancel"),
        Outcome("bad", "abandoned"),
        "threshold",
    ),
    _failed("server_cancel", "cancelled by the server (shutdown, worker timeout)"),
    _failed("no_response", "ended with no response at all"),
    _failed("cut", "the server cut the stream"),
)
_TABLE = {line.key: line for line in RULES}

keys = http_keys


def promise(options: Options) -> Throughput:
    """What its slices are judged by."""
    return Throughput(options["rate"], options["share"], options["scope"])


def answered(options: Options) -> Judgement:
    """A good answer is good at or under the threshold, and slow above it."""
    return Judgement(options["threshold"], GOOD, _SLOW)


def judge(event: Event, options: Options) -> Judgement:
    """The outcome by the table."""
    return by_table(_TABLE, keys(event), options)
