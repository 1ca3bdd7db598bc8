"""The ASGI edge is not felt: by requests among each other, by app and server, and when we fail ourselves."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import Counter

import pytest
from asgi_steps import FAILS, MS, THRESHOLD_NS, answer, broken, doing, start
from drive import (
    CHUNK,
    DISCONNECT,
    LAST,
    REQUEST,
    START,
    Request,
    advance,
    cells,
    http_scope,
    pause,
    run,
    serve,
    websocket_scope,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware
from otelslo.clock import ManualClock

# ── many at once ───────────────────────────────────────────────────────────────────────────────────────────────────
PROGRAMS = {
    "good": (pause, start(200), pause, CHUNK, pause, LAST, pause),
    "bad 5xx": (pause, start(500), pause, LAST),
    "bad exception": (start(200), pause, FAILS),
    "bad cut": (pause, start(200), pause, CHUNK, pause),
    "bad no_response": (pause, pause),
    "excluded client_error": (pause, start(404), pause, LAST, pause, FAILS),
    "bad other": ("bad", pause, start(200), pause, LAST),
}


async def program(scope, receive, send):
    for step in PROGRAMS[scope["program"]]:
        if step is pause:
            await pause()
        elif step == "bad":
            scope["otelslo"].bad(f"number {scope['number']}")
        elif isinstance(step, dict):
            await send(step)
        else:
            raise step


def test_interleaved_requests_equal_a_sequential_model(engine):
    """10,000 requests, 200 at a time, stepped in random order while the clock runs."""
    rng = random.Random(20261124)
    wrapped = SLOMiddleware(program, engine=engine)
    expected = {"availability": Counter(), "latency": Counter()}
    running, begun = [], 0
    state = None
    while begun < 10_000 or running:
        if begun < 10_000 and len(running) < 200:
            kind = rng.choice(list(PROGRAMS))
            scope = http_scope(f"/{begun}", program=kind, number=begun)
            running.append((Request(wrapped, scope), kind, engine.clock.ring_ns()))
            running[-1][0].step()
            begun += 1
            state = state or {key: value for key, value in vars(wrapped).items() if not isinstance(value, dict)}
        chosen = rng.randrange(len(running))
        request, kind, since = running[chosen]
        before = engine.in_flight()
        request.step()
        if request.done or engine.in_flight() < before:
            latency = engine.clock.ring_ns() - since
            expected["availability"][kind] += 1
            expected["latency"]["bad slow" if kind == "good" and latency > THRESHOLD_NS else kind] += 1
            request.finish()
            running[chosen] = running[-1]
            running.pop()
        advance(engine, ns=rng.randrange(2 * MS))
    for slo, counts in expected.items():
        assert cells(engine, slo) == dict(counts)
    assert engine.in_flight() == 0
    assert {key: value for key, value in vars(wrapped).items() if not isinstance(value, dict)} == state


def test_contextvars_pass_both_ways(engine):
    """What the server has set is seen by the app; a generator may be closed from another task than it was begun in."""
    var = contextvars.ContextVar("var", default="unset")
    generators = []

    async def body():
        try:
            yield b"a"
            yield b"b"
        finally:
            var.set("closed")

    async def app(scope, receive, send):
        assert var.get() == "server"
        var.set("app")
        await send(START)
        generators.append(body())
        await send(CHUNK | {"body": await anext(generators[-1])})
        await send(LAST)

    async def main():
        var.set("server")
        await serve(SLOMiddleware(app, engine=engine), http_scope())
        assert var.get() == "app"
        await asyncio.create_task(generators[0].aclose())
        assert var.get() == "app"

    asyncio.run(main())
    assert cells(engine, "availability") == {"good": 1}


def test_cancelled_tasks_stay_cancelled(engine):
    """At each await, in a real loop."""

    async def app(scope, receive, send):
        await receive()
        await asyncio.sleep(0)
        await send(START)
        await asyncio.sleep(0)
        await send(CHUNK)
        await asyncio.sleep(0)
        await send(LAST)

    async def one(turns):
        task = asyncio.create_task(serve(SLOMiddleware(app, engine=engine), http_scope()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (answer,) = await asyncio.gather(task, return_exceptions=True)
        return isinstance(answer, asyncio.CancelledError)

    cancelled = [asyncio.run(one(turns)) for turns in range(7)]
    never_begun = 1  # cancelled before its first step
    assert cells(engine, "availability") == {
        "bad server_cancel": sum(cancelled) - never_begun,
        "good": 7 - sum(cancelled),
    }
    assert sum(cancelled) > 3
    assert engine.in_flight() == 0


# ── transparency ───────────────────────────────────────────────────────────────────────────────────────────────────
MESSAGES = [
    *(start(status) for status in (100, 103, 200, 404, 500)),
    *(LAST, CHUNK, {"type": "http.response.pathsend", "path": "/f"}, {"type": "http.response.trailers"}),
    *({"type": "http.response.start"}, {"type": "http.response.start", "status": "200"}, {}, {"type": None}),
    {"type": "http.response.start", "status": 1 << 80},
]
STEPS = st.one_of(
    st.sampled_from(MESSAGES).map(lambda message: ("send", message)),
    st.sampled_from(["receive", "pause", "swallow"]).map(lambda what: (what, None)),
    st.sampled_from([RuntimeError, OSError, asyncio.CancelledError, SystemExit, KeyError]).map(lambda e: ("raise", e)),
)
APPS = st.tuples(
    st.lists(STEPS, max_size=8),
    st.lists(st.sampled_from([REQUEST, REQUEST | {"more_body": True}, DISCONNECT, {}]), max_size=3),
    st.sets(st.integers(0, 4), max_size=2),
)


def transcript(wrap, steps, incoming, send_fails, kind):
    """All that a server and an app can see of each other."""
    seen = []

    async def app(scope, receive, send):
        swallows = False
        for what, argument in steps:
            try:
                if what == "send":
                    seen.append(("sent", await send(argument)))
                elif what == "receive":
                    seen.append(("received", await receive()))
                elif what == "pause":
                    await pause()
                elif what == "swallow":
                    swallows = True
                else:
                    raise argument(what)
            except Exception as e:
                seen.append(("raised", type(e), e.args))
                if not swallows:
                    raise

    scope = http_scope() if kind == "http" else websocket_scope()
    request = Request(wrap(app), scope, incoming, send_fails)
    request.finish()
    if not request.done:
        request.step(asyncio.CancelledError("shutdown"))
    error = request.error
    return seen, request.sent, [id(m) for m in request.sent], request.incoming, error and (type(error), error.args)


@pytest.fixture(scope="module")
def lasting_engine(tmp_path_factory):
    directory = tmp_path_factory.mktemp("transparency")
    slos = [SLO("a"), SLO("l", indicator="latency", threshold="200ms"), SLO("w", indicator="websocket")]
    with Engine(slos, state_dir=directory / "s", clock=ManualClock(), runner=False) as engine:
        yield engine


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_app=APPS, kind=st.sampled_from(["http", "websocket"]))
def test_wrapped_and_bare_cannot_be_told_apart(lasting_engine, given_app, kind):
    bare = transcript(lambda app: app, *given_app, kind)
    wrapped = transcript(lambda app: SLOMiddleware(app, engine=lasting_engine), *given_app, kind)
    assert wrapped == bare
    assert lasting_engine.in_flight() == 0


def forget(edge):
    """Have the edge look every request up anew."""
    edge._by_path.clear()
    edge._sites._sites.clear()


BREAKS = {
    "begin": lambda edge, patch: patch.setattr(edge, "_kernel_begin", broken),
    "end": lambda edge, patch: patch.setattr(edge, "_kernel_end", broken),
    "look-up": lambda edge, patch: [forget(edge), patch.setattr(edge._sites, "find", broken)],
    "track": lambda edge, patch: [forget(edge), patch.setattr(edge.engine, "track_for", broken)],
    "plan": lambda edge, patch: patch.setattr(edge.engine, "plan_for", broken),
    "site": lambda edge, patch: [forget(edge), patch.setattr(edge._sites, "_site", broken)],
    "strings": lambda edge, patch: patch.setattr(edge.engine.names, "string", broken),
    "histograms": lambda edge, patch: patch.setattr(edge.engine.names, "histogram_of", broken),
    "rows": lambda edge, patch: [patch.setattr(o, "entries", broken) for o in edge.engine.objectives],
}


@pytest.mark.parametrize("name", BREAKS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_app=APPS)
def test_our_own_faults_reach_no_request(lasting_engine, name, given_app):
    """Whatever call of ours fails: the same answers, and a fault is counted."""
    bare = transcript(lambda app: app, *given_app, "http")
    before = sum(lasting_engine.faults().values())
    open_before = lasting_engine.in_flight()
    lasting_engine.forget_plans()
    with pytest.MonkeyPatch.context() as patch:

        def wrap(app):
            edge = SLOMiddleware(app, engine=lasting_engine)
            edge._start(http_scope())
            BREAKS[name](edge, patch)
            return edge

        wrapped = transcript(wrap, *given_app, "http")
    assert wrapped == bare
    assert sum(lasting_engine.faults().values()) > before
    if name != "end":
        assert lasting_engine.in_flight() == open_before


def test_an_engine_that_cannot_start_turns_itself_off(make_engine, monkeypatch, caplog):
    """The app is served, and may still say things to its exchange; the reason is logged once."""
    engine = make_engine(SLO("a"))
    monkeypatch.setattr(engine, "start", broken)

    async def app(scope, receive, send):
        scope["otelslo"].bad("nobody listens")
        scope["otelslo"].set(version="2")
        await send(START)
        await send(LAST)

    wrapped = SLOMiddleware(app, engine=engine)
    for _ in range(3):
        request = run(wrapped)
        assert request.error is None
        assert request.sent == [START, LAST]
    run(wrapped, websocket_scope())
    assert [record.message for record in caplog.records] == ["otelslo is off in this process: a fault of ours"]
    assert cells(engine, "a") == {}


def test_unattached_requests_are_faults(engine, monkeypatch):
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine)
    run(wrapped)
    monkeypatch.setattr(engine, "attach", lambda: False)
    monkeypatch.setattr(wrapped, "_kernel_begin", lambda page, track: 0)
    assert run(wrapped).sent == [START, LAST]
    assert cells(engine, "availability") == {"good": 1}
    assert engine.faults() == {"not_attached": 1}


def test_a_status_that_is_no_integer_is_a_fault_of_ours_alone(engine):
    """It cannot be stored; the request has ended all the same."""
    run(SLOMiddleware(doing(engine, (start(1 << 80), LAST), 0), engine=engine))
    assert engine.faults() == {"internal": 1}
    assert engine.in_flight() == 0
