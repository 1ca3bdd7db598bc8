"""Time to first token: did a streamed answer begin in time? From the call's begin to its first token.

Good: the first token came within `threshold`, and the stream ended as it should. Valid: streams; what is none is
excluded as `not_evaluable`. A client that left is excluded, unless no token had come within `threshold`.
Not seen: the pace after the first token, and the way from here to the client.
"""

from __future__ import annotations

from otelslo.event import Outcome
from otelslo.indicators import Options, http_keys
from otelslo.indicators import _pacing as pacing
from otelslo.stream import StreamFacts

KIND = "call"
STREAMED = True
OPTIONS = {"threshold": pacing.limit("500ms", required=True), "responses": pacing.RESPONSES}
RULES = pacing.table(
    pacing.slow("slow_ttft", "the first token came after its limit"),
    cancel="threshold",
    shed=Outcome("excluded", "shed"),
)


def _beyond(facts: StreamFacts, options: Options) -> str | None:
    return None if facts.first_ns is None or facts.first_ns <= options["threshold"] else "slow_ttft"


def _waited_ns(facts: StreamFacts) -> int:
    return facts.end_ns if facts.first_ns is None else facts.first_ns


_PACING = pacing.Pacing(RULES, _beyond, _waited_ns)
keys, keys_by = http_keys, _PACING.keys_by
answered, answered_by = pacing.answered, _PACING.answered_by
judge, check = _PACING.judge, pacing.nothing_to_check
