"""Brings reports to one destination from a thread of its own, so that a collector that hangs costs nobody a moment.

The leader's thread must show its heartbeat each second, so it never waits for a network. What it offers is the newest
truth about everything; an older report is worth nothing once there is a newer one, so there is no backlog.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from otelslo.exporters import Exporter, ExportFailed
from otelslo.report import Report

log = logging.getLogger("otelslo")

_SECOND_NS = 1_000_000_000
DEFAULT_INTERVAL_NS = 10 * _SECOND_NS
TIMEOUT_NS = 10 * _SECOND_NS
_LONGEST_WAIT_NS = 60 * _SECOND_NS
_LONGEST_ASKED_WAIT_NS = 600 * _SECOND_NS
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"


def chosen_interval_ns(env: Mapping[str, str]) -> int:
    """How often to export: OTEL_METRIC_EXPORT_INTERVAL, in ms, or 10 s."""
    text = env.get(_INTERVAL, "").strip()
    if not text:
        return DEFAULT_INTERVAL_NS
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 86_400_000):
        log.warning("%s is %r. Write a number of milliseconds, such as 10000; it is 10 s until then", _INTERVAL, text)
        return DEFAULT_INTERVAL_NS
    return int(text) * 1_000_000


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """What has become of the reports to one destination, since this process leads.

    `delivered` and `failed` are attempts, `rejected_points` what the destination said that it refused.
    `last_success_wall_ns` is the Unix time of the newest totals that arrived whole. `last_error` stays until then.
    """

    name: str
    delivered: int = 0
    failed: int = 0
    rejected_points: int = 0
    last_error: str | None = None
    last_success_wall_ns: int | None = None


class Delivery:
    """The way to one destination: a mailbox for one report, and a daemon thread that empties it.

    Args:
        fault: counts a fault of ours (reason, detail), once for each failed attempt.
        may_send: asked just before each attempt, whether this process still leads.
        interval_ns: time between two reports; by default that of the environment.
        timeout_ns: how long one attempt may take.
        monotonic_ns: the clock that `due` and `close` speak of.
        jitter: numbers from 0 to 1, so that a fleet does not come back all at once.
    """

    def __init__(
        self,
        name: str,
        exporter: Exporter,
        fault: Callable[[str, str], None],
        may_send: Callable[[], bool],
        interval_ns: int | None = None,
        *,
        timeout_ns: int = TIMEOUT_NS,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._exporter = exporter
        self._fault = fault
        self._may_send = may_send
        self._interval_ns = chosen_interval_ns(os.environ) if interval_ns is None else interval_ns
        self._timeout_ns = timeout_ns
        self._monotonic_ns = monotonic_ns
        self._jitter = jitter
        self._state = DeliveryState(name)
        self._failures = 0
        self._closing_at: int | None = None
        self._newest: Report | None = None  # not yet delivered
        self._refused = False  # whether `_newest` would be refused again
        self._next_ns: int | None = None
        self._renew()

    def _renew(self) -> None:
        """What a forked child cannot have from its parent: the lock may be held, and the thread is not there."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._sending = self._asked = False

    def _renew_in_child(self) -> None:
        if self._pid != os.getpid():
            self._newest = None
            self._renew()

    # ── the leader's side: never waits, never raises ───────────────────────────────────────────────────────────────
    def state(self) -> DeliveryState:
        return self._state

    @property
    def sending(self) -> bool:
        """Whether a report is on its way."""
        return self._sending or self._asked

    def due(self, now_ns: int) -> bool:
        """Whether it is time for a report (monotonic clock): not before the interval, or the wait after a failure, is
        over, and not while one is on its way."""
        self._renew_in_child()
        if self._closing_at is not None or self.sending:
            return False
        return self._next_ns is None or now_ns >= self._next_ns

    def offer(self, report: Report) -> None:
        """The newest report. It is sent at once where one is due; otherwise it is kept for `close`."""
        due = self.due(self._monotonic_ns())
        with self._changed:
            if self._closing_at is not None:
                return
            self._newest, self._refused = report, False
            if not due:
                return
            self._asked = True
            self._changed.notify_all()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"otelslo-{self._state.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as e:  # the interpreter is ending, or the system has no more threads
            self._asked = False
            self._failed(ExportFailed(f"no thread to send from: {e}"), self._newest)
        else:
            self._thread = thread

    def close(self, deadline_ns: int) -> None:
        """Send the newest report if it has not arrived and there is time, then stop; returns by `deadline_ns`.

        A thread that a peer holds is left behind: it is a daemon, and ends when its attempt does.
        """
        self._renew_in_child()
        with self._changed:
            if self._closing_at is not None:
                return
            self._closing_at = deadline_ns
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            self._let_go()
        else:
            thread.join(max(0, deadline_ns - self._monotonic_ns()) / _SECOND_NS)

    # ── the thread's side ──────────────────────────────────────────────────────────────────────────────────────────
    def _run(self) -> None:
        while self._wait():
            self._send(self._monotonic_ns() + self._timeout_ns)
        if not self._refused:
            self._send(self._closing_at or 0)
        self._let_go()

    def _wait(self) -> bool:
        """Until a report is to be sent; False when it is time to close."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closing_at is not None)
            return self._closing_at is None

    def _send(self, deadline_ns: int) -> None:
        with self._changed:
            report, self._asked = self._newest, False
            if report is None or self._monotonic_ns() >= deadline_ns:
                return
            self._sending = True
            self._next_ns = self._monotonic_ns() + self._interval_ns
        try:
            self._attempt(report, deadline_ns)
        finally:
            with self._changed:
                self._sending = False
                self._changed.notify_all()

    def _attempt(self, report: Report, deadline_ns: int) -> None:
        try:
            if not self._may_send():
                return
            self._exporter.export(report, deadline_ns)
        except ExportFailed as e:
            self._failed(e, report)
        except Exception as e:  # a fault of the exporter must not end its thread
            self._failed(ExportFailed(f"{type(e).__name__}: {e}"), report)
        else:
            self._arrived(report)

    def _arrived(self, report: Report) -> None:
        with self._changed:
            if self._newest is report:
                self._newest = None
        if self._failures:
            log.info("%s: arrives again, after %d attempts that failed", self._state.name, self._failures)
        self._failures = 0
        self._state = replace(
            self._state,
            delivered=self._state.delivered + 1,
            last_error=None,
            last_success_wall_ns=report.snapshot.wall_ns,
        )

    def _failed(self, error: ExportFailed, report: Report | None) -> None:
        self._failures += 1
        self._refused = not error.retryable and self._newest is report
        if error.retryable:
            self._next_ns = self._monotonic_ns() + self._wait_ns(error.retry_after_s)
        self._state = replace(
            self._state,
            failed=self._state.failed + 1,
            rejected_points=self._state.rejected_points + error.rejected_points,
            last_error=str(error),
        )
        if self._failures == 1:
            log.warning("%s: not delivered: %s", self._state.name, error)
        try:
            self._fault("export", f"{self._state.name}: {error}")
        except Exception:
            log.exception("a fault could not be counted")

    def _wait_ns(self, retry_after_s: float | None) -> int:
        """After a failure: the interval, doubled each time up to a minute, give or take a fifth; or what was asked."""
        longest = max(self._interval_ns, _LONGEST_WAIT_NS)
        wait = min(self._interval_ns << min(self._failures - 1, 40), longest)
        wait += wait * (round(self._jitter() * 400) - 200) // 1000
        asked = 0 if retry_after_s is None else round(retry_after_s * _SECOND_NS)
        return max(wait, min(asked, _LONGEST_ASKED_WAIT_NS))

    def _let_go(self) -> None:
        try:
            self._exporter.close(self._closing_at or 0)
        except Exception as e:
            log.warning("%s: not closed in order: %s: %s", self._state.name, type(e).__name__, e)
