"""The ASGI edge and websockets: how connections end, and what that is worth."""

from __future__ import annotations

import asyncio

import pytest
from asgi_steps import FAILS, answer, doing, outcome
from drive import cells, http_scope, run, websocket_scope
from starlette.websockets import WebSocketDisconnect

from otelslo import SLO
from otelslo.asgi import SLOMiddleware

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
