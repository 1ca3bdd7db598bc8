"""Goodput: did a streamed answer keep every limit that was promised: `ttft`, `tpot`, `inter_token`, `e2e`?

Good: all limits that are given hold, and the stream ended as it should. Bad by the first that does not, in that order:
slow_ttft, slow_tpot, stalled, slow. Valid: streams; of a single token, the limits on pace hold. What is no stream is
excluded as `not_evaluable`. A client that left is excluded, unless nothing had come for `cancel_after`; a stream that
was dropped by the server, refused or broken is bad, so that dropping the slow ones gains nothing.
Not seen: the way to the client, and how good the answer was.
"""

from __future__ import annotations

from otelslo.errors import BadValue
from otelslo.event import Outcome
from otelslo.indicators import Options, http_keys
from otelslo.indicators import _pacing as pacing
from otelslo.stream import StreamFacts

KIND = "call"
STREAMED = True
_LIMITS = {"ttft": "300ms", "tpot": "100ms", "inter_token": "250ms", "e2e": "30s"}
OPTIONS = {
    **{key: pacing.limit(example) for key, example in _LIMITS.items()},
    "gap": pacing.GAP,
    "cancel_after": pacing.CANCEL_AFTER,
    "responses": pacing.RESPONSES,
}
RULES = pacing.table(
    pacing.slow("slow_ttft", "the first token came after its limit"),
    pacing.slow("slow_tpot", "its tokens took longer than the limit, on the mean"),
    pacing.slow("stalled", "a gap between two items was longer than the limit"),
    pacing.slow("slow", "it ended after the limit of end to end"),
    cancel="cancel_after",
    shed=Outcome("bad", "shed"),
)


def check(options: Options) -> None:
    """Raises BadValue: no limit is given."""
    if all(options[key] is None for key in _LIMITS):
        remedy = "Add ttft: 300ms, tpot: 100ms, inter_token: 250ms or e2e: 30s"
        raise BadValue("goodput without a limit is none", remedy)


def _beyond(facts: StreamFacts, options: Options) -> str | None:
    ttft_ns, tpot_ns, gap_ns, e2e_ns = (options[key] for key in _LIMITS)
    if ttft_ns is not None and facts.first_ns is not None and facts.first_ns > ttft_ns:
        return "slow_ttft"
    if tpot_ns is not None and not facts.tpot_within(tpot_ns):
        return "slow_tpot"
    if gap_ns is not None and (facts.gap_ns(options["gap"]) or 0) > gap_ns:
        return "stalled"
    return "slow" if e2e_ns is not None and facts.end_ns > e2e_ns else None


_PACING = pacing.Pacing(RULES, _beyond)
keys, keys_by = http_keys, _PACING.keys_by
answered, answered_by = pacing.answered, _PACING.answered_by
judge = _PACING.judge
