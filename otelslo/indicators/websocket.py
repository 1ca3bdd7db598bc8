"""Websocket: was the connection accepted, and did it end as it should? Its length says nothing about its health.

A status below 1000 is the HTTP status of a refusal before the handshake was done; from 1000 on it is the close code.
"""

from __future__ import annotations

from otelslo.event import GOOD, Ending, Event, Judgement, Outcome, always
from otelslo.indicators import Option, Options, Rule, by_table, http_keys, rule

KIND = "websocket"
OPTIONS: dict[str, Option] = {}
RULES: tuple[Rule, ...] = (
    rule("complete", "closed normally, by either side", GOOD),
    rule("1xx", "accepted", GOOD),
    rule("closed_by_error", "closed with 1011, 1012, 1013 or 1014", Outcome("bad", "closed_by_error")),
    rule("exception", "an exception left the app", Outcome("bad", "exception")),
    rule("5xx", "refused with a server error", Outcome("bad", "5xx")),
    rule("shed", "refused by our own shedding", Outcome("bad", "shed")),
    rule("server_cancel", "cancelled by the server (shutdown, worker timeout)", Outcome("bad", "server_cancel")),
    rule("no_response", "neither accepted nor refused", Outcome("bad", "no_response")),
    rule("cut", "the server dropped the connection", Outcome("bad", "cut")),
    rule("4xx", "refused, another client error", Outcome("excluded", "client_error")),
    rule("401", "refused, not authenticated", Outcome("excluded", "unauthorised")),
    rule("403", "refused, not allowed", Outcome("excluded", "unauthorised")),
    rule("client_cancel", "the client went away before it was accepted", Outcome("excluded", "client_cancel")),
)
_TABLE = {line.key: line for line in RULES}
_ERROR_CODES = frozenset({1011, 1012, 1013, 1014})


def keys(event: Event) -> tuple[str, ...]:
    """ "1011" and "closed_by_error", "4001" and "complete", or what a refused request has."""
    if event.ending is not Ending.COMPLETE or event.status is None or event.status < 1000:
        return http_keys(event)
    return (str(event.status), "closed_by_error" if event.status in _ERROR_CODES else "complete")


def answered(options: Options) -> Judgement:
    """A good connection is good at any length."""
    return always(GOOD)


def judge(event: Event, options: Options) -> Judgement:
    """The outcome by the table."""
    return by_table(_TABLE, keys(event), options)
