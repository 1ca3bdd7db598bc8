"""A receiver of notices made in the test: a real HTTP server that keeps what it got, and notices to send there."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exporters.receiver import PATIENCE_S, TAKEN, Answer, Receiver

from otelslo.notice import Notice

S = 10**9
DAY = 86_400 * S
NOW = 1_800_000_000 * S
NOTICE = Notice(
    key="0123456789abcdef0123456789abcdef",
    event="firing",
    slo="checkout",
    group="route=/pay",
    alert="page-fast",
    severity="page",
    at_wall_ns=NOW,
    since_wall_ns=NOW - 60 * S,
    title="checkout burns its budget 20 times too fast",
    text="2.1 % of the 30-day budget in the last hour.\n312 bad of 18,040 valid.",
    labels={"slo": "checkout", "severity": "page", "owner": "pay"},
    annotations={"because": "money", "runbook_url": "https://example.com/runbook"},
    data={"bad": 312, "valid": 18_040, "burn": [20, 1]},
)


def notice(**changes: Any) -> Notice:
    return replace(NOTICE, **changes)


def soon(s: float = PATIENCE_S) -> int:
    return time.monotonic_ns() + round(s * S)


class Hook(Receiver):
    """A receiver of JSON: `bodies` holds the bytes, `told` what they say."""

    def __init__(self, answer: Answer = TAKEN) -> None:
        self.bodies: list[bytes] = []
        super().__init__(answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?team=pay"

    @property
    def told(self) -> list[Any]:
        return [json.loads(body) for body in self.bodies]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with self._came:
            self.paths.append(path)
            self.headers.append(headers)
            self.bodies.append(body)
            self._came.notify_all()
            return self.answers.pop(0) if self.answers else self.answer

    def wait_for(self, requests: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.bodies) >= requests, PATIENCE_S), "no request came"

    def wait_until(self, holds: Any) -> None:
        """Until what has come in is as `holds(self)` says."""
        with self._came:
            assert self._came.wait_for(lambda: holds(self), PATIENCE_S), self.bodies

    def encrypt(self, certificates: Path) -> str:
        """From now on over TLS; its URL."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        return self.url.replace("http://", "https://")


@contextmanager
def hooked(answer: Answer = TAKEN) -> Iterator[Hook]:
    hook = Hook(answer)
    thread = threading.Thread(target=hook.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.released.set()
        hook.shutdown()
        hook.server_close()
        thread.join(PATIENCE_S)


def make_certificate(where: Path) -> Path:
    """server.crt and server.key in `where`, for 127.0.0.1 and hook.example.com, its own authority."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    names = "subjectAltName=IP:127.0.0.1,DNS:hook.example.com"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=hook", "-addext", names]
    command += ["-keyout", str(where / "server.key"), "-out", str(where / "server.crt")]
    subprocess.run(command, check=True, capture_output=True)
    return where


class Names:
    """A name server: each look-up of a name takes its next answer, the last one for ever. `asked` counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[list[str]]) -> None:
        self.asked = 0
        self._answers = {name.replace("_", "."): found for name, found in answers.items()}
        self._really = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: str, port: Any, *args: Any, **options: Any) -> list[Any]:
        if host not in self._answers or options.get("flags") == socket.AI_NUMERICHOST:
            return self._really(host, port, *args, **options)
        self.asked += 1
        answers = self._answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [found for address in addresses for found in self._really(address, port, type=socket.SOCK_STREAM)]
