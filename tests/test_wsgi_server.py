"""The WSGI edge under real servers, as processes, spoken to over raw sockets; their ring is read from outside."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from otelslo.definition import FIRST_EXCLUDED
from otelslo.ring.reader import open_reader

TESTS = Path(__file__).parent
CONTENT = b"content" * 100_000
PATIENCE_S = 60.0
SERVERS = {
    "wsgiref": [str(TESTS / "wsgi_served_app.py"), "{fd}"],
    "sync": ["-m", "gunicorn", "-b", "fd://{fd}", "-k", "sync", "wsgi_served_app:application"],
    "gthread": ["-m", "gunicorn", "-b", "fd://{fd}", "-k", "gthread", "--threads", "4", "wsgi_served_app:application"],
    "checked": ["-m", "gunicorn", "-b", "fd://{fd}", "-k", "sync", "wsgi_served_app:checked"],
}


@dataclass
class Served:
    """One server, and what its ring has counted."""

    process: subprocess.Popen[bytes]
    port: int
    state: Path

    def counted(self) -> Counter[str]:
        """{"good": 3, "bad 5xx": 1}, once nothing is in flight."""
        reader = open_reader(self.state / "live.ring")
        give_up_at = time.monotonic() + PATIENCE_S
        while reader.in_flight():
            assert time.monotonic() < give_up_at
            threading.Event().wait(0.01)
        found: Counter[str] = Counter()
        for row in range(reader.rows):
            name = reader.row_name(row)
            for cell, count in enumerate(reader.cells(row)):
                kind = "" if cell == 0 else "bad " if cell < FIRST_EXCLUDED else "excluded "
                found[kind + name.reasons[cell]] += count if name.slo == "a" else 0
        return +found

    def ask(self, path, method="GET", most=None):
        """The whole answer; or, of a client that leaves then, its first `most` bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: test\r\n\r\n".encode())
            got = b""
            while (most is None or len(got) < most) and (part := connection.recv(65536)):
                got += part
            return got


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    if "gunicorn" in SERVERS[request.param] and importlib.util.find_spec("gunicorn") is None:
        pytest.skip("gunicorn is not installed")
    state = tmp_path_factory.mktemp(request.param) / "state"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, *(part.format(fd=listening.fileno()) for part in SERVERS[request.param])]
        process = subprocess.Popen(
            command, cwd=TESTS, env=os.environ | {"STATE": str(state)}, pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        served = Served(process, listening.getsockname()[1], state)
    try:
        assert served.ask("/ok").endswith(b"ok")  # comes once it is up
        yield served
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("path", "method", "begins", "ends", "outcome"),
    [
        ("/ok", "GET", b"200 OK", b"ok", "good"),
        ("/ok", "HEAD", b"200 OK", b"", "good"),
        ("/down", "GET", b"503 Down", b"ok", "bad 5xx"),
        ("/missing", "GET", b"404 Missing", b"ok", "excluded client_error"),
        ("/fails", "GET", b"500 Internal Server Error", b"", "bad exception"),
        ("/nothing", "GET", b"", b"", "bad no_response"),
        ("/breaks", "GET", b"200 OK", b"", "bad exception"),
        ("/file", "GET", b"200 OK", CONTENT, "good"),
        ("/text", "GET", b"", b"", "bad cut"),
    ],
)
def test_answers(server, request, path, method, begins, ends, outcome):
    before = server.counted()
    answer = server.ask(path, method)
    assert answer.split(b" ", 1)[-1].startswith(begins)
    assert ends in answer.replace(b"\r\n", b"") or answer.endswith(ends)
    found = server.counted() - before
    if "checked" in request.node.name and path in ("/nothing", "/text"):
        outcome = "bad exception"  # the validator within raises what it finds
    assert found == {outcome: 1}


def test_a_single_chunk_has_a_length(server, request):
    """Which wsgiref tells by `len`."""
    has = b"Content-Length: 2" in server.ask("/ok")
    assert has == ("wsgiref" in request.node.name)


def test_a_client_that_leaves(server):
    """While the server still sends."""
    before = server.counted()
    server.ask("/endless", most=100_000)
    assert server.counted() - before == {"excluded client_cancel": 1}
