"""What an event writes, by the objectives in force: its plan, and the track that a crash of its kind is booked on.

One `Judge` is one set of objectives bound to the rows of one ring; a new configuration is a new judge, made ready
beside the old one and put in its place.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from otelslo import attendance
from otelslo.definition import Definition
from otelslo.errors import CapacityError, OtelsloError, StateError
from otelslo.event import UNTIMED, Event
from otelslo.genai.declared import GenAI
from otelslo.genai.measures import Measures
from otelslo.kernels import layout as at
from otelslo.models import Facts, Known
from otelslo.names import OTHER, Names
from otelslo.objective import Objective
from otelslo.plans import Entry, Labels, Plans, plan_words
from otelslo.ring.geometry import Geometry
from otelslo.sizes import PAYLOAD, Slots
from otelslo.slo import SLO
from otelslo.window import format_duration

if TYPE_CHECKING:
    from otelslo.ring.live import Ring

_MOST_MEMO = 4096
# No plan is remembered from so long before maintenance begins or ends, or a model gets too old, until so long after:
# not by a turn that comes late, nor by a request that judged before and remembers after.
_BEFORE_NS, _AFTER_NS = 60_000_000_000, 10_000_000_000


class Judge:
    """The objectives of one configuration, with their rows, plans and tracks.

    Args:
        wanted: told that rows or names are to be made; must be quick.
        fault: counts a fault of ours (reason, detail); never raises.
        gen_ai: the calls that count in the `gen_ai.*` metrics.

    `facts` are those of model versions, None if they could not be read yet: see `learn`.

    Raises:
        CapacityError, StateError: the ring has no room for a row of these objectives.
    """

    facts: Facts | None

    def __init__(
        self,
        slos: Sequence[SLO],
        ring: Ring,
        names: Names,
        plans: Plans,
        wanted: Callable[[], None],
        fault: Callable[[str, str], None],
        gen_ai: Sequence[GenAI] = (),
    ) -> None:
        if any(slo.slices is not None and slo.slices.unattended for slo in slos):
            attendance.row_of(ring)  # before the first look: a worker may die until then
        slos = [slo for slo in slos if not slo.dated]  # the others are counted in the history
        self.objectives = [Objective(slo, ring, wanted) for slo in slos]
        self._grouped = [objective for objective in self.objectives if objective.slo.group_keys]
        self.definitions: list[Definition] = [slo.as_definition for slo in slos]
        self._asks_user = any(slo.dynamic for slo in slos)
        self.measures = Measures(gen_ai, ring, wanted, fault)
        self._streams = [slo for slo in slos if slo.streamed]
        self._aging = [slo for slo in slos if slo.ages]
        self.by_item = any(slo.per_item for slo in slos)
        self.slots = Slots(slo.size_classes for slo in slos)
        self._planned = list(dict.fromkeys(slo.planned for slo in slos if slo.planned))
        self._change: tuple[int | None, bool] = (None, False)
        self.needs_host = any((d.match and d.match["host"]) or "host" in d.group_by for d in self.definitions)
        self._ring = ring
        self._names = names
        self._plans = plans
        self._fault = fault
        self._judged: dict[Any, int] = {}
        self.dynamic = self._asks_user
        self.learn(None)
        self.turn()
        kinds = sorted({"http"} | {slo.kind for slo in slos})
        self._fallbacks = {kind: self._fallback(kind) for kind in kinds}
        self._tracks = {rows: self._reserve(rows) for rows in (*self._fallbacks.values(), ())}
        now = ring.clock.ring_ns()
        for kind in kinds:
            self.track_for(kind, None, "GET", "")
            if kind in UNTIMED:
                continue
            names.histogram(kind, None, now)
            names.histogram(kind, OTHER, now)

    # ── plans ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def forget(self) -> None:
        """Have every plan made anew: there are new rows or strings."""
        self._judged.clear()

    def plan_for(self, event: Event) -> int:
        """The plan of an event, whatever its latency. Never raises: user code that does is a fault of its own.

        Events of equal facts and groups share one; only objectives with user code or header rules look at each event,
        and all do about when maintenance begins or ends or a model gets too old (see `turn`): each is judged by the
        time it ends.
        """
        if self._sees(event):
            return self._plans.address(self._judge(event))
        host = event.host if self.needs_host else ""
        key = (event.facts, host, tuple(event.attributes.items()), self.slots.of(event.batch, event.payload_bytes))
        found = self._judged.get(key)
        if found is None:
            found = self._plans.address(self._judge(event))
            if len(self._judged) < _MOST_MEMO:
                self._judged[key] = found
        return found

    def _sees(self, event: Event) -> bool:
        """Whether it must be judged by itself, and no other's plan will do."""
        paced = event.stream is not None and bool(self._streams)
        return self.dynamic or paced or (event.batch is not None and self.by_item)

    def plans_of_batch(self, event: Event) -> tuple[int, int]:
        """The plan of an event that answers a batch, and that of each of its other items, 0 if nobody counts them."""
        entries = self._entries(event)
        labels = self._labels(event)
        rest = [entry for slo, entry in entries if slo.per_item]
        plan = plan_words([entry for _, entry in entries], self._histogram(event), labels)
        return self._plans.address(plan), self._plans.address(plan_words(rest, -1, labels)) if rest else 0

    def _judge(self, event: Event) -> tuple[int, ...]:
        entries = [entry for _, entry in self._entries(event)]
        return plan_words(entries, self._histogram(event), self._labels(event))

    def _entries(self, event: Event) -> list[tuple[SLO, Entry]]:
        """What it writes as it ends now, and for which objective each."""
        entries: list[tuple[SLO, Entry]] = []
        wall_ns = self._ring.clock.wall_ns() if self._planned or self._aging else 0
        if self._aging:
            event = replace(event, known=Known(self.facts, wall_ns))
        for objective in self.objectives:
            if not objective.slo.matches(event.kind, event.route, event.method, event.host):
                continue
            try:
                found = objective.entries(event, wall_ns)
            except Exception as e:
                self._fault("user_code", f"{objective.slo.name}: {type(e).__name__}: {e}; judged without it")
                found = objective.plain_entries(event, wall_ns)
            entries += [(objective.slo, entry) for entry in found]
        if len(entries) > at.MAX_PLAN_ROWS:
            self._fault("capacity", f"an event counts on {len(entries)} rows, {at.MAX_PLAN_ROWS} were counted on")
            del entries[at.MAX_PLAN_ROWS :]
        return entries

    def _labels(self, event: Event) -> Labels:
        return Labels(
            route=self._names.string(event.route or ""),
            status=event.status or 0,
            exception=self._names.string(event.exception or ""),
            version=self._names.string(event.attributes.get("version", "")),
        )

    def _histogram(self, event: Event) -> int:
        return -1 if event.latency_ns is None else self._names.histogram_of(event.kind, event.route)

    @property
    def asks_payload(self) -> bool:
        """Whether an objective groups by the class of what comes in."""
        return PAYLOAD in self.slots

    def paces(self, kind: str, route: str | None, method: str) -> bool:
        """Whether an objective or a metric asks for the pace of streams like this, whatever their host."""
        asked = any(slo.matches(kind, route, method, "") for slo in self._streams)
        return asked or self.measures.of(kind, route, method) is not None

    def paces_any(self, kind: str) -> tuple[bool, bool]:
        """Whether an objective or a metric asks for the pace of some streams of that kind, and an objective for that of
        responses of all types."""
        mine = [slo for slo in self._streams if slo.kind == kind]
        return bool(mine) or self.measures.any_of(kind), any(slo.option("responses") == "streamed" for slo in mine)

    # ── tracks ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def track_for(self, kind: str, route: str | None, method: str, host: str) -> int:
        """The track of requests like this: which objectives a crash would be booked on. One per set of objectives."""
        rows = tuple(
            i for i, objective in enumerate(self.objectives) if objective.slo.matches(kind, route, method, host)
        )[: at.MAX_PLAN_ROWS]
        found = self._tracks.get(rows)
        if found is None:
            try:
                found = self._make_track(rows)
            except (CapacityError, StateError) as e:
                instead = self._fallbacks.get(kind, ())
                found, own = self._tracks[instead], len(set(rows) & set(instead))
                told = f"requests like {kind} {route!r} are booked on {len(instead)} objectives of all {kind}"
                self._fault("capacity", f"{e}; in a crash {told}, {own} of their own {len(rows)} among them")
            self._tracks[rows] = found
        return found

    def _make_track(self, rows: tuple[int, ...]) -> int:
        entries: list[Entry] = [self.objectives[i].crash_entry() for i in rows]
        words = plan_words(entries, -1, Labels())
        key = json.dumps([list(entry) for entry in entries], separators=(",", ":"))
        return self._ring.directory.track(key, words)

    def _fallback(self, kind: str) -> tuple[int, ...]:
        """The objectives that a crash is booked on where a request can have no track of its own: those of all routes,
        then the others, as many as fit."""
        mine = [i for i, objective in enumerate(self.objectives) if objective.slo.kind == kind]
        mine.sort(key=lambda i: bool((self.definitions[i].match or {}).get("route")))
        return tuple(sorted(mine[: at.MAX_PLAN_ROWS]))

    def _reserve(self, rows: tuple[int, ...]) -> int:
        try:
            return self._make_track(rows)
        except (CapacityError, StateError) as e:
            self._fault("capacity", f"{e}; a crash of some requests is booked on the objectives of others")
            return 0

    # ── off the request path ───────────────────────────────────────────────────────────────────────────────────────
    def learn(self, facts: Facts | None) -> None:
        """Judge by these facts of model versions from now on; plans are the caller's to have forgotten."""
        points = {point for slo in self._aging for point in slo.turning_points(facts or {})}
        self.facts, self._ages_at = facts, sorted(points)

    @property
    def ages(self) -> bool:
        """Whether an objective asks for the facts of model versions."""
        return bool(self._aging)

    def turn(self) -> bool:
        """Look at the wall clock: whether plans must be forgotten, since maintenance begins or ends about now, a model
        version gets too old, or has.

        Asked for each second or so. Only a process that stood still through the whole minute before a change judges
        the events up to its next turn as before it.
        """
        if not self._planned and not self._aging:
            return False
        wall_ns, changes = self._ring.clock.wall_ns(), []
        for planned in self._planned:
            planned.active(wall_ns + _BEFORE_NS)  # has it look ahead here, and not in a request
            change_ns = planned.next_change(wall_ns - _AFTER_NS)
            if change_ns is not None:
                changes.append(change_ns)
        changes += self._ages_at[bisect_right(self._ages_at, wall_ns - _AFTER_NS) :][:1]
        first_ns = min(changes, default=None)
        is_near = first_ns is not None and first_ns <= wall_ns + _BEFORE_NS
        before, self._change = self._change, (first_ns, is_near)
        self.dynamic = self._asks_user or is_near
        return before != self._change

    def keep_groups(self, most: int) -> bool:
        """Adopt the groups that other workers made, and give up to `most` new ones a row; whether any came. And make
        the rows of metrics."""
        changed = False
        for objective in self._grouped:
            adopted = objective.adopt()
            made = objective.make_groups(most)
            most -= made
            changed = changed or adopted or made > 0
        self.measures.make()
        return changed


def refuse_unreachable(slos: Iterable[SLO], geometry: Geometry) -> None:
    """Raises OtelsloError: a running ring of this geometry does not reach so far, or its slots are too coarse."""
    slot_ns = geometry.coarse_ns
    for slo in (one for one in slos if not one.dated):
        if slo.slices is not None and slo.slices.length_ns % slot_ns:
            problem = f"the slices of {slo.name} are finer than the slots of the running ring"
            raise OtelsloError(f"{problem} ({format_duration(slot_ns)}). Restart all workers")
        if slo.window_ns > geometry.reach_ns:
            reach = format_duration(geometry.reach_ns)
            problem = f"the window of {slo.name} is longer than the running ring reaches ({reach})"
            raise OtelsloError(f"{problem}. Restart all workers")
