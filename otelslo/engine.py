"""The engine joins objectives, ring and clock: what an edge hands over becomes one committed event.

Everything that can be found out early is: an edge holds the address of a plan for each kind of event it has seen, and a
request is two compiled calls. What needs a lock or the disk (rows for new groups, strings, histograms) is noted and
made by `housekeeping`, off the request path.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otelslo import config as configuration
from otelslo import exporters
from otelslo.calls import CallSites, Track
from otelslo.clock import Clock, SystemClock
from otelslo.definition import Definition
from otelslo.errors import OtelsloError
from otelslo.event import Event
from otelslo.faults import Faults
from otelslo.features import Features
from otelslo.genai.declared import GenAI
from otelslo.judging import Judge, refuse_unreachable
from otelslo.kernels import layout as at
from otelslo.labels import Labels
from otelslo.latencies import whole_ns
from otelslo.limit import Limit
from otelslo.marks import Marks
from otelslo.names import Names
from otelslo.objective import Objective
from otelslo.observing import Moment, Observing, Told
from otelslo.plans import Plans
from otelslo.registry import Registry
from otelslo.ring import state
from otelslo.ring.geometry import Geometry
from otelslo.rowkey import BINS, SHED, RowKey
from otelslo.serving import Serving
from otelslo.slo import SLO
from otelslo.standing import Standing

if TYPE_CHECKING:
    from otelslo.kernels.ring import Kernels
    from otelslo.ring.live import Ring
    from otelslo.runner import Runner

log = logging.getLogger("otelslo")

_MOST_NEW_ROWS = 20  # per housekeeping, which runs each second
_RETRY_ATTACH_S = 1.0


class Engine(Standing):
    """Counts events against objectives, shared by all processes that use the same state directory.

    Args:
        slos: the objectives; by default those of the configuration (`OTELSLO_CONFIG`, `slo.yaml`, else one
            availability objective of 99.9 % over 30 days).
        state_dir: default `OTELSLO_STATE_DIR`, then the configuration's, then `.otelslo` in the working directory.
        clock: a `ManualClock` for tests.
        geometry: sizes of a ring that is not made yet.
        runner: whether `start` begins the background thread that keeps house and, in one process, leads.
        version: the value of `version` in groups and the loss log, where the app sets none; default OTELSLO_VERSION.
        agent: whether this process leads for all workers, as `otelslo agent` does.
        limits: what must never be exceeded; by default what goes with the objectives in the configuration.
        gen_ai: calls that count in the `gen_ai.*` metrics; by default likewise.

    Raises:
        DefinitionError: the configuration is wrong.
    """

    def __init__(
        self,
        slos: Iterable[SLO] | None = None,
        *,
        state_dir: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        geometry: Geometry | None = None,
        runner: bool = True,
        version: str | None = None,
        agent: bool = False,
        limits: Iterable[Limit] | None = None,
        gen_ai: Iterable[GenAI] | None = None,
    ) -> None:
        loaded = configuration.given_or_loaded(slos, limits)
        self._gen_ai = loaded.gen_ai if gen_ai is None else tuple(gen_ai)
        self.config_path = loaded.watchable
        self.exporters = exporters.chosen(loaded.exporters, os.environ)
        self.channels = loaded.channels
        self._agent = agent
        self.features = Features(self)
        self._set(loaded.slos, loaded.limits)
        self.state_dir = Path(state_dir or os.environ.get("OTELSLO_STATE_DIR") or loaded.state_dir or state.DIRECTORY)
        self.clock: Clock = clock or SystemClock()
        self.retention_ns = loaded.retention_ns
        version = version or os.environ.get("OTELSLO_VERSION", "")
        self.attributes: dict[str, str] = {"version": version} if version else {}
        self._geometry = geometry or Geometry()
        self._with_runner = runner
        self._starting = threading.RLock()
        self._started = False
        self._counting = threading.Lock()
        self._attach_again_at = 0.0
        self._pid = os.getpid()
        self._memos: list[dict[Any, int]] = []
        self._plans = Plans()
        self._call_sites = CallSites(self)
        self._serving = Serving(lambda: self.definitions, self._judged, self.clock, self.fault, self._asked)
        self._marks = Marks(self.state_dir / state.DATABASE_FILE, self.clock.ring_ns)
        self.observing = Observing(self)
        self.registry = Registry(self)
        self.model = self.registry.tell  # when a version was trained or evaluated; writes to disk: no hot path
        self.labels = Labels(self)
        self.log_prediction, self.log_label = self.labels.log_prediction, self.labels.log_label
        self._forget_again = False
        self._on_reload: list[Callable[[], None]] = [self._call_sites.bind, self.features.bind]
        self.runner: Runner
        self.notices: list[str] = []

    def _set(self, slos: tuple[SLO, ...], limits: tuple[Limit, ...]) -> None:
        self.features.resolve(slos)
        self.slos, self.limits = slos, limits
        self.definitions: list[Definition] = [slo.as_definition for slo in slos]
        self.asks_attendance = any(one.slices is not None and one.slices.unattended for one in self.definitions)
        written = {"slos": [slo.definition() for slo in slos], "limits": [limit.definition() for limit in limits]}
        told = written | {"channels": list(self.channels) or ["log"]}
        self.definitions_json = json.dumps(told, sort_keys=True)

    # ── life ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self) -> Engine:
        """Compile, open the ring, attach; again is harmless. Takes seconds the first time: never in a request.

        Raises:
            OtelsloError: the platform is not supported, or the ring has no room for the objectives.
        """
        if self._pid != os.getpid() and not self._started:
            self._pid, self._starting = os.getpid(), threading.RLock()  # forked while another thread was starting
        with self._starting:
            if not self._started:
                if self._ring_is_open():
                    self.ring.blocks.attach()
                    if self.registry.teach(self.judge):
                        self.forget_plans()
                else:
                    self._open()
                self._run()
        return self

    @property
    def running(self) -> bool:
        """Whether it has been started and not closed."""
        return self._started

    def _ring_is_open(self) -> bool:
        """Whether this process has been started and closed before, and the file is still the same."""
        return hasattr(self, "ring") and self.ring.file_is() == "ours"

    def _run(self) -> None:
        self._started = True
        self._call_sites.turn()  # nobody may have looked at the clock since it was closed, or before a fork
        if self._with_runner:
            self.runner.start()

    def close(self) -> None:
        """Commit what is not yet committed, stop the background thread, give the block back.

        The next event, or `start`, goes on in the same ring.
        """
        with self._starting:
            if not self._started:
                return
            self.runner.stop()
            self.ring.blocks.detach()
            self._started = False

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> None:
        # numba loads here, not on `import otelslo`
        from otelslo.ring.opening import compile_kernels_for, open_ring
        from otelslo.runner import Runner

        self.kernels: Kernels = compile_kernels_for(self.state_dir)
        kept = [slo for slo in self.slos if not slo.dated]  # in the ring
        geometry = self._geometry.for_objectives(
            [slo.window_ns for slo in kept], [slo.slices.length_ns for slo in kept if slo.slices]
        )
        self.runner = runner = Runner(self, self._agent)
        try:
            self._use(
                *open_ring(self.state_dir, geometry, self.clock, self.kernels, runner.leader.saved, self._is_wanted)
            )
        except OtelsloError as e:  # the disk is full, or every block is taken
            self._use(*open_ring(None, geometry, self.clock, self.kernels))
            self.notices.append(f"no shared ring: {e}. This worker counts in its own memory until it is started again")
        for notice in self.notices:
            log.warning("%s", notice)
        log.info("state directory: %s", self.state_dir if self.ring.path else "none, in memory")

    def _is_wanted(self, row_key: str) -> bool:
        """Whether a row counts for an objective as it is defined now; asked only when the ring is nearly full."""
        key = RowKey.parse(row_key)
        if key.slo == BINS:
            return self.features.wants(key.group or "")
        name = key.group if key.slo == SHED else key.slo
        return any((name, key.meaning) == (slo.name, slo.meaning) for slo in self.slos)

    def _use(self, ring: Ring, notices: list[str]) -> None:
        self.ring, self.notices = ring, notices
        self.page = ring.page
        self._record = self.kernels.record
        self._serving.forget()
        self.names = Names(ring.directory, self.runner.want)
        ring.blocks.is_agent = self._agent
        settled = ring.blocks.attach()
        if settled is not None and settled.crashed:
            notices.append(f"{settled.crashed} requests in flight in a dead worker were counted as crashed")
        self._bind()

    def _bind(self) -> None:
        """Rows for every objective, and what crashes are booked on."""
        self.own_faults = Faults(self.ring)
        self.names.refused = lambda detail: self.fault("capacity", detail)
        self.judge = self._judge_of(self.slos)
        self._call_sites.bind()
        self.features.bind()
        self._write_definitions()

    def _judge_of(self, slos: tuple[SLO, ...]) -> Judge:
        judge = Judge(slos, self.ring, self.names, self._plans, self.runner.want, self.fault, self._gen_ai)
        self.registry.teach(judge)
        judge.turn()
        self.names.make(self.clock.ring_ns())
        return judge

    def _write_definitions(self) -> None:
        """For readers without the configuration, `otelslo status` above all; the last worker to start wins."""
        if self.ring.path is None:
            return
        try:
            state.write_definitions(self.ring.path.parent, self.definitions_json)
        except OSError as e:
            self.notices.append(f"{state.DEFINITIONS_FILE} could not be written: {e.strerror}")

    # ── new objectives in a running service ────────────────────────────────────────────────────────────────────────
    def reload(self, slos: Iterable[SLO] | None = None, limits: Iterable[Limit] | None = None) -> str:
        """Put new objectives in the place of the old ones, at once; requests in flight end by the old or the new.

        An objective of the same name and meaning keeps its history; a new target or window counts from the same events.

        Args:
            slos: by default those of the configuration, read again; `limits` go with them, unless they are given.

        Returns:
            What has changed, in words.

        Raises:
            DefinitionError: the new configuration is wrong. The old one stays in force, as after the next.
            OtelsloError: a window is longer than the ring reaches, or the ring has no room.
        """
        loaded = configuration.given_or_loaded(slos, limits)
        new, limited = loaded.slos, loaded.limits
        with self._starting:
            if slos is None:
                self.channels, self._gen_ai = loaded.channels, loaded.gen_ai
            told = configuration.difference((*self.slos, *self.limits), (*new, *limited))
            if self._started:
                refuse_unreachable(new, self.ring.geometry)
                judge = self._judge_of(new)
                self._set(new, limited)
                self.judge = judge
                self.runner.store.keep(max((slo.window_ns for slo in new), default=0))
                self._write_definitions()
                for renew in self._on_reload:
                    renew()
                self.forget_plans()
                self._forget_again = True
            else:
                self._set(new, limited)
        log.info("configuration reloaded: %s", told)
        return told

    def on_reload(self, renew: Callable[[], None]) -> None:
        """Have `renew` called when tracks and objectives have changed."""
        self._on_reload.append(renew)

    # ── what edges use ─────────────────────────────────────────────────────────────────────────────────────────────
    def attach(self) -> bool:
        """Get this process its block again: after a fork, or when the block was taken away. Never raises."""
        now = time.monotonic()
        if now < self._attach_again_at and self._pid == os.getpid():
            return False
        try:
            if self._pid != os.getpid():
                self._pid, self._counting = os.getpid(), threading.Lock()
                self._starting = threading.RLock()
            with self._starting:
                self.ring.blocks.attach()
                self._run()
        except Exception as e:
            self._attach_again_at = now + _RETRY_ATTACH_S
            self.own_faults.say_once(f"not attached, events are not counted: {e}")
            return False
        return True

    def memo(self, memo: dict[Any, int]) -> dict[Any, int]:
        """Have a dict of plans forgotten whenever rows or strings come that would change them."""
        self._memos.append(memo)
        return memo

    def forget_plans(self) -> None:
        """Have every plan made anew."""
        self.judge.forget()
        for memo in self._memos:
            memo.clear()

    def learn(self) -> None:
        """Judge by what is told of model versions from now on. Waits for the database."""
        if self.registry.teach(self.judge):
            self.forget_plans()
            self._forget_again = True

    def plan_for(self, event: Event) -> int:
        """The plan of an event, whatever its latency. Never raises."""
        return self.judge.plan_for(event)

    def track_for(self, kind: str, route: str | None, method: str, host: str) -> int:
        """The track of requests like this: which objectives a crash would be booked on."""
        return self.judge.track_for(kind, route, method, host)

    @property
    def objectives(self) -> list[Objective]:
        """Those in force; known once the engine has been started."""
        return self.judge.objectives

    @property
    def dynamic(self) -> bool:
        """Whether an objective must see each event itself."""
        return self.judge.dynamic

    @property
    def needs_host(self) -> bool:
        """Whether an objective asks for the host."""
        return self.judge.needs_host

    def fault(self, reason: str, detail: str) -> None:
        """Count a fault of our own, and log its first occurrence. Never raises."""
        faults = getattr(self, "own_faults", None)
        if faults is None:  # not started: there is no ring to count it in
            log.error("%s: %s", reason, detail)
        else:
            faults.count(reason, detail)

    def trace_loss(self, code: int, trace_id: int) -> None:
        """Put a trace id (128 bits) into the loss records that `end` or `record` answered with."""
        self.ring.trace_loss(code, trace_id)

    # ── events of known latency ────────────────────────────────────────────────────────────────────────────────────
    def track(self, name: str, /, **attributes: str) -> Track:
        """The call site `name` (kind "call", its route in `match`); with attributes such as version="2026-11-01"."""
        return self.call_site("call", name, attributes=attributes)

    def loaded(self, name: str) -> None:
        """A model has been loaded anew: the next calls of the sites `name` in this process are cold starts again."""
        self._call_sites.loaded(name)

    def call_site(
        self, kind: str, route: str | None, method: str = "", attributes: Mapping[str, str] | None = None
    ) -> Track:
        """Where an edge opens calls, or records events, of that kind, route and method; starts the engine.

        Raises:
            DefinitionError: there is no such kind.
            OtelsloError: the engine cannot start.
        """
        self.start()
        told = {key: str(value) for key, value in (attributes or {}).items()}
        return self._call_sites.find(kind, route, method, {**self.attributes, **told})

    def record(self, track: Track, outcome: str | None, latency_ns: int) -> None:
        """Count one event of a call site.

        Args:
            outcome: "good" (a latency objective still compares the latency), "bad", "excluded", a bad reason, or None:
                judged as complete.
            latency_ns: 0 to 2**62; anything else is counted as our own fault `bad_latency` and not stored.
        """
        if type(latency_ns) is not int:
            latency_ns = whole_ns(latency_ns)
        plan = self.plan_for(track.event(outcome, latency_ns)) if track.judged_each else track.plans[outcome]
        try:
            code = self._record(self.page, plan, latency_ns)
        except OverflowError:
            code = at.BAD_LATENCY
        if code < 0:
            self._not_recorded(code, plan, latency_ns)

    def _not_recorded(self, code: int, plan: int, latency_ns: int) -> None:
        if code == at.BAD_LATENCY:
            self.fault("bad_latency", "a latency is not between 0 and 2**62 ns")
        elif not self.attach() or self._record(self.page, plan, latency_ns) < 0:
            self.fault("not_attached", "an event was not counted")

    def record_many(self, track: Track, outcomes: Any, latencies_ns: Any) -> None:
        """Count a batch by one commit.

        Args:
            outcomes: array (n,) of int8: 0 good, 1 bad, 2 excluded.
            latencies_ns: array (n,) of int64; values out of range count as `bad_latency` faults and are not stored.

        Raises:
            ValueError: the arrays differ in shape or have other types.
        """
        from otelslo.batch import record_batch

        record_batch(self, track, outcomes, latencies_ns)

    # ── what cold paths tell and ask ────────────────────────────────────────────────────────────────────────────────
    def observe(self, limit: str, value: Told | None = None, *, since: Moment | None = None) -> None:
        """Tell the value of a limit, or since when its age grows: see `Observing.tell`. Writes to disk: no hot path."""
        self.observing.tell(limit, value, since)

    def _asked(self) -> None:
        """Have a new question answered soon; in a forked child the background thread is begun for it."""
        if self._started:
            if self._pid != os.getpid():
                self.attach()
            self.runner.want()

    # ── off the request path ───────────────────────────────────────────────────────────────────────────────────────
    def housekeeping(self) -> None:
        """Adopt groups of other workers; make rows, histograms, strings; see news of models; turn maintenance."""
        changed = self.names.make(self.clock.ring_ns())
        changed = self.judge.keep_groups(_MOST_NEW_ROWS) or changed
        changed = self.registry.teach(self.judge) or changed
        changed = self._call_sites.turn() or changed
        if changed or self._forget_again:
            self.forget_plans()
        # A request may have judged by the old rows and be about to remember it: forget once more, a tick later.
        self._forget_again = changed
        self._serving.refresh()
        self.features.tend()
