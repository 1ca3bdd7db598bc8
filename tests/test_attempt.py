"""One attempt of a probe against real sockets: what each way of failing is called."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading

import pytest
from channels.hook import make_certificate

from otelslo import SLO
from otelslo.attempt import Attempt, Found, failure_of
from otelslo.indicators import uptime

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nready to go"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/elsewhere\r\nContent-Length: 0\r\n\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nready"


class Server:
    """Takes each connection, reads a request, writes `answer` and closes; with no answer it waits until it is ended."""

    def __init__(self, answer: bytes | None, *, reads: bool = True, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.tls = tls
        self.reads = reads
        self.requests: list[bytes] = []
        self._ended = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._listening.getsockname()[1]

    def _serve(self) -> None:
        while not self._ended.is_set():
            connection, _ = self._listening.accept()
            with connection, contextlib.suppress(OSError):
                if self.tls is None:
                    self._answer(connection)
                else:
                    with self.tls.wrap_socket(connection, server_side=True) as inner:
                        self._answer(inner)

    def _answer(self, connection: socket.socket) -> None:
        if self.reads and not self._ended.is_set():
            self.requests.append(connection.recv(65536))
        if self.answer is None:
            self._ended.wait()
        else:
            connection.sendall(self.answer)

    def end(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listening.close()


@pytest.fixture
def serving():
    made = []

    def serve(answer, **how):
        made.append(Server(answer, **how))
        return made[-1]

    yield serve
    for server in made:
        server.end()


def attempt(**options):
    slo = SLO("up", indicator="uptime", options=options)
    return Attempt({key: slo.option(key) for key in uptime.OPTIONS}).once()


def url(server, scheme="http", path="/healthz"):
    return f"{scheme}://127.0.0.1:{server.port}{path}"


@pytest.mark.parametrize(
    ("answer", "options", "found"),
    [
        (OK, {}, Found(None, 200)),
        (MOVED, {}, Found(None, 302)),
        (MOVED, {"expect": 200}, Found("status", 302)),
        (BUSY, {}, Found("status", 503)),
        (BUSY, {"expect": ["2xx", 503]}, Found(None, 503)),
        (OK, {"body": "ready"}, Found(None, 200)),
        (OK, {"body": "steady"}, Found("wrong_body", 200)),
        (BUSY, {"body": "ready"}, Found("status", 503)),
        (CUT, {"body": "ready"}, Found("no_response", None, "ConnectionError")),
        (b"", {}, Found("no_response", None, "RemoteDisconnected")),
        (b"SSH-2.0-OpenSSH_9.6\r\n", {}, Found("no_response", None, "ConnectionError")),
    ],
)
def test_what_an_answer_is(serving, answer, options, found):
    assert attempt(url=url(serving(answer)), **options) == found


def test_the_request_is_plain_and_says_who_asks(serving):
    """With the login of the URL, without what the environment would have go through a proxy."""
    server = serving(OK)
    assert attempt(url=f"http://me:secret@127.0.0.1:{server.port}/ready?deep=1") == Found(None, 200)
    head = server.requests[0].decode().lower()
    assert head.startswith("get /ready?deep=1 http/1.1\r\n")
    assert "user-agent: otelslo-probe/" in head
    assert "otelslo-probe: 1\r\n" in head
    assert "connection: close" in head
    assert f"host: 127.0.0.1:{server.port}\r\n" in head
    assert "authorization: basic bwu6c2vjcmv0\r\n" in head


def test_a_proxy_of_the_environment_is_not_used(serving, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert attempt(url=url(serving(OK))) == Found(None, 200)


def test_no_answer_within_the_timeout(serving):
    assert attempt(url=url(serving(None)), timeout="50ms").failure == "timeout"
    assert attempt(url=url(serving(None, reads=False), "https"), timeout="50ms").failure == "timeout"


def test_an_endless_answer_is_read_no_further_than_64_kib(serving):
    """What was read decides."""
    server = serving(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000)
    assert attempt(url=url(server), body="y") == Found("wrong_body", 200)


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert attempt(url=f"http://127.0.0.1:{port}/") == Found("refused", None, "ConnectionRefusedError")
        assert attempt(url=f"tcp://127.0.0.1:{port}").failure == "refused"


def test_tcp_is_up_where_a_connection_comes_about(serving):
    assert attempt(url=f"tcp://127.0.0.1:{serving(None, reads=False).port}") == Found()


def test_a_name_that_is_none():
    assert attempt(url="http://nowhere.invalid/", timeout="9s").failure == "dns"


def test_a_server_that_speaks_no_tls(serving):
    assert attempt(url=url(serving(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "https")).failure == "tls"


def test_a_certificate_must_be_of_an_authority_that_the_system_trusts(serving, tmp_path, monkeypatch):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(make_certificate(tmp_path) / "server.crt", tmp_path / "server.key")
    server = serving(OK, tls=tls)
    assert attempt(url=url(server, "https")) == Found("tls", None, "SSLCertVerificationError")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.crt"))
    assert attempt(url=url(server, "https")) == Found(None, 200)


def raising(error):
    def function():
        raise error

    return function


def isnt_up():
    return False


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda: None, Found()),
        (lambda: True, Found()),
        (isnt_up, Found("status")),
        (lambda: "no", Found("status")),
        (raising(KeyError("x")), Found("probe_error", None, "KeyError")),
        (raising(SystemExit(1)), Found("probe_error", None, "SystemExit")),
        (raising(TimeoutError()), Found("timeout", None, "TimeoutError")),
        (raising(ConnectionRefusedError()), Found("refused", None, "ConnectionRefusedError")),
        (raising(BrokenPipeError()), Found("no_response", None, "BrokenPipeError")),
    ],
)
def test_a_function_instead_of_a_url(function, found):
    assert attempt(call=function) == found


def test_what_the_system_raises():
    assert failure_of(OSError(errno.EHOSTUNREACH, "no route")) == "refused"
    assert failure_of(OSError(errno.EMFILE, "too many files")) == "probe_error"
    assert failure_of(ssl.SSLCertVerificationError(1, "self-signed")) == "tls"
    assert failure_of(socket.gaierror(-2, "unknown")) == "dns"
    assert failure_of(TimeoutError(errno.ETIMEDOUT, "timed out")) == "timeout"
