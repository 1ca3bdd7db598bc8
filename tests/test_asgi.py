"""The ASGI edge, driven by hand: every line of the outcome table, exact to the nanosecond, and nothing touched."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import Counter
from dataclasses import dataclass

import pytest
from drive import (
    CHUNK,
    DISCONNECT,
    LAST,
    REQUEST,
    START,
    Request,
    advance,
    cells,
    groups,
    http_scope,
    pause,
    run,
    serve,
    websocket_scope,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware
from otelslo.clock import ManualClock
from otelslo.errors import DefinitionError

MS = 1_000_000
THRESHOLD_NS = 200 * MS
CANCEL_AFTER_NS = 10_000 * MS


def start(status):
    return START | {"status": status}


@dataclass
class Case:
    """What an app does (messages to send, exceptions to raise, "receive"), and what it is worth.

    `fast` and `slow` are the outcomes for latency at the threshold and one nanosecond above it.
    """

    name: str
    does: tuple
    availability: str
    fast: str
    slow: str
    incoming: tuple = (REQUEST,)
    send_fails: tuple = ()
    method: str = "GET"


def answer(*statuses):
    return (*map(start, statuses), LAST)


FAILS = RuntimeError("boom")
GONE = (REQUEST, DISCONNECT)
READS = ("receive", "receive")


def both(name, does, outcome, **more):
    """A case that the latency does not change."""
    return Case(name, does, outcome, outcome, outcome, **more)


CASES = [
    *[Case(f"{s}", answer(s), "good", "good", "bad slow") for s in (200, 201, 204, 206, 301, 304, 399)],
    Case("103 then 200", answer(103, 200), "good", "good", "bad slow"),
    Case("100, 103, 304", answer(100, 103, 304), "good", "good", "bad slow"),
    Case("101", answer(101), "good", "good", "bad slow"),
    both("103 then 500", answer(103, 500), "bad 5xx"),
    *[both(f"{s}", answer(s), "bad 5xx") for s in (500, 501, 502, 503, 504, 599, 600, 999)],
    *[both(f"{s}", answer(s), "excluded unauthorised") for s in (401, 403)],
    *[both(f"{s}", answer(s), "excluded client_error") for s in (400, 404, 405, 418, 429, 499)],
    both("exception before start", (FAILS,), "bad exception"),
    both("exception after start", (start(200), FAILS), "bad exception"),
    both("exception in the body", (start(200), CHUNK, FAILS), "bad exception"),
    both("exception after a 404's start", (start(404), FAILS), "bad exception"),
    Case("exception after the last body", (*answer(200), FAILS), "good", "good", "bad slow"),
    both("cut", (start(200), CHUNK), "bad cut"),
    both("only a start", (start(200),), "bad cut"),
    both("no response", (), "bad no_response"),
    both("only an interim answer", (start(103),), "bad no_response"),
    both("cancelled before start", (asyncio.CancelledError(),), "bad server_cancel"),
    both("cancelled in the body", (start(200), CHUNK, asyncio.CancelledError()), "bad server_cancel"),
    both("interpreter exits", (SystemExit(1),), "bad server_cancel"),
    Case("streams", (start(200), CHUNK, CHUNK, LAST), "good", "good", "bad slow"),
    Case("head", answer(200), "good", "good", "bad slow", method="HEAD"),
    Case("sends a file", (start(200), {"type": "http.response.pathsend", "path": "/f"}), "good", "good", "bad slow"),
    Case(
        "sends a descriptor in two parts",
        (
            start(200),
            {"type": "http.response.zerocopysend", "file": 3, "more_body": True},
            {"type": "http.response.zerocopysend", "file": 3},
        ),
        "good",
        "good",
        "bad slow",
    ),
    Case(
        "trailers",
        (start(200) | {"trailers": True}, LAST, {"type": "http.response.trailers", "headers": []}),
        "good",
        "good",
        "bad slow",
    ),
    Case(
        "pushes and debug information",
        ({"type": "http.response.push"}, {"type": "http.response.debug", "info": {}}, *answer(200)),
        "good",
        "good",
        "bad slow",
    ),
]
LEFT = {
    "returns without a word": (READS, GONE, ()),
    "returns in the body": ((start(200), CHUNK, *READS), GONE, ()),
    "raises what says so": ((*READS, ClientDisconnect()), GONE, ()),
    "raises that in the body": ((start(200), CHUNK, *READS, ClientDisconnect()), GONE, ()),
    "raises several": ((*READS, ExceptionGroup("two", [ClientDisconnect(), ClientDisconnect()])), GONE, ()),
    "answers all the same": ((*READS, *answer(200)), GONE, ()),
    "answers with an error": ((*READS, *answer(500)), GONE, ()),
    "is cancelled": ((*READS, asyncio.CancelledError()), GONE, ()),
    "send of the start fails": (answer(200), (REQUEST,), (0,)),
    "send of a chunk fails": ((start(200), CHUNK, CHUNK, LAST), (REQUEST,), (1,)),
    "send of the last body fails": (answer(200), (REQUEST,), (1,)),
}


def doing(engine, steps, ns):
    """An app that takes `ns` before its first step, and does the rest in no time."""

    async def app(scope, receive, send):
        advance(engine, ns=ns)
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            await (receive() if step == "receive" else send(step))

    return app


def outcome(engine, slo):
    (found,) = cells(engine, slo).items()
    assert found[1] == 1
    return found[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("over", [0, 1])
def test_the_outcome_table(engine, case, over):
    """At the threshold, and a nanosecond above it."""
    wrapped = SLOMiddleware(doing(engine, case.does, THRESHOLD_NS + over), engine=engine)
    run(wrapped, http_scope(method=case.method), case.incoming, case.send_fails)
    assert outcome(engine, "availability") == case.availability
    assert outcome(engine, "latency") == (case.slow if over else case.fast)
    assert engine.in_flight() == 0
    assert engine.faults() == {}


@pytest.mark.parametrize(("does", "incoming", "send_fails"), list(LEFT.values()), ids=list(LEFT))
@pytest.mark.parametrize(
    ("ns", "availability", "latency"),
    [
        (THRESHOLD_NS, "excluded client_cancel", "excluded client_cancel"),
        (THRESHOLD_NS + 1, "excluded client_cancel", "bad abandoned"),
        (CANCEL_AFTER_NS, "excluded client_cancel", "bad abandoned"),
        (CANCEL_AFTER_NS + 1, "bad abandoned", "bad abandoned"),
    ],
)
def test_the_client_goes_away(engine, does, incoming, send_fails, ns, availability, latency):
    """Before and after it had waited for long; nothing that the app does then is its own failure."""
    run(SLOMiddleware(doing(engine, does, ns), engine=engine), None, incoming, send_fails)
    assert outcome(engine, "availability") == availability
    assert outcome(engine, "latency") == latency
    assert engine.in_flight() == 0


@pytest.mark.parametrize("error", [FAILS, ConnectionRefusedError(), ExceptionGroup("", [ClientDisconnect(), FAILS])])
@pytest.mark.parametrize("steps", [(*READS,), (start(200), CHUNK, *READS)])
def test_a_client_that_left_hides_no_failure(engine, steps, error):
    """In an outage the impatient leave first: an exception of the app's own is one, whoever still waits for it."""
    run(SLOMiddleware(doing(engine, (*steps, error), 0), engine=engine), None, GONE)
    assert outcome(engine, "availability") == "bad exception"
    assert outcome(engine, "latency") == "bad exception"


def test_a_client_that_left_unseen_hides_no_failure(engine):
    """An app that never asked cannot have failed because of it, or else hanging up would hide every exception."""
    run(SLOMiddleware(doing(engine, (FAILS,), 0), engine=engine), None, (DISCONNECT,))
    assert cells(engine, "availability") == {"bad exception": 1}


def test_receive_is_never_called_by_us(engine):
    """What the app leaves unread is left for others."""
    for does in ((FAILS,), (start(200),), (), (asyncio.CancelledError(),)):
        assert run(SLOMiddleware(doing(engine, does, 0), engine=engine)).incoming == [REQUEST]


def test_background_work_is_not_the_users_wait(engine):
    async def app(scope, receive, send):
        await send(START)
        await send(LAST)
        assert engine.in_flight() == 0
        advance(engine, s=60)

    run(SLOMiddleware(app, engine=engine))
    assert cells(engine, "latency") == {"good": 1}


def test_an_app_may_swallow_its_failing_send(engine):
    async def app(scope, receive, send):
        try:
            await send(START)
        except OSError:
            return

    run(SLOMiddleware(app, engine=engine), None, (REQUEST,), (0,))
    assert cells(engine, "availability") == {"excluded client_cancel": 1}


def test_an_os_error_of_the_apps_own_is_an_exception(engine):
    run(SLOMiddleware(doing(engine, (FileNotFoundError("f"),), 0), engine=engine))
    assert cells(engine, "availability") == {"bad exception": 1}


# ── what the app says ──────────────────────────────────────────────────────────────────────────────────────────────
def saying(engine, status, *says, ns=0):
    async def app(scope, receive, send):
        for name, arguments in says:
            getattr(scope["otelslo"], name)(*arguments)
        advance(engine, ns=ns)
        await send(start(status))
        await send(LAST)

    return SLOMiddleware(app, engine=engine)


@pytest.mark.parametrize(
    ("status", "says", "availability", "latency"),
    [
        (200, [("bad", ["nonsense"])], "bad other", "bad other"),
        (500, [("good", [])], "good", "good"),
        (200, [("exclude", ["warm_up"])], "excluded other", "excluded other"),
        (503, [("shed", [])], "bad shed", "excluded shed"),
        (429, [("shed", [])], "bad shed", "excluded shed"),
        (500, [("shed", [])], "bad 5xx", "bad 5xx"),
        (200, [("shed", [])], "good", "good"),
        (503, [], "bad 5xx", "bad 5xx"),
        (429, [], "excluded client_error", "excluded client_error"),
        (200, [("bad", ["nonsense"]), ("good", [])], "good", "good"),
        (503, [("shed", []), ("exclude", ["drill"])], "excluded other", "excluded other"),
    ],
)
def test_the_apps_word(engine, status, says, availability, latency):
    """Also where a request of the same status, without a word, has been remembered before."""
    run(saying(engine, status))
    before = cells(engine, "availability"), cells(engine, "latency")
    run(saying(engine, status, *says))
    run(saying(engine, status))
    for slo, expected, old in zip(("availability", "latency"), (availability, latency), before, strict=True):
        assert Counter(cells(engine, slo)) == Counter({key: 2 * n for key, n in old.items()}) + Counter([expected])


def test_a_good_word_is_no_faster(engine):
    run(saying(engine, 200, ("good", []), ns=THRESHOLD_NS + 1))
    assert (cells(engine, "availability"), cells(engine, "latency")) == ({"good": 1}, {"bad slow": 1})


def test_declared_reasons_have_cells(make_engine):
    engine = make_engine(SLO("a", reasons=["nonsense"]))
    run(saying(engine, 200, ("bad", ["nonsense"])))
    assert cells(engine, "a") == {"bad nonsense": 1}


def test_shedding_that_fails_is_an_exception(engine):
    async def app(scope, receive, send):
        scope["otelslo"].shed()
        await send(start(503))
        raise FAILS

    run(SLOMiddleware(app, engine=engine))
    assert cells(engine, "availability") == {"bad exception": 1}


def test_what_is_said_after_the_last_body_is_too_late(engine):
    async def app(scope, receive, send):
        await send(START)
        await send(LAST)
        scope["otelslo"].bad("late")
        scope["otelslo"].set(version="late")

    run(SLOMiddleware(app, engine=engine))
    assert cells(engine, "availability") == {"good": 1}


# ── scopes ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_wrapped_twice_is_counted_once(engine):
    app = doing(engine, answer(200), 0)
    run(SLOMiddleware(SLOMiddleware(app, engine=engine), engine=engine))
    assert cells(engine, "availability") == {"good": 1}


@pytest.mark.parametrize("kind", ["http3", "webtransport", "", "x" * 1000])
def test_unknown_scopes_pass(engine, kind):
    """Nothing of ours in them, and what they raise is theirs."""
    seen = []

    async def app(scope, receive, send):
        seen.append((dict(scope), receive, send))
        raise FAILS

    request = run(SLOMiddleware(app, engine=engine), {"type": kind})
    assert request.error is FAILS
    assert seen == [({"type": kind}, request._receive, request._send)]
    assert cells(engine, "availability") == {}


@pytest.mark.parametrize("fails", [False, True])
def test_lifespan_passes(engine, fails):
    async def app(scope, receive, send):
        assert "otelslo" not in scope
        assert await receive() == {"type": "lifespan.startup"}
        if fails:
            await send({"type": "lifespan.startup.failed", "message": "no"})
            raise FAILS
        await send({"type": "lifespan.startup.complete"})

    request = run(SLOMiddleware(app, engine=engine), {"type": "lifespan"}, [{"type": "lifespan.startup"}])
    assert request.error is (FAILS if fails else None)
    assert [message["type"] for message in request.sent] == [f"lifespan.startup.{'failed' if fails else 'complete'}"]


def test_lifespan_that_is_not_understood(engine):
    """The usual way of an app without one is to raise; then servers go on without."""

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send(START)
        await send(LAST)

    wrapped = SLOMiddleware(app, engine=engine)
    assert isinstance(run(wrapped, {"type": "lifespan"}, [{"type": "lifespan.startup"}]).error, AssertionError)
    run(wrapped)
    assert cells(engine, "availability") == {"good": 1}


# ── websockets ─────────────────────────────────────────────────────────────────────────────────────────────────────
CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
TEXT = {"type": "websocket.send", "text": "x"}
CLOSED = {"type": "websocket.disconnect", "code": 1001}


def close(code):
    return {"type": "websocket.close", "code": code}


def denial(status):
    return (
        {"type": "websocket.http.response.start", "status": status, "headers": []},
        {"type": "websocket.http.response.body", "body": b""},
    )


@pytest.mark.parametrize(
    ("does", "incoming", "send_fails", "expected"),
    [
        (("receive", ACCEPT, TEXT, close(1000)), (CONNECT,), (), "good"),
        (("receive", ACCEPT, TEXT), (CONNECT,), (), "good"),
        (("receive", ACCEPT, {"type": "websocket.close"}), (CONNECT,), (), "good"),
        (("receive", ACCEPT, {"type": "websocket.close", "code": None}), (CONNECT,), (), "good"),
        (("receive", ACCEPT, close(4001)), (CONNECT,), (), "good"),
        (("receive", ACCEPT, "receive"), (CONNECT, CLOSED), (), "good"),
        (("receive", ACCEPT, "receive", WebSocketDisconnect()), (CONNECT, CLOSED), (), "good"),
        (("receive", ACCEPT, "receive", FAILS), (CONNECT, CLOSED), (), "bad exception"),
        (("receive", ACCEPT, "receive", asyncio.CancelledError()), (CONNECT, CLOSED), (), "good"),
        (("receive", ACCEPT, TEXT, TEXT), (CONNECT,), (1,), "good"),
        (("receive", ACCEPT, "receive", close(1011)), (CONNECT, CLOSED), (), "good"),
        (("receive", ACCEPT, close(1000), FAILS), (CONNECT,), (), "good"),
        *[
            (("receive", ACCEPT, close(code)), (CONNECT,), (), "bad closed_by_error")
            for code in (1011, 1012, 1013, 1014)
        ],
        (("receive", ACCEPT, FAILS), (CONNECT,), (), "bad exception"),
        (("receive", FAILS), (CONNECT,), (), "bad exception"),
        (("receive", ACCEPT, asyncio.CancelledError()), (CONNECT,), (), "bad server_cancel"),
        (("receive",), (CONNECT,), (), "bad no_response"),
        (("receive", close(1000)), (CONNECT,), (), "excluded unauthorised"),
        (("receive", *denial(401)), (CONNECT,), (), "excluded unauthorised"),
        (("receive", *denial(404)), (CONNECT,), (), "excluded client_error"),
        (("receive", *denial(500)), (CONNECT,), (), "bad 5xx"),
        (("receive", denial(403)[0]), (CONNECT,), (), "bad cut"),
        (("receive", "receive"), (CONNECT, CLOSED), (), "excluded client_cancel"),
        (("receive", "receive", FAILS), (CONNECT, CLOSED), (), "bad exception"),
        (("receive", "receive", WebSocketDisconnect()), (CONNECT, CLOSED), (), "excluded client_cancel"),
    ],
)
def test_websockets(make_engine, does, incoming, send_fails, expected):
    """An indicator of their own; they are no requests."""
    engine = make_engine(SLO("w", indicator="websocket"), SLO("a"))
    request = run(SLOMiddleware(doing(engine, does, 0), engine=engine), websocket_scope(), incoming, send_fails)
    assert outcome(engine, "w") == expected
    assert cells(engine, "a") == {}
    assert engine.in_flight() == 0
    assert request.done


def test_a_request_cannot_pose_as_a_websocket(make_engine):
    """Whatever its method is called."""
    engine = make_engine(SLO("w", indicator="websocket"), SLO("a"))
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine, routes=["/x"])
    for method in ("WEBSOCKET", "websocket", ""):
        run(wrapped, http_scope(method=method))
    assert (cells(engine, "w"), cells(engine, "a")) == ({}, {"good": 3})


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


def broken(*_arguments, **_more):
    raise ZeroDivisionError("a fault of ours")


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
    "rows": lambda edge, patch: [patch.setattr(o, "entry", broken) for o in edge.engine.objectives],
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


# ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_wrong_configuration_fails_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("otelslo.default._engine", [])
    monkeypatch.setenv("OTELSLO_CONFIG", str(tmp_path / "missing.yaml"))
    with pytest.raises(DefinitionError, match=r"missing\.yaml"):
        SLOMiddleware(doing(None, (), 0))


@pytest.mark.parametrize("routes", ["/x", ["x"], [1], ["/ok", ""]])
def test_wrong_templates_are_refused(engine, routes):
    with pytest.raises(DefinitionError, match="no route template"):
        SLOMiddleware(doing(engine, (), 0), engine=engine, routes=routes)


def test_the_default_engine_is_the_process_own(tmp_path, monkeypatch):
    """Without any configuration: one availability objective over everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTELSLO_CONFIG", raising=False)
    monkeypatch.setattr("otelslo.default._engine", [])

    async def app(scope, receive, send):
        await send(START)
        await send(LAST)

    edge = SLOMiddleware(app)
    try:
        run(edge)
        (status,) = edge.engine.status()
        assert (status.slo, status.to_json()["target"], status.to_json()["window"]) == ("availability", "99.9%", "30d")
        assert (status.counts.good, status.group) == (1, None)
        assert (tmp_path / ".otelslo" / "live.ring").exists()
    finally:
        edge.engine.close()


def test_nothing_is_compiled_or_opened_in_a_request_once_started(engine, monkeypatch):
    """The lifespan does it."""
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine)
    run(wrapped, {"type": "lifespan"}, [])
    monkeypatch.setattr(engine, "start", broken)
    monkeypatch.setattr("otelslo.kernels.ring.compile_kernel", broken)
    run(wrapped)
    assert cells(engine, "availability") == {"good": 1}


# ── declared routes, groups, hosts, headers ────────────────────────────────────────────────────────────────────────
def test_declared_routes(make_engine):
    engine = make_engine(SLO("a", group_by="route"))
    routes = ["/items/new", "/items/{id}", "/files/{path:path}", "/a.b"]
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine, routes=routes)
    for path in ("/items/new", "/items/7", "/items/7/8", "/files/a/b", "/a.b", "/axb", "/items/9"):
        run(wrapped, http_scope(path))
    assert groups(engine, "a") == {
        "route=/items/new": {"good": 1},
        "route=/items/{id}": {"good": 2},
        "route=/files/{path:path}": {"good": 1},
        "route=/a.b": {"good": 1},
        "(unknown)": {"good": 2},
    }


def test_groups_that_the_app_makes_come_late(make_engine):
    """In overflow until housekeeping has made their row; past the cap they stay there."""
    engine = make_engine(SLO("a", group_by="version", max_groups=2))

    async def app(scope, receive, send):
        scope["otelslo"].set(version=scope["path"][1:])
        await send(START)
        await send(LAST)

    wrapped = SLOMiddleware(app, engine=engine)
    for _ in range(2):
        for version in ("v1", "v2", "v3"):
            run(wrapped, http_scope(f"/{version}"))
        engine.housekeeping()
    assert groups(engine, "a") == {
        "(overflow)": {"good": 4},
        "version=v1": {"good": 1},
        "version=v2": {"good": 1},
    }


def test_undeclared_values_stay_in_overflow(make_engine):
    engine = make_engine(SLO("a", group_by="version", group_values={"version": ["v1"]}))
    for version in ("v1", "v2", "v1", "x" * 300):
        run(saying(engine, 200))
        wrapped = saying(engine, 200)

        async def app(scope, receive, send, version=version, inner=wrapped.app):
            scope["otelslo"].set(version=version)
            await inner(scope, receive, send)

        run(SLOMiddleware(app, engine=engine))
        engine.housekeeping()
    assert groups(engine, "a") == {"(unknown)": {"good": 4}, "(overflow)": {"good": 3}, "version=v1": {"good": 1}}


def test_attributes_win_over_the_engines_own(make_engine):
    engine = make_engine(SLO("a", group_by=["version", "tier"]), version="v0")

    async def app(scope, receive, send):
        scope["otelslo"].set(tier="gold")
        if scope["path"] == "/new":
            scope["otelslo"].set(version="v1")
        await send(START)
        await send(LAST)

    wrapped = SLOMiddleware(app, engine=engine)
    for _ in range(2):
        run(wrapped, http_scope("/old"))
        run(wrapped, http_scope("/new"))
        engine.housekeeping()
    assert groups(engine, "a") == {
        "(overflow)": {"good": 2},
        "version=v0,tier=gold": {"good": 1},
        "version=v1,tier=gold": {"good": 1},
    }


def test_unknown_methods_are_one(make_engine):
    engine = make_engine(SLO("a", group_by="method"), SLO("posts", match={"method": "POST"}))
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine, routes=["/x"])
    for method in ["POST", *(f"M{i}" for i in range(1000)), "post"]:
        run(wrapped, http_scope(method=method))
        engine.housekeeping()
    assert cells(engine, "posts") == {"good": 1}
    assert groups(engine, "a") == {
        "(overflow)": {"good": 2},
        "method=_OTHER": {"good": 1000},
    }
    assert len(wrapped._sites._paths) < 20


def test_host_match(make_engine):
    engine = make_engine(SLO("shop", match={"host": "*.shop.example"}), SLO("a"))
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine)
    for host in ("www.shop.example", "WWW.SHOP.EXAMPLE:8080", "shop.example", "evil.example", ""):
        run(wrapped, http_scope(headers={"host": host} if host else {}))
    assert cells(engine, "shop") == {"good": 2}
    assert cells(engine, "a") == {"good": 5}


def test_a_crash_of_a_hosts_request_is_booked_on_the_hosts_objective(make_engine):
    engine = make_engine(SLO("shop", match={"host": "shop.example"}), SLO("a"))

    async def app(scope, receive, send):
        await pause()

    wrapped = SLOMiddleware(app, engine=engine)
    requests = [Request(wrapped, http_scope(headers={"host": host})) for host in ("shop.example", "other.example")]
    for request in requests:
        request.step()
    engine.ring.blocks.detach()
    engine.ring.blocks.attach()
    assert cells(engine, "shop") == {"bad crashed": 1}
    assert cells(engine, "a") == {"bad crashed": 2}


def test_one_shot_headers_are_the_apps_to_read(make_engine):
    engine = make_engine(SLO("shop", match={"host": "shop.example"}))
    read = []

    async def app(scope, receive, send):
        read.extend(scope["headers"])

    run(SLOMiddleware(app, engine=engine), http_scope() | {"headers": iter([(b"host", b"shop.example")])})
    assert read == [(b"host", b"shop.example")]


SPOOFS = {
    "user-agent": "kube-probe/1.30",
    "x-otelslo-exclude": "1",
    "k-ignore-metrics": "true",
    "x-health-check": "1",
    "x-synthetic": "1",
    "x-probe": "0",
    "baggage": "slo.outcome=excluded",
    "traceparent": "00-" + "f" * 32 + "-b7ad6b7169203331-01",
}


def test_a_client_cannot_exclude_itself(make_engine):
    """Only the header that the operator named, with the value that was named; health checks go by route."""
    engine = make_engine(SLO("a"), SLO("probed", exclude=[{"name": "probe", "header": "x-probe", "equals": "1"}]))
    wrapped = SLOMiddleware(doing(engine, answer(500), 0), engine=engine, routes=["/x", "/healthz"])
    for key, value in SPOOFS.items():
        run(wrapped, http_scope(headers={key: value}))
    run(wrapped, http_scope("/healthz/../x"))
    run(wrapped, http_scope(headers={"x-probe": "1"}))
    n = len(SPOOFS) + 1
    assert cells(engine, "a") == {"bad 5xx": n + 1}
    assert cells(engine, "probed") == {"bad 5xx": n, "excluded probe": 1}
    run(wrapped, http_scope("/healthz"))
    assert cells(engine, "a") == {"bad 5xx": n + 1, "excluded health_check": 1}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        ("00-" + "f" * 32 + "-b7ad6b7169203331-00", "f" * 32),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", ""),
        ("00-" + "g" * 32 + "-b7ad6b7169203331-01", ""),
        ("00-0af7-b7ad6b7169203331-01", ""),
        ("\x00", ""),
        ("-" * 100_000, ""),
        ("é" * 40, ""),
    ],
)
def test_losses_carry_trace_ids(engine, header, expected):
    """Of a well-formed header; any other is no trace and no harm."""
    scope = http_scope() | {"headers": [(b"traceparent", header.encode())]}
    run(SLOMiddleware(doing(engine, (FAILS,), 0), engine=engine), scope)
    losses, _ = engine.ring.reader.losses(0)
    assert [loss.reason for loss in losses] == ["exception", "exception"]
    assert losses[-1].trace_id == expected
    assert engine.faults() == {}


def test_every_objectives_loss_carries_the_trace_id(engine):
    headers = {"traceparent": "00-" + "a" * 32 + "-b7ad6b7169203331-01"}
    run(SLOMiddleware(doing(engine, (FAILS,), 0), engine=engine), http_scope(headers=headers))
    losses, _ = engine.ring.reader.losses(0)
    assert [loss.trace_id for loss in losses] == ["a" * 32] * 2


def test_groups_by_host(make_engine):
    """Of the declared hosts."""
    engine = make_engine(SLO("a", group_by="host", group_values={"host": ["shop.example"]}))
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine)
    for host in ("shop.example", "evil.example"):
        run(wrapped, http_scope(headers={"host": host}))
    engine.housekeeping()
    run(wrapped, http_scope(headers={"host": "shop.example"}))
    assert groups(engine, "a") == {"host=shop.example": {"good": 1}, "(overflow)": {"good": 2}}
