"""Probes and gauges of a real server: one that passes its health check and fails its requests, and blocks its loop."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli.invoke import invoke

from otelslo.ring.reader import open_reader
from otelslo.rowkey import SELF

APP = Path(__file__).with_name("probed_app.py")
PATIENCE_S = 60.0


class Served:
    def __init__(self, state_dir):
        self.state_dir = state_dir
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            command = [sys.executable, str(APP), str(listening.fileno()), str(self.port), str(state_dir)]
            self.process = subprocess.Popen(command, pass_fds=[listening.fileno()], stderr=subprocess.PIPE)

    def ask(self, path):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        except ConnectionError:
            pytest.fail(f"the server did not start:\n{self.process.stderr.read().decode()}")

    def status(self):
        shown = invoke("status", "--state-dir", self.state_dir, "--json")
        return {one["slo"]: one for one in json.loads(shown.stdout)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("probed"))
    try:
        yield served
    finally:
        served.process.kill()
        served.process.communicate()


def test_a_server_that_passes_its_health_check_and_fails_its_requests_shows_as_such(server):
    assert server.ask("/work").startswith("HTTP/1.1 500")
    assert "HTTP/1.1 200" in server.ask("/counted?slo=up&good=1")
    assert "HTTP/1.1 200" in server.ask("/counted?slo=requests&bad=1")
    status = server.status()
    assert (status["up"]["sli"], status["up"]["met"], status["up"]["bad"]) == (1.0, True, 0)
    assert (status["requests"]["sli"], status["requests"]["met"], status["requests"]["bad"]) == (0.0, False, 1)
    assert status["requests"]["excluded"] == 0  # its own probes are requests of another route


def test_a_text_in_the_answer_tells_more(server):
    server.ask("/counted?slo=up-text&bad=1")
    assert server.status()["up-text"]["good"] == 0
    found = json.loads(invoke("explain", "up-text", "--state-dir", server.state_dir, "--json").stdout)
    assert "wrong_body" in json.dumps(found)


def test_a_blocked_loop_is_a_bad_sample(server):
    """300 ms are more than half as long again as 100 ms, so they are seen for certain."""
    before = server.status()["lag"]
    assert "blocked" in server.ask("/block")
    server.ask(f"/counted?slo=lag&bad={before['bad'] + 1}")


def test_memory_is_sampled(server):
    pytest.importorskip("psutil", reason="memory is measured by psutil")
    server.ask("/counted?slo=memory&good=2")
    assert server.status()["memory"]["bad"] == 0


def test_gauges_of_the_app_are_sampled(server):
    server.ask("/counted?slo=depth&bad=2")
    assert server.status()["depth"]["good"] == 0


def test_z_it_ends_as_any_server_does(server):
    """With probes and timers under way: at once when asked to, without a word, and with nothing counted as a fault."""
    server.process.send_signal(signal.SIGTERM)
    _, errors = server.process.communicate(timeout=PATIENCE_S)
    assert errors.decode() == ""
    reader = open_reader(server.state_dir / "live.ring")
    faults = [row for row in range(reader.rows) if reader.row_name(row).slo == SELF]
    assert [reader.counts(row).bad for row in faults] == [0]
