"""Wrapped and bare WSGI apps cannot be told apart, whatever they do and whatever fails in us; each is counted right.

2,000 random apps, 50,000 with OTELSLO_TORTURE=full. A failure tells its number, and OTELSLO_EDGES_SEED=number runs it
alone.
"""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any

import pytest
from drive import advance

from otelslo import SLO, Engine
from otelslo.wsgi import SLOMiddleware

from . import verdicts
from .asgi_play import Transcript
from .breaks import broken, forget
from .counting import APPS, Counted, differences, seeds
from .random_apps import ODD_LINES, ODDEST_ENVIRONS, wsgi_script
from .wsgi_play import WsgiPlay, WsgiScript

EDGES: dict[str, tuple[int, int, dict[str, Any]]] = {  # the first number, how many, arguments
    "plain": (0, APPS, {}),
    "routes": (1_000_000, APPS // 4, {"routes": ["/x", "/items/{id}"]}),
    "first byte": (2_000_000, APPS // 4, {"first_byte": True}),
    "twice": (3_000_000, APPS // 4, {}),
}
BROKEN = 50_000_000
pytestmark = pytest.mark.usefixtures("quiet_collector")


def wrapped_by(engine: Engine, name: str) -> tuple[SLOMiddleware, Any]:
    """The edge whose app is changed, and what the server calls."""
    edge = SLOMiddleware(None, engine=engine, **EDGES[name][2])  # type: ignore[arg-type]
    edge.start()
    outer = SLOMiddleware(edge, engine=engine) if name == "twice" else edge
    outer.start()
    return edge, outer


def run_both(
    given: WsgiScript, edge: SLOMiddleware, outer: Any, engine: Engine | None
) -> tuple[Transcript, Transcript]:
    """The same script bare and wrapped."""
    bare = WsgiPlay(given)
    wrapped = WsgiPlay(given, (lambda ns: advance(engine, ns=ns)) if engine is not None else None)
    edge.app = wrapped.app()
    return bare.run(bare.app()), wrapped.run(outer)


def expected(given: WsgiScript, seen: Transcript, first_byte: bool) -> list[list[str]] | None:
    """By the table; None where a status line or the environ is no one knows what."""
    if any(key == other and value is odd for key, value in given.changes for other, odd in ODDEST_ENVIRONS):
        return None
    if any(what == "started" and any(line is odd for odd in ODD_LINES) for what, _, line in seen.history):
        return None
    method = dict(given.changes).get("REQUEST_METHOD", "GET")
    request = verdicts.wsgi(seen.history, method, first_byte)
    return [[verdicts.availability(request)], [verdicts.latency(request)], []]


@pytest.mark.parametrize("name", EDGES)
def test_random_apps(lasting, name):
    """Equal to the last entry, nothing in flight, and one event each, as an oracle reads the table."""
    edge, outer = wrapped_by(lasting, name)
    counted = Counted(lasting)
    for seed in seeds(*EDGES[name][:2]):
        given = wsgi_script(seed)
        bare, wrapped = run_both(given, edge, outer, lasting)
        assert wrapped == bare, f"app {seed}: {differences(given, bare, wrapped)}"
        assert lasting.in_flight() == 0, f"app {seed}: {given}"
        more, table = counted.more(), expected(given, wrapped, name == "first byte")
        if table is not None:
            assert more == table, f"app {seed}: {given}\n" + "\n".join(map(str, wrapped.log))
        else:
            assert all(len(events) <= 1 for events in more), f"app {seed}: {given}"


@pytest.mark.parametrize("name", EDGES)
def test_random_apps_while_a_call_of_ours_fails(lasting, name):
    """Equal all the same; what could not be ended is all that may stay in flight."""
    edge, outer = wrapped_by(lasting, name)
    happened = set()
    for seed in seeds(BROKEN + EDGES[name][0], EDGES[name][1]):
        given, rng = wsgi_script(seed), random.Random(-seed)
        ours = rng.choice((edge, outer))
        forget(ours)
        before, faults = lasting.in_flight(), sum(lasting.faults().values())
        with pytest.MonkeyPatch.context() as patch:
            breaking = broken(rng, ours, patch)
            bare, wrapped = run_both(given, edge, outer, lasting)
        case = f"app {seed}, broken {breaking.name}"
        assert wrapped == bare, f"{case}: {differences(given, bare, wrapped)}"
        assert lasting.in_flight() - before in ((0, 1) if breaking.happened else (0,)), case
        if breaking.is_counted:
            assert sum(lasting.faults().values()) > faults, f"{case}: no fault is counted"
        happened |= {breaking.name} if breaking.happened else set()
    print(f"{name}: {len(happened)} calls failed: {', '.join(sorted(happened))}")


@pytest.mark.parametrize("seed", seeds(90_000_000, 60))
def test_an_engine_that_does_not_start(tmp_path, monkeypatch, seed):
    """Not even a ring to count that in: the app is served as if we were not there."""

    def fails() -> None:
        raise OSError("no ring")

    engine = Engine([SLO("availability")], state_dir=tmp_path, runner=False)
    monkeypatch.setattr(engine, "start", fails)
    edge = SLOMiddleware(None, engine=engine)  # type: ignore[arg-type]
    bare, wrapped = run_both(wsgi_script(seed), edge, edge, None)
    assert wrapped == bare, differences(wsgi_script(seed), bare, wrapped)


def test_an_app_that_keeps_its_start_response_is_not_kept(lasting):
    """An app that is a class does so; a ring of references would hold its files open until the collector comes."""

    class App:
        def __init__(self, environ: Any, start: Any) -> None:
            self.start = start
            made.append(weakref.ref(self))

        def __iter__(self) -> Any:
            self.start("200 OK", [])
            yield b"x"

    made: list[Any] = []
    edge = SLOMiddleware(App, engine=lasting)
    gc.disable()
    try:
        body = edge(WsgiScript().environ(), lambda *arguments: None)
        assert list(body) == [b"x"]
        body.close()
        del body
        assert made[0]() is None
    finally:
        gc.enable()
