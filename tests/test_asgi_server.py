"""The ASGI edge under real uvicorn, one worker as a process, spoken to over raw sockets; its ring is read from outside.

One server with httptools and lifespan, one with h11 and without.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from otelslo import SLO, Engine
from otelslo.definition import FIRST_EXCLUDED
from otelslo.ring.reader import open_reader

APP = Path(__file__).with_name("served_app.py")
PATIENCE_S = 60.0


@dataclass
class Served:
    """One server, and what its ring has counted."""

    process: subprocess.Popen[bytes]
    port: int
    state_dir: Path
    first: bytes = b""

    def counted(self) -> Counter[str]:
        """{"a /ok good": 3, "l bad 5xx": 1}: events by objective, route and reason."""
        reader = open_reader(self.state_dir / "live.ring")
        found: Counter[str] = Counter()
        for row in range(reader.rows):
            name = reader.row_name(row)
            where = [name.slo, (name.group or "").removeprefix("route=")]
            for cell, count in enumerate(reader.cells(row)):
                kind = "" if cell == 0 else "bad" if cell < FIRST_EXCLUDED else "excluded"
                found[" ".join(filter(None, [*where, kind, name.reasons[cell]]))] += count
        return +found

    @contextlib.contextmanager
    def counting(self, **expected):
        """What was counted meanwhile, once nothing is in flight, without the request that waits for it."""
        before = self.counted()
        found: Counter[str] = Counter()
        yield found
        assert self.ask("/quiet").endswith(b"quiet")
        found += self.counted() - before - Counter(["a /quiet good", "l good"])

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        return contextlib.closing(connection)

    def ask(self, path, method="GET", more=""):
        with self.connect() as connection:
            connection.sendall(request(path, method, "Connection: close\r\n" + more))
            return everything(connection)

    def first_answer(self):
        """Comes once the server is up; a server that died instead says why."""
        try:
            return self.ask("/ok")
        except ConnectionError:
            pytest.fail(f"the server did not start:\n{self.process.stderr.read().decode()}")


def request(path, method="GET", more=""):
    return f"{method} {path} HTTP/1.1\r\nHost: test\r\n{more}\r\n".encode()


def everything(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))


def until(connection, end):
    """What comes up to and with `end`."""
    got = b""
    while not got.endswith(end):
        got += connection.recv(1) or pytest.fail(f"closed after {got!r}")
    return got


def started(state_dir, http, lifespan):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, str(APP), str(listening.fileno()), str(state_dir), http, lifespan]
        process = subprocess.Popen(command, pass_fds=[listening.fileno()], stderr=subprocess.PIPE)
        return Served(process, listening.getsockname()[1], state_dir)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Both start at the same time; the first request of each waits until it is up."""
    directory = tmp_path_factory.mktemp("servers")
    found = {http: started(directory / http, http, on) for http, on in (("httptools", "on"), ("h11", "off"))}
    try:
        for server in found.values():
            server.first = server.first_answer()
        yield found
    finally:
        for server in found.values():
            server.process.kill()
            server.process.communicate()


@pytest.fixture(params=["httptools", "h11"])
def server(request, servers):
    return servers[request.param]


def test_the_lifespan_compiles(servers):
    """So that no request has to; without a lifespan the first one waits for it, and only the first."""
    assert b"x-compiled: yes" in servers["httptools"].first
    assert b"x-compiled: no" in servers["h11"].first
    assert b"x-compiled: yes" in servers["h11"].ask("/ok")


def test_keep_alive(server):
    with server.counting() as counted, server.connect() as connection:
        for _ in range(20):
            connection.sendall(request("/ok"))
            assert until(connection, b"\r\n\r\nok").startswith(b"HTTP/1.1 200")
    assert counted == {"a /ok good": 20, "l good": 20}


def test_pipelining(server):
    with server.counting() as counted, server.connect() as connection:
        connection.sendall(request("/ok") * 5 + request("/nope") + request("/ok", more="Connection: close\r\n"))
        assert everything(connection).count(b"HTTP/1.1 ") == 7
    assert counted == {
        "a /ok good": 6,
        "a (unknown) excluded client_error": 1,
        "l good": 6,
        "l excluded client_error": 1,
    }


def test_chunked_upload(server):
    with server.counting() as counted, server.connect() as connection:
        connection.sendall(request("/echo", "POST", "Transfer-Encoding: chunked\r\nConnection: close\r\n"))
        for _ in range(100):
            connection.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert everything(connection).endswith(b"\r\n\r\n100000")
    assert counted == {"a /echo good": 1, "l good": 1}


def test_head(server):
    with server.counting() as counted:
        assert server.ask("/ok", "HEAD").endswith(b"\r\n\r\n")
    assert counted == {"a /ok good": 1, "l good": 1}


def test_an_exception(server):
    with server.counting() as counted:
        assert server.ask("/fail").startswith(b"HTTP/1.1 500")
    assert counted == {"a /fail bad 5xx": 1, "l bad 5xx": 1}


@pytest.mark.parametrize("path", ["/stream", "/hang"])
def test_the_client_leaves_in_mid_stream(server, path):
    with server.counting() as counted, server.connect() as connection:
        connection.sendall(request(path))
        until(connection, b"begun" if path == "/hang" else b"x" * 1000)
    assert counted == {f"a {path} excluded client_cancel": 1, "l excluded client_cancel": 1}


def test_the_client_leaves_in_mid_upload(server):
    """While the app waits for the body; Starlette raises ClientDisconnect then."""
    with server.counting() as counted, server.connect() as connection:
        connection.sendall(request("/echo", "POST", "Content-Length: 1000\r\nExpect: 100-continue\r\n"))
        until(connection, b"100 Continue\r\n\r\n")
        connection.sendall(b"x")
    assert counted == {"a /echo excluded client_cancel": 1, "l excluded client_cancel": 1}


def test_garbage_is_no_request(server):
    """The server refuses it before any app sees it."""
    with server.counting() as counted, server.connect() as connection:
        connection.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
        everything(connection)
    assert counted == {}


def test_websockets(server):
    client = pytest.importorskip("websockets.sync.client", reason="needs the websockets package")
    with server.counting() as counted:
        with client.connect(f"ws://127.0.0.1:{server.port}/talk") as socket_:
            socket_.send("hello")
            assert socket_.recv() == "hello"
        with client.connect(f"ws://127.0.0.1:{server.port}/talk") as socket_, contextlib.suppress(Exception):
            socket_.send("fail")
            socket_.recv()
        with contextlib.suppress(Exception), client.connect(f"ws://127.0.0.1:{server.port}/nope"):
            pass
    assert counted == {"w good": 1, "w bad exception": 1, "w excluded unauthorised": 1}


def test_z_sigterm_during_requests(server):
    """What ends within the server's patience is finished. What does not is cancelled, and bad either way: uvicorn may
    let the signal kill it before the cancelled task has run, and whoever settles its block then books it as crashed."""
    before = server.counted()
    with server.connect() as hanging, server.connect() as finishing:
        for connection, path in ((hanging, "/hang"), (finishing, "/finish")):
            connection.sendall(request(path))
            until(connection, b"begun")
        server.process.send_signal(signal.SIGTERM)
        assert b"ended" in everything(finishing)
        everything(hanging)
    _, errors = server.process.communicate(timeout=PATIENCE_S)
    assert b"otelslo" not in errors
    with Engine([SLO("a", group_by="route")], state_dir=server.state_dir, runner=False) as engine:
        engine.ring.blocks.settle_dead()
    counted = server.counted() - before
    assert (counted.pop("a /finish good"), counted.pop("l good")) == (1, 1)
    cancelled = {"a /hang bad server_cancel": 1, "l bad server_cancel": 1}
    assert counted in (cancelled, {"a (unknown) bad crashed": 1, "l bad crashed": 1})
    assert open_reader(server.state_dir / "live.ring").in_flight() == 0
