"""The demo's plot: calm, an incident with a killed worker in its middle, recovery; and what was seen meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Protocol

from otelslo.cli import state
from otelslo.cli.demo_app import CHECKOUT, EVERYTHING, SEARCH
from otelslo.cli.demo_ledger import Account, tally
from otelslo.cli.demo_processes import DemoFailed, Load, Servers
from otelslo.cli.state import View
from otelslo.status import Status
from otelslo.window import SECOND_NS

RATE = 400.0
CONNECTIONS = 48
_SHORTEST_LOAD_S = 4.0
_WRAP_UP_S = 1.5
_TICK_S = 0.1
_LOOK_S = 0.5
_PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the load, from this share of its time on."""

    begins: float
    name: str
    trouble: tuple[str, ...] = ()
    kills: bool = False


PHASES = (
    Phase(0.0, "calm"),
    Phase(0.30, "incident: checkouts fail, searches are slow", (CHECKOUT, SEARCH)),
    Phase(0.50, "incident: one worker killed by SIGKILL, a new one starts", (CHECKOUT, SEARCH), kills=True),
    Phase(0.70, "recovery"),
)


class Stopped(Exception):
    """Somebody has had enough."""


class Watcher(Protocol):
    """Who shows the run."""

    def phase(self, name: str) -> None: ...
    def show(self) -> None: ...


@dataclass
class Peak:
    """The highest 5-minute burn rate of one objective, and its alerts: severity, and when it fired, in seconds into the
    incident, by the alert's name."""

    burn: Fraction = Fraction(0)
    alerts: dict[str, tuple[str, float]] = field(default_factory=dict)


class Run:
    """One demo. `play` does it; the rest is what is known so far, for whoever shows it.

    Args:
        seconds: for all of it; a start that takes long leaves less for the load, at least 4.
        stop: set by someone who wants it to end.
    """

    def __init__(self, state_dir: Path, config: Path, *, seconds: float, workers: int, port: int, stop: Event) -> None:
        self.state_dir = state_dir
        self.config = config
        self.seconds = seconds
        self.workers = workers
        self.load_s = 0.0
        self.started = time.monotonic()
        self.load: Load | None = None
        self.view: View | None = None
        self.statuses: list[Status] = []
        self.peaks: dict[str, Peak] = {}
        self.account: Account | None = None
        self.killed_pid: int | None = None
        self._port = port
        self._stop = stop
        self._before: dict[str, int] = {}
        self._incident_at = 0.0
        self._settled_at: int | None = None
        self._watcher: Watcher | None = None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def play(self, watcher: Watcher) -> None:
        """All of it, in about `seconds`. Raises DemoFailed, or Stopped; leaves no process behind."""
        self._watcher = watcher
        watcher.phase(f"{self.workers} workers start" if self.workers > 1 else "a worker starts")
        with Servers(self.state_dir, self.config, self._port) as servers:
            for _ in range(self.workers):
                servers.start()
            self._wait(servers, servers.ready, "the workers did not start")
            self._look()
            self._before = self._counted()
            self.load_s = max(_SHORTEST_LOAD_S, self.seconds - self.elapsed_s - _WRAP_UP_S)
            with Load(servers, self.state_dir, RATE, CONNECTIONS, self.load_s) as load:
                self.load = load
                self._under_load(servers, load)
            watcher.phase("the two accounts are drawn up")
            self._wait(servers, servers.ready, "the new worker did not start")
            self._wait(servers, self._settled, "the counts did not settle")
            servers.stop()
        self._look()
        self._draw_up()

    # ── the plot ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _under_load(self, servers: Servers, load: Load) -> None:
        assert self._watcher is not None
        while not load.begun and not load.done:
            self._pause()
        begin, look_at = time.monotonic(), 0.0
        coming = list(PHASES)
        while not load.done:
            now = time.monotonic()
            while coming and now - begin >= coming[0].begins * self.load_s:
                self._enter(coming.pop(0), servers, load)
            if now >= look_at:
                look_at = now + _LOOK_S
                self._look()
            servers.check()
            self._watcher.show()
            self._pause()

    def _enter(self, phase: Phase, servers: Servers, load: Load) -> None:
        assert self._watcher is not None
        self._watcher.phase(phase.name)
        servers.trouble(*phase.trouble)
        if phase.trouble and not self._incident_at:
            self._incident_at = time.monotonic()
        if phase.kills:
            self.killed_pid = servers.kill(load.busiest_worker())
            servers.start()

    def _wait(self, servers: Servers, until: Callable[[], bool], otherwise: str) -> None:
        """Until `until()` is true, showing the run meanwhile. Raises DemoFailed if it never is."""
        assert self._watcher is not None
        deadline = time.monotonic() + _PATIENCE_S
        while not until():
            if time.monotonic() > deadline:
                raise DemoFailed(f"{otherwise} in {_PATIENCE_S:.0f} s; see {servers.log_path}")
            servers.check()
            self._watcher.show()
            self._pause()

    def _pause(self) -> None:
        if self._stop.wait(_TICK_S):
            raise Stopped

    # ── what is seen ───────────────────────────────────────────────────────────────────────────────────────────────
    def _look(self) -> None:
        self.view = state.look(self.state_dir)
        self.statuses = self.view.statuses()
        for status in self.statuses:
            peak = self.peaks.setdefault(status.slo, Peak())
            peak.burn = max(peak.burn, status.burn.get("5m") or Fraction(0))
            for alert in status.alerts:
                if alert["state"] == "firing" and self._incident_at:
                    fired = (alert["severity"], max(0.0, time.monotonic() - self._incident_at))
                    peak.alerts.setdefault(alert["name"], fired)

    def _settled(self) -> bool:
        """Nothing is in flight, the killed worker's requests are booked, and all of it is committed."""
        self._look()
        assert self.view is not None
        reader = self.view.reader
        if reader is None or reader.in_flight():
            return False
        if self._settled_at is None:
            self._settled_at = self.view.now_ns
        return reader.committed_ns > self._settled_at + SECOND_NS // 100

    def _counted(self) -> dict[str, int]:
        """Counts by class of answer of the objective that sees every request."""
        assert self.view is not None
        rows = self.view.rows
        meanings = {d.meaning for d in self.view.definitions if d.name == EVERYTHING}
        cells: dict[str, int] = {}
        for row in range(rows.rows):
            name = rows.row_name(row)
            if name.slo == EVERYTHING and name.meaning in meanings:
                for reason, count in zip(name.reasons, rows.cells(row), strict=True):
                    cells[reason] = cells.get(reason, 0) + count
        return tally(cells)

    def _draw_up(self) -> None:
        assert self.load is not None
        counted = {name: count - self._before[name] for name, count in self._counted().items()}
        self.account = Account(self.load.latest["ended"], counted)
