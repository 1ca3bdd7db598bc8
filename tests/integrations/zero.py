"""A service under the real `opentelemetry-instrument`, a client that sends a fixed number, and what the ring then says.

The test listens and hands the socket on, so that no port is lost to somebody else and a request waits for its worker.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from live.servers import until, warm_state
from live.watch import Owner, Watch

from otelslo.definition import FIRST_EXCLUDED

APPS = Path(__file__).with_name("apps")
INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
NUMBERS = {"/ok": 60, "/items/7": 20, "/items/8": 11, "/boom": 9, "/raise": 7, "/forbidden": 5, "/missing": 3}
TOTAL = sum(NUMBERS.values())
_STATUSES = {"/boom": 500, "/raise": 500, "/forbidden": 403, "/missing": 404}
_CONNECTIONS = 8
_PATIENCE_S = 90.0
CONFIG = """
slos:
  - name: answered
    group_by: route
    target: "99%"
  - name: fast
    indicator: latency
    threshold: 120s
    target: "95%"
"""
# Otherwise `opentelemetry-instrument` looks for a collector.
_QUIET = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
_UNAUTHORISED, _CLIENT_ERROR = "excluded unauthorised", "excluded client_error"
_KINDS = {"/boom": "bad 5xx", "/raise": "bad 5xx", "/forbidden": _UNAUTHORISED, "/missing": _CLIENT_ERROR}


def _status(path: str) -> int:
    return _STATUSES.get(path[path.rindex("/") :], 200)


def expected(routes: Mapping[str, str | None], numbers: Mapping[str, int] = NUMBERS) -> dict[str, dict[str, int]]:
    """What `counted` is to give. `routes`: templates by path; other paths are their own, but for /missing."""
    found: dict[str, Counter[str]] = {}
    for path, number in numbers.items():
        template = routes.get(path, None if path.endswith("/missing") else path)
        kind = _KINDS.get(path[path.rindex("/") :], "good")
        found.setdefault("(unknown)" if template is None else f"route={template}", Counter())[kind] += number
    return {group: dict(kinds) for group, kinds in found.items()}


class Zero:
    """One service; a context manager that leaves no process behind.

    Args:
        command: of the service; `{fd}` stands for the listening socket.
        instrument: the command before it.
    """

    def __init__(
        self,
        directory: Path,
        command: Sequence[str],
        *,
        config: str = CONFIG,
        environment: Mapping[str, str] | None = None,
        instrument: Sequence[str] = (os.fspath(INSTRUMENT),),
    ) -> None:
        self.state_dir = directory / "state"
        self.log = directory / "log"
        warm_state(self.state_dir)
        (directory / "slo.yaml").write_text(config)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        fd = self._listening.fileno()
        self._command = [*instrument, *(part.replace("{fd}", str(fd)) for part in command)]
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")} | _QUIET
        self._environment |= {
            "PATH": os.pathsep.join([os.fspath(INSTRUMENT.parent), os.environ.get("PATH", "")]),
            "OTELSLO_CONFIG": os.fspath(directory / "slo.yaml"),
            "OTELSLO_STATE_DIR": os.fspath(self.state_dir),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(environment or {}),
        }

    def __enter__(self) -> Zero:
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                cwd=APPS,
                env=self._environment,
                pass_fds=[self._listening.fileno()],
            )
        self.pid = self._process.pid
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE_S)
            finally:
                self._process.kill()
        self._listening.close()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def _ask(self, path: str) -> tuple[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return path, answer.status
        finally:
            connection.close()

    def send_all(self, numbers: Mapping[str, int] = NUMBERS) -> None:
        """Send each path so many times, over a few connections at a time; every answer must be the app's own."""
        paths = [path for path, number in numbers.items() for _ in range(number)]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            try:
                answers = Counter(pool.map(self._ask, paths))
            except OSError as e:
                raise AssertionError(f"the service does not answer: {e!r}\n{self.said()}") from e
        expected = Counter({(path, _status(path)): number for path, number in numbers.items()})
        assert answers == expected, self.said()

    # ── what the ring says ─────────────────────────────────────────────────────────────────────────────────────────
    def counted(self) -> dict[str | None, dict[str, int]]:
        """By route: "good", "bad REASON", "excluded REASON"."""
        reader = Watch(self.state_dir / "live.ring").fresh()
        found: dict[str | None, dict[str, int]] = {}
        for row in range(reader.rows):
            name = reader.row_name(row)
            if name.slo != "answered":
                continue
            for cell, (reason, count) in enumerate(zip(name.reasons, reader.cells(row), strict=True)):
                kind = "good" if cell == 0 else f"bad {reason}" if cell < FIRST_EXCLUDED else f"excluded {reason}"
                if count:
                    found.setdefault(name.group, {})[kind] = count
        return found

    def total(self) -> int:
        """Every event of every route."""
        return sum(sum(kinds.values()) for kinds in self.counted().values())

    def settle(self, total: int = TOTAL) -> None:
        """Wait until all is counted: an end is committed after the client has its answer. More than `total` fails."""
        until(lambda: self.total() >= total and self._in_flight() == 0, f"{total} events are counted")
        assert self.total() == total, self.counted()

    def _in_flight(self) -> int:
        return sum(owner.in_flight for owner in self.owners())

    def owners(self) -> list[Owner]:
        """The processes that have a block of the ring."""
        return Watch(self.state_dir / "live.ring").owners()
