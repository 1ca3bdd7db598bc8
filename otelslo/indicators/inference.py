"""Inference: did the model call return, and in time? Failures are told apart: of memory, framework, time, machine.

What happens to the request around the call is another objective's. What was returned may still be nonsense: only the
app can say so, by `otelslo.current().bad("nonsense")`.
"""

from __future__ import annotations

from typing import Any

from otelslo.errors import BadValue, shown
from otelslo.event import GOOD, Ending, Event, Judgement, Outcome, always
from otelslo.indicators import CASCADE, Option, Options, Rule, by_table, http_keys, rule
from otelslo.window import SECOND_NS, parse_positive_duration

KIND = "call"
COLD_START = "cold_start"
_SLOW = Outcome("bad", "slow")
_COLD = Outcome("excluded", COLD_START)
_EMPTY_BATCH = "empty_batch"


def _parse_cold_start(value: Any) -> str:
    if value not in ("count", "exclude"):
        raise BadValue(f"{shown(value)} says not what a cold start is", "Write count or exclude")
    return str(value)


def _parse_per(value: Any) -> str:
    if value not in ("call", "item"):
        raise BadValue(f"{shown(value)} says not what is counted", "Write call or item")
    return str(value)


OPTIONS = {
    "threshold": Option(parse_positive_duration, example="500ms"),
    "per": Option(_parse_per, default="call", example="item"),
    "cancel_after": Option(parse_positive_duration, default=10 * SECOND_NS, example="10s"),
    "cascade": Option(parse_positive_duration, default=60 * SECOND_NS, example="60s"),
    COLD_START: Option(_parse_cold_start, default="count", example="exclude"),
}


class _Patience(Rule):
    """A caller that went away had waited too long past the threshold, or past `cancel_after` where there is none."""

    __slots__ = ()

    def judgement(self, options: Options) -> Judgement:
        return Judgement(options["threshold"] or options["cancel_after"], self.within, self.beyond)


class _ColdStart(Rule):
    """A call that met a model not yet loaded: excluded if so asked, else one as any other."""

    __slots__ = ()

    def judgement(self, options: Options) -> Judgement:
        if options[COLD_START] == "exclude":
            return always(self.within)
        return answered(options)


class _Timed(Rule):
    """An answer, which without a threshold is good at any latency."""

    __slots__ = ()

    def judgement(self, options: Options) -> Judgement:
        return answered(options)


def _timed(key: str, happened: str) -> Rule:
    return _Timed(key, happened, GOOD, _SLOW, "threshold")


def _failed(key: str, happened: str) -> Rule:
    return rule(key, happened, Outcome("bad", key))


# The first bad reasons get the cells: with `crashed` just those that say who is to look at it, and "slow".
RULES = (
    _timed("complete", "the call returned"),
    _timed("1xx", "switched to another protocol"),
    _timed("2xx", "answered with success"),
    _timed("3xx", "answered with a redirect"),
    _failed("oom", "out of memory, on a device or the host"),
    _failed("framework_crash", "the model's framework or engine broke down"),
    _failed("timeout", "it gave up waiting for something"),
    _failed("infrastructure", "network, disk, or a worker process that died"),
    _failed("exception", "another exception"),
    _failed(CASCADE, "failed after an OOM had taken the engine down"),
    _failed("server_cancel", "cancelled by the server (shutdown, worker timeout)"),
    _failed("shed", "refused by our own shedding"),
    _Patience(
        "client_cancel",
        "the caller went away",
        Outcome("excluded", "client_cancel"),
        Outcome("bad", "abandoned"),
        "cancel_after",
    ),
    _failed("5xx", "answered with a server error"),
    _failed("no_response", "ended with no response at all"),
    _failed("cut", "the server cut the stream"),
    rule("client_error", "an exception that is surely the client's", Outcome("excluded", "client_error")),
    rule("4xx", "refused, a client error", Outcome("excluded", "client_error")),
    _ColdStart(COLD_START, "it met a model not yet loaded", _COLD, _COLD),
    rule(_EMPTY_BATCH, "it returned and had no item, where items are counted", Outcome("excluded", _EMPTY_BATCH)),
)
_TABLE = {line.key: line for line in RULES}


def keys_by(event: Event, options: Options) -> tuple[str, ...]:
    """`keys`, as far as the options make a difference of them; before them "empty_batch" where items are counted."""
    told = keys(event)
    if told[0] == COLD_START and options[COLD_START] == "count":
        told = told[1:]
    if event.batch == 0 and options["per"] == "item" and event.ending is Ending.COMPLETE:
        return (_EMPTY_BATCH, *told)
    return told


def keys(event: Event) -> tuple[str, ...]:
    """As of a request; before them "cold_start", of a cold call that returned or that its caller did not wait for."""
    own = http_keys(event)
    if event.cold and event.ending in (Ending.COMPLETE, Ending.CLIENT_CANCEL) and own[-1] not in ("4xx", "5xx"):
        return (COLD_START, *own)
    return own


def answered(options: Options) -> Judgement:
    """A good answer is good, up to the threshold if there is one."""
    return Judgement(options["threshold"], GOOD, GOOD if options["threshold"] is None else _SLOW)


def judge(event: Event, options: Options) -> Judgement:
    """The outcome by the table."""
    return by_table(_TABLE, keys_by(event, options), options)
