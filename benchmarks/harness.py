"""How time is taken here: interleaved rounds on a machine that is never quiet.

Each round runs every contender for one short slice, in an order that rotates by round, so that a slow spell of the
machine falls on all of them. Quotients and differences are taken inside a round, and the median over the rounds is
the result, with its quartiles as spread. The garbage collector is off inside a slice (`timeit` does that) and runs
between rounds.
"""

from __future__ import annotations

import gc
import statistics
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter_ns, process_time_ns, thread_time_ns
from typing import Any


class Unavailable(Exception):
    """A peer or a tool is missing: what needs it is skipped, and that is no failure."""


class WrongCount(Exception):
    """A contender did not record what it was given, so its time means nothing."""


@dataclass(frozen=True)
class Plan:
    """How long to measure: rounds per comparison, the length of a slice, runs of each kind of process, simulations."""

    rounds: int
    slice_ns: int
    process_runs: int
    leader_s: int
    wrk_pairs: int
    wrk_s: int
    tail_pairs: int
    tail_s: int
    months: int
    incidents: int


FULL = Plan(
    rounds=41,
    slice_ns=20_000_000,
    process_runs=5,
    leader_s=60,
    wrk_pairs=9,
    wrk_s=4,
    tail_pairs=3,
    tail_s=30,
    months=50,
    incidents=50,
)
QUICK = Plan(
    rounds=9,
    slice_ns=4_000_000,
    process_runs=1,
    leader_s=4,
    wrk_pairs=5,
    wrk_s=1,
    tail_pairs=1,
    tail_s=2,
    months=2,
    incidents=5,
)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the rounds' values."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise one value per round. Raises ValueError without values."""
        if not values:
            raise ValueError("no round gave a value: the machine is too noisy, run again when it is quieter")
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))


class Contender:
    """A statement to time, with the names it uses; `calls` counts every execution, warm-up included."""

    def __init__(
        self,
        name: str,
        statement: str,
        names: Mapping[str, Any],
        events_per_call: int = 1,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.name = name
        self.statement = statement
        self.names = dict(names)
        self.calls = 0
        self._events_per_call = events_per_call
        self._timer = timeit.Timer(statement, globals=self.names, timer=clock)
        self._loops = 0

    def calibrate(self, slice_ns: int) -> None:
        """Warm up, and find how many calls fill a slice of slice_ns.

        The first calls, or one that was held up, may take a hundred times as long as the rest. A slice sized by them
        would be a few calls long and make its contender look slow: so the guess is repeated, and the largest stands.
        """
        loops = 1
        while (spent_ns := self._run(loops)) < slice_ns // 8:
            loops *= 2
        for _ in range(5):
            loops = max(loops, int(loops * slice_ns / spent_ns))
            spent_ns = self._run(loops)
        self._loops = loops

    def slice(self) -> float:
        """Time one slice, after a lead-in that is not timed; returns ns per event."""
        self._run(1 + self._loops // 8)
        return self._run(self._loops) / (self._loops * self._events_per_call)

    def _run(self, loops: int) -> int:
        self.calls += loops
        return int(self._timer.timeit(loops))


Samples = dict[str, list[float]]


def settle(window_ns: int = 20_000_000, at_most_ns: int = 2_000_000_000) -> None:
    """Spin until this process's other threads are quiet: numpy's, for one, burn a core for a while after the import."""
    deadline_ns = perf_counter_ns() + at_most_ns
    while perf_counter_ns() < deadline_ns:
        others_ns, until_ns = process_time_ns() - thread_time_ns(), perf_counter_ns() + window_ns
        while perf_counter_ns() < until_ns:
            pass
        if process_time_ns() - thread_time_ns() - others_ns < window_ns // 20:
            return


def interleave(contenders: Sequence[Contender], plan: Plan) -> Samples:
    """Time all contenders side by side; returns ns per event for each contender's name, one value per round."""
    samples: Samples = {contender.name: [] for contender in contenders}
    if len(samples) != len(contenders):
        raise ValueError("two contenders share a name: give each a name of its own")
    settle()
    for contender in contenders:
        contender.calibrate(plan.slice_ns)
    for turn in range(plan.rounds):
        gc.collect()
        first = turn % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            samples[contender.name].append(contender.slice())
    return samples


def minus(values: Sequence[float], overhead: Sequence[float]) -> list[float]:
    """Take off each round's own overhead."""
    return [value - cost for value, cost in zip(values, overhead, strict=True)]


def quotients(ours: Sequence[float], peer: Sequence[float]) -> list[float]:
    """ours / peer of each round. Raises ValueError when a fifth of the rounds drowned in noise (peer at or below 0)."""
    usable = [our / their for our, their in zip(ours, peer, strict=True) if their > 0]
    if len(usable) * 5 < len(peer) * 4:
        raise ValueError(
            f"only {len(usable)} of {len(peer)} rounds stood out of the noise: run again on a quieter machine"
        )
    return usable


def expect(name: str, counted: int | float | None, given: int, slack: int = 0) -> None:
    """Raise WrongCount unless the contender recorded every event that it was given, give or take `slack`."""
    if counted is None or abs(counted - given) > slack:
        raise WrongCount(f"{name}: was given {given} events and recorded {counted}: its time would mean nothing")


def shorter(plan: Plan, share: int) -> Plan:
    """The same plan with 1/share of its rounds (at least 5), for series of many comparisons."""
    return replace(plan, rounds=max(5, plan.rounds // share))
