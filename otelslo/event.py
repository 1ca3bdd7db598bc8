"""What happened, as an edge reports it, and what an indicator makes of it: the words between edges and objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple

from otelslo.labelled import Labelled
from otelslo.models import Known
from otelslo.stream import StreamFacts

OutcomeKind = Literal["good", "bad", "excluded"]
OUTCOME_KINDS: tuple[OutcomeKind, ...] = ("good", "bad", "excluded")
# What edges report; and what is measured beside them: a probe, a sample of a gauge, a prediction that met its label.
EDGE_KINDS = ("http", "websocket", "call")
EVENT_KINDS = (*EDGE_KINDS, "probe", "sample", "prediction")
UNTIMED = ("sample",)  # events without a latency, and so without a histogram
# What kinds of failure an exception can be, the worst first, and their names in rules: see `otelslo.failure`.
FAILURES = ("oom", "framework_crash", "timeout", "infrastructure", "client_error", "cancelled")

NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class Ending(StrEnum):
    """How an event ended; the value is its name in rules."""

    COMPLETE = "complete"
    EXCEPTION = "exception"
    CUT = "cut"
    NO_RESPONSE = "no_response"
    SERVER_CANCEL = "server_cancel"
    CLIENT_CANCEL = "client_cancel"
    SHED = "shed"


class Outcome(NamedTuple):
    """One of the three, and why."""

    kind: OutcomeKind
    reason: str


GOOD = Outcome("good", "good")


class Judgement(NamedTuple):
    """What an event is, but for its latency: `within` up to and at the threshold, `beyond` above it.

    The compiled core makes that last comparison, so a judgement can be remembered and used for many requests.
    """

    threshold_ns: int | None
    within: Outcome
    beyond: Outcome

    def outcome(self, latency_ns: int | None) -> Outcome:
        """The outcome at this latency; an unknown latency is not a good one, and counts as beyond."""
        if self.threshold_ns is None or (latency_ns is not None and latency_ns <= self.threshold_ns):
            return self.within
        return self.beyond


def always(outcome: Outcome) -> Judgement:
    """The judgement that no latency changes."""
    return Judgement(None, outcome, outcome)


def _no_header(name: str) -> str | None:
    return None


Facts = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One finished request, connection or call.

    `route` is the template ("/items/{id}") or the name of a call site, None if none matched; `exception` its class's
    name; `verdict` what the app itself said, such as ("bad", "nonsense"); `header(name)` a request header by its
    name in lower case. `failure` is the kind of failure that the exception is, one of FAILURES, None if it is not told
    apart, and of a probe or a sample what was found wrong; `cascaded`: it follows from an OOM that took the engine
    down; `cold`: the call met a model not yet loaded.
    `stream` is the pace of a streamed answer, None if it was none or nobody asks; `labelled` a prediction that has met
    its label, of events of the kind "prediction" alone; `known` what is known of model versions as it ends, None where
    no objective asks for it; `finding` what was found of a closed window of drift. `batch` is how many items it answers
    at once and `payload_bytes` how much it took in, None where nobody has said.
    """

    kind: str
    ending: Ending = Ending.COMPLETE
    route: str | None = None
    method: str = ""
    host: str = ""
    status: int | None = None
    exception: str | None = None
    latency_ns: int | None = None
    attributes: Mapping[str, str] = field(default_factory=lambda: NO_ATTRIBUTES)
    verdict: tuple[str, str] | None = None
    header: Callable[[str], str | None] = _no_header
    failure: str | None = None
    cascaded: bool = False
    cold: bool = False
    stream: StreamFacts | None = None
    labelled: Labelled | None = None
    known: Known | None = None
    finding: str | None = None
    batch: int | None = None
    payload_bytes: int | None = None

    @property
    def latency_s(self) -> float | None:
        """Seconds, for display and for a user's predicate; None if not measured."""
        return None if self.latency_ns is None else self.latency_ns / 1_000_000_000

    @property
    def facts(self) -> Facts:
        """All that a judgement without user code, streams or batches depends on, whatever the latency: equal facts,
        equal judgement, until what is known of model versions changes it.

        The host is not among them: no rule reads it, and its client chooses it, so it must not be the key of a memo.
        """
        failed = (self.exception, self.failure, self.cascaded, self.cold)
        return (self.kind, self.route, self.method, self.status, self.ending.value, self.verdict, failed)
