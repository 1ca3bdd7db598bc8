"""Availability: was the request answered? Fast or slow does not matter, but who gave up on whom does."""

from __future__ import annotations

from otelslo.event import GOOD, Event, Judgement, Outcome, always
from otelslo.indicators import Option, Options, Rule, by_table, http_keys, rule
from otelslo.window import SECOND_NS, parse_positive_duration

KIND = "http"
OPTIONS = {"cancel_after": Option(parse_positive_duration, default=10 * SECOND_NS, example="10s")}
RULES = (
    rule("complete", "a call returned", GOOD),
    rule("1xx", "switched to another protocol (interim answers are not counted)", GOOD),
    rule("2xx", "answered with success", GOOD),
    rule("3xx", "answered with a redirect", GOOD),
    rule("5xx", "answered with a server error", Outcome("bad", "5xx")),
    rule("exception", "an exception left the app, before or after the response started", Outcome("bad", "exception")),
    rule("shed", "429 or 503 by our own shedding", Outcome("bad", "shed")),
    Rule(
        "client_cancel",
        "the client went away",
        Outcome("excluded", "client_cancel"),
        Outcome("bad", "abandoned"),
        "cancel_after",
    ),
    rule("server_cancel", "cancelled by the server (shutdown, worker timeout)", Outcome("bad", "server_cancel")),
    rule("no_response", "ended with no response at all", Outcome("bad", "no_response")),
    rule("cut", "the server cut the stream", Outcome("bad", "cut")),
    rule("4xx", "refused, another client error", Outcome("excluded", "client_error")),
    rule("401", "refused, not authenticated", Outcome("excluded", "unauthorised")),
    rule("403", "refused, not allowed", Outcome("excluded", "unauthorised")),
)
_TABLE = {line.key: line for line in RULES}

keys = http_keys


def answered(options: Options) -> Judgement:
    """A good answer is good at any latency."""
    return always(GOOD)


def judge(event: Event, options: Options) -> Judgement:
    """The outcome by the table; only a client that went away is judged by how long it had waited."""
    return by_table(_TABLE, keys(event), options)
