"""What `otelslo.track` adds to a call, by what is decorated; two SLOs on the call site.

Subtracted from each: the bare function, driven by the same statement in the same round. Of generators, one item of a
long stream; coroutines are stepped by hand, so that no event loop blurs what is added.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from . import ours
from .harness import Contender, Plan, expect, interleave
from .results import Results

ITEMS = 1000


def function(x: int) -> int:
    return x


async def coroutine(x: int) -> int:
    return x


def generator(items: int) -> Iterator[int]:
    yield from range(items)


async def async_generator(items: int) -> AsyncIterator[int]:
    for i in range(items):
        yield i


def drain(coroutine: Any) -> None:
    """Step a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return


async def consume(stream: AsyncIterator[int]) -> None:
    async for _ in stream:
        pass


FORMS: dict[str, tuple[Callable[..., Any], str, int]] = {
    "track_function_added_ns": (function, "it(1)", 1),
    "track_coroutine_added_ns": (coroutine, "drain(it(1))", 1),
    "track_generator_item_added_ns": (generator, "for _ in it(items): pass", ITEMS),
    "track_async_generator_item_added_ns": (async_generator, "drain(consume(it(items)))", ITEMS),
}
NAMES = (*FORMS, "track_with_ns")


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    for name, (bare, statement, items) in FORMS.items():
        objectives = ours.slos(2, kind="call")
        with ours.engine(objectives) as engine:
            names = {"drain": drain, "consume": consume, "items": ITEMS}
            mine = Contender("ours", statement, {**names, "it": ours.track(engine)(bare)}, items)
            samples = interleave([mine, Contender("bare", statement, {**names, "it": bare}, items)], plan)
            for counted in ours.valid(engine, objectives):
                expect(name, counted, mine.calls)
        results.timing(name, samples, "ours", "bare", "2 SLOs on the call site")
    _with(plan, results)


def _with(plan: Plan, results: Results) -> None:
    objectives = ours.slos(2, kind="call")
    with ours.engine(objectives) as engine:
        mine = Contender("ours", "with it: pass", {"it": ours.track(engine)})
        samples = interleave([mine, Contender("loop", "pass", {})], plan)
        for counted in ours.valid(engine, objectives):
            expect("with track", counted, mine.calls)
    results.timing("track_with_ns", samples, "ours", "loop", "2 SLOs on the call site")
