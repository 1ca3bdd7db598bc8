"""What a leader has to do with alerts, from taking the lead until it steps down.

It decides from the snapshot that is being committed, with what people have marked since; the decision is committed with
the counts, and a courier brings the notices to the channels afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Any

from otelslo import channels
from otelslo.alert_states import Transition
from otelslo.announcement import announce, span_ns
from otelslo.channels import Channel, SendFailed
from otelslo.courier import ChannelState, Courier
from otelslo.dated import NOTHING_DATED, DatedCounts
from otelslo.errors import DefinitionError, StateError
from otelslo.evaluate import Judged
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_retention import LOSS_LIMIT
from otelslo.limit import Limit
from otelslo.limits import LimitStatus, assess
from otelslo.notes import SNAP_NS, Marked
from otelslo.notice import Notice
from otelslo.oncall import Maintained, OnCall, Turn, shared, shown, unmaintained
from otelslo.outbox import StoredOutbox
from otelslo.rowkey import RowKey
from otelslo.snapshot import SavedLoss, Snapshot
from otelslo.status import Status

CLOSE_NS = 2_000_000_000
_FINE_NS, _FINE_REACH_NS = 10 * 10**9, 6 * 3600 * 10**9
DEFAULT_CHANNELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {"log": ("log", {})}


class Duty:
    """The alerts of one leader.

    Args:
        chosen: kind and options by the channel's name; by default alerts are logged.
        fault: counts a fault of ours (reason, detail).
        may_send: asked before each sending, whether this process still leads.
        note: writes a line of the journal.
        count: told what became of a notice (channel, outcome), see `courier.Courier`.

    Raises:
        StateError: the database cannot be read now.
    """

    def __init__(
        self,
        store: Store,
        chosen: Mapping[str, tuple[str, Mapping[str, Any]]],
        fault: Callable[[str, str], None],
        may_send: Callable[[], bool],
        note: Callable[[str], None],
        wall_ns: Callable[[], int],
        count: Callable[[str, str], None] = lambda channel, outcome: None,
    ) -> None:
        self._store = store
        chosen = chosen or DEFAULT_CHANNELS
        self._oncall = OnCall(store.notes.alerts(), tuple(chosen), fault)
        made = {name: _Lazy(name, kind, options) for name, (kind, options) in chosen.items()}
        outbox = StoredOutbox(store.notes, fault, wall_ns)
        self._courier = Courier(made, outbox, fault, may_send, note=note, count=count, wall_ns=wall_ns)
        self._dated = store.dated()
        self._marked = self._read_marks(0)
        self._observed = store.limits.observations()
        self._courier.wake()  # whoever led before may have left something

    def due(self, now_ns: int) -> bool:
        """Whether it is time to decide again (ring time)."""
        return self._oncall.due(now_ns)

    @property
    def marked(self) -> Marked:
        """Exclusions, annotations and dated counts, as of the last turn."""
        return self._marked

    def refresh(self, since_wall_ns: int = 0) -> None:
        """Read anew what people have marked (annotations since then, Unix ns), and what was observed of limits.

        What was read last stays where that fails.
        """
        try:
            self._marked = self._read_marks(since_wall_ns)
            self._observed = self._store.limits.observations()
        except StateError:
            return

    def limits(self, limits: Iterable[Limit], now_wall_ns: int, turn: Turn | None = None) -> list[LimitStatus]:
        """How these limits stand by what was observed until the last turn, with their alerts as of this turn."""
        alerts = shown(turn.states if turn is not None else self._oncall.states)
        found = [assess(limit, self._observed.get(limit.source), now_wall_ns) for limit in limits]
        return [replace(one, alerts=tuple(alerts.get((one.name, None), ()))) for one in found]

    def decide(
        self,
        judged: Iterable[Judged],
        snapshot: Snapshot,
        limits: Iterable[Limit] = (),
        defined: Collection[str] = (),
        between: Callable[[], None] = partial(time.sleep, 0),  # noqa: B008
        maintained: Maintained = unmaintained,
    ) -> Turn:
        """What follows from this snapshot for all alerts, of the objectives that are `defined`; to be committed with
        it. `between` is called before each objective, `maintained` asked about maintenance that was declared ahead."""
        kept = _Losses(self._store, snapshot, self._marked.dated)

        def losses(one: Judged, length_ns: int) -> list[SavedLoss]:
            return kept.of(one.row_key, length_ns)

        def tell(one: Judged, transition: Transition) -> Notice:
            return announce(one, transition, losses(one, span_ns(one, transition)))

        return self._oncall.decide(
            judged,
            snapshot.wall_ns,
            lambda one, length_ns: shared(loss.loss for loss in losses(one, length_ns)),
            tell,
            self.limits(limits, snapshot.wall_ns),
            defined,
            between,
            maintained,
        )

    def committed(self, turn: Turn, now_ns: int) -> None:
        """The turn is in the database: go on from it, and send what it says."""
        self._oncall.committed(turn, now_ns)
        if turn.news:
            self._courier.wake()

    def with_alerts(self, statuses: Sequence[Status], turn: Turn | None = None) -> list[Status]:
        """The same statuses, with their alerts as of this turn, or the last."""
        alerts = shown(turn.states if turn is not None else self._oncall.states)
        found = [(one, alerts.get((one.slo, one.group))) for one in statuses]
        return [replace(one, alerts=tuple(its)) if its else one for one, its in found]

    def channels(self) -> list[ChannelState]:
        return self._courier.states()

    def end(self, grace_ns: int = CLOSE_NS) -> None:
        """Send what is due if there is time; the rest stays in the database for whoever leads next."""
        self._courier.close(time.monotonic_ns() + grace_ns)

    def _read_marks(self, since_wall_ns: int) -> Marked:
        notes = self._store.notes
        exclusions, annotations = tuple(notes.exclusions()), tuple(notes.annotations(since_wall_ns - SNAP_NS))
        return Marked(exclusions, annotations, dated=self._dated.read())


class _Losses:
    """Losses as one turn asks for them: those that are saved, and those of its snapshot that are not yet.

    In an outage of everything a thousand objectives ask at once: after the first few all are read at a time.
    """

    _FEW = 3

    def __init__(self, store: Store, snapshot: Snapshot, dated: DatedCounts = NOTHING_DATED) -> None:
        self._store = store
        self._snapshot = snapshot
        self._dated = dated
        self._known: dict[str, list[SavedLoss]] = {}
        self._all = False

    def of(self, row_key: str, length_ns: int) -> list[SavedLoss]:
        """Of one row, in the last `length_ns`."""
        slot_ns = _FINE_NS if length_ns <= _FINE_REACH_NS else SNAP_NS  # counts begin with a slot, too
        since_ns = (self._snapshot.at_ns - length_ns) // slot_ns * slot_ns
        since_wall_ns = since_ns + self._snapshot.wall_offset_ns
        row = self._dated.row(row_key)
        if row is not None:
            return list(row.losses(since_ns, self._snapshot.wall_offset_ns))
        fresh = [one for one in self._fresh.get(row_key, ()) if one.loss.at_ns >= since_ns]
        saved = [one for one in self._saved(row_key) if one.wall_ns >= since_wall_ns]
        known = {_same(one) for one in saved}
        return [one for one in fresh if _same(one) not in known] + saved

    @cached_property
    def _fresh(self) -> dict[str, list[SavedLoss]]:
        snapshot, found = self._snapshot, dict[str, list[SavedLoss]]()
        names = cache(lambda row: RowKey.parse(snapshot.row_keys[row]).text())
        for loss in snapshot.losses:
            one = SavedLoss(loss.at_ns + snapshot.wall_offset_ns, names(loss.row), loss)
            found.setdefault(names(loss.row), []).append(one)
        return found

    def _saved(self, row_key: str) -> list[SavedLoss]:
        """All that are kept, newest first; none where they cannot be read."""
        if row_key not in self._known and not self._all:
            try:
                if len(self._known) < self._FEW:
                    self._known[row_key] = self._store.losses_of(row_key, 0)
                else:
                    self._read_all()
            except StateError:
                return []
        return self._known.get(row_key, [])

    def _read_all(self) -> None:
        known: dict[str, list[SavedLoss]] = {}
        for one in self._store.losses(2 * LOSS_LIMIT):
            known.setdefault(one.row_key or "", []).append(one)
        self._known, self._all = known, True


def _same(one: SavedLoss) -> tuple[int, str, str]:
    return one.loss.at_ns, one.loss.reason, one.loss.worker


class _Lazy:
    """A channel that is made when it is first needed, and tried again where that fails: a secret may come later."""

    def __init__(self, name: str, kind: str, options: Mapping[str, Any]) -> None:
        self._name, self._kind, self._options = name, kind, options
        self._channel: Channel | None = None

    def send(self, notice: Notice, deadline_ns: int) -> None:
        if self._channel is None:
            try:
                self._channel = channels.load(self._kind)(self._name, self._options)
            except DefinitionError as e:
                raise SendFailed(str(e)) from e
        self._channel.send(notice, deadline_ns)

    def close(self, deadline_ns: int) -> None:
        if self._channel is not None:
            self._channel.close(deadline_ns)
