"""Loop lag: exactly, on a loop that is played by hand; and that a timer in a real loop gets in nobody's way."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo import looplag
from otelslo.looplag import LoopLag

MS = 1_000_000
LAG_NS = 20 * MS


@pytest.fixture(autouse=True)
def no_other_loops():
    looplag._loops.clear()


class PlayedLoop:
    """An event loop on a clock that is turned by hand: it runs what is due, or is busy and runs nothing."""

    def __init__(self):
        self.now_ns = 0
        self.running = True
        self.timers = []

    def is_running(self):
        return self.running

    def call_soon_threadsafe(self, callback, *args):
        self.timers.append((self.now_ns, callback, args))

    def call_later(self, delay, callback, *args):
        self.timers.append((self.now_ns + round(delay * 1e9), callback, args))

    def busy(self, ns):
        self.now_ns += ns

    def idle(self, ns=0):
        """Run what is due until then, each thing at its time."""
        end_ns = self.now_ns + ns
        while due := [timer for timer in self.timers if timer[0] <= end_ns]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now_ns = max(self.now_ns, first[0])
            first[1](*first[2])
        self.now_ns = max(self.now_ns, end_ns)


def watched(shortest_ns=LAG_NS):
    loop = PlayedLoop()
    looplag.know(loop)
    lag = LoopLag(lambda: loop.now_ns)
    lag.watch(shortest_ns)
    loop.idle()
    return loop, lag


def test_an_idle_loop_is_not_late():
    loop, lag = watched()
    assert lag.worst_ns() is None  # nothing was due yet
    loop.idle(LAG_NS)
    assert lag.worst_ns() == 0
    assert lag.worst_ns() is None  # nor since


def test_the_worst_since_the_last_look_counts():
    """The timer is due every 10 ms: 5 ms late, then 25 ms, then in time."""
    loop, lag = watched()
    for busy_ms in (15, 35):
        loop.busy(busy_ms * MS)
        loop.idle()
    loop.idle(10 * MS)
    assert lag.worst_ns() == 25 * MS


def test_a_loop_that_is_blocked_now_is_late_already():
    loop, lag = watched()
    loop.busy(50 * MS)
    assert lag.worst_ns() == 40 * MS
    loop.busy(10 * MS)
    assert lag.worst_ns() == 50 * MS
    loop.idle()
    assert lag.worst_ns() == 50 * MS


@given(shortest_ms=st.integers(20, 1000), idle_ns=st.integers(0, 10**10))
def test_a_block_half_as_long_again_is_seen_for_certain(shortest_ms, idle_ns):
    """Wherever in the timer's interval it begins; one that is shorter than the threshold never seems longer."""
    looplag._loops.clear()
    loop, lag = watched(shortest_ms * MS)
    for block_ns, is_seen in ((shortest_ms * 3 * MS // 2, True), (shortest_ms * MS - 1, False)):
        loop.idle(idle_ns)
        lag.worst_ns()
        loop.busy(block_ns)
        loop.idle()
        assert ((lag.worst_ns() or 0) >= shortest_ms * MS) is is_seen
        loop.idle(shortest_ms * MS)


def test_a_timer_ends_when_nobody_asks_any_more_and_begins_again():
    loop, lag = watched()
    lag.watch(None)
    loop.idle(10 * MS)
    assert loop.timers == []
    lag.watch(LAG_NS)
    lag.watch(LAG_NS)
    loop.idle(30 * MS)
    assert len(loop.timers) == 1
    assert lag.worst_ns() == 0


def test_a_loop_that_rests_is_not_late_and_has_one_timer_when_it_goes_on():
    loop, lag = watched()
    loop.running = False
    loop.busy(10**9)
    assert lag.worst_ns() is None
    lag.watch(LAG_NS)
    loop.running = True
    lag.watch(LAG_NS)
    loop.idle(30 * MS)
    assert (len(loop.timers), lag.worst_ns()) == (1, 0)


def test_two_who_ask_have_a_timer_each():
    loop, lag = watched()
    other = LoopLag(lambda: loop.now_ns)
    other.watch(100 * MS)
    loop.idle()
    loop.busy(200 * MS)
    loop.idle()
    assert (lag.worst_ns(), other.worst_ns()) == (190 * MS, 150 * MS)


def test_nothing_runs_in_a_loop_that_nobody_asks_about():
    loop = PlayedLoop()
    looplag.know(loop)
    LoopLag().watch(None)
    assert loop.timers == []


# ── real loops ─────────────────────────────────────────────────────────────────────────────────────────────────────
def block(ms):
    """The loop's thread, busy."""
    until = time.monotonic_ns() + ms * MS
    while time.monotonic_ns() < until:
        pass


async def measured(lag):
    """Until something was measured; what it was."""
    while True:
        await asyncio.sleep(0)
        found = lag.worst_ns()
        if found is not None:
            return found


def test_a_real_loop_that_is_blocked_is_late():
    async def served():
        looplag.know(asyncio.get_running_loop())
        lag = LoopLag()
        lag.watch(LAG_NS)
        await measured(lag)
        block(31)
        return await measured(lag)

    assert asyncio.run(served()) >= LAG_NS


@pytest.mark.parametrize("debug", [False, True])
def test_a_loop_ends_with_a_timer_in_it_and_without_a_word(debug, recwarn, caplog):
    """No task, nothing that is waited for; a closed loop is not late, and another after it is measured."""
    lag = LoopLag()

    async def served():
        looplag.know(asyncio.get_running_loop())
        lag.watch(LAG_NS)
        await measured(lag)
        assert len(asyncio.all_tasks()) == 1

    for _ in range(2):
        asyncio.run(served(), debug=debug)
        assert lag.worst_ns() is None
        lag.watch(LAG_NS)
        assert lag.worst_ns() is None
    gc.collect()
    assert len(recwarn) == 0
    assert "destroyed" not in caplog.text
    assert len(lag._beats) == 0  # they are not kept
