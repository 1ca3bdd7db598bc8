"""Named counters in the ring: any numbers by one commit, as a plain dict would hold them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelslo.clock import ManualClock
from otelslo.counters import Cell, add, make_counters, row_keys
from otelslo.errors import CapacityError, StateError
from otelslo.kernels import layout as at
from otelslo.ring.reader import Reader

from .scenario_server import ScenarioServer
from .small_rings import SMALL, START_NS, Worker, forget, scratch

NAMES = [f"n{number}" for number in range(37)]
BATCH = st.dictionaries(st.integers(0, len(NAMES) - 1), st.integers(0, 2**40))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), BATCH, st.integers(0, 5)), max_size=12))
def test_two_workers_count_what_a_dict_does(batches) -> None:
    """Sums far above what a slot boundary can hold, too: nobody asks for windows of them."""
    twin: Counter[int] = Counter()
    with scratch() as directory:
        workers = [Worker(directory, ManualClock(START_NS)) for _ in range(2)]
        cells = [make_counters(worker.ring, "(test)", "1", "a", NAMES) for worker in workers]
        assert cells[0] == cells[1]
        for who, batch, slots in batches:
            for worker in workers:
                worker.advance(slots * SMALL.fine_ns)
            add(workers[who].ring, {cells[0][number]: count for number, count in batch.items()})
            twin.update(batch)
        reader = workers[0].ring.reader
        assert [reader.cells(row)[cell] for row, cell in cells[0]] == [twin[n] for n in range(len(NAMES))]
        assert all(not reader.losses(block)[0] for block in range(reader.blocks))
        for worker in workers:
            forget(worker.ring)


def test_a_reader_knows_the_names_by_the_keys() -> None:
    with scratch() as directory:
        worker = Worker(directory, ManualClock(START_NS))
        cells = make_counters(worker.ring, "(test)", "1", "a", NAMES)
        add(worker.ring, {cells[0]: 3, cells[16]: 5, cells[36]: 7})
        reader = worker.ring.reader
        assert isinstance(reader, Reader)
        found = {}
        for row in range(reader.rows):
            key = reader.row_name(row)
            if key.slo == "(test)":
                found |= {name: n for name, n in zip(key.reasons, reader.cells(row), strict=True) if name}
        assert {name: count for name, count in found.items() if count} == {"n0": 3, "n16": 5, "n36": 7}
        assert list(found) == NAMES
        assert [key.reasons[:2] for key in row_keys("(test)", "1", "a", NAMES)][1] == ("n16", "n17")
        forget(worker.ring)


def test_more_than_a_commit_holds_is_refused_and_nothing_is_counted() -> None:
    with scratch() as directory:
        worker = Worker(directory, ManualClock(START_NS))
        cells = [cell for group in "ab" for cell in make_counters(worker.ring, "(test)", "", group, _many())]
        with pytest.raises(CapacityError, match="513 counters at once, 512 at most"):
            add(worker.ring, dict.fromkeys([*cells, *(Cell(10_000, n) for n in range(513 - len(cells)))], 1))
        assert not any(worker.ring.reader.cells(cells[0].row))
        add(worker.ring, dict.fromkeys(cells[:400], 1))
        assert worker.ring.reader.cells(cells[0].row) == [1] * at.CELLS
        worker.ring.blocks.detach()
        with pytest.raises(StateError, match="no block"):
            add(worker.ring, {cells[0]: 1})
        forget(worker.ring)


def _many() -> list[str]:
    return [f"n{number}" for number in range(13 * at.CELLS)]


@pytest.mark.torture
def test_killed_at_every_store_all_are_added_to_or_none(faulty: ScenarioServer) -> None:
    found = faulty.run("counter_attacks:every_store")
    print(found)
    assert found["stores"] > 2 * 40
    assert 0 < found["counted"] < found["stores"]
