"""OTLP over TLS and through a proxy, with real certificates and a real proxy."""

from __future__ import annotations

import contextlib
import selectors
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from exporters.receiver import PATIENCE_S, Receiver, drip, ends, receiving, status
from exporters.reports import report, row, values
from otelslo import SLO
from otelslo.exporters import ExportFailed, otlp

PLAIN = SLO("checkout")
GIVEN = report([PLAIN], [row(PLAIN, [7])])
GROUPED = SLO("search", group_by=["route"])
LARGE = report([GROUPED], [row(GROUPED, range(16), f"route=/{n}") for n in range(120)])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """server.pem and client.pem, each with its key, each its own authority."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    where = tmp_path_factory.mktemp("certificates")
    for name in ("server", "client"):
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        command += ["-keyout", str(where / f"{name}.key"), "-out", str(where / f"{name}.crt")]
        subprocess.run(command, check=True, capture_output=True)
        texts = [(where / f"{name}.{end}").read_text() for end in ("crt", "key")]
        (where / f"{name}.pem").write_text("".join(texts))
    return where


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def encrypt(receiver: Receiver, certificates: Path, client: bool = False) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem")
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / "client.crt")
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True, do_handshake_on_connect=False)
    return receiver.url.replace("http://", "https://")


def export(url: str, given=GIVEN, within_ns: int = int(PATIENCE_S * 10**9)) -> None:
    otlp.create({"endpoint": url}).export(given, time.monotonic_ns() + within_ns)


def test_over_tls(monkeypatch, certificates) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificates / "server.crt"))
    with receiving() as receiver:
        export(encrypt(receiver, certificates), LARGE)
        assert receiver.connections == 1
        assert len(receiver.requests) > 1


def test_an_unknown_authority_is_refused(certificates) -> None:
    with receiving() as receiver:
        url = encrypt(receiver, certificates)
        error = ends(lambda: export(url))
        assert isinstance(error, ExportFailed)
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert receiver.requests == []


def test_a_client_certificate(monkeypatch, certificates) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificates / "server.crt"))
    with receiving() as receiver:
        url = encrypt(receiver, certificates, client=True)
        assert isinstance(ends(lambda: export(url)), ExportFailed)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(certificates / "client.crt"))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(certificates / "client.key"))
        export(url)
        assert len(receiver.requests) == 1


@pytest.mark.parametrize("answer", [drip(b"HTTP/1.1 200 OK\r\nx: ")], ids=["drip"])
def test_the_deadline_holds_over_tls(monkeypatch, certificates, answer) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificates / "server.crt"))
    with receiving(answer) as receiver:
        url = encrypt(receiver, certificates)
        error = ends(lambda: export(url, within_ns=500_000_000))
        assert isinstance(error, ExportFailed)


def test_a_peer_that_never_shakes_hands(certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"https://127.0.0.1:{mute.getsockname()[1]}/"
        error = ends(lambda: export(url, within_ns=300_000_000))
        assert isinstance(error, ExportFailed)
        assert "in time" in str(error)


# ── proxies ────────────────────────────────────────────────────────────────────────────────────────────────────────
class TunnellingProxy:
    """Takes one CONNECT, says `line` and then carries bytes both ways."""

    def __init__(self, line: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.head = b""
        self._line = line
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        client, _ = self._server.accept()
        with client:
            while not self.head.endswith(b"\r\n\r\n"):
                self.head += client.recv(1)
            client.sendall(self._line)
            if b" 200 " in self._line:
                host, _, port = self.head.split()[1].decode().rpartition(":")
                with socket.create_connection((host, int(port))) as upstream:
                    self._carry(client, upstream)

    def _carry(self, client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
            for end, other in ((client, upstream), (upstream, client)):
                selector.register(end, selectors.EVENT_READ, (end, other))
            while True:
                for key, _ in selector.select(PATIENCE_S):
                    end, other = key.data
                    data = end.recv(65536)
                    if not data:
                        return
                    other.sendall(data)

    def close(self) -> None:
        self._thread.join(PATIENCE_S)
        self._server.close()


def test_tls_through_a_proxy(monkeypatch, certificates) -> None:
    proxy = TunnellingProxy()
    monkeypatch.setenv("https_proxy", f"http://me:pass@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificates / "server.crt"))
    with receiving() as receiver:
        export(encrypt(receiver, certificates), LARGE)
        assert len(receiver.requests) > 1
        assert f"CONNECT 127.0.0.1:{receiver.server_port} HTTP".encode() in proxy.head
        assert b"proxy-authorization: Basic bWU6cGFzcw==" in proxy.head
        assert all("proxy-authorization" not in headers for headers in receiver.headers)
    proxy.close()


def test_a_proxy_that_refuses(monkeypatch) -> None:
    proxy = TunnellingProxy(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
    error = ends(lambda: export("https://collector.invalid/"))
    assert isinstance(error, ExportFailed)
    assert "the proxy answered 407" in str(error)
    proxy.close()


def test_plain_http_through_a_proxy(monkeypatch) -> None:
    with receiving(status(200)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:pass@127.0.0.1:{proxy.server_port}")
        export("http://collector.invalid:4318/v1/metrics")
        assert proxy.paths == ["http://collector.invalid:4318/v1/metrics"]
        assert proxy.headers[0]["host"] == "collector.invalid:4318"
        assert proxy.headers[0]["proxy-authorization"] == "Basic bWU6cGFzcw=="
        assert 7 in values(proxy.requests, "slo.events").values()
