"""An example as a reader would run it: its folder copied, its own commands in it, its own `slo.yaml` and state."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from live.servers import until
from live.watch import Watch

from otelslo.definition import FIRST_EXCLUDED
from otelslo.genai.series import Series, series_of

EXAMPLES = Path(__file__).parents[2] / "examples"
_LIMIT_S = 120.0  # only ends a test that hangs


class Example:
    """One example in a folder of its own. A context manager that leaves no process behind."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder / name
        shutil.copytree(EXAMPLES / name, self.folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OTELSLO_"))}
        self.environment = kept | {"NO_PROXY": "127.0.0.1"} | dict(environment or {})
        self.log = folder / "log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Example:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # uvicorn's workers too
            process.wait()
        for one in self._sockets:
            one.close()

    # ── running ────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, *command: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """A process that stays: `python -m` and this."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                pass_fds=fds,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def serve(self, app: str, workers: int = 1) -> int:
        """`uvicorn APP`, by its port."""
        listening = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listening)
        number = listening.fileno()
        more = ["--workers", str(workers)] if workers > 1 else []
        self.start("uvicorn", app, "--fd", str(number), "--log-level", "warning", *more, fds=(number,))
        port: int = listening.getsockname()[1]
        return port

    def run(self, *command: str, codes: tuple[int, ...] = (0,)) -> str:
        """What a command prints that ends by one of these codes: `python` and this."""
        ran = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
        assert ran.returncode in codes, f"{ran.stdout}\n{ran.stderr}\n{self.said()}"
        return ran.stdout

    def ask(self, port: int, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT_S)
        try:
            text = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, text, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-5000:] if self.log.exists() else ""

    # ── what was counted ───────────────────────────────────────────────────────────────────────────────────────────
    @property
    def ring(self) -> Path:
        return self.folder / ".otelslo" / "live.ring"

    def quiet(self) -> None:
        """Wait until nothing is in flight."""
        until(lambda: Watch(self.ring).reader.in_flight() == 0, "nothing is in flight", _LIMIT_S)

    def counted(self, slo: str) -> dict[str, int]:
        """Events of an objective once nothing is in flight: {"good": 3, "bad slow_ttft": 1}."""
        self.quiet()
        reader = Watch(self.ring).reader
        found: dict[str, int] = {}
        for row in range(reader.rows):
            key = reader.row_name(row)
            for cell, count in enumerate(reader.cells(row) if key.slo == slo else ()):
                if count:
                    side = "" if cell == 0 else "bad " if cell < FIRST_EXCLUDED else "excluded "
                    what = f"{side}{key.reasons[cell]}"
                    found[what] = found.get(what, 0) + count
        return found

    def gen_ai(self) -> dict[str, list[Series]]:
        """Series of the gen_ai metrics that have counted something, by their metric."""
        self.quiet()
        reader = Watch(self.ring).reader
        rows = ((reader.row_name(row), reader.row_birth_ns(row), reader.cells(row)) for row in range(reader.rows))
        found: dict[str, list[Series]] = {}
        for one in series_of(rows):
            if sum(one.buckets):
                found.setdefault(one.instrument.name, []).append(one)
        return found

    def faults(self) -> dict[str, int]:
        """Failures of our own, by reason, without those that are 0."""
        return {reason: count for reason, count in Watch(self.ring).faults().items() if count}

    def statuses(self) -> dict[str, Any]:
        """What `otelslo status --json` says, by objective; its code is 1 where one is breached."""
        said = self.run("-m", "otelslo", "status", "--json", codes=(0, 1))
        return {one["slo"]: one for one in json.loads(said)}
