"""Wrapped and bare ASGI apps cannot be told apart, whatever they do and whatever fails in us; each is counted right.

2,000 random apps of each kind, 50,000 with OTELSLO_TORTURE=full. A failure tells its number, and
OTELSLO_EDGES_SEED=number runs that one alone.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from drive import advance

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware

from . import verdicts
from .asgi_play import Play, Script, Transcript
from .breaks import broken, forget
from .counting import APPS, Counted, differences, seeds
from .random_apps import UNTOLD, is_garbled, script

EDGES: dict[str, tuple[int, int, dict[str, Any]]] = {  # the first number, how many, arguments
    "plain": (0, APPS, {}),
    "routes": (1_000_000, APPS // 4, {"routes": ["/x", "/ws", "/items/{id}"]}),
    "first byte": (2_000_000, APPS // 4, {"first_byte": True}),
    "twice": (3_000_000, APPS // 4, {}),
}
BROKEN = 50_000_000


def wrapped_by(engine: Engine, name: str) -> tuple[SLOMiddleware, Any]:
    """The edge whose app is changed, and what the server calls."""
    edge = SLOMiddleware(None, engine=engine, **EDGES[name][2])  # type: ignore[arg-type]
    edge._start({"type": "http"})
    outer = SLOMiddleware(edge, engine=engine) if name == "twice" else edge
    outer._start({"type": "http"})
    return edge, outer


def run_both(given: Script, edge: SLOMiddleware, outer: Any, engine: Engine | None) -> tuple[Transcript, Transcript]:
    """The same script bare and wrapped."""
    bare = Play(given)
    wrapped = Play(given, (lambda ns: advance(engine, ns=ns)) if engine is not None else None)
    edge.app = wrapped.app()
    return bare.run(bare.app()), wrapped.run(outer)


def expected(given: Script, seen: Transcript, first_byte: bool) -> list[list[str]] | None:
    """By the table; None where a message or the scope is no one knows what."""
    if any(key == other and value is odd for key, value in given.changes for other, odd in UNTOLD):
        return None
    if any(what == "sent" and is_garbled(thing) for what, _, thing in seen.history):
        return None
    if given.kind == "http":
        request = verdicts.http(seen.history, first_byte)
        return [[verdicts.availability(request)], [verdicts.latency(request)], []]
    if given.kind == "websocket":
        return [[], [], [verdicts.websocket(seen.history)]]
    return [[], [], []]


@pytest.mark.parametrize("name", EDGES)
def test_random_apps(lasting, name):
    """Equal to the last entry, nothing in flight, and one event each, as an oracle reads the table."""
    edge, outer = wrapped_by(lasting, name)
    counted = Counted(lasting)
    for seed in seeds(*EDGES[name][:2]):
        given = script(seed)
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
        given, rng = script(seed), random.Random(-seed)
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
    bare, wrapped = run_both(script(seed), edge, edge, None)
    assert wrapped == bare, differences(script(seed), bare, wrapped)


def test_faults_that_cannot_be_logged(lasting, monkeypatch):
    """A handler or filter of the app's logging may raise; that is not to be felt by a request."""

    def fails(*arguments: Any, **named: Any) -> None:
        raise ValueError("the app's own handler")

    monkeypatch.setattr("otelslo.faults.log.error", fails)
    monkeypatch.setattr("otelslo.faults.log.exception", fails)
    edge, outer = wrapped_by(lasting, "plain")
    for seed in seeds(95_000_000, APPS // 10):
        given = script(seed)
        lasting.own_faults._said.clear()
        forget(edge)
        with pytest.MonkeyPatch.context() as patch:
            breaking = broken(random.Random(-seed), edge, patch)
            bare, wrapped = run_both(given, edge, outer, lasting)
        assert wrapped == bare, f"app {seed}, broken {breaking.name}: {differences(given, bare, wrapped)}"


GONE = (("receive",), ("receive",))


@pytest.mark.parametrize(
    "steps",
    [
        (("try", (*GONE, ("raise", "KeyError")), "Exception", (("raise", "kept from itself"),)),),
        (*GONE, ("raise", "Unspeakable")),
        (*GONE, ("raise", "Unfathomable")),
        (("try", (*GONE, ("raise", "Unfathomable")), "Exception", (("raise", "from kept"),)),),
    ],
)
def test_exceptions_that_are_hard_to_look_at(lasting, steps):
    """After the client has left: their own cause, without a text or a truth value."""
    edge, outer = wrapped_by(lasting, "plain")
    counted = Counted(lasting)
    given = Script(steps, incoming=({"type": "http.request"}, {"type": "http.disconnect"}))
    bare, wrapped = run_both(given, edge, outer, lasting)
    assert wrapped == bare
    assert counted.more()[0] == ["bad exception"]
