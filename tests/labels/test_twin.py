"""Whatever predictions and labels come in whatever order, from however many processes, in batches of any size, and
whoever is killed while counting them: what is counted is what a naive twin says.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labels.twin import KEY, NOON_NS, RETENTION_NS, Twin, objectives
from otelslo import applying
from otelslo.applying import Applying
from otelslo.dated import SLOT_NS
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_labels import LabelBook
from otelslo.inbox import Inbox, spools
from otelslo.kept import SlotCounts
from otelslo.label_record import Label, Prediction
from otelslo.ring import state
from otelslo.window import DAY_NS, SECOND_NS

SLOS = objectives()
MODELS = st.sampled_from(["m", "m", "m", "m", "m", "other"])
IDS = st.integers(0, 4).map(str)
AGES = st.sampled_from([0, 0, 0, 1, 299, 1200, 1800, 1801, 3600, 7200, 86_400, 4 * 86_400, -500]).map(
    lambda s: s * SECOND_NS
)
OUTPUTS = st.sampled_from([1, 1, 0, "1", True, 2, None])
TRUTHS = st.sampled_from([1, 1, 0, "1.0", "spam"])
ATTRIBUTES = st.sampled_from([{}, {"version": "1"}, {"version": "2"}, {"version": "3"}])
PASSES = st.sampled_from([1, 60, 400, 1900, 4000, 40_000, 86_400, 100_000]).map(lambda s: s * SECOND_NS)

PREDICTIONS = st.tuples(st.just("predict"), MODELS, IDS, AGES, OUTPUTS, ATTRIBUTES)
LABELS = st.tuples(st.just("label"), MODELS, IDS, AGES, TRUTHS)
WRITES = st.tuples(st.integers(0, 2), st.one_of(PREDICTIONS, LABELS))
STEPS = st.one_of(
    st.tuples(st.just("write"), st.lists(WRITES, min_size=1, max_size=16)),
    st.tuples(st.just("turn"), st.integers(1, 7), st.integers(0, 12)),
    st.tuples(st.just("pass"), PASSES),
    st.tuples(st.just("rotate"), st.integers(0, 2)),
)


def slots_of(reader: Any, row: Any) -> list[SlotCounts]:
    found = reader._fetch("SELECT slot_wall_ns FROM label_slots WHERE row = ?", (row.number,))
    return [reader.between(row.number, start_ns, start_ns + SLOT_NS) for (start_ns,) in found]


class Killed(BaseException):
    """Like a kill: nothing of ours may catch it."""


class World:
    """Three writing processes, one database, and whoever counts."""

    def __init__(self, path: Any) -> None:
        self.path, self.now_ns = path, NOON_NS
        state.prepare(path)
        self.faults: list[Any] = []
        self.inboxes = [Inbox(path, self._fault) for _ in range(3)]
        self.store = Store(path / "otelslo.db")
        self.store.open(self.now_ns)
        self.twin = Twin(SLOS)
        self.written: dict[str, list[Any]] = {}  # by file
        self.applying = self._applying(500)

    def _fault(self, *told: Any) -> None:
        self.faults.append(told)

    def _applying(self, chunk: int) -> Applying:
        return Applying(self.path, self.store, self._fault, lambda: RETENTION_NS, KEY, chunk=chunk)

    def write(self, writes: Any) -> None:
        for who, (what, model, identity, age_ns, *rest) in writes:
            at_ns = self.now_ns - age_ns
            made = Prediction(model, identity, at_ns, rest[0], None, rest[1]) if what == "predict" else None
            record = made or Label(model, identity, at_ns, rest[0])
            assert self.inboxes[who].put(record)
            self.written.setdefault(self.inboxes[who]._spool.path.name, []).append(record)

    def turn(self, chunk: int, kill_at: int) -> None:
        """One turn, killed on its way if it is so long, within a transaction or between two, and then done again."""
        self.applying = self._applying(chunk) if chunk != 7 else self.applying
        left = [kill_at // 2 + 1]

        def killing() -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        def killing_at_the_end(book: LabelBook) -> None:
            close(book)
            killing()

        with pytest.MonkeyPatch.context() as patch:
            close = LabelBook.close
            patch.setattr(applying, "_BREATH", 1)
            if kill_at % 2:
                patch.setattr(LabelBook, "close", killing_at_the_end)
            try:
                self.applying.turn(SLOS, self.now_ns, None if kill_at % 2 else killing)
            except Killed:
                self.store.close()
                self.store = Store(self.path / "otelslo.db")
                self.store.open(self.now_ns)
                self.applying = self._applying(chunk)
        self.applying.turn(SLOS, self.now_ns)
        self.twin.turn([record for name in sorted(self.written) for record in self.written[name]], self.now_ns)
        self.written.clear()

    def check(self) -> None:
        twin, reader = self.twin, self.store.labels
        dated = self.store.dated().read().rows
        found = {
            (row.key.text(), start_ns, cell): count
            for row in dated
            for start_ns, cells in row.slots()
            for cell, count in enumerate(cells)
            if count
        }
        assert found == twin.cells()
        counters = reader.counters()
        ignored = counters.pop("", {}).get("ignored", 0)
        told = counters.get("m", {}) | ({"ignored": ignored} if ignored else {})
        assert told == {what: count for what, count in twin.counters.items() if count}
        since_ns = self.now_ns - RETENTION_NS - DAY_NS
        slots = {(row.key, one.slot_wall_ns): one for row in reader.rows() for one in slots_of(reader, row)}
        assert {
            key: (one.predicted, one.labelled, one.lapsed, one.gone, one.corrected)
            for key, one in slots.items()
            if key[1] >= since_ns
        } == {key: tally for key, tally in twin.slots().items() if key[1] >= since_ns}
        assert reader.how_many() == (len(twin.kept), len(twin.waiting))
        assert self.faults == []

    def close(self) -> None:
        self.store.close()
        for inbox in self.inboxes:
            inbox.finish()


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_counts_are_those_of_the_naive_twin(tmp_path_factory: Any, steps: Any) -> None:
    world = World(tmp_path_factory.mktemp("labels") / "state")
    try:
        for what, *arguments in [*steps, ("turn", 3, 0)]:
            if what == "write":
                world.write(*arguments)
            elif what == "pass":
                world.now_ns += arguments[0]
            elif what == "rotate":
                world.inboxes[arguments[0]].finish()
            else:
                world.turn(*arguments)
                world.check()
        for inbox in world.inboxes:
            inbox.finish()
        world.turn(3, 0)
        assert spools(world.path) == []
    finally:
        world.close()
