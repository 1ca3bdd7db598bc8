"""What the indicators of streams have in common: the lines of their tables, and how an ending and a pace become keys.

A stream that has failed is bad by its ending, one that its client cancelled is excluded, and what has nothing that
could be judged is excluded as `not_evaluable`, so that it is seen. A response is a stream if it is a text/event-stream,
or with `responses: streamed` any that comes in several messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from otelslo.errors import BadValue, shown
from otelslo.event import GOOD, Ending, Event, Judgement, Outcome, always
from otelslo.indicators import Option, Options, Rule, by_table, http_keys, rule
from otelslo.stream import StreamFacts
from otelslo.window import SECOND_NS, parse_positive_duration

NOT_EVALUABLE = Outcome("excluded", "not_evaluable")
EVENT_STREAM, STREAMED = "event-stream", "streamed"
_CANCELLED = Outcome("excluded", "client_cancel")
_ABANDONED = Outcome("bad", "abandoned")
_PERCENTILE = re.compile(r"p([0-9]{2}(?:\.[0-9]{1,3})?)")
_GAP_REMEDY = "Write max, or a percentile of a stream's gaps: p50 to p99.9"


def parse_gap(value: object) -> Fraction | None:
    """The share of a stream's gaps that must be within the limit; None: the largest. Raises BadValue."""
    if value == "max":
        return None
    form = _PERCENTILE.fullmatch(value) if isinstance(value, str) else None
    share = Fraction(form[1]) / 100 if form else Fraction(0)
    if not Fraction(1, 2) <= share <= Fraction(999, 1000):
        raise BadValue(f"{shown(value)} is no choice of gap", _GAP_REMEDY)
    return share


def parse_responses(value: object) -> str:
    """Which HTTP responses are streams. Raises BadValue."""
    if value not in (EVENT_STREAM, STREAMED):
        raise BadValue(f"{shown(value)} is no kind of response", f"Write {EVENT_STREAM} or {STREAMED}")
    return str(value)


RESPONSES = Option(parse_responses, default=EVENT_STREAM, example=EVENT_STREAM)
GAP = Option(parse_gap, default=None, example="max")
CANCEL_AFTER = Option(parse_positive_duration, default=10 * SECOND_NS, example="10s")


def table(*paces: Rule, cancel: str, shed: Outcome) -> tuple[Rule, ...]:
    """The table of an indicator: the lines of its own first, then those of all.

    Args:
        cancel: the option after which a client that waits and leaves was let down.
    """
    left = "the client cancelled it, by how long it had waited"
    return (
        rule("complete", "the stream ended as it should, within its limits", GOOD),
        *paces,
        rule("empty", "the stream ended without a single token", Outcome("bad", "empty")),
        rule("exception", "an exception broke it, before or after the first token", Outcome("bad", "exception")),
        Rule("client_cancel", left, _CANCELLED, _ABANDONED, cancel),
        rule("cut", "the server cut the stream", Outcome("bad", "cut")),
        rule("5xx", "answered with a server error", Outcome("bad", "5xx")),
        rule("plain", "no stream: a call that returned at once, another response", NOT_EVALUABLE),
        rule("shed", "refused by our own shedding of load", shed),
        rule("server_cancel", "cancelled by the server (shutdown, worker timeout)", Outcome("bad", "server_cancel")),
        rule("no_response", "ended with no response at all", Outcome("bad", "no_response")),
        rule("4xx", "refused, another client error", Outcome("excluded", "client_error")),
        rule("401", "refused, not authenticated", Outcome("excluded", "unauthorised")),
        rule("403", "refused, not allowed", Outcome("excluded", "unauthorised")),
    )


SINGLE = rule("single", "a single token, which has no pace", NOT_EVALUABLE)


def stream_of(event: Event, options: Options) -> StreamFacts | None:
    """The facts of an event that is a stream to this objective."""
    facts = event.stream
    if facts is None or (event.kind == "http" and not facts.event_stream and options["responses"] == EVENT_STREAM):
        return None
    return facts


@dataclass(frozen=True, eq=False)
class Pacing:
    """How an indicator of streams judges: by its table, and by what the pace is beyond.

    Args:
        beyond: the key of the limit that a stream with tokens is beyond, "single", or None.
        waited_ns: how long a client that left had waited for what is promised; beyond the option of the line
            "client_cancel" it was let down.
    """

    rules: tuple[Rule, ...]
    beyond: Callable[[StreamFacts, Options], str | None]
    waited_ns: Callable[[StreamFacts], int] = StreamFacts.silence_ns

    def keys_by(self, event: Event, options: Options) -> tuple[str, ...]:
        """What the pace of a stream that ended well makes of it, or "empty" or "plain", then its ending's keys."""
        keys = http_keys(event)
        if event.ending is not Ending.COMPLETE or keys[-1] in ("4xx", "5xx"):
            return keys
        facts = stream_of(event, options)
        if facts is None:
            return ("plain", *keys)
        pace = "empty" if facts.items == 0 else self.beyond(facts, options)
        return keys if pace is None else (pace, *keys)

    def judge(self, event: Event, options: Options) -> Judgement:
        """The outcome by the table and the pace."""
        line, facts = self.lines["client_cancel"], stream_of(event, options)
        if event.ending is Ending.CLIENT_CANCEL and facts is not None and line.option is not None:
            return always(line.within if self.waited_ns(facts) <= options[line.option] else line.beyond)
        return by_table(self.lines, self.keys_by(event, options), options)

    def answered_by(self, event: Event, options: Options) -> Judgement:
        """What an answer that someone calls good is worth: good, if its pace is or it has none."""
        facts = stream_of(event, options)
        pace = None if facts is None or facts.items == 0 else self.beyond(facts, options)
        return always(GOOD if pace is None or pace == SINGLE.key else self.lines[pace].within)

    @cached_property
    def lines(self) -> dict[str, Rule]:
        """The table by key."""
        return {line.key: line for line in self.rules}


def answered(options: Options) -> Judgement:
    """Without the stream at hand, a good answer is good at any latency."""
    return always(GOOD)


def slow(reason: str, happened: str) -> Rule:
    """The line of a pace that is beyond its limit, under its reason as key."""
    return rule(reason, happened, Outcome("bad", reason))


def limit(example: str, *, required: bool = False) -> Option:
    """A limit in time."""
    return Option(parse_positive_duration, required=required, example=example)


def nothing_to_check(options: Options) -> None:
    """For a member whose options are right together if each is."""
