"""The only room that spells otelslo's API: engines made for measuring, in directories that are thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .harness import Unavailable

WINDOW = "30d"
WINDOW_NS = 30 * 86_400 * 10**9
BEGIN_END = "it.end(page, number, it.begin(page, number), plan)"


def slos(count: int, **match: str) -> list[Any]:
    """`count` SLOs that all match: availability and latency by turns, under names like "availability-0"."""
    from otelslo import SLO

    made = []
    for number in range(count):
        where = {"match": match} if match else {}
        if number % 2 == 0:
            made.append(SLO(name=f"availability-{number}", target="99.9%", window=WINDOW, **where))
        else:
            limit = {"indicator": "latency", "threshold": f"{200 + number}ms"}
            made.append(SLO(name=f"latency-{number}", target="95%", window=WINDOW, **limit, **where))
    return made


@contextmanager
def state_dir() -> Iterator[str]:
    """A state directory that vanishes afterwards."""
    with tempfile.TemporaryDirectory(prefix="otelslo-benchmark-") as path:
        yield path


@contextmanager
def engine(objectives: list[Any], **options: Any) -> Iterator[Any]:
    """A started engine without background thread, in a state directory of its own unless one is given."""
    from otelslo import Engine

    with ExitStack() as stack:
        if "state_dir" not in options:
            options["state_dir"] = stack.enter_context(state_dir())
        made = Engine(slos=objectives, **{"runner": False, **options})
        made.start()
        try:
            yield made
        finally:
            made.close()


def valid(engine: Any, objectives: list[Any]) -> list[int]:
    """How many valid events each SLO holds in its window."""
    return [engine.count(slo.name, WINDOW_NS).valid for slo in objectives]


def wrapped(app: Any, engine: Any) -> Any:
    """The app behind our ASGI middleware."""
    from otelslo.asgi import SLOMiddleware

    return SLOMiddleware(app, engine=engine)


def begin_end_names(engine: Any, track: Any) -> dict[str, Any]:
    """What BEGIN_END needs: the two compiled calls that an edge makes for each request."""
    return {"it": engine.kernels, "page": engine.page, "number": track.index, "plan": track.plans["good"]}


def manual_clock() -> Any:
    """A clock that only `advance(ns=...)` moves. Raises Unavailable where the library has none."""
    try:
        from otelslo.clock import ManualClock
    except ImportError as error:
        raise Unavailable(f"no otelslo.clock.ManualClock to fill 30 days with: {error}") from error
    return ManualClock()
