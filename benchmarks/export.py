"""What an export over OTLP costs the leader's process: the report encoded, sent to a collector on this host and judged.

The collector is a process of its own, which reads and answers. CPU time is that of the exporting thread; divide by the
10 s between two exports for its share of a core. A row has up to 15 named cells, and its gauges.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import ours
from .harness import Plan, Unavailable, expect
from .results import Results

ROWS = (10, 100, 1000)
NAMES = tuple(f"export_{rows}_rows_{what}" for rows in ROWS for what in ("cpu_ms", "ms", "points"))
_COLLECTOR = """
import socket, socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            length, line = 0, self.rfile.readline()
            while line not in (b"\\r\\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                line = self.rfile.readline()
            if not line:
                return
            self.rfile.read(length)
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    try:
        from otelslo.exporters.otlp import create
        from otelslo.exporters.otlp_points import requests
    except ImportError as error:
        raise Unavailable(f"OpenTelemetry cannot be loaded: {error}") from error
    from opentelemetry.sdk.resources import Resource

    with _collector() as port:
        exporter = create({"endpoint": f"http://127.0.0.1:{port}/v1/metrics"})
        for rows in ROWS:
            report = ours.report(rows)
            points = sum(points for points, _ in requests(report, Resource({})))
            cpu_ms, wall_ms = _times(exporter, report, max(3, plan.rounds // 2))
            expect("the report", sum(len(key) > 0 for key in report.snapshot.row_keys), rows)
            note = f"{points} points in {-(-points // 500)} requests"
            results.figure(f"export_{rows}_rows_cpu_ms", cpu_ms, note)
            results.figure(f"export_{rows}_rows_ms", wall_ms, note)
            results.figure(f"export_{rows}_rows_points", [points])


def _times(exporter: Any, report: Any, rounds: int) -> tuple[list[float], list[float]]:
    cpu_ms, wall_ms = [], []
    for turn in range(rounds + 1):
        cpu, wall = time.thread_time_ns(), time.monotonic_ns()
        exporter.export(report, wall + 60 * 10**9)  # raises unless everything arrived
        if turn:  # the first one loads what the others find
            cpu_ms.append((time.thread_time_ns() - cpu) / 1e6)
            wall_ms.append((time.monotonic_ns() - wall) / 1e6)
    return cpu_ms, wall_ms


@contextmanager
def _collector() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", _COLLECTOR], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
