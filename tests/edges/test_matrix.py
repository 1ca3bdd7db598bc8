"""Every case of the matrix by the outcome table, and OpenTelemetry's middleware beside it: `pytest -s` prints a table.

Nothing is asserted of OpenTelemetry but that it has run. `table()` gives the text, for the docs.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from drive import CHUNK, LAST, START, Request, advance, cells, http_scope, pause

import otelslo
from otelslo import SLO
from otelslo.asgi import SLOMiddleware
from otelslo.wsgi import SLOMiddleware as WsgiMiddleware

from .asgi_play import Play
from .calls import CALLS, Call
from .cases import CASES, WEBSOCKETS, Case
from .otel_peer import Peer, Recorded
from .verdicts import THRESHOLD_NS
from .wsgi_play import WsgiPlay

EDGES: dict[str, Any] = {"asgi": SLOMiddleware, "wsgi": WsgiMiddleware}
ID = [f"{case.edge} {case.name}" for case in CASES]


def play(case: Case, tick: Any) -> Any:
    return Play(case.script, tick) if case.edge == "asgi" else WsgiPlay(case.script, tick)


def application(case: Case, run: Any) -> Any:
    app = run.app()
    return case.around(app) if case.around else app


def wrapped(case: Case, app: Any, engine: Any) -> Any:
    edge = EDGES[case.edge]
    app = edge(app, engine=engine, **case.arguments)
    return edge(app, engine=engine) if case.twice else app


def worth(engine: Any, *slos: str) -> tuple[list[str], ...]:
    """What each objective has counted, one text for each event."""
    return tuple(sorted(key for key, n in cells(engine, slo).items() for _ in range(n)) for slo in slos)


@pytest.mark.parametrize("case", CASES, ids=ID)
def test_by_the_outcome_table(make_engine, case):
    engine = make_engine(
        SLO("availability"),
        SLO("latency", indicator="latency", threshold="200ms", target="95%"),
        SLO("websocket", indicator="websocket"),
    )
    run = play(case, lambda ns: advance(engine, ns=ns))
    run.run(wrapped(case, application(case, run), engine))
    expected = ([case.outcome], [case.worth[1]], [])
    if case in WEBSOCKETS:
        expected = ([], [], [case.outcome])
    assert worth(engine, "availability", "latency", "websocket") == expected
    assert engine.in_flight() == 0
    assert engine.faults() == {}


@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_functions_by_the_outcome_table(make_engine, call: Call):
    kind = {"kind": "call"}
    engine = make_engine(
        SLO("availability", match=kind),
        SLO("latency", indicator="latency", threshold="200ms", target="95%", match=kind),
    )
    with contextlib.suppress(BaseException):
        call.does(otelslo.track("ranker", engine=engine), lambda ns: advance(engine, ns=ns))
    assert worth(engine, "availability", "latency") == tuple([one] * call.calls for one in call.worth)
    assert engine.in_flight() == 0
    assert engine.faults() == {}


# ── beside OpenTelemetry's ─────────────────────────────────────────────────────────────────────────────────────────
def by_otel(case: Case) -> list[Recorded]:
    """What OpenTelemetry has recorded of a case."""
    peer = Peer(case.edge)
    run = play(case, peer.tick)
    with peer.wrapping(application(case, run)) as app:
        run.run(app)
    recorded = peer.recorded()
    peer.close()
    return recorded


def row(case: Case) -> tuple[str, ...]:
    """The case, the table's word, OpenTelemetry's attributes and duration, and where they differ."""
    recorded = by_otel(case)
    outcome, latency = case.worth
    if not recorded:
        return (f"{case.edge} {case.name}", outcome, latency, "nothing recorded", "", "", "not counted")
    (one,) = recorded
    differs = []
    if one.outcome != outcome.split(" ")[0]:
        differs.append(f"{one.outcome}, not {outcome.split(' ')[0]}")
    if outcome == "good" and (one.duration_ns > THRESHOLD_NS) != (latency == "bad slow"):
        differs.append("wrong latency")
    seconds = f"{one.duration_ns / 1e9:.1f} s"
    attributes = (str(one.status or "none"), str(one.error_type or "none"), seconds)
    return (f"{case.edge} {case.name}", outcome, latency, *attributes, "; ".join(differs))


def table() -> str:
    """The matrix as text: where the last column is empty, OpenTelemetry's metrics say the same."""
    head = ("case", "by the table, and ours", "latency", "OTel: status", "error.type", "duration", "OTel differs")
    rows = [head, *map(row, CASES)]
    widths = [max(len(one[column]) for one in rows) for column in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(one, widths, strict=True)).rstrip() for one in rows]
    differing = [case.source for case, one in zip(CASES, rows[1:], strict=True) if one[-1]]
    told = differing.count("told")
    facts = len(differing) - told - len(WEBSOCKETS)
    lines.append(
        f"{len(differing)} of {len(CASES)} cases differ: {facts} in what happened, {told} where the app or the "
        f"operator decides, {len(WEBSOCKETS)} are websockets"
    )
    return "\n".join(lines)


def test_beside_opentelemetry():
    pytest.importorskip("opentelemetry.instrumentation.asgi", reason="OpenTelemetry's ASGI middleware is not installed")
    pytest.importorskip("opentelemetry.instrumentation.wsgi", reason="OpenTelemetry's WSGI middleware is not installed")
    text = table()
    print(f"\n{text}")
    assert text.count("nothing recorded") == len(WEBSOCKETS)
    usual = by_otel(CASES[0])
    assert [(one.status, one.outcome) for one in usual] == [(200, "good")]


# ── many at once ───────────────────────────────────────────────────────────────────────────────────────────────────
async def alternating(scope: Any, receive: Any, send: Any) -> None:
    """One response of 1,000 bytes by its header, and others without such a header."""
    number = scope["number"]
    headers = [(b"content-length", b"1000")] if number == 0 else []
    await pause()
    await send(START | {"status": 500 if number % 2 else 200, "headers": headers})
    await pause()
    await send(CHUNK)
    await pause()
    await send(LAST)


def interleave(app: Any) -> None:
    """Ten requests, in turn."""
    requests = [Request(app, http_scope(number=number)) for number in range(10)]
    while not all(request.done for request in requests):
        for request in requests:
            request.step()


def test_interleaved_requests(make_engine):
    """State of one request is not that of another; of OpenTelemetry's it is printed what it makes of them."""
    engine = make_engine(SLO("availability"))
    interleave(SLOMiddleware(alternating, engine=engine))
    assert cells(engine, "availability") == {"good": 5, "bad 5xx": 5}
    pytest.importorskip("opentelemetry.instrumentation.asgi", reason="OpenTelemetry's ASGI middleware is not installed")
    peer = Peer("asgi")
    with peer.wrapping(alternating) as app:
        interleave(app)
    sizes = sum(point.sum for point in peer.points("http.server.response.body.size"))
    peer.close()
    print(f"\nOTel: one response of 1,000 bytes and nine without a length, interleaved: {sizes} bytes in all")
    assert sizes >= 1000
