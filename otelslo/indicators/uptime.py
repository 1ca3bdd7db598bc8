"""Uptime: did the server answer a probe, as expected and in time? What real requests got is another objective's.

One probe at a time is sent to each URL, from this host, by whoever leads (see `otelslo.probing`); each is one event.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from otelslo.endpoint import host_header, http_url, port_of
from otelslo.errors import BadValue, DefinitionError, Place, shown
from otelslo.event import GOOD, Ending, Event, Judgement, Outcome
from otelslo.indicators import Option, Options, Rule, by_table, http_keys, rule
from otelslo.match import import_name, resolve
from otelslo.window import HOUR_NS, SECOND_NS, format_duration, parse_positive_duration

KIND = "probe"
LOSS_CLASS = "infrastructure"
OWN_EVENTS = True

# What a probe finds wrong, as `Event.failure`.
REFUSED, TIMEOUT, STATUS, WRONG_BODY = "refused", "timeout", "status", "wrong_body"
TLS, DNS, NO_RESPONSE, PROBE_ERROR = "tls", "dns", "no_response", "probe_error"
_SLOW = Outcome("bad", "slow")

HEADER = "otelslo-probe"  # that a probe's request can be told by
_URL_EXAMPLE = "http://127.0.0.1:8000/healthz"
_SHORTEST_EVERY_NS = 2 * SECOND_NS
_MARGIN_NS = SECOND_NS  # whoever leads looks once a second, so a probe may begin that late
_LONGEST_BODY = 1000
_STATUS = re.compile(r"[1-5][0-9][0-9]|[1-5]xx")
_STATUS_REMEDY = "Write a status such as 200, a class such as 2xx, or a list of them"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a probe goes: `text` as it was written, which may hold a password, and its parts."""

    text: str
    url: SplitResult
    port: int

    @property
    def host(self) -> str:
        return self.url.hostname or ""

    @property
    def shown(self) -> str:
        """Without user, password and query."""
        return f"{self.url.scheme}://{host_header(self.url)}{self.url.path}"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Called:
    """A function instead of a URL; its name is what the objective's meaning knows it by."""

    function: Callable[[], Any]

    def __str__(self) -> str:
        return import_name(self.function)


@dataclass(frozen=True, slots=True)
class Statuses:
    """Statuses that are an answer as expected: numbers and classes, as they were written."""

    words: tuple[str, ...]

    def __contains__(self, status: int) -> bool:
        return str(status) in self.words or f"{status // 100}xx" in self.words

    def __str__(self) -> str:
        return ",".join(self.words)


def parse_url(value: Any) -> Target:
    """An http, https or tcp URL. Raises BadValue, which does not quote it: there may be a password in it."""
    if not isinstance(value, str):
        raise BadValue(f"{shown(value)} is no URL", f"Write one, such as {_URL_EXAMPLE}")
    text = value.strip()
    if text.startswith("tcp://"):
        target = _tcp(text)
    else:
        url = http_url(text, f"{_URL_EXAMPLE} or tcp://127.0.0.1:6379")
        target = Target(text, url, port_of(url))
    try:
        target.host.encode("idna")
    except UnicodeError:
        raise BadValue("its host cannot be a name", f"Write a URL such as {_URL_EXAMPLE}") from None
    return target


def _tcp(text: str) -> Target:
    problem = BadValue("it is no tcp URL", "Write host and port, such as tcp://127.0.0.1:6379")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise problem from None
    if not url.hostname or not port or url.path or url.query or "@" in url.netloc or not text.isascii():
        raise problem
    return Target(text, url, port)


def parse_call(value: Any) -> Called:
    """A function without arguments, or its import path. Raises BadValue."""
    try:
        return Called(resolve(value, Place("call")))
    except DefinitionError as refused:
        raise BadValue(refused.problem, refused.remedy) from refused.__cause__


def parse_expect(value: Any) -> Statuses:
    """200, "2xx", "200,204" or a list. Raises BadValue."""
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    found = [str(word).strip() for word in words]
    if not found or not all(_STATUS.fullmatch(word) for word in found):
        raise BadValue(f"{shown(value)} is no status", _STATUS_REMEDY)
    return Statuses(tuple(dict.fromkeys(found)))


def parse_body(value: Any) -> str:
    """A text that the answer must hold. Raises BadValue."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_BODY:
        raise BadValue(f"{shown(value)} is no text to look for", f'Write one of up to {_LONGEST_BODY} letters: "ready"')
    return value


def parse_every(value: Any) -> int:
    """How often, in ns. Raises BadValue."""
    every_ns = parse_positive_duration(value)
    if not _SHORTEST_EVERY_NS <= every_ns <= HOUR_NS:
        raise BadValue(f"every {format_duration(every_ns)} is out of range", "Write 2s to 1h; 10s is usual")
    return every_ns


OPTIONS = {
    "url": Option(parse_url, example=_URL_EXAMPLE),
    "call": Option(parse_call, example="gc:isenabled"),
    "every": Option(parse_every, default=10 * SECOND_NS, example="10s"),
    "timeout": Option(parse_positive_duration, default=2 * SECOND_NS, example="2s"),
    "expect": Option(parse_expect, example="200"),
    "body": Option(parse_body, example="ready", free=True),
    "threshold": Option(parse_positive_duration, example="500ms"),
}
USUAL = Statuses(("2xx", "3xx"))


class _Timed(Rule):
    """An answer as expected, which without a threshold is good at any latency."""

    __slots__ = ()

    def judgement(self, options: Options) -> Judgement:
        return answered(options)


def _wrong(key: str, happened: str) -> Rule:
    return rule(key, happened, Outcome("bad", key))


# The first bad reasons have the cells; the last of them share "other".
RULES: tuple[Rule, ...] = (
    _Timed("complete", "answered as expected", GOOD, _SLOW, "threshold"),
    _wrong(REFUSED, "nobody listens there, or no way leads there"),
    _wrong(TIMEOUT, "no answer within the timeout"),
    _wrong(STATUS, "answered with another status than expected, or the function said no"),
    _wrong(WRONG_BODY, "the answer lacks the text that it should hold"),
    _wrong(TLS, "no encrypted connection came about"),
    _wrong(DNS, "its name was not found"),
    _wrong(NO_RESPONSE, "hung up without a whole answer, or answered no HTTP"),
    _wrong(PROBE_ERROR, "the probe itself failed, or its function raised"),
)
_TABLE = {line.key: line for line in RULES}


def check(options: Options) -> None:
    """Raises BadValue: these options make no probe together."""
    every_ns, timeout_ns, threshold_ns = options["every"], options["timeout"], options["threshold"]
    if (options["url"] is None) == (options["call"] is None):
        raise BadValue("a probe asks either a url or a function", f"Write url: {_URL_EXAMPLE}")
    is_http = options["url"] is not None and options["url"].url.scheme != "tcp"
    for key in ("expect", "body"):
        if options[key] is not None and not is_http:
            raise BadValue(f"{key} has a meaning only for an http or https url", "Leave it out")
    if timeout_ns > every_ns - _MARGIN_NS:
        problem = f"a timeout of {format_duration(timeout_ns)} leaves no time until the next probe"
        most = format_duration(every_ns - _MARGIN_NS)
        raise BadValue(problem, f"Write a timeout of {most} at most, or a longer every")
    if threshold_ns is not None and threshold_ns > timeout_ns:
        problem = f"a threshold of {format_duration(threshold_ns)} is longer than the timeout"
        raise BadValue(problem, f"Write {format_duration(timeout_ns)} at most, or a longer timeout")


def measures(options: Options) -> str:
    """What is asked, how often; without the password of a URL."""
    asked = options["url"].shown if options["url"] is not None else options["call"]
    return f"{asked}, every {format_duration(options['every'])}, timeout {format_duration(options['timeout'])}"


def keys(event: Event) -> tuple[str, ...]:
    """What was found wrong; before "status" the status and its class; of an answer as expected "200", "2xx" and
    "complete"."""
    if event.ending is Ending.COMPLETE and event.failure in (None, STATUS):
        return (*(http_keys(event) if event.status is not None else ()), event.failure or Ending.COMPLETE.value)
    return (event.failure or PROBE_ERROR,)


def answered(options: Options) -> Judgement:
    """An answer as expected is good, up to the threshold if there is one."""
    return Judgement(options["threshold"], GOOD, GOOD if options["threshold"] is None else _SLOW)


def judge(event: Event, options: Options) -> Judgement:
    """The outcome by the table; an answer is as expected unless the probe found something wrong with it."""
    return by_table(_TABLE, keys(event), options)
