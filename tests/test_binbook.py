"""Histograms of fixed bins in the ring: as a naive dict counts, over workers, rebuilds and real kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from drive import advance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelslo import Engine, ManualClock
from otelslo.binbook import BinBook, first_row, totals
from otelslo.kernels import layout as at
from otelslo.ring.geometry import Geometry

ROOT = Path(__file__).parent.parent
SIZES = {"one": 3, "two": 16, "three": 40}


@pytest.fixture
def engine(make_engine):
    return make_engine()


def book(engine, sizes=SIZES):
    return BinBook(engine, sizes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.integers(0, 58), st.integers(1, 2**40), max_size=59), max_size=6), st.data())
def test_counts_add_up_as_a_dict_of_them_does(engine, batches, data) -> None:
    mine, naive = book(engine), Counter(dict(enumerate(flat(engine))))
    for batch in batches:
        counts = np.zeros(mine.size, dtype=np.int64)
        counts[list(batch)] = list(batch.values())
        mine.add(counts)
        naive.update(batch)
        alone = data.draw(st.sets(st.integers(0, 58)))
        mine.add_one(alone)
        naive.update(alone)
    assert flat(engine) == [naive[number] for number in range(59)]


def flat(engine, sizes=SIZES):
    return [count for held in totals(engine.ring.reader, sizes).values() for count in held]


def test_names_keep_their_bins_apart_and_find_them_again(engine) -> None:
    book(engine).add(np.arange(59))
    rows = engine.ring.reader.rows
    book(engine, {"two": 16}).add_one([0, 15])
    assert engine.ring.reader.rows == rows
    found = totals(engine.ring.reader, SIZES | {"four": 2})
    assert found["one"] == (0, 1, 2)
    assert found["two"] == (4, *range(4, 18), 19)
    assert found["three"] == tuple(range(19, 59))
    assert found["four"] == (0, 0)
    assert first_row(engine.ring.reader, "four") is None
    assert first_row(engine.ring.reader, "one") is not None


def test_more_bins_than_a_commit_holds(engine) -> None:
    sizes = {"wide": 3 * at.REDO_PAIRS + 1}
    book(engine, sizes).add(np.arange(sizes["wide"]))
    assert flat(engine, sizes) == list(range(sizes["wide"]))


def test_no_loss_is_logged_and_no_objective_counts_them(engine) -> None:
    book(engine).add(np.ones(59, dtype=np.int64))
    assert sum(engine.ring.reader.loss_heads()) == 0
    assert all(status.counts.total == 0 for status in engine.status())


def test_a_kernel_is_not_given_more_than_a_commit_holds(engine) -> None:
    words = np.array([at.REDO_PAIRS + 1], dtype=np.int64)
    assert engine.kernels.add(engine.page, words.ctypes.data) == at.TOO_LARGE


def test_a_forked_child_counts_in_a_block_of_its_own(engine) -> None:
    mine = book(engine)
    mine.add_one([1])
    pid = os.fork()
    if pid == 0:
        mine.add_one([1, 2])
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    mine.add_one([1])
    assert flat(engine)[:3] == [0, 3, 1]
    assert engine.ring.reader.blocks == 2


def test_a_ring_without_room_is_said_when_the_book_is_made(make_engine) -> None:
    small = make_engine(geometry=Geometry(max_rows=16, max_blocks=4, snapshots=4))
    with pytest.raises(Exception, match="room for 16 rows"):
        book(small, {"wide": 400})


def test_bins_survive_a_lost_ring(tmp_path) -> None:
    clock = ManualClock()
    with Engine(state_dir=tmp_path, clock=clock, runner=False) as first:
        book(first).add(np.arange(59))
        advance(first, s=10)
        first.runner.tick()
        assert first.runner.leading
        first.runner.stop()
    (tmp_path / "live.ring").unlink()
    with Engine(state_dir=tmp_path, clock=ManualClock(clock.ring_ns()), runner=False) as second:
        assert "rebuilt" in " ".join(second.notices)
        book(second).add_one([0])
        assert flat(second) == [1, *range(1, 59)]


WORKER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from otelslo import Engine
    from otelslo.binbook import BinBook

    engine = Engine(state_dir=sys.argv[1], runner=False).start()
    book = BinBook(engine, {"even": 16, "odd": 16})
    one = np.zeros(32, dtype=np.int64)
    one[[0, 5, 15, 16, 21, 31]] = 1, 2, 3, 1, 2, 3
    done = 0
    while True:
        book.add(one)
        done += 1
        if done % 50 == 0:
            print(done, flush=True)
    """
)


def test_killed_workers_lose_nothing_and_leave_no_half(tmp_path) -> None:
    """Real processes, SIGKILL at random moments: what was told as done is there, once, and each commit is whole."""
    chance, told = random.Random(7), 0
    keeper = Engine(state_dir=tmp_path, runner=False).start()
    try:
        for _ in range(4):
            workers = [
                subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
                for _ in range(2)
            ]
            for worker in workers:
                for _ in range(chance.randrange(20, 200)):
                    last = int(worker.stdout.readline())
                worker.send_signal(signal.SIGKILL)
                rest = worker.stdout.read().decode().split("\n")[:-1]  # a last line without its end was cut
                told += int(rest[-1]) if rest else last
                worker.stdout.close()
                worker.wait()
        keeper.ring.blocks.settle_dead()
        found = totals(keeper.ring.reader, {"even": 16, "odd": 16})
        commits = found["even"][0]
        assert found["even"] == found["odd"]
        assert [found["even"][cell] for cell in (0, 5, 15)] == [commits, 2 * commits, 3 * commits]
        assert told <= commits <= told + 8 * 50
        assert told > 8 * 20 * 50 - 1
    finally:
        keeper.close()
