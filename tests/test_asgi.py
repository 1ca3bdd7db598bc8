"""The ASGI edge, driven by hand: every line of the outcome table, exact to the nanosecond, and what the app says."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from asgi_steps import FAILS, MS, THRESHOLD_NS, answer, doing, outcome, saying, start
from drive import CHUNK, DISCONNECT, LAST, REQUEST, START, advance, cells, http_scope, run
from starlette.requests import ClientDisconnect

from otelslo import SLO
from otelslo.asgi import SLOMiddleware

CANCEL_AFTER_NS = 10_000 * MS


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
