"""What one call is worth to the metrics: pure, whole numbers, by the conventions' rules.

A server's time to first token and time per output token are of successful responses only, which hides the failed ones:
the objectives of streams count those as bad.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from otelslo.event import Ending, Event
from otelslo.genai.instruments import (
    OPERATION_DURATION,
    REQUEST_DURATION,
    SERVER,
    TIME_PER_OUTPUT_CHUNK,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_CHUNK,
    TIME_TO_FIRST_TOKEN,
    TOKEN_USAGE,
    Instrument,
)
from otelslo.stream import StreamFacts

OTHER_ERROR = "_OTHER"
Usage = tuple[int | None, int | None]  # input and output tokens, as the app told them


class Measured(NamedTuple):
    """Values of one metric; `error` is its error.type, `token` its gen_ai.token.type, None for none."""

    instrument: Instrument
    values: tuple[int, ...]
    error: str | None = None
    token: str | None = None


def measured(side: str, event: Event, usage: Usage | None) -> list[Measured]:
    """What a call counts in the metrics of that side."""
    stream, failure = _stream_of(event), error_type(event)
    duration_ns = event.latency_ns if stream is None else stream.end_ns
    found = []
    if duration_ns is not None:
        duration = REQUEST_DURATION if side == SERVER else OPERATION_DURATION
        found.append(Measured(duration, (duration_ns,), failure))
    if side != SERVER:
        found += _chunks(stream) + _tokens(usage)
    elif stream is not None and failure is None:
        found += _pace(stream, usage)
    return found


def error_type(event: Event) -> str | None:
    """error.type: the exception's class, the status of a refusal or failure, how else it ended; None if it did well."""
    if event.ending is Ending.EXCEPTION:
        return event.exception or OTHER_ERROR
    if event.status is not None and event.status >= 400:
        return str(event.status)
    return None if event.ending is Ending.COMPLETE else event.ending.value


def _stream_of(event: Event) -> StreamFacts | None:
    stream = event.stream
    return stream if stream is not None and (stream.event_stream or event.kind != "http") else None


def _pace(stream: StreamFacts, usage: Usage | None) -> list[Measured]:
    """(end - first token) / (tokens - 1), rounded up to whole ns, which leaves it in its exact bucket."""
    if stream.first_ns is None:
        return []
    told = None if usage is None else usage[1]
    later = (stream.tokens if told is None else told) - 1
    found = [Measured(TIME_TO_FIRST_TOKEN, (stream.first_ns,))]
    if later > 0:
        found.append(Measured(TIME_PER_OUTPUT_TOKEN, (-((stream.first_ns - stream.end_ns) // later),)))
    return found


def _chunks(stream: StreamFacts | None) -> list[Measured]:
    if stream is None or stream.first_ns is None:
        return []
    found = [Measured(TIME_TO_FIRST_CHUNK, (stream.first_ns,))]
    gaps = tuple(later - earlier for earlier, later in pairwise(stream.arrivals))
    return [*found, Measured(TIME_PER_OUTPUT_CHUNK, gaps)] if gaps else found


def _tokens(usage: Usage | None) -> list[Measured]:
    told = zip(("input", "output"), usage or (None, None), strict=True)
    return [Measured(TOKEN_USAGE, (count,), token=kind) for kind, count in told if count is not None]
