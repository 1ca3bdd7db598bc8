"""The background thread of each worker: it keeps house, and in one worker of the host it leads.

The leader settles dead workers, opens idle rows, reads the ring once a second and commits what it read to SQLite; all
that is decided or exported comes from what was committed. Leading needs the leader's lock; a stopped leader keeps it,
so when the heartbeat is old another worker leads without, and the fencing number in the database decides. While an
agent process lives (see `otelslo agent`), it leads and no worker does.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from otelslo.committed import CommittedRows
from otelslo.dispatch import Dispatch
from otelslo.errors import OtelsloError, StateError
from otelslo.evaluate import statuses
from otelslo.exporters.sqlite import Fenced, Outdated, Store, StoreUnavailable
from otelslo.kernels import layout as at
from otelslo.report import Report
from otelslo.ring import state
from otelslo.ring.collect import Collector
from otelslo.ring.locks import FileLock
from otelslo.snapshot import Saved, Snapshot
from otelslo.watch import FileWatch

if TYPE_CHECKING:
    from otelslo.engine import Engine

log = logging.getLogger("otelslo")

TICK_S = 1.0
_STALE_HEARTBEAT_NS = 5_000_000_000
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
        self.dispatch = Dispatch(engine.exporters, engine.fault, self._may_send)
        longest_ns = max((slo.window_ns for slo in engine.slos), default=0)
        self.store = Store(engine.state_dir / state.DATABASE_FILE, engine.retention_ns, longest_ns)
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._stop = threading.Event()
        self._wanted = False
        self._turn = threading.RLock()
        self._lock: FileLock | None = None
        self._fencing: int | None = None
        self._collector: Collector | None = None
        self._last_problem = ""
        self._noted = 0

    @property
    def leading(self) -> bool:
        return self._fencing is not None

    def _may_send(self) -> bool:
        """Nobody sends for a ring that another leads by now; a ring in private memory has one worker only."""
        ring = self._engine.ring
        return ring.path is None or (self.leading and ring.reader.leader_block in (None, ring.blocks.index))

    def saved(self) -> Saved | None:
        """What a rebuild starts from; None if there is no usable database."""
        try:
            notices = self.store.open(self._engine.clock.wall_ns())
            saved = self.store.load()
        except StateError as e:
            log.warning("nothing to rebuild from: %s", e)
            return None
        for notice in notices:
            log.warning("%s", notice)
        return saved

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
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_JOIN_S)
        with self._turn:
            try:
                if self.leading or thread is not None:
                    self._commit_at_the_end()
            except Exception as e:
                self._problem(f"the last commit failed: {type(e).__name__}: {e}")
            self.dispatch.end()
            self._step_down()
            self.store.close()
            self._leave_agency()

    def _renew_in_child(self) -> None:
        """A forked child has neither the thread nor the leadership, and its locks may be held by nobody."""
        if self._pid != os.getpid():
            self._turn, self._stop = threading.RLock(), threading.Event()
            self._thread, self._lock, self._fencing, self._collector = None, None, None, None
            self._agent_lock = None
            self.dispatch.forget()
            self._pid = os.getpid()

    def _commit_at_the_end(self) -> None:
        """Have everything that this worker counted committed, by itself unless a leader goes on."""
        ring = self._engine.ring
        if ring.path is None or not self._engine.ring.blocks.attached:
            return
        if self.leading:
            self._lead(last=True)
            return
        give_up_at = time.monotonic() + _JOIN_S
        while True:
            self._try_to_lead()
            if self.leading or ring.reader.leader_block is not None or time.monotonic() > give_up_at:
                break
            time.sleep(_LOOK_S)
        if self.leading:
            self._lead(last=True)

    def want(self) -> None:
        """A request has met a new group, route or exception: it need not wait for the next tick. Takes no lock."""
        self._wanted = True

    def _run(self) -> None:
        next_tick = time.monotonic() + TICK_S
        while not self._stop.wait(_GLANCE_S):
            if self._wanted:
                self._wanted = False
                self._guarded(self._engine.housekeeping)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_S
                self.tick()

    def tick(self) -> None:
        """One turn: keep house, try to lead, lead. Never raises."""
        self._guarded(self._turn_once)

    def _guarded(self, work: Callable[[], None]) -> None:
        with self._turn:
            try:
                work()
            except Exception as e:
                self._problem(f"background work failed: {type(e).__name__}: {e}")
                self._engine.fault("internal", f"{type(e).__name__}: {e}")

    def _turn_once(self) -> None:
        self._take_over_configuration()
        self._engine.housekeeping()
        if self._engine.ring.path is None:
            self._lead_alone()
            return
        yields = self._yields()
        if self.leading and (yields or not self._may_go_on_leading()):
            self._step_down()
        if not self.leading and not yields:
            self._try_to_lead()
        if self.leading:
            try:
                self._lead()
            except Exception:
                self._step_down()  # another worker may lead, or this one from the beginning
                raise

    def _take_over_configuration(self) -> None:
        """A file that has been changed is read again; a bad one is refused, and the old objectives stay."""
        if self._watch is None or not self._watch.changed():
            return
        try:
            told = self._engine.reload()
        except OtelsloError as e:
            log.error("the changed configuration is refused, the old one stays in force: %s", e)
            if self.leading:
                self._note("configuration", f"refused: {e}")
            return
        if self.leading:
            self._note("configuration", told)

    # ── an agent that leads for all ────────────────────────────────────────────────────────────────────────────────
    def _yields(self) -> bool:
        """Whether an agent process leads for this worker. One that stands still for long does not."""
        path = self._locks / state.AGENT_LOCK
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
        return now - self._engine.ring.reader.agent_heartbeat_ns < _STALE_HEARTBEAT_NS

    def _leave_agency(self) -> None:
        lock, self._agent_lock = self._agent_lock, None
        if lock is not None:
            lock.release()

    # ── leading ────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def _locks(self) -> Path:
        assert self._engine.ring.path is not None
        return self._engine.ring.path.parent / state.LOCKS

    def _may_go_on_leading(self) -> bool:
        """Not in a ring whose file somebody has replaced: the new one has its own leader, and its own history."""
        there = self._engine.ring.file_is()
        if there != "ours":
            self._engine.own_faults.say_once(
                "live.ring was removed or replaced under the running workers; restart them to share one again"
            )
        return there != "another"

    def _try_to_lead(self) -> None:
        ring = self._engine.ring
        if ring.file_is() == "another":
            return
        now = self._engine.clock.ring_ns()
        lock = FileLock(self._locks / state.LEADER_LOCK)
        if not lock.acquire(wait=False):
            # The holder is alive; it leads unless it has stood still for long.
            if now - ring.reader.leader_heartbeat_ns < _STALE_HEARTBEAT_NS:
                return
            lock = None  # type: ignore[assignment]
        self._lock = lock
        try:
            for notice in self.store.open(self._engine.clock.wall_ns()):
                self._tell("store", notice)
            fencing = self.store.acquire_leadership(f"pid {os.getpid()}", self._engine.clock.wall_ns())
            self._collector = Collector(ring, self.store)
            self._fencing = fencing
        except StateError as e:
            # No database: dead workers are settled and rows opened all the same.
            self._problem(f"history is not written: {e}")
            self._beat(now)
            self._tend()
            self._step_down()
            return
        self._beat(now)
        self.dispatch.begin()
        notices, self._noted = self._engine.notices[self._noted :], len(self._engine.notices)
        for notice in notices:
            self._note("ring", notice)  # the engine has logged it when it started

    def _step_down(self) -> None:
        self._fencing, self._collector = None, None
        self.dispatch.end(grace_ns=0)
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _lead(self, last: bool = False) -> None:
        engine, ring = self._engine, self._engine.ring
        now = engine.clock.ring_ns()
        self._beat(now, leaving=last)
        self._tend()
        moved = ring.note_wall(engine.clock.wall_ns())
        if moved is not None:
            self._tell("clock", f"the wall clock was stepped by {moved / 1e9:+.3f} s; no event or window moves with it")
        self._commit(now, last)

    def _commit(self, now_ns: int, last: bool) -> None:
        if self._fencing is None or self._collector is None:
            return
        engine = self._engine
        snapshot = self._collector.collect(now_ns, engine.definitions_json)
        closing = last or snapshot.closes or self.store.needs_full
        report = self._report(snapshot) if closing or self._is_due() else None
        decided = json.dumps([status.to_json() for status in report.statuses]) if report and closing else None
        try:
            self.store.commit(snapshot, self._fencing, decided, full=self._collector.full)
        except (Fenced, Outdated) as e:
            self._problem(f"no longer leading: {e}")
            self._step_down()
        except StoreUnavailable as e:
            self._problem(f"history is not written, counting goes on: {e}")
        else:
            self._collector.committed(snapshot)
            engine.ring.put(at.M_COMMITTED_NS, snapshot.at_ns)
            engine.ring.put(at.M_COMMITTED_SEQ, snapshot.seq)
            self._last_problem = ""
            for notice in self.store.take_notices():
                log.warning("%s", notice)
            if report is not None:
                self.dispatch.offer(report)
            for text in self.dispatch.news():
                self._note("export", text)

    def _is_due(self) -> bool:
        return self.dispatch.due(time.monotonic_ns())

    def _report(self, snapshot: Snapshot) -> Report:
        """What the exporters get: decided from exactly what is committed."""
        engine = self._engine
        definitions = tuple(engine.definitions)
        found = statuses(definitions, CommittedRows(snapshot, engine.ring.reader), snapshot.at_ns)
        return Report(snapshot, tuple(found), definitions, engine.in_flight())

    def _lead_alone(self) -> None:
        """A ring in this process's memory is never committed: it ends with the process, and nothing goes back."""
        self.dispatch.begin()
        if self._is_due():
            engine = self._engine
            collector = self._collector = self._collector or Collector(engine.ring, _NoHistory())
            self.dispatch.offer(self._report(collector.collect(engine.clock.ring_ns(), engine.definitions_json)))

    def _tend(self) -> None:
        """Settle the dead, then open idle rows."""
        engine = self._engine
        engine.ring.blocks.advance_manual_clock()
        for settled in engine.ring.blocks.settle_dead():
            if settled.damaged:
                self._tell("ring", f"worker block {settled.block} is damaged and out of use from now on")
            elif settled.crashed:
                text = f"worker {settled.pid} died with {settled.crashed} requests in flight, counted as crashed"
                self._tell("crash", text)
        engine.kernels.open_all(engine.page)

    def _beat(self, now_ns: int, leaving: bool = False) -> None:
        self._engine.ring.put(at.M_HEARTBEAT_NS, now_ns)
        self._engine.ring.put(at.M_LEADER, 0 if leaving else (self._engine.ring.blocks.index or 0) + 1)

    def _tell(self, kind: str, text: str) -> None:
        log.warning("%s", text)
        self._note(kind, text)

    def _note(self, kind: str, text: str) -> None:
        try:
            self.store.append_journal(kind, text, self._engine.clock.wall_ns())
        except StateError as e:
            self._problem(f"the journal is not written: {e}")

    def _problem(self, text: str) -> None:
        """Log a problem when it begins, not each second."""
        if text != self._last_problem:
            self._last_problem = text
            log.error("%s", text)


class _NoHistory:
    """Of a ring that is never committed."""

    needs_full = False

    def load(self) -> Saved | None:
        return None
