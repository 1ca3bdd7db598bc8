"""An independent client that keeps the books: a fixed number of requests over N connections, every answer read.

Plain sockets and HTTP/1.1 keep-alive, in a process of its own, nothing of the package imported. A request is received
(its whole answer was read), or cut off (its connection ended first); it is never sent again.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

MIXED = {"/ok": 60, "/items/7": 18, "/boom": 5, "/raise": 4, "/forbidden": 5, "/missing": 6, "/slow?ms=30": 2}
LINGERING = {"/ok": 25, "/items/7": 15, "/boom": 5, "/raise": 2, "/forbidden": 3, "/missing": 5, "/slow?ms=30": 45}
_CLOSING = {"/raise"}  # uvicorn closes the connection after its app has raised: a next request would be cut off unseen
_RECV_BYTES = 1 << 16
_QUIET_S = 60.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to send: request ids `first` to `first + number - 1`, their paths drawn by `seed` with these weights."""

    port: int
    number: int
    connections: int
    seed: int
    first: int = 0
    weights: Mapping[str, int] = field(default_factory=lambda: MIXED)

    def paths(self) -> list[str]:
        return random.Random(self.seed).choices(list(self.weights), list(self.weights.values()), k=self.number)


@dataclass(slots=True)
class Books:
    """What came of it: answers by "path status", ids cut off, answers that were not the request's own."""

    received: Counter[str] = field(default_factory=Counter)
    cut: list[int] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)

    @property
    def answers(self) -> int:
        return self.received.total()

    def with_status(self, *statuses: int) -> int:
        return sum(n for key, n in self.received.items() if int(key.rpartition(" ")[2]) in statuses)

    def of_path(self, start: str) -> int:
        return sum(n for key, n in self.received.items() if key.startswith(start))

    def add(self, other: Books) -> None:
        self.received += other.received
        self.cut += other.cut
        self.wrong += other.wrong


class _Connection:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, client: _Client) -> None:
        self.client = client
        self.id = -1
        self.buffer = b""
        self.socket: socket.socket | None = None

    def open(self) -> bool:
        """Connect; False where nobody listens just now."""
        try:
            self.socket = socket.create_connection(("127.0.0.1", self.client.order.port))
        except OSError:
            return False
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.client.selector.register(self.socket, selectors.EVENT_READ, self)
        return True

    def close(self) -> None:
        if self.socket is not None:
            self.client.selector.unregister(self.socket)
            self.socket.close()
        self.socket, self.buffer = None, b""

    def send(self, request_id: int, path: str) -> None:
        assert self.socket is not None
        self.id = request_id
        message = f"GET {path} HTTP/1.1\r\nHost: ledger\r\nX-Request-Id: {request_id}\r\n\r\n".encode()
        try:
            sent = self.socket.send(message)
        except OSError:
            self.lose()
            return
        assert sent == len(message), "so small a request goes into an empty socket at once"

    def lose(self) -> None:
        """The connection is gone: what was under way is cut off."""
        self.close()
        if self.id >= 0:
            self.client.books.cut.append(self.id)
            self.id = -1

    def read(self) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(_RECV_BYTES)
        except OSError:
            data = b""
        if not data:
            self.lose()
            return
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if found and len(body) >= _length_of(head):
            self._received(int(head[9:12]), body)

    def _received(self, status: int, body: bytes) -> None:
        path = self.client.path_of(self.id)
        self.client.books.received[f"{path} {status}"] += 1
        if status == 200 and body != str(self.id).encode():
            self.client.books.wrong.append(self.id)
        self.id, self.buffer = -1, b""
        if path in _CLOSING:
            self.close()


def _length_of(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise AssertionError(f"an answer without a length: {head!r}")


class _Client:
    """Drives all connections until each request has been received or cut off."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.books = Books()
        self.selector = selectors.DefaultSelector()
        self._paths = order.paths()
        self._next = 0
        self._connections = [_Connection(self) for _ in range(order.connections)]

    def path_of(self, request_id: int) -> str:
        return self._paths[request_id - self.order.first]

    def run(self) -> Books:
        for connection in self._connections:
            self._go_on(connection)
        while any(connection.id >= 0 for connection in self._connections) or self._next < self.order.number:
            events = self.selector.select(_QUIET_S if self.selector.get_map() else 0.01)
            if not events and self.selector.get_map():
                raise TimeoutError(f"no answer for {_QUIET_S:.0f} s")
            for key, _ in events:
                key.data.read()
                self._go_on(key.data)
            for connection in self._connections:
                if connection.socket is None:
                    self._go_on(connection)
        for connection in self._connections:
            connection.close()
        return self.books

    def _go_on(self, connection: _Connection) -> None:
        """Give an idle connection its next request, on a new socket if it has lost its own."""
        while connection.id < 0 and self._next < self.order.number:
            if connection.socket is None and not connection.open():
                return
            request_id = self.order.first + self._next
            self._next += 1
            connection.send(request_id, self.path_of(request_id))


class Client:
    """The client as a process of its own."""

    def __init__(self, order: Order) -> None:
        self._process = subprocess.Popen(
            [sys.executable, os.fspath(Path(__file__)), json.dumps(asdict(order))], stdout=subprocess.PIPE, text=True
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def books(self) -> Books:
        """Wait for its end; what it wrote down."""
        said, _ = self._process.communicate(timeout=900)
        assert self._process.returncode == 0, "the client failed"
        found = json.loads(said)
        return Books(Counter(found["received"]), found["cut"], found["wrong"])

    def stop(self) -> None:
        if self.running:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def send_all(order: Order) -> Books:
    """Run a client to its end."""
    client = Client(order)
    try:
        return client.books()
    finally:
        client.stop()


def main(arguments: Sequence[str]) -> None:
    books = _Client(Order(**json.loads(arguments[0]))).run()
    print(json.dumps({"received": books.received, "cut": books.cut, "wrong": books.wrong}))


if __name__ == "__main__":
    main(sys.argv[1:])
