"""Event streams over real sockets: they last until they have ended, whoever ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drive import advance, cells, http_scope, serve
from live.watch import Watch
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware

from .sse_app import HAS_SSE_STARLETTE

TESTS = Path(__file__).parents[1]
PATIENCE_S = 60.0
needs_sse_starlette = pytest.mark.skipif(not HAS_SSE_STARLETTE, reason="needs sse-starlette")
by_both = pytest.mark.parametrize("how", ["starlette", pytest.param("sse_starlette", marks=needs_sse_starlette)])


class Served:
    """One server as a process, and what its ring has counted."""

    def __init__(self, state: Path) -> None:
        self.state = state
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            command = [sys.executable, "-m", "integrations.sse_app", str(listening.fileno()), os.fspath(state)]
            self.process = subprocess.Popen(command, cwd=TESTS, pass_fds=[listening.fileno()])

    def connect(self, path: str) -> Any:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        return contextlib.closing(connection)

    def ask(self, path: str) -> bytes:
        with self.connect(path) as connection:
            return everything(connection)

    def counted(self) -> Counter[str]:
        return Watch(self.state / "live.ring").reasons("a")

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """What was counted meanwhile, once nothing is in flight."""
        before = self.counted()
        found: Counter[str] = Counter()
        yield found
        assert self.ask("/quiet").endswith(b"quiet")
        found += self.counted() - before - Counter(["health_check"])


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def begun(connection: socket.socket) -> None:
    """Wait for the third event."""
    got = b""
    while b"event 2" not in got:
        got += connection.recv(65536) or pytest.fail(f"closed after {got!r}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("sse"))
    try:
        assert served.ask("/quiet").endswith(b"quiet")
        yield served
    finally:
        served.process.kill()
        served.process.wait()


@by_both
def test_a_stream_that_ends(server, how):
    with server.counting() as counted:
        assert server.ask(f"/{how}/end").count(b"data: event") == 3
    assert counted == {"good": 1}


@by_both
def test_a_stream_that_fails(server, how):
    with server.counting() as counted:
        assert server.ask(f"/{how}/fail").count(b"data: event") == 3
    assert counted == {"exception": 1}


@by_both
@pytest.mark.parametrize("then", ["endless", "hang"])
def test_the_client_leaves_in_mid_stream(server, how, then):
    with server.counting() as counted, server.connect(f"/{how}/{then}") as connection:
        begun(connection)
    assert counted == {"client_cancel": 1}


@by_both
def test_the_server_stops(tmp_path, how):
    """The stream is cut or cancelled: bad either way. uvicorn may let the signal kill it before the cancelled task has
    run; whoever settles its block then books it as crashed."""
    served = Served(tmp_path)
    with served.connect(f"/{how}/hang") as connection:
        begun(connection)
        served.process.send_signal(signal.SIGTERM)
        everything(connection)
    served.process.wait(PATIENCE_S)
    with Engine([SLO("a", group_by="route")], state_dir=tmp_path, runner=False) as engine:
        engine.ring.blocks.settle_dead()
    assert served.counted() in ({"server_cancel": 1}, {"cut": 1}, {"crashed": 1})


@pytest.mark.parametrize(("first_byte", "expected"), [(True, {"good": 1}), (False, {"bad slow": 1})])
def test_the_clock_stops_at_the_last_event_or_the_first(make_engine, first_byte, expected):
    engine = make_engine(SLO("l", indicator="latency", threshold="1s"))

    async def lines() -> Any:
        yield b"data: first\n\n"
        advance(engine, s=10)
        yield b"data: last\n\n"

    async def stream(request: Any) -> Any:
        return StreamingResponse(lines(), media_type="text/event-stream")

    app = SLOMiddleware(Starlette(routes=[Route("/", stream)]), engine=engine, first_byte=first_byte)
    scope = http_scope("/", asgi={"version": "3.0", "spec_version": "2.4"})
    assert len(asyncio.run(serve(app, scope))) == 4
    assert cells(engine, "l") == expected
