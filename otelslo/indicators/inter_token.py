"""Inter-token gaps: did a streamed answer flow without stalling? The gap from one item to the next.

Good: the largest gap (`gap: max`), or that percentile of the stream's gaps (`gap: p99`), is within `threshold`, and the
stream ended as it should. Valid: streams of two items or more; a single one is excluded as `not_evaluable`, as is what
is no stream. A client that left is excluded, unless nothing had come for `cancel_after`.
Not seen: the wait for the first token, and what one item holds: several tokens sent at once are one item. Of a stream
of more than 65,536 gaps, percentiles are those of the first ones; the largest is that of all.
"""

from __future__ import annotations

from otelslo.event import Outcome
from otelslo.indicators import Options, http_keys
from otelslo.indicators import _pacing as pacing
from otelslo.stream import StreamFacts

KIND = "call"
STREAMED = True
OPTIONS = {
    "threshold": pacing.limit("250ms", required=True),
    "gap": pacing.GAP,
    "cancel_after": pacing.CANCEL_AFTER,
    "responses": pacing.RESPONSES,
}
RULES = pacing.table(
    pacing.slow("stalled", "a gap between two items was longer than the limit"),
    pacing.SINGLE,
    cancel="cancel_after",
    shed=Outcome("excluded", "shed"),
)


def _beyond(facts: StreamFacts, options: Options) -> str | None:
    gap_ns = facts.gap_ns(options["gap"])
    if gap_ns is None:
        return "single"
    return None if gap_ns <= options["threshold"] else "stalled"


_PACING = pacing.Pacing(RULES, _beyond)
keys, keys_by = http_keys, _PACING.keys_by
answered, answered_by = pacing.answered, _PACING.answered_by
judge, check = _PACING.judge, pacing.nothing_to_check
