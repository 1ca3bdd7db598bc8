"""A collector made in the test: a real HTTP server that decodes what it gets, and answers as the test says."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

Answer = Callable[[Any], None]
PATIENCE_S = 30.0  # only a broken program waits so long
_CODINGS = {None: bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a status, headers (retry_after="3") and a body."""

    def answer(handler: Any) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def partial(rejected: int, message: str = "too old") -> Answer:
    """Take a request, but for some points."""
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = rejected
    response.partial_success.error_message = message
    return status(200, response.SerializeToString(), content_type="application/x-protobuf")


def hang(handler: Any) -> None:
    """Accept the request and never answer."""
    handler.server.released.wait(PATIENCE_S)
    handler.close_connection = True


def drip(head: bytes = b"") -> Answer:
    """Answer with `head`, then a byte every 10 ms, for ever."""

    def answer(handler: Any) -> None:
        handler.close_connection = True
        try:
            handler.wfile.write(head)
            while not handler.server.released.wait(0.01):
                handler.wfile.write(b"x")
        except OSError:
            handler.server.hung_up.set()

    return answer


def raw(text: bytes) -> Answer:
    """Answer with bytes that need not be HTTP, and hang up."""

    def answer(handler: Any) -> None:
        handler.wfile.write(text)
        handler.close_connection = True

    return answer


TAKEN = status(200)


class Receiver(ThreadingHTTPServer):
    """What came in is in `requests` and `headers`. `answers` are used up first, `answer` is given to all others."""

    daemon_threads = True

    def __init__(self, answer: Answer = TAKEN) -> None:
        self.answer = answer
        self.answers: list[Answer] = []
        self.requests: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.connections = 0
        self.released, self.hung_up = threading.Event(), threading.Event()
        self._came = threading.Condition()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/metrics"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        request = ExportMetricsServiceRequest.FromString(_CODINGS[headers.get("content-encoding")](body))
        with self._came:
            self.paths.append(path)
            self.headers.append(headers)
            self.requests.append(request)
            self._came.notify_all()
            return self.answers.pop(0) if self.answers else self.answer

    def wait_for(self, requests: int) -> None:
        """Until so many requests have come in all."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests) >= requests, PATIENCE_S), "no request came"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        self.server.take(self.path, headers, body)(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.server.hung_up.set()  # the client has gone, which some tests want


@contextmanager
def receiving(answer: Answer = TAKEN) -> Iterator[Receiver]:
    receiver = Receiver(answer)
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        receiver.shutdown()
        receiver.server_close()
        thread.join(PATIENCE_S)


def ends(work: Callable[[], object]) -> BaseException | None:
    """Run `work` and give what it raised; a test whose work never ends fails instead of hanging."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as e:
            raised.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "it never ended"
    return raised[0] if raised else None
