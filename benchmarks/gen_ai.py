"""What the gen_ai metrics add to a tracked call: one that returns, and a stream of ten tokens, which has three values.

Subtracted: the same call with the metrics off. Its two SLOs do not ask for the pace of streams, so that all of a
stream's pace is the metrics' doing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import ours
from .harness import Contender, Plan, expect, interleave
from .results import Results
from .track import function, generator

TOKENS = 10
FORMS: dict[str, tuple[Callable[..., Any], str]] = {
    "gen_ai_call_added_ns": (function, "it(1)"),
    "gen_ai_stream_added_ns": (generator, "for _ in it(tokens): pass"),
}
NAMES = (*FORMS,)


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    for name, (bare, statement) in FORMS.items():
        objectives = ours.slos(2, kind="call")
        with ours.engine(objectives, gen_ai=ours.gen_ai()) as engine, ours.engine(objectives) as plain:
            names = {"tokens": TOKENS}
            mine = Contender("on", statement, {**names, "it": ours.track(engine)(bare)})
            samples = interleave([mine, Contender("off", statement, {**names, "it": ours.track(plain)(bare)})], plan)
            for counted in ours.valid(engine, objectives):
                expect(name, counted, mine.calls)
        results.timing(name, samples, "on", "off", "2 SLOs on the call site")
