"""What a leader has to do with alerts, from taking the lead until it steps down.

It decides from the snapshot that is being committed, with what people have marked since; the decision is committed with
the counts, and a courier brings the notices to the channels afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from otelslo import channels
from otelslo.alerting import Transition
from otelslo.announcement import announce, span_ns
from otelslo.channels import Channel, SendFailed
from otelslo.courier import ChannelState, Courier
from otelslo.errors import DefinitionError, StateError
from otelslo.evaluate import Judged
from otelslo.exporters.sqlite import Store
from otelslo.limit import Limit
from otelslo.limits import LimitStatus, assess
from otelslo.notes import SNAP_NS, Marked
from otelslo.notice import Notice
from otelslo.oncall import OnCall, Turn, shared, shown
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
        self._oncall = OnCall(store.notes.alerts(), tuple(chosen))
        made = {name: _Lazy(name, kind, options) for name, (kind, options) in chosen.items()}
        outbox = StoredOutbox(store.notes, fault, wall_ns)
        self._courier = Courier(made, outbox, fault, may_send, note=note, count=count, wall_ns=wall_ns)
        self._marked = self._read_marks()
        self._observed = store.limits.observations()
        self._courier.wake()  # whoever led before may have left something

    def due(self, now_ns: int) -> bool:
        """Whether it is time to decide again (ring time)."""
        return self._oncall.due(now_ns)

    @property
    def marked(self) -> Marked:
        """Exclusions and annotations, as of the last turn."""
        return self._marked

    def refresh(self) -> None:
        """Read anew what people have marked, and what was observed of limits; what was read last stays where that
        fails."""
        try:
            self._marked = self._read_marks()
            self._observed = self._store.limits.observations()
        except StateError:
            return

    def limits(self, limits: Iterable[Limit], now_wall_ns: int, turn: Turn | None = None) -> list[LimitStatus]:
        """How these limits stand by what was observed until the last turn, with their alerts as of this turn."""
        alerts = shown(turn.states if turn is not None else self._oncall.states)
        found = [assess(limit, self._observed.get(limit.name), now_wall_ns) for limit in limits]
        return [replace(one, alerts=tuple(alerts.get((one.name, None), ()))) for one in found]

    def decide(self, judged: Iterable[Judged], snapshot: Snapshot, limits: Iterable[Limit] = ()) -> Turn:
        """What follows from this snapshot for all alerts; to be committed with it."""

        def losses(one: Judged, length_ns: int) -> list[SavedLoss]:
            return self._losses(one, snapshot, length_ns)

        def tell(one: Judged, transition: Transition) -> Notice:
            return announce(one, transition, losses(one, span_ns(one, transition)))

        return self._oncall.decide(
            judged,
            snapshot.wall_ns,
            lambda one, length_ns: shared(loss.loss for loss in losses(one, length_ns)),
            tell,
            self.limits(limits, snapshot.wall_ns),
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

    def _read_marks(self) -> Marked:
        notes = self._store.notes
        return Marked(tuple(notes.exclusions()), tuple(notes.annotations()))

    def _losses(self, one: Judged, snapshot: Snapshot, length_ns: int) -> list[SavedLoss]:
        """Those of the objective and group that are saved, and those of this snapshot that are not yet."""
        slot_ns = _FINE_NS if length_ns <= _FINE_REACH_NS else SNAP_NS  # counts begin with a slot, too
        since_ns = (snapshot.at_ns - length_ns) // slot_ns * slot_ns
        fresh = [
            SavedLoss(loss.at_ns + snapshot.wall_offset_ns, one.row_key, loss)
            for loss in snapshot.losses
            if loss.at_ns >= since_ns and RowKey.parse(snapshot.row_keys[loss.row]).text() == one.row_key
        ]
        try:
            saved = self._store.losses_of(one.row_key, since_ns + snapshot.wall_offset_ns)
        except StateError:
            saved = []
        known = {(loss.loss.at_ns, loss.loss.reason, loss.loss.worker) for loss in saved}
        return [loss for loss in fresh if (loss.loss.at_ns, loss.loss.reason, loss.loss.worker) not in known] + saved


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
