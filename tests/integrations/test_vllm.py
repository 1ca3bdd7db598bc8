"""vLLM's API server as `--middleware` changes it: the app of vllm_app.py under real uvicorn."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live.servers import until
from live.watch import Watch

from otelslo.definition import FIRST_EXCLUDED

pytest.importorskip("fastapi", reason="needs fastapi")

CONFIGURATION = """
slos:
  - {name: a, target: "99%", window: 1d, group_by: route}
  - {name: own, target: "99%", window: 1d, group_by: route, health_checks: [/version, /load]}
"""
TESTS = Path(__file__).parents[1]
CHAT = "/v1/chat/completions"


class Served:
    def __init__(self, folder: Path, *middleware: str) -> None:
        self.ring = folder / "state" / "live.ring"
        (folder / "slo.yaml").write_text(CONFIGURATION)
        environment = os.environ | {
            "OTELSLO_CONFIG": os.fspath(folder / "slo.yaml"),
            "OTELSLO_STATE_DIR": os.fspath(folder / "state"),
        }
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            command = [sys.executable, "-m", "integrations.vllm_app", str(listening.fileno()), *middleware]
            self.process = subprocess.Popen(command, cwd=TESTS, pass_fds=[listening.fileno()], env=environment)

    def ask(self, path: str, leave: bool = False, **body: Any) -> tuple[int, bytes]:
        """Status and body; `leave`: go after the third event."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
            answer = connection.getresponse()
            return answer.status, b"".join(answer.readline() for _ in range(6)) if leave else answer.read()
        finally:
            connection.close()

    def counted(self, slo: str = "a") -> dict[str, int]:
        """Once nothing is in flight: {"/health excluded health_check": 1}."""
        reader = Watch(self.ring).reader
        until(lambda: reader.in_flight() == 0, "all requests have ended")
        found = {}
        for row in range(reader.rows):
            name = reader.row_name(row)
            for cell, count in enumerate(reader.cells(row) if name.slo == slo else ()):
                side = "" if cell == 0 else "bad " if cell < FIRST_EXCLUDED else "excluded "
                if count:
                    found[f"{(name.group or '').removeprefix('route=')} {side}{name.reasons[cell]}"] = count
        return found


@pytest.fixture(params=["SLOMiddleware", "FirstTokenMiddleware"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Both middlewares are named, and the same engine counts a request once."""
    other = "otelslo.asgi.SLOMiddleware"
    server = Served(tmp_path, other, f"otelslo.integrations.vllm.{request.param}")
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def test_requests_of_a_model_server(served):
    for path in ("/health", "/ping", "/version", "/load"):
        assert served.ask(path)[0] == 200
    assert served.ask(CHAT, model="m")[0] == 200
    assert served.ask(CHAT, model="m", stream=True)[1].endswith(b"data: [DONE]\n\n")
    assert served.ask(CHAT, model="missing")[0] == 404
    assert served.ask(CHAT, model="dead")[0] == 500
    assert served.ask(CHAT, leave=True, model="endless", stream=True)[0] == 200
    chats = {
        f"{CHAT} good": 2,
        f"{CHAT} excluded client_error": 1,
        f"{CHAT} bad exception": 1,
        f"{CHAT} excluded client_cancel": 1,
    }
    assert served.counted() == chats | {
        "/health excluded health_check": 1,
        "/ping excluded health_check": 1,
        "/version good": 1,
        "/load good": 1,
    }
    assert served.counted("own") == chats | {
        "/health good": 1,
        "/ping good": 1,
        "/version excluded health_check": 1,
        "/load excluded health_check": 1,
    }
    assert not Watch(served.ring).faults()


def test_metrics_are_a_health_check(served):
    assert served.ask("/metrics")[0] == 200
    assert served.counted() == {"/metrics/* excluded health_check": 1}
