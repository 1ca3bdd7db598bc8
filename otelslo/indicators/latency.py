"""Latency: was the request answered in time? A fast failure is not a fast answer, so failures are bad here too."""

from __future__ import annotations

from otelslo.event import GOOD, Event, Judgement, Outcome
from otelslo.indicators import Option, Options, Rule, by_table, http_keys, rule
from otelslo.window import parse_positive_duration

KIND = "http"
OPTIONS = {"threshold": Option(parse_positive_duration, required=True, example="200ms")}

_SLOW = Outcome("bad", "slow")


def _timed(key: str, happened: str) -> Rule:
    return Rule(key, happened, GOOD, _SLOW, "threshold")


RULES = (
    _timed("complete", "a call returned"),
    _timed("1xx", "switched to another protocol (interim answers are not counted)"),
    _timed("2xx", "answered with success"),
    _timed("3xx", "answered with a redirect"),
    rule("5xx", "answered with a server error", Outcome("bad", "5xx")),
    rule("exception", "an exception left the app, before or after the response started", Outcome("bad", "exception")),
    Rule(
        "client_cancel",
        "the client went away",
        Outcome("excluded", "client_cancel"),
        Outcome("bad", "abandoned"),
        "threshold",
    ),
    rule("server_cancel", "cancelled by the server (shutdown, worker timeout)", Outcome("bad", "server_cancel")),
    rule("no_response", "ended with no response at all", Outcome("bad", "no_response")),
    rule("cut", "the server cut the stream", Outcome("bad", "cut")),
    rule("4xx", "refused, another client error", Outcome("excluded", "client_error")),
    rule("401", "refused, not authenticated", Outcome("excluded", "unauthorised")),
    rule("403", "refused, not allowed", Outcome("excluded", "unauthorised")),
    rule("shed", "429 or 503 by our own shedding", Outcome("excluded", "shed")),
)
_TABLE = {line.key: line for line in RULES}

keys = http_keys


def answered(options: Options) -> Judgement:
    """A good answer is good at or under the threshold, and slow above it."""
    return Judgement(options["threshold"], GOOD, _SLOW)


def judge(event: Event, options: Options) -> Judgement:
    """The outcome by the table."""
    return by_table(_TABLE, keys(event), options)
