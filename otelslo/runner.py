"""The background thread of each worker: it keeps house, and tries to lead. While an agent process lives (see
`otelslo agent`), that one leads and no worker does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from otelslo.errors import OtelsloError
from otelslo.kernels import layout as at
from otelslo.leader import STALE_HEARTBEAT_NS, Leader
from otelslo.ring import state
from otelslo.ring.locks import FileLock
from otelslo.sampling import Sampling
from otelslo.watch import FileWatch

if TYPE_CHECKING:
    from otelslo.engine import Engine

log = logging.getLogger("otelslo")

TICK_S = 1.0
_JOIN_S = 5.0
_LOOK_S = 0.01
_GLANCE_S = 0.1


class Runner:
    """One engine's background work; `tick` may also be called by hand (tests, manual clocks).

    Args:
        agent: whether this process is there to lead for all workers.
    """

    def __init__(self, engine: Engine, agent: bool = False) -> None:
        self._engine = engine
        self._is_agent = agent
        self._agent_lock: FileLock | None = None
        self._watch = FileWatch(engine.config_path) if engine.config_path else None
        self.leader = Leader(engine)
        self.store = self.leader.store
        self.sampling = Sampling(engine, agent)
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._stop = threading.Event()
        self._wake = _closed_gate()
        self._turn = threading.RLock()

    @property
    def leading(self) -> bool:
        return self.leader.leading

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self) -> None:
        """Begin the thread; again after a fork, in the child."""
        self._renew_in_child()
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="otelslo", daemon=True)
        # Signals are the app's: a thread inherits this mask, and so do those that exporters start from it.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def stop(self) -> None:
        """End the thread; a leader, or the last worker to stop, commits a last time."""
        self._renew_in_child()
        self._stop.set()
        self.want()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_JOIN_S)
        with self._turn:
            try:
                if self.leading or thread is not None:
                    self._commit_at_the_end()
            except Exception as e:
                self.leader.problem(f"the last commit failed: {type(e).__name__}: {e}")
            self.sampling.end()
            self.leader.end()
            self.store.close()
            self._leave_agency()

    def _renew_in_child(self) -> None:
        """A forked child has neither the thread nor the leadership, and its locks may be held by nobody."""
        if self._pid != os.getpid():
            self._turn, self._stop, self._wake = threading.RLock(), threading.Event(), _closed_gate()
            self._thread, self._agent_lock = None, None
            self.leader.forget()
            self.sampling = Sampling(self._engine, self._is_agent)
            self._pid = os.getpid()

    def _commit_at_the_end(self) -> None:
        """Have everything that this worker counted committed, by itself unless a leader goes on."""
        ring = self._engine.ring
        if ring.path is None or not self._engine.ring.blocks.attached:
            return
        if self.leading:
            self.leader.lead(last=True)
            return
        give_up_at = time.monotonic() + _JOIN_S
        while True:
            self.leader.try_to_lead()
            if self.leading or ring.reader.leader_block is not None or time.monotonic() > give_up_at:
                break
            time.sleep(_LOOK_S)
        if self.leading:
            self.leader.lead(last=True)

    def want(self) -> None:
        """A request has met a new group, route or exception: it need not wait for the next tick. Waits for no lock."""
        with contextlib.suppress(RuntimeError):  # open already
            self._wake.release()

    def _run(self) -> None:
        """Sleeping through to the next tick: to look up ten times a second took 1 ms of CPU in each."""
        next_tick = time.monotonic() + TICK_S
        while not self._stop.is_set():
            wanted = self._wake.acquire(timeout=max(0.0, next_tick - time.monotonic()))
            if self._stop.wait(_GLANCE_S if wanted else 0):
                break
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_S
                self.tick()
            elif wanted:
                self._guarded(self._engine.housekeeping)

    def tick(self) -> None:
        """One turn: keep house, try to lead, lead. Never raises."""
        self._guarded(self._turn_once)

    def _guarded(self, work: Callable[[], None]) -> None:
        with self._turn:
            try:
                work()
            except Exception as e:
                self.leader.problem(f"background work failed: {type(e).__name__}: {e}")
                self._engine.fault("internal", f"{type(e).__name__}: {e}")

    def _turn_once(self) -> None:
        self._take_over_configuration()
        self._engine.housekeeping()
        if self._engine.ring.path is None:
            self._sample(leads=True)
            self.leader.lead_alone()
            return
        yields = self._yields()
        if self.leading and (yields or not self.leader.may_go_on()):
            self.leader.step_down()
        if not self.leading and not yields:
            self.leader.try_to_lead()
        self._sample(leads=self.leading)
        if self.leading:
            try:
                self.leader.lead()
            except Exception:
                self.leader.step_down()  # another worker may lead, or this one from the beginning
                raise

    def _sample(self, leads: bool) -> None:
        engine = self._engine
        self.sampling.turn(engine.slos, engine.clock.ring_ns(), leads)

    def _take_over_configuration(self) -> None:
        """A file that has been changed is read again; a bad one is refused, and the old objectives stay."""
        if self._watch is None or not self._watch.changed():
            return
        try:
            told = self._engine.reload()
        except OtelsloError as e:
            log.error("the changed configuration is refused, the old one stays in force: %s", e)
            if self.leading:
                self.leader.note("configuration", f"refused: {e}")
            return
        if self.leading:
            self.leader.note("configuration", told)

    # ── an agent that leads for all ────────────────────────────────────────────────────────────────────────────────
    def _yields(self) -> bool:
        """Whether an agent process leads for this worker. One that stands still for long does not."""
        path = self.leader.locks / state.AGENT_LOCK
        now = self._engine.clock.ring_ns()
        if self._is_agent:
            if self._agent_lock is None:
                lock = FileLock(path)
                self._agent_lock = lock if lock.acquire(wait=False) else None
            if self._agent_lock is not None:
                self._engine.ring.put(at.M_AGENT_NS, now)
            return self._agent_lock is None  # there is another agent, or a worker has just looked
        if not path.exists():
            return False
        probe = FileLock(path)
        if probe.acquire(wait=False):
            probe.release()
            return False
        return now - self._engine.ring.reader.agent_heartbeat_ns < STALE_HEARTBEAT_NS

    def _leave_agency(self) -> None:
        lock, self._agent_lock = self._agent_lock, None
        if lock is not None:
            lock.release()


def _closed_gate() -> threading.Lock:
    """A lock that is held: whoever wants the thread awake releases it."""
    gate = threading.Lock()
    gate.acquire()
    return gate
