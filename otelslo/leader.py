"""Leading: in one worker of the host the ring is read once a second and committed to SQLite.

All that is decided, told or exported comes from what was committed. Leading needs the leader's lock; a stopped leader
keeps it, so when the heartbeat is old another worker leads without, and the fencing number in the database decides.
"""

from __future__ import annotations

import json
import logging
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from otelslo.applying import Applying
from otelslo.asking import Asking
from otelslo.attendance import Attendance
from otelslo.committed import CommittedRows
from otelslo.dispatch import Dispatch
from otelslo.drifting import Drifting
from otelslo.duty import DEFAULT_CHANNELS, Duty
from otelslo.errors import StateError
from otelslo.evaluate import Book, Judged, judged
from otelslo.exporters.sqlite import Fenced, Outdated, Store, StoreUnavailable
from otelslo.kernels import layout as at
from otelslo.known import with_known
from otelslo.limits import LimitStatus
from otelslo.notes import Marked
from otelslo.oncall import Turn
from otelslo.oomwatch import OomWatch
from otelslo.postbook import PostBook
from otelslo.probing import Probing
from otelslo.report import Report
from otelslo.ring import state
from otelslo.ring.collect import Collector
from otelslo.ring.locks import FileLock
from otelslo.snapshot import Saved, Snapshot

if TYPE_CHECKING:
    from otelslo.engine import Engine

log = logging.getLogger("otelslo")

STALE_HEARTBEAT_NS = 5_000_000_000
_ROWS_A_BREATH = 8  # about a millisecond


class Leader:
    """What a process does while it leads, and how it comes to; one thread at a time calls it.

    Whoever holds it may ask at any time whether it is `leading`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        longest_ns = max((slo.window_ns for slo in engine.slos), default=0)
        self.store = Store(engine.state_dir / state.DATABASE_FILE, engine.retention_ns, longest_ns)
        self.dispatch = Dispatch(engine.exporters, engine.fault, self._may_send)
        self.duty: Duty | None = None
        self._channels = engine.channels
        self._book = Book()
        self.asking = Asking(self._observe, engine.fault)
        self.probing = Probing(engine, self._may_send)
        self._attendance = Attendance(engine.fault)
        self.oom = OomWatch()
        self.drifting = Drifting(engine, self.store)
        key = os.environ.get("OTELSLO_SAMPLE_KEY")
        self.applying = Applying(engine.state_dir, self.store, engine.fault, lambda: self.store.kept_ns, key)
        self._lock: FileLock | None = None
        self._fencing: int | None = None
        self._collector: Collector | None = None
        self._last_problem = ""
        self._noted = 0
        self._judged_rows = 0

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

    def forget(self) -> None:
        """After a fork, in the child: the locks and threads are the parent's."""
        self._lock, self._fencing, self._collector, self.duty = None, None, None, None
        self.dispatch.forget()
        self.asking = Asking(self._observe, self._engine.fault)
        self.probing = Probing(self._engine, self._may_send)

    def end(self) -> None:
        """Send what is due if there is time, and step down."""
        self.dispatch.end()
        if self.duty is not None:
            self.duty.end()
        self.step_down()

    @property
    def locks(self) -> Path:
        assert self._engine.ring.path is not None
        return self._engine.ring.path.parent / state.LOCKS

    def may_go_on(self) -> bool:
        """Not in a ring whose file somebody has replaced: the new one has its own leader, and its own history."""
        there = self._engine.ring.file_is()
        if there != "ours":
            self._engine.own_faults.say_once(
                "live.ring was removed or replaced under the running workers; restart them to share one again"
            )
        return there != "another"

    def try_to_lead(self) -> None:
        ring = self._engine.ring
        if ring.file_is() == "another":
            return
        now = self._engine.clock.ring_ns()
        self.oom.look(now)
        lock = FileLock(self.locks / state.LEADER_LOCK)
        if not lock.acquire(wait=False):
            # The holder is alive; it leads unless it has stood still for long.
            if now - ring.reader.leader_heartbeat_ns < STALE_HEARTBEAT_NS:
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
            self.problem(f"history is not written: {e}")
            self._beat(now)
            self._tend()
            self.step_down()
            return
        self._beat(now)
        self.dispatch.begin()
        self._go_on_duty()
        notices, self._noted = self._engine.notices[self._noted :], len(self._engine.notices)
        for notice in notices:
            self.note("ring", notice)  # the engine has logged it when it started

    def _go_on_duty(self) -> None:
        engine = self._engine
        self._channels = engine.channels
        try:
            note = partial(self.note, "notice")
            book = PostBook(engine.ring, engine.channels or DEFAULT_CHANNELS, engine.fault)
            self.duty = Duty(
                self.store, engine.channels, engine.fault, self._may_send, note, engine.clock.wall_ns, book.count
            )
        except StateError as e:
            self.problem(f"alerts are not decided: {e}")

    def _go_off_duty(self) -> None:
        duty, self.duty = self.duty, None
        if duty is not None:
            duty.end(grace_ns=0)

    def step_down(self) -> None:
        self._fencing, self._collector = None, None
        self.probing.forget()
        self.dispatch.end(grace_ns=0)
        self._go_off_duty()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def lead(self, last: bool = False) -> None:
        engine, ring = self._engine, self._engine.ring
        now = engine.clock.ring_ns()
        self._beat(now, leaving=last)
        self._tend(leaving=last)
        moved = ring.note_wall(engine.clock.wall_ns())
        if moved is not None:
            self._tell("clock", f"the wall clock was stepped by {moved / 1e9:+.3f} s; no event or window moves with it")
        if engine.channels is not self._channels:  # the configuration was reloaded
            self._go_off_duty()
        if self.duty is None:  # or the database could not be read when it was to begin
            self._go_on_duty()
        self._apply_labels(last)
        self._commit(now, last)
        if self.leading and not last:
            now = engine.clock.ring_ns()  # labels or a locked database may have taken seconds, which no probe did
            self.asking.tend(engine.limits, now)
            self.probing.tend(engine.slos, now)
            self.drifting.tend(engine.clock.wall_ns())

    def _observe(self, limit: str, value: object, since: object) -> None:
        """An answer that comes too late is the next leader's to ask for."""
        if self.leading:
            self._engine.observing.tell(limit, value, since)

    def _apply_labels(self, last: bool) -> None:
        """Before the commit, so that what is decided of it knows them."""
        if self._fencing is None:
            return
        try:
            self.applying.turn(self._engine.slos, self._engine.clock.wall_ns(), self._breathe_and_beat, last=last)
        except StoreUnavailable as e:
            self.problem(f"labels are not counted, they wait in the inbox: {e}")
        except Exception as e:
            self._engine.fault("internal", f"labels are not counted: {type(e).__name__}: {e}")

    def _commit(self, now_ns: int, last: bool) -> None:
        if self._fencing is None or self._collector is None:
            return
        engine = self._engine
        snapshot = self._collector.collect(now_ns, engine.definitions_json)
        closing = last or snapshot.closes or self.store.needs_full
        duty = self.duty if self.duty is not None and (last or self.duty.due(now_ns)) else None
        judged = self._judged_or_none(snapshot, duty) if closing or duty or self._is_due() else None
        turn = self._turn(duty, judged, snapshot) if duty and judged is not None else None
        report = self._report(snapshot, judged, turn) if judged is not None else None
        decided = json.dumps([status.to_json() for status in report.statuses]) if report and closing else None
        told = turn.told if turn is not None else None
        try:
            self.store.commit(snapshot, self._fencing, decided, full=self._collector.full, told=told)
        except (Fenced, Outdated) as e:
            self.problem(f"no longer leading: {e}")
            self.step_down()
        except StoreUnavailable as e:
            self.problem(f"history is not written, counting goes on: {e}")
        else:
            self._collector.committed(snapshot)
            engine.ring.put(at.M_COMMITTED_NS, snapshot.at_ns)
            engine.ring.put(at.M_COMMITTED_SEQ, snapshot.seq)
            self._last_problem = ""
            for notice in self.store.take_notices():
                log.warning("%s", notice)
            if duty is not None and turn is not None:
                duty.committed(turn, now_ns)
            if report is not None:
                self.dispatch.offer(report)
            for text in self.dispatch.news():
                self.note("export", text)

    def _turn(self, duty: Duty, judged: list[Judged], snapshot: Snapshot) -> Turn:
        engine = self._engine
        names = {one.name for one in tuple(engine.definitions)}
        windows = {slo.name: slo.planned for slo in engine.slos if slo.planned}

        def maintained(slo: str, start_wall_ns: int, end_wall_ns: int) -> bool:
            return slo in windows and windows[slo].reaches(start_wall_ns, end_wall_ns)

        return duty.decide(judged, snapshot, engine.limits, names, self._breathe, maintained)

    def _is_due(self) -> bool:
        return self.dispatch.due(time.monotonic_ns())

    def _judged_or_none(self, snapshot: Snapshot, duty: Duty | None) -> list[Judged] | None:
        """What cannot be judged is no reason not to commit the counts."""
        try:
            return self._judged(snapshot, duty)
        except Exception as e:
            self._engine.fault("internal", f"objectives cannot be judged: {type(e).__name__}: {e}")
            return None

    def _judged(self, snapshot: Snapshot, duty: Duty | None = None) -> list[Judged]:
        """Decided from exactly what is committed, and from what people have marked since the last turn."""
        if duty is not None:
            longest_ns = max((one.window_ns for one in tuple(self._engine.definitions)), default=0)
            duty.refresh(max(0, snapshot.wall_ns - longest_ns))
        engine = self._engine
        marked = Marked() if self.duty is None else self.duty.marked
        rows = CommittedRows(snapshot, engine.ring.reader)
        return judged(
            tuple(engine.definitions), rows, snapshot.at_ns, marked=marked, book=self._book, between=self._breathe
        )

    def _report(self, snapshot: Snapshot, found: list[Judged], turn: Turn | None = None) -> Report:
        """What the exporters get."""
        engine, statuses, limits = self._engine, [one.status for one in found], list[LimitStatus]()
        if self.duty is not None:
            statuses = self.duty.with_alerts(statuses, turn)
            limits = self.duty.limits(engine.limits, snapshot.wall_ns, turn)
            if self.dispatch.deliveries:
                rows = CommittedRows(snapshot, engine.ring.reader)
                statuses = with_known(engine.definitions, statuses, self.store.labels, rows, self.duty.marked)
        decided, in_flight = self.duty is not None, engine.in_flight()
        return Report(snapshot, tuple(statuses), tuple(engine.definitions), in_flight, decided, tuple(limits))

    def lead_alone(self) -> None:
        """A ring in this process's memory is never committed: it ends with the process, and nothing goes back."""
        engine = self._engine
        self.probing.tend(engine.slos, engine.clock.ring_ns())
        self._look()
        self.dispatch.begin()
        if self._is_due():
            collector = self._collector = self._collector or Collector(engine.ring, _NoHistory())
            snapshot = collector.collect(engine.clock.ring_ns(), engine.definitions_json)
            self.dispatch.offer(self._report(snapshot, self._judged(snapshot)))

    def _tend(self, leaving: bool = False) -> None:
        """Settle the dead, see whether anybody is there, then open idle rows."""
        engine = self._engine
        engine.ring.blocks.advance_manual_clock()
        killed = self.oom.look(engine.clock.ring_ns())
        if killed:
            self._tell("oom", f"the OOM killer has killed {killed} in this process's control group")
        for settled in engine.ring.blocks.settle_dead():
            if settled.damaged:
                self._tell("ring", f"worker block {settled.block} is damaged and out of use from now on")
            elif settled.crashed:
                text = f"worker {settled.pid} died with {settled.crashed} requests in flight, counted as crashed"
                by_oom = ": the OOM killer had just killed one of its control group" if self.oom.explains() else ""
                self._tell("crash", f"{'crashed.oom: ' if by_oom else ''}{text}{by_oom}")
        if not leaving:  # who comes and goes within a second was not there
            self._look()
        engine.kernels.open_all(engine.page)

    def _look(self) -> None:
        if self._engine.asks_attendance:
            self._attendance.look(self._engine.ring)

    def _beat(self, now_ns: int, leaving: bool = False) -> None:
        self._engine.ring.put(at.M_HEARTBEAT_NS, now_ns)
        self._engine.ring.put(at.M_LEADER, 0 if leaving else (self._engine.ring.blocks.index or 0) + 1)

    def _breathe(self) -> None:
        """Let the app's threads have the interpreter: all objectives at once would hold it for tens of milliseconds.
        And beat: a leader whose turn is long stands not still, and of two that fence each other none ever commits.
        """
        self._judged_rows += 1
        if self._judged_rows % _ROWS_A_BREATH:
            return  # a breath costs 75 us of waiting
        self._breathe_and_beat()

    def _breathe_and_beat(self) -> None:
        ring = self._engine.ring
        if ring.reader.leader_block == ring.blocks.index:
            ring.put(at.M_HEARTBEAT_NS, self._engine.clock.ring_ns())
        time.sleep(0)

    def _tell(self, kind: str, text: str) -> None:
        log.warning("%s", text)
        self.note(kind, text)

    def note(self, kind: str, text: str) -> None:
        try:
            self.store.append_journal(kind, text, self._engine.clock.wall_ns())
        except StateError as e:
            self.problem(f"the journal is not written: {e}")

    def problem(self, text: str) -> None:
        """Log a problem when it begins, not each second."""
        if text != self._last_problem:
            self._last_problem = text
            log.error("%s", text)


class _NoHistory:
    """Of a ring that is never committed."""

    needs_full = False

    def load(self) -> Saved | None:
        return None
