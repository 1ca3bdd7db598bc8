"""`budget_allows` in a request, beside the dict look-up that it is made of.

Subtracted from each: an empty loop. A no costs the reading of the clock besides: it may be too old.
"""

from __future__ import annotations

from typing import Any

from . import ours
from .harness import Contender, Plan, WrongCount, interleave
from .results import Results

NAMES = ("budget_allows_yes_ns", "budget_allows_no_ns", "dict_look_up_ns", "budget_allows_vs_dict_look_up")
NO = "refresh() if it('availability-0', at_least=1) else None"
KNOWN = {("availability-0", None, 0): True}


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    objectives = ours.slos(2, kind="call")
    with ours.engine(objectives) as engine:
        spent(engine)
        it = engine.budget_allows
        contenders = [
            Contender("yes", "it('latency-1')", {"it": it}),
            Contender("no", NO, {"it": it, "refresh": engine.housekeeping}),
            Contender("dict", "known['availability-0', None, 0]", {"known": KNOWN}),
            Contender("loop", "pass", {}),
        ]
        samples = interleave(contenders, plan)
        engine.housekeeping()
        if (it("latency-1"), it("availability-0", at_least=1)) != (True, False):
            raise WrongCount("budget_allows does not say yes and no")
        results.timing("budget_allows_yes_ns", samples, "yes", "loop", "2 SLOs asked")
        results.timing("budget_allows_no_ns", samples, "no", "loop", "answered anew each 5 s by the caller")
        results.timing("dict_look_up_ns", samples, "dict", "loop", "a tuple of three as the key")
        results.ratio("budget_allows_vs_dict_look_up", samples, ("yes", "loop"), ("dict", "loop"))


def spent(engine: Any) -> None:
    """One objective that has spent some of its budget and is asked for all of it, and one asked for any at all."""
    track = engine.track("recommender")
    for _ in range(100):
        engine.record(track, "good", 1_000)
    engine.record(track, "bad", 1_000)
    engine.budget_allows("latency-1")
    engine.budget_allows("availability-0", at_least=1)
    engine.housekeeping()
