"""Random apps: what an app, its client and its server could do, sensible and not, each from one number.

Half of them are ordinary apps with something put in; the others are anything at all. All is drawn from the given
number's generator, so that number is all that a failure has to tell.
"""

from __future__ import annotations

import random
from typing import Any

from drive import CHUNK, DISCONNECT, LAST, REQUEST, START

from .asgi_play import ERRORS, FORMS, Script
from .verdicts import CANCEL_AFTER_NS, MS, THRESHOLD_NS
from .wsgi_play import BODIES, WsgiScript

STATUSES = (100, 101, 103, 199, 200, 201, 204, 206, 301, 304, 399, 400, 401, 403, 404, 429, 499, 500, 502, 503, 599)
TICKS_NS = (0, 1, MS, THRESHOLD_NS - 1, THRESHOLD_NS, THRESHOLD_NS + 1, 3 * THRESHOLD_NS, CANCEL_AFTER_NS)
WORDS = (
    *(("bad", ("reason", "nonsense")), ("good",), ("exclude", ("reason", "drill")), ("shed",)),
    ("set", ("tier", "gold")),
)
CATCHES = ("OSError", "Exception", "BaseException")
PLAIN_BODY = LAST | {"body": b"all"}
OTHER_ANSWERS = (
    {"type": "http.response.pathsend", "path": "/f"},
    {"type": "http.response.zerocopysend", "file": 3, "more_body": True},
    {"type": "http.response.zerocopysend", "file": 3},
    {"type": "http.response.trailers", "headers": []},
    {"type": "http.response.push", "path": "/p", "headers": []},
    {"type": "http.response.debug", "info": {}},
    {"type": "http.response.early_hint", "links": [b"</a>"]},
    {"type": "http.response.body"},
    CHUNK | {"more_body": 1},
    LAST | {"more_body": 0},
    LAST | {"more_body": None},
)
GARBLED: tuple[Any, ...] = (
    *({}, {"type": None}, {"type": 7}, {"type": []}, {"type": "http.response.start"}, {"type": "no.such"}),
    *(START | {"status": "200"}, START | {"status": None}, START | {"status": 204.0}, START | {"status": True}),
    *(START | {"status": 1 << 80}, START | {"status": -1}, START | {"status": [200]}, START | {"headers": 5}),
    *(None, [], "http.response.body", 12, b"", ("type",)),
)
WEBSOCKET: tuple[Any, ...] = (
    *({"type": "websocket.accept"}, {"type": "websocket.accept", "subprotocol": "x", "headers": []}),
    *({"type": "websocket.send", "text": "x"}, {"type": "websocket.send", "bytes": b"x", "text": None}),
    *({"type": "websocket.close"}, {"type": "websocket.close", "code": None, "reason": ""}),
    *({"type": "websocket.close", "code": code} for code in (1000, 1001, 1008, 1011, 1012, 1013, 1014, 4001)),
    *({"type": "websocket.http.response.start", "status": s, "headers": []} for s in (200, 401, 403, 404, 429, 500)),
    *({"type": "websocket.http.response.body", "body": b"x", "more_body": more} for more in (True, False)),
)
LIFESPAN: tuple[Any, ...] = (
    *({"type": "lifespan.startup.complete"}, {"type": "lifespan.startup.failed", "message": "no"}),
    *({"type": "lifespan.shutdown.complete"}, {"type": "lifespan.shutdown.failed"}),
)
INCOMING: dict[str, tuple[Any, ...]] = {
    "http": (REQUEST, REQUEST | {"more_body": True}, DISCONNECT),
    "websocket": (
        *({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "x"}),
        {"type": "websocket.disconnect", "code": 1001},
    ),
    "lifespan": ({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}),
}
GARBLED_INCOMING: tuple[Any, ...] = ({}, {"type": None}, {"type": []}, None, [], "http.disconnect", 3)
OTHER_KINDS: tuple[Any, ...] = ("http3", "webtransport", "", None, 5, "HTTP", ("http",), [])
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
ODD_SCOPES: tuple[tuple[str, Any], ...] = (
    *(("method", "BREW"), ("method", ""), ("method", None), ("method", ...), ("method", ["GET"]), ("method", 1)),
    *(("path", ""), ("path", None), ("path", ...), ("path", "/" + "x" * 5000), ("path", 3), ("path", "/\udcff")),
    *(("headers", ...), ("headers", None), ("headers", [(b"host",)]), ("headers", [("host", "text")])),
    ("headers", [(b"traceparent", TRACEPARENT.encode())]),
    *(("root_path", None), ("root_path", "/mnt"), ("route", object), ("path_template", 5), ("app", None)),
    *(("router", None), ("extensions", None), ("state", {}), ("scheme", ...)),
)
# Of these a request cannot be told: whether it is counted is left open.
UNTOLD = tuple((key, value) for key, value in ODD_SCOPES if key in ("method", "path", "root_path") or value is object)


def message(rng: random.Random, kind: Any) -> Any:
    """Something to send."""
    draw = rng.random()
    if kind == "websocket":
        return rng.choice(WEBSOCKET) if draw < 0.93 else rng.choice(GARBLED)
    if kind == "lifespan":
        return rng.choice(LIFESPAN) if draw < 0.9 else rng.choice(GARBLED)
    if draw < 0.35:
        return START | {"status": rng.choice(STATUSES)}
    if draw < 0.75:
        return rng.choice((CHUNK, LAST, PLAIN_BODY))
    return rng.choice(OTHER_ANSWERS) if draw < 0.92 else rng.choice(GARBLED)


def step(rng: random.Random, kind: Any, depth: int) -> tuple[Any, ...]:
    """One thing that an app does."""
    draw = rng.random()
    if draw < 0.36:
        return ("send", message(rng, kind))
    if draw < 0.50:
        return ("receive",)
    if draw < 0.60:
        return ("pause",)
    if draw < 0.68:
        return ("tick", rng.choice(TICKS_NS))
    if draw < 0.76:
        return ("raise", rng.choice((*ERRORS, "kept", "from kept", "kept from itself")))
    if draw < 0.86 and depth:
        return ("try", steps(rng, kind, depth - 1, 4), rng.choice(CATCHES), steps(rng, kind, depth - 1, 3))
    if draw < 0.89 and depth:
        return ("both", steps(rng, kind, depth - 1, 4), steps(rng, kind, depth - 1, 4))
    if draw < 0.90 and depth:
        return ("later", steps(rng, kind, depth - 1, 3))
    if draw < 0.93:
        return ("say", *rng.choice(WORDS))
    return rng.choice((("set", rng.randrange(9)), ("get",), ("scope", "a", rng.randrange(9)), ("unscope", "a")))


def steps(rng: random.Random, kind: Any, depth: int, most: int) -> tuple[Any, ...]:
    return tuple(step(rng, kind, depth) for _ in range(rng.randrange(most + 1)))


def ordinary(rng: random.Random, kind: Any) -> list[tuple[Any, ...]]:
    """An app as there are many."""
    if kind == "websocket":
        middle = [("receive",), ("send", WEBSOCKET[0]), ("receive",), ("send", WEBSOCKET[2])]
        return [*middle, ("send", rng.choice(WEBSOCKET[4:14]))] if rng.random() < 0.7 else middle
    if kind == "lifespan":
        return [("receive",), ("send", LIFESPAN[0]), ("receive",), ("send", LIFESPAN[2])]
    bodies = [("send", CHUNK)] * rng.randrange(3)
    interim = [("send", START | {"status": 103})] * (rng.random() < 0.1)
    start = ("send", START | {"status": rng.choice(STATUSES)})
    return [("receive",), *interim, ("tick", rng.choice(TICKS_NS)), start, *bodies, ("send", LAST)]


def script(seed: int) -> Script:
    """The ASGI app of this number."""
    rng = random.Random(seed)
    draw = rng.random()
    kind: Any = "http" if draw < 0.7 else "websocket" if draw < 0.9 else "lifespan" if draw < 0.95 else None
    kind = kind or rng.choice(OTHER_KINDS)
    does: list[tuple[Any, ...]] = []
    if rng.random() < 0.6:
        does = ordinary(rng, kind)
        for _ in range(rng.randrange(4)):
            does.insert(rng.randrange(len(does) + 1), step(rng, kind, 2))
        del does[rng.randrange(len(does)) if rng.random() < 0.2 else len(does) :]
    return Script(
        steps=tuple(does) or steps(rng, kind, 3, 9),
        kind=kind,
        form=rng.choice(FORMS) if rng.random() < 0.2 else "async def",
        value=rng.choice((None, None, None, 5, "text", [])),
        changes=tuple(rng.choice(ODD_SCOPES) for _ in range(rng.randrange(1, 3))) if rng.random() < 0.15 else (),
        incoming=incoming(rng, kind),
        sends=tuple(
            (rng.randrange(5), rng.choice(("wait", "wait", "OSError", "ConnectionResetError", "RuntimeError")))
            for _ in range(rng.choice((0, 0, 0, 1, 2)))
        ),
        at=tuple(
            (rng.randrange(5), rng.choice(("cancel", "left", "left", "exit", "close")))
            for _ in range(rng.choice((0, 0, 1, 2)))
        ),
        strict=rng.random() < 0.4,
        refuses_when_left=rng.random() < 0.4,
    )


def incoming(rng: random.Random, kind: Any) -> tuple[Any, ...]:
    """What `receive` gives."""
    first, *more = INCOMING.get(kind if isinstance(kind, str) else "", INCOMING["http"])
    found: list[Any] = [first] if rng.random() < 0.8 else []
    for _ in range(rng.randrange(3)):
        draw = rng.random()
        usual = (first, *more)
        error = ("fail", rng.choice(("OSError", "RuntimeError", "CancelledError", "ClientDisconnect")))
        found.append(rng.choice(usual) if draw < 0.85 else rng.choice(GARBLED_INCOMING) if draw < 0.93 else error)
    return tuple(found)


def is_garbled(thing: Any) -> bool:
    """Whether a message says nothing of what it is about, so that nobody can say what it is worth."""
    return any(thing is one or (type(thing) is type(one) and thing == one) for one in GARBLED)


# ── WSGI ───────────────────────────────────────────────────────────────────────────────────────────────────────────
LINES = tuple(f"{status} Words" for status in STATUSES if status >= 200)
ODD_LINES: tuple[Any, ...] = ("200", "no number", "", "99999 X", " 200 OK", None, b"200 OK", 200, "2\u0665\u0665 X")
CHUNKS: tuple[Any, ...] = (b"a", b"", b"bc", b"def")
ODD_CHUNKS: tuple[Any, ...] = ("text", None, 5, bytearray(b"x"))
ODD_BODIES: tuple[Any, ...] = (None, 5, b"bytes", {b"a": 1}, object)
ODD_ENVIRONS: tuple[tuple[str, Any], ...] = (
    *(("REQUEST_METHOD", "HEAD"), ("REQUEST_METHOD", "BREW"), ("REQUEST_METHOD", ""), ("PATH_INFO", ...)),
    *(("PATH_INFO", ""), ("PATH_INFO", "/\xff\xfe"), ("PATH_INFO", "/" + "y" * 5000), ("SCRIPT_NAME", "/mnt")),
    ("HTTP_TRACEPARENT", TRACEPARENT),
    *(("wsgi.file_wrapper", ...), ("wsgi.file_wrapper", None), ("HTTP_TRACEPARENT", "-" * 99), ("HTTP_HOST", ...)),
)
ODDEST_ENVIRONS: tuple[tuple[str, Any], ...] = (
    *(("REQUEST_METHOD", ...), ("REQUEST_METHOD", None), ("PATH_INFO", None), ("PATH_INFO", 7), ("PATH_INFO", [])),
    ("REQUEST_METHOD", ["GET"]),
)
WSGI_ERRORS = tuple(name for name in ERRORS if name not in ("StopAsyncIteration", "CancelledError", "GeneratorExit"))


def wsgi_step(rng: random.Random, depth: int, *, yields: bool) -> tuple[Any, ...]:
    """One thing that a WSGI app does."""
    draw = rng.random()
    if draw < 0.2:
        line = rng.choice(LINES) if rng.random() < 0.9 else rng.choice(ODD_LINES)
        return ("start", line, [("A", "b")] * rng.randrange(3), rng.random() < 0.4)
    if draw < 0.45:
        chunk = rng.choice(CHUNKS) if rng.random() < 0.95 else rng.choice(ODD_CHUNKS)
        return ("yield" if yields and rng.random() < 0.7 else "write", chunk)
    if draw < 0.6:
        return ("tick", rng.choice(TICKS_NS))
    if draw < 0.7:
        return ("raise", rng.choice((*WSGI_ERRORS, "kept", "kept from itself")))
    if draw < 0.82 and depth:
        parts = [wsgi_steps(rng, depth - 1, 4, yields=yields) for _ in range(2)]
        return ("try", parts[0], rng.choice(CATCHES), parts[1])
    if draw < 0.9:
        return ("say", *rng.choice(WORDS))
    return rng.choice((("set", rng.randrange(9)), ("get",), ("environ", "a", "b"), ("read",)))


def wsgi_steps(rng: random.Random, depth: int, most: int, *, yields: bool) -> tuple[Any, ...]:
    return tuple(wsgi_step(rng, depth, yields=yields) for _ in range(rng.randrange(most + 1)))


def wsgi_script(seed: int) -> WsgiScript:
    """The WSGI app of this number."""
    rng = random.Random(f"wsgi {seed}")
    returns: Any = rng.choice(list(BODIES)) if rng.random() < 0.95 else rng.choice(ODD_BODIES)
    call = [("start", rng.choice(LINES), [("Content-Type", "text/plain")], False)] if rng.random() < 0.75 else []
    body: list[Any] = [("yield", rng.choice(CHUNKS)) for _ in range(rng.randrange(4))]
    for steps, yields in ((call, False), (body, True)):
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            steps.insert(rng.randrange(len(steps) + 1), wsgi_step(rng, 2, yields=yields))
    # A write while it is collected would need what keeps it from being collected.
    droppable = returns != "file" and "'write'" not in repr(body)
    draw = rng.random()
    changes = (rng.choice(ODD_ENVIRONS),) if draw < 0.2 else (rng.choice(ODDEST_ENVIRONS),) if draw < 0.23 else ()
    return WsgiScript(
        form=rng.choice(("function", "function", "function", "generator", "class")),
        call=tuple(call),
        body=tuple(body),
        returns=returns,
        closes=wsgi_steps(rng, 1, 2, yields=False),
        takes=rng.choice((None, None, 1, 1, 2)),
        stops=rng.choice(("quietly", "error", "bug", "exit", "drop" if droppable else "quietly")),
        sendfile=rng.random() < 0.5,
        sizes=rng.random() < 0.5,
        writes_fail=tuple(rng.randrange(3) for _ in range(rng.choice((0, 0, 0, 1)))),
        strict=rng.random() < 0.7,
        handles=rng.random() < 0.1,
        changes=changes,
    )
