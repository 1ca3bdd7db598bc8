"""Any course of commits, restarts, takeovers and lost files leaves in the store what it would leave in a few dicts."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelslo.exporters.sqlite import Outdated, Reader, Store
from otelslo.snapshot import SlotClose

from .snapshots import WALL_START_NS, all_slots, loss_of, same_totals, snapshot, statuses

ACTIONS = st.one_of(
    st.tuples(st.just("commit"), st.integers(0, 3), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("stale"), st.integers(1, 3)),
    st.just(("reopen",)),
    st.just(("lead",)),
    st.just(("delete",)),
)


class Model:
    """The store as dicts; `saved` is None while nothing is committed."""

    def __init__(self) -> None:
        self.seq, self.rows, self.fencing, self.full = 1, 1, 0, True
        self.forget()

    def forget(self) -> None:
        self.saved = None
        self.slots: dict[tuple[int, int], SlotClose] = {}
        self.losses: dict[int, int] = {}

    def commit(self, offered) -> None:
        self.saved = offered
        self.slots |= {(close.row, close.slot_start_ns): close for close in offered.closes}
        for at_ns in {loss.at_ns for loss in offered.losses}:
            count = sum(loss.count for loss in offered.losses if loss.at_ns == at_ns)
            self.losses[at_ns] = max(count, self.losses.get(at_ns, 0))

    def agrees(self, reader: Reader) -> None:
        saved = reader.load()
        if self.saved is None:
            assert saved is None
            return
        assert same_totals(saved, self.saved)
        assert all_slots(reader) == self.slots
        assert {found.loss.at_ns: found.loss.count for found in reader.losses(1000)} == self.losses


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=12))
def test_any_course_of_commits_and_restarts_equals_dicts(actions) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "otelslo.db"
        store, model = Store(path), Model()
        store.open(WALL_START_NS)
        for now_ns, (name, *rest) in enumerate(actions, start=WALL_START_NS):
            if name == "commit":
                step, more_rows, full = rest
                model.seq, model.rows = model.seq + step, model.rows + more_rows
                losses = tuple(loss_of(model.seq - back) for back in range(step + 1))
                offered = snapshot(model.seq, rows=model.rows, losses=losses)
                store.commit(offered, model.fencing, statuses(model.seq), full=full)
                model.commit(offered)
                model.full = model.full and not full
            elif name == "stale" and model.saved is not None:
                with pytest.raises(Outdated):
                    store.commit(snapshot(model.saved.seq - rest[0], rows=model.rows), model.fencing)
            elif name == "reopen":
                store.close()
                store = Store(path)
                assert store.open(WALL_START_NS) == []
            elif name == "lead":
                before, model.fencing = model.fencing, store.acquire_leadership("w", now_ns)
                assert model.fencing > before
            elif name == "delete":
                os.unlink(path)
                model.forget()
                model.full = True
            if path.exists():
                assert store.needs_full == model.full
                model.agrees(Reader(path))
            model.agrees(store)
        store.close()
