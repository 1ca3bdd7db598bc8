"""Whole lives of workers: killed at random, settled by rivals, forked, robbed of their block, on clocks that differ."""

from __future__ import annotations

import mmap
import os
import random
import signal
from pathlib import Path

from otelslo.clock import ManualClock, SystemClock
from otelslo.errors import OtelsloError
from otelslo.kernels import layout as at

from . import faults
from .attacks import Scene, Victim, check, fork, wait_for
from .small_rings import SLOT_NS, START_NS, TINY, Worker, forget, scratch


def shared_words(number: int) -> memoryview:
    return memoryview(mmap.mmap(-1, 8 * number)).cast("q")


def random_kills(cycles: int, seed: int) -> dict[str, int]:
    """A worker records, acknowledging each event in shared memory after its call, and is killed; `cycles` times."""
    rng = random.Random(seed)
    acknowledged = shared_words(2)  # requests, records
    with scratch() as directory:
        other = Worker(directory, SystemClock())
        own, unknown = 0, 0
        for _ in range(cycles):
            pid = fork(lambda: _record_for_ever(directory, acknowledged))
            goal = acknowledged[0] + rng.randrange(1, 2000)
            while acknowledged[0] < goal:
                own += other.end(other.begin(), other.good) >= 0
            os.kill(pid, signal.SIGKILL)
            assert wait_for(pid) == -signal.SIGKILL
            other.ring.blocks.settle_dead()
            _check_acknowledged(other, own, acknowledged, unknown := unknown + 1)
        forget(other.ring)
    return {"requests": acknowledged[0], "records": acknowledged[1], "cycles": cycles}


def _record_for_ever(directory: Path, acknowledged: memoryview) -> None:
    worker = Worker(directory, SystemClock())
    while True:
        token = worker.begin()
        assert worker.end(token, worker.bad if acknowledged[0] % 7 == 0 else worker.good) >= 0
        acknowledged[0] += 1
        assert worker.record(worker.excluded, 5) >= 0
        acknowledged[1] += 1


def _check_acknowledged(other: Worker, own: int, acknowledged: memoryview, kills: int) -> None:
    reader = other.ring.reader
    begun = reader.begun()
    assert reader.in_flight() == 0
    assert own + acknowledged[0] <= begun <= own + acknowledged[0] + kills
    for row in other.rows:
        counts = reader.counts(row)
        assert counts.valid == begun, f"{begun} begun, {counts}"
        assert acknowledged[1] <= counts.excluded <= acknowledged[1] + kills, f"{acknowledged[1]} records, {counts}"


def racing_settlers(rounds: int, settlers: int, seed: int) -> dict[str, int]:
    """Several settlers at once over several corpses, each killed at a random store until none is killed."""
    rng = random.Random(seed)
    killed = 0
    for _ in range(rounds):
        with scratch() as directory:
            scene = Scene(directory, rows=2)
            stopped = [_corpse(scene, rng.randrange(1, 90)) for _ in range(4)]
            for pid in stopped:
                os.kill(pid, signal.SIGKILL)
                wait_for(pid)
            scene.advance(rng.choice((0, 1, 5, 70)))
            for store in (1, 5, 20, 40, 100, 10**9):
                pids = [_settler(scene, store * rng.randrange(1, 4)) for _ in range(settlers)]
                killed += sum(wait_for(pid) != 0 for pid in pids)
            check(scene)
            forget(scene.other.ring)
    return {"rounds": rounds, "settlers killed": killed}


def _corpse(scene: Scene, store: int) -> int:
    """A worker stopped in a commit, with its lock held, so that the next one takes another block."""

    def live() -> None:
        victim = scene.victim()
        victim.prepare()
        faults.arm(store, signal.SIGSTOP)
        victim.end(victim.token, victim.bad)
        victim.begin()
        faults.disarm()
        os.kill(os.getpid(), signal.SIGSTOP)

    pid = fork(live)
    assert wait_for(pid) == -signal.SIGSTOP
    return pid


def _settler(scene: Scene, store: int) -> int:
    return fork(lambda: _settle(scene, store))


def _settle(scene: Scene, store: int) -> None:
    settler = Worker(scene.directory, ManualClock(scene.clock.ring_ns()), rows=2, attach=False)
    faults.arm(store, signal.SIGKILL)
    settler.ring.blocks.settle_dead()


def settled_again_and_again(step: int) -> dict[str, int]:
    """Wherever a worker dies: a settler killed at store 1, the next at 2, ... until one gets through."""
    killed = 0
    for store in range(1, 50, step):
        with scratch() as directory:
            scene = Scene(directory, rows=2)
            pid = _corpse(scene, store)
            os.kill(pid, signal.SIGKILL)
            wait_for(pid)
            scene.advance(1)
            n = 1
            while wait_for(_settler(scene, n)) != 0:
                n += 1
            killed += n - 1
            check(scene)
            forget(scene.other.ring)
    return {"settlers killed": killed}


def fork_inside_a_request() -> dict[str, int]:
    """A child is not attached and cannot end its parent's request, before or after its own attach; the parent can."""
    with scratch() as directory:
        parent = Worker(directory, SystemClock())
        token = parent.begin()

        def child() -> None:
            assert parent.begin() == 0
            assert parent.end(token, parent.good) == at.NOT_ATTACHED
            assert parent.record(parent.good, 1) == at.NOT_ATTACHED
            parent.attach()
            assert parent.end(token, parent.good) == at.NOT_ATTACHED
            assert parent.ring.blocks.index == 1
            own = parent.begin()
            assert parent.end(own, parent.good) >= 0
            lost = parent.begin()
            assert lost > 0

        assert wait_for(fork(child)) == 0
        assert parent.end(token, parent.good) >= 0
        (settled,) = parent.ring.blocks.settle_dead()
        cells = parent.ring.reader.cells(parent.rows[0])
        assert (settled.block, settled.crashed) == (1, 1)
        assert (cells[0] + cells[1], cells[2], parent.ring.reader.in_flight()) == (2, 1, 0)
        return {"begun": parent.ring.reader.begun(), "counted": sum(cells)}


def count_in_a_fork() -> dict[str, int]:
    """A child may ask for counts before it has recorded anything: its private page is empty."""
    with scratch() as directory:
        parent = Worker(directory, SystemClock())
        parent.end(parent.begin(), parent.good)
        pid = fork(lambda: os._exit(0 if parent.kernels.count(parent.page, parent.rows[0], 0) < 0 else 1))
        _, status = os.waitpid(pid, 0)
        return {"exit": os.waitstatus_to_exitcode(status)}


def stolen_block() -> dict[str, int]:
    """A worker whose lock was closed behind its back stops writing at once, and nothing is lost or doubled."""
    with scratch() as directory:
        clock = ManualClock(START_NS)
        owner, thief = Worker(directory, clock), Worker(directory, clock, attach=False)
        token = owner.begin()
        lock = owner.ring.blocks._lock
        assert lock is not None
        os.close(lock._fd)
        lock._fd = -1
        clock.advance(ns=1)
        thief.attach()
        assert thief.ring.blocks.index == 0
        assert owner.begin() == 0
        assert owner.record(owner.good, 1) == at.NOT_ATTACHED
        assert owner.end(token, owner.good) == at.NOT_ATTACHED
        owner.attach()
        assert owner.ring.blocks.index == 1
        assert owner.end(token, owner.good) == at.NOT_ATTACHED
        for worker in (owner, thief):
            assert worker.end(worker.begin(), worker.good) == 0
        cells = thief.ring.reader.cells(thief.rows[0])
        assert (cells[0], cells[2]) == (2, 1)
        return {"begun": thief.ring.reader.begun(), "counted": sum(cells)}


def different_clocks(ahead_slots: list[int], steps: int, seed: int) -> dict[str, int]:
    """Workers in turn, each on a clock of its own: totals exact, windows off by no more than the clocks are."""
    rng = random.Random(seed)
    with scratch() as directory:
        clocks = [ManualClock(START_NS + ahead * SLOT_NS) for ahead in ahead_slots]
        workers = [Worker(directory, clock) for clock in clocks]
        stalled = rng.randrange(len(workers))
        events: list[int] = []
        for step in range(steps):
            worker = workers[rng.randrange(len(workers))]
            worker.end(worker.begin(), worker.good)
            events.append(START_NS // SLOT_NS + step)
            for i, each in enumerate(workers):
                if i != stalled or step % 100 == 0:  # the stalled one catches up by 100 slots now and then
                    each.advance(100 * SLOT_NS if i == stalled else SLOT_NS)
            _check_windows(workers, events, START_NS // SLOT_NS + step + 1, max(ahead_slots) + 100)
        assert {w.ring.reader.counts(row).good for w in workers for row in w.rows} == {steps}
        return {"events": steps}


def _check_windows(workers: list[Worker], events: list[int], now: int, off: int) -> None:
    for worker in workers:
        last = -1
        for back in (1, 5, 10, 40, 60, 100, 200):
            start_ns = worker.clock.ring_ns() - back * SLOT_NS
            good, bad, excluded = worker.count(worker.rows[0], start_ns)
            assert (good, bad, excluded) == worker.window(worker.rows[0], start_ns)
            assert 0 <= good <= sum(event >= now - back - off - 4 for event in events)
            assert good >= last
            last = good


def hours_asleep(hours: int, step: int) -> dict[str, int]:
    """A worker is stopped at a store of a commit and woken hours of ring time later."""
    for store in range(1, 80, step):
        with scratch() as directory:
            scene = Scene(directory, rows=1)

            def live(scene: Scene = scene, store: int = store) -> None:
                victim: Victim = scene.victim()
                victim.prepare()
                victim.advance(4 * SLOT_NS)
                faults.arm(store, signal.SIGSTOP)
                victim.end(victim.token, victim.bad)

            pid = fork(live)
            code = wait_for(pid)
            scene.advance(hours * 3600)
            scene.count_one()
            last_minute = scene.other.count(scene.other.rows[0], scene.clock.ring_ns() - 60 * SLOT_NS)
            assert last_minute == (1, 0, 0)
            if code != 0:
                os.kill(pid, signal.SIGCONT)
                assert wait_for(pid) == 0
            check(scene)
            forget(scene.other.ring)
    return {"hours": hours}


def use_full_disk(directory: str) -> str:
    """A worker where there may be no room for a ring, a block, a row or a histogram; SIGBUS would kill this process."""
    try:
        worker = Worker(Path(directory), ManualClock(START_NS), geometry=TINY)
        assert worker.end(worker.begin(), worker.bad) > 0
    except OtelsloError as e:
        return str(e)
    return worker.notices[0] if worker.notices else "shared"
