"""Time per output token: did a streamed answer go on fast enough, on the mean? (last - first) / (tokens - 1).

Good: that mean is within `threshold`, and the stream ended as it should. Valid: streams of two items or more; a single
one is excluded as `not_evaluable`, as is what is no stream. A client that left is excluded, unless nothing had come
for `cancel_after`.
Not seen: a stall, which a mean evens out (see `inter_token`), the wait for the first token, and a slow client: whoever
takes items late makes them come late.
"""

from __future__ import annotations

from otelslo.event import Outcome
from otelslo.indicators import Options, http_keys
from otelslo.indicators import _pacing as pacing
from otelslo.stream import StreamFacts

KIND = "call"
STREAMED = True
OPTIONS = {
    "threshold": pacing.limit("50ms", required=True),
    "cancel_after": pacing.CANCEL_AFTER,
    "responses": pacing.RESPONSES,
}
RULES = pacing.table(
    pacing.slow("slow_tpot", "its tokens took longer than the limit, on the mean"),
    pacing.SINGLE,
    cancel="cancel_after",
    shed=Outcome("excluded", "shed"),
)


def _beyond(facts: StreamFacts, options: Options) -> str | None:
    if not facts.has_gaps:
        return "single"
    return None if facts.tpot_within(options["threshold"]) else "slow_tpot"


_PACING = pacing.Pacing(RULES, _beyond)
keys, keys_by = http_keys, _PACING.keys_by
answered, answered_by = pacing.answered, _PACING.answered_by
judge, check = _PACING.judge, pacing.nothing_to_check
